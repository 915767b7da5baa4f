"""Candidate against baseline on the same items: difference, interval, and tests at a margin.

Values of 0 and 1 are tested exactly (``trinomial``), other scores between 0 and 1 without an assumption on
their distribution (``bounded``), any other values with the paired t test, and clustered ones with
cluster-robust standard errors (``means``); ``pairs`` chooses.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

from numpy.typing import ArrayLike
from scipy.special import bdtr, betaincinv, ndtr

from assay_evidence.statistics.means import standard_error
from assay_evidence.statistics.pairs import (
    Evidence,
    Pairs,
    check_pairs,
    evidence_of,
    evidence_of_mean,
    is_binary,
)
from assay_evidence.statistics.ratio import ratio_score

__all__ = [
    "MarginResult",
    "PairedDifference",
    "interval",
    "is_binary",
    "margin_test",
    "mcnemar_exact",
    "paired_difference",
    "rate_upper_bound",
]

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Candidate minus baseline over pairs.

    Attributes:
        n: pairs.
        clusters: clusters of them, where they are clustered.
        baseline: mean of the baseline.
        candidate: mean of the candidate.
        difference: ``candidate - baseline``.
        stderr: standard error of the difference as estimated, clustered where ``clusters`` is set; 0 where no
            pair differs, which then says nothing; ``None`` for fewer than two pairs or clusters.
        interval_90, interval_95: two-sided; ``None`` where there is none.
        interval_method: how they were made, or why there are none.
        changed: pairs whose values differ.
        changed_rate_upper: exact one-sided 95 % upper bound of the rate of such pairs.
        difference_p: two-sided, of no difference, by the test that the interval inverts; ``None`` without it.
    """

    n: int
    clusters: int | None
    baseline: float
    candidate: float
    difference: float
    stderr: float | None
    interval_90: Interval | None
    interval_95: Interval | None
    interval_method: str
    changed: int
    changed_rate_upper: float
    difference_p: float | None


@dataclass(frozen=True, slots=True)
class MarginResult:
    """Non-inferiority and equivalence at a margin; the fields are those of ``report.MarginTest``."""

    margin: float
    kind: Literal["absolute", "relative"]
    relative_margin: float | None
    alpha: float
    non_inferiority_p: float | None
    equivalence_p: float | None
    non_inferior: bool
    equivalent: bool
    inferior: bool
    method: str


def mcnemar_exact(gained: int, lost: int) -> float:
    """Two-sided exact p-value of McNemar's test: were flips in both directions equally likely?

    Args:
        gained: pairs that are wrong in the baseline and right in the candidate.
        lost: pairs that are right in the baseline and wrong in the candidate.
    """
    flips = gained + lost
    if flips == 0:
        return 1.0
    return min(1.0, 2.0 * float(bdtr(min(gained, lost), flips, 0.5)))


def rate_upper_bound(events: int, n: int, *, confidence: float = 0.95) -> float:
    """Exact one-sided upper bound (Clopper and Pearson) of a rate; ``events`` of ``n`` were seen."""
    return 1.0 if events >= n else float(betaincinv(events + 1, n - events, confidence))


def rate_interval(events: int, n: int, *, confidence: float = 0.95) -> Interval:
    """Exact two-sided interval (Clopper and Pearson) of a rate; ``events`` of ``n`` > 0 were seen."""
    tail = (1.0 - confidence) / 2
    low = float(betaincinv(events, n - events + 1, tail)) if events else 0.0
    return low, rate_upper_bound(events, n, confidence=1.0 - tail)


def paired_difference(
    baseline: ArrayLike, candidate: ArrayLike, *, clusters: ArrayLike | None = None
) -> PairedDifference:
    """Mean difference of pairs with its standard error, intervals and test.

    Args:
        baseline, candidate: one value per pair, in the same order.
        clusters: label per pair; pairs with equal labels are not independent of each other.

    Raises:
        ValueError: no pairs, unequal lengths, or a value that is not finite.
    """
    pairs = check_pairs(baseline, candidate, clusters)
    differences = pairs.differences
    n, changed = len(differences), pairs.changed
    found = evidence_of(pairs)
    return PairedDifference(
        n=n,
        clusters=None if clusters is None else pairs.independent,
        baseline=float(pairs.baseline.mean()),
        candidate=float(pairs.candidate.mean()),
        difference=float(differences.mean()),
        stderr=standard_error(differences, pairs.clusters),
        interval_90=None if isinstance(found, str) else _interval(found, 0.90),
        interval_95=None if isinstance(found, str) else _interval(found, 0.95),
        interval_method=found if isinstance(found, str) else found.method,
        changed=changed,
        changed_rate_upper=rate_upper_bound(changed, n),
        difference_p=None if isinstance(found, str) else _difference_p(found),
    )


def interval(
    baseline: ArrayLike, candidate: ArrayLike, *, confidence: float, clusters: ArrayLike | None = None
) -> Interval | None:
    """Two-sided confidence interval of candidate minus baseline; ``None`` where there is none.

    Raises:
        ValueError: as of ``paired_difference``; a confidence that is not between 0.5 and 1.
    """
    if not 0.5 < confidence < 1:
        raise ValueError(f"the confidence is {confidence}, not between 0.5 and 1")
    found = evidence_of(check_pairs(baseline, candidate, clusters))
    return None if isinstance(found, str) else _interval(found, confidence)


def margin_test(
    baseline: ArrayLike,
    candidate: ArrayLike,
    *,
    margin: float,
    alpha: float,
    higher_is_better: bool,
    relative: bool = False,
    clusters: ArrayLike | None = None,
) -> MarginResult:
    """Is the candidate not worse than the baseline by ``margin`` or more, equivalent, or worse by more?

    Args:
        margin: in the unit of the values; with ``relative`` a share of the baseline's mean, below 1. Above 0.
        alpha: one-sided error of each test, above 0 and below 0.5.
        higher_is_better: direction; a loss is a fall where it is true and a rise where it is false.

    Raises:
        ValueError: as of ``paired_difference``; a margin or alpha out of range.
    """
    if not margin > 0 or not math.isfinite(margin):
        raise ValueError(f"the margin is {margin}, not above 0")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}, not between 0 and 0.5")
    if relative and margin >= 1:
        raise ValueError(f"the relative margin is {margin}, not below 1")
    pairs = check_pairs(baseline, candidate, clusters)
    absolute = margin * abs(float(pairs.baseline.mean())) if relative else margin
    found = _absolute_tests(pairs, absolute, alpha, higher_is_better)
    if relative:
        found = found.weaker(_ratio_tests(pairs, margin, alpha, higher_is_better))
    both = None if found.worse is None or found.better is None else max(found.worse, found.better)
    return MarginResult(
        margin=absolute,
        kind="relative" if relative else "absolute",
        relative_margin=margin if relative else None,
        alpha=alpha,
        non_inferiority_p=found.worse,
        equivalence_p=both,
        non_inferior=found.worse is not None and found.worse <= alpha,
        equivalent=both is not None and both <= alpha,
        inferior=found.within is not None and found.within <= alpha,
        method=found.method,
    )


class _MarginTests(NamedTuple):
    """One-sided p-values of: worse by the margin or more; better by it or more; worse by at most it."""

    worse: float | None
    better: float | None
    within: float | None
    method: str

    def weaker(self, other: "_MarginTests") -> "_MarginTests":
        """Of each pair of p-values the larger; ``None`` where one side has none."""
        return _MarginTests(
            _larger(self.worse, other.worse),
            _larger(self.better, other.better),
            _larger(self.within, other.within),
            self.method
            if other.worse is None
            else f"{other.method}, and {self.method} at the observed margin",
        )


def _larger(first: float | None, second: float | None) -> float | None:
    return None if first is None or second is None else max(first, second)


def _absolute_tests(pairs: Pairs, margin: float, alpha: float, higher_is_better: bool) -> _MarginTests:
    found = evidence_of(pairs)
    if margin == 0:
        found = "none: the baseline's score is 0, and so is any share of it"
    if isinstance(found, str):
        return _MarginTests(None, None, None, found)
    gain = found if higher_is_better else found.reversed
    return _MarginTests(
        worse=gain.p_at_most(-margin, alpha),
        better=gain.reversed.p_at_most(-margin, alpha),
        within=gain.reversed.p_at_most(margin, alpha),
        method=found.method,
    )


def _ratio_tests(pairs: Pairs, share: float, alpha: float, higher_is_better: bool) -> _MarginTests:
    """A relative margin moves with the baseline's score, whose uncertainty these tests count."""
    if pairs.binary and pairs.clusters is None:
        table = pairs.table
        down, up = _tails(ratio_score(table, 1 - share)), _tails(ratio_score(table, 1 + share))
        method = "score test of the ratio of paired proportions"
        if higher_is_better:
            return _MarginTests(down.at_most, up.at_least, down.at_least, method)
        return _MarginTests(up.at_least, down.at_most, up.at_most, method)
    level = float(pairs.baseline.mean())
    allowance = share * math.copysign(1.0, level) * pairs.baseline
    gain = pairs.differences if higher_is_better else -pairs.differences
    low = evidence_of_mean(pairs, gain + allowance, reach=1 + share)
    high = evidence_of_mean(pairs, gain - allowance, reach=1 + share)
    if isinstance(low, str) or isinstance(high, str):
        return _MarginTests(None, None, None, "none")
    return _MarginTests(
        low.p_at_most(0.0, alpha),
        high.reversed.p_at_most(0.0, alpha),
        low.reversed.p_at_most(0.0, alpha),
        f"{low.method} of the difference and the margin's share of the baseline",
    )


class _Tails(NamedTuple):
    at_most: float
    at_least: float


def _tails(z: float) -> _Tails:
    """One-sided p-values of a standard normal statistic; 1 where there is none."""
    return _Tails(1.0, 1.0) if math.isnan(z) else _Tails(float(ndtr(-z)), float(ndtr(z)))


def _interval(found: Evidence, confidence: float) -> Interval:
    alpha = (1.0 - confidence) / 2
    return found.lower_limit(alpha), -found.reversed.lower_limit(alpha)


def _difference_p(found: Evidence) -> float:
    """Of no difference; at most 0.05 where the 95 % interval leaves 0 out."""
    return min(1.0, 2.0 * min(found.p_at_most(0.0, 0.025), found.reversed.p_at_most(0.0, 0.025)))
