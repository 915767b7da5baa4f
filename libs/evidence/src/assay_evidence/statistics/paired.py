"""Candidate against baseline on the same items: difference, interval, and tests at a margin.

Values of 0 and 1 are tested exactly (``trinomial``), other values with the paired t test, clustered ones with
cluster-robust standard errors (``means``).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import numpy
from numpy.typing import ArrayLike, NDArray
from scipy.special import bdtr, betaincinv

from assay_evidence.statistics import trinomial
from assay_evidence.statistics.means import MeanEvidence, standard_error
from assay_evidence.statistics.ratio import PairTable, p_ratio_at_least, p_ratio_at_most

Array = NDArray[numpy.float64]
Interval = tuple[float, float]

EXACT = "exact unconditional (trinomial; ordered by Tango's score limit)"
PAIRED_T = "paired t"
CLUSTER_T = "cluster-robust t"
WIDER = "the wider of cluster-robust t and exact unconditional"
NO_SPREAD = 1e-12
"""Spread, as a share of the largest difference, below which all differences count as equal."""


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


class _Evidence(Protocol):
    """What the pairs say of the true difference."""

    @property
    def method(self) -> str: ...

    @property
    def reversed(self) -> "_Evidence": ...

    def p_at_most(self, difference: float, alpha: float) -> float: ...

    def lower_limit(self, alpha: float) -> float: ...


@dataclass(frozen=True, slots=True)
class _FlipEvidence:
    """0/1 pairs; ``independent`` counts what of them is independent where no pair differs."""

    flips: trinomial.Flips
    method: str = EXACT

    @property
    def reversed(self) -> "_FlipEvidence":
        return _FlipEvidence(self.flips.reversed, self.method)

    def p_at_most(self, difference: float, alpha: float) -> float:
        return trinomial.p_value(self.flips, difference, alpha)

    def lower_limit(self, alpha: float) -> float:
        return trinomial.lower_limit(self.flips, alpha)


@dataclass(frozen=True, slots=True)
class _Wider:
    """Two kinds of evidence, of which the weaker counts each time."""

    first: _Evidence
    second: _Evidence
    method: str = WIDER

    @property
    def reversed(self) -> "_Wider":
        return _Wider(self.first.reversed, self.second.reversed, self.method)

    def p_at_most(self, difference: float, alpha: float) -> float:
        return max(self.first.p_at_most(difference, alpha), self.second.p_at_most(difference, alpha))

    def lower_limit(self, alpha: float) -> float:
        return min(self.first.lower_limit(alpha), self.second.lower_limit(alpha))


class _Pairs(NamedTuple):
    """Checked input; ``clusters`` numbers from 0, ``None`` where each pair is its own cluster."""

    baseline: Array
    candidate: Array
    clusters: NDArray[numpy.intp] | None

    @property
    def binary(self) -> bool:
        return is_binary(self.baseline) and is_binary(self.candidate)

    @property
    def table(self) -> PairTable:
        first, second = self.baseline == 1.0, self.candidate == 1.0
        both = int(numpy.count_nonzero(first & second))
        lost = int(numpy.count_nonzero(first)) - both
        gained = int(numpy.count_nonzero(second)) - both
        return PairTable(both, lost, gained, len(first) - both - lost - gained)


def is_binary(values: ArrayLike) -> bool:
    """Whether every value is 0 or 1."""
    found = numpy.asarray(values)
    return bool(((found == 0) | (found == 1)).all())


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
    pairs = _check(baseline, candidate, clusters)
    differences = pairs.candidate - pairs.baseline
    n, changed = len(differences), int(numpy.count_nonzero(differences))
    found = _evidence(pairs)
    return PairedDifference(
        n=n,
        clusters=None
        if clusters is None
        else (n if pairs.clusters is None else int(pairs.clusters.max()) + 1),
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
    found = _evidence(_check(baseline, candidate, clusters))
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
        margin: in the unit of the values; with ``relative`` a share of the baseline's mean. Above 0.
        alpha: one-sided error of each test, above 0 and below 0.5.
        higher_is_better: direction; a loss is a fall where it is true and a rise where it is false.

    Raises:
        ValueError: as of ``paired_difference``; a margin or alpha out of range.
    """
    if not margin > 0 or not math.isfinite(margin):
        raise ValueError(f"the margin is {margin}, not above 0")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}, not between 0 and 0.5")
    pairs = _check(baseline, candidate, clusters)
    tests = _relative_tests if relative else _absolute_tests
    found = tests(pairs, margin, alpha, higher_is_better)
    absolute = margin * abs(float(pairs.baseline.mean())) if relative else margin
    return MarginResult(
        margin=absolute,
        kind="relative" if relative else "absolute",
        relative_margin=margin if relative else None,
        alpha=alpha,
        non_inferiority_p=found.worse,
        equivalence_p=None if found.worse is None or found.better is None else max(found.worse, found.better),
        non_inferior=found.worse is not None and found.worse <= alpha,
        equivalent=found.worse is not None
        and found.better is not None
        and max(found.worse, found.better) <= alpha,
        inferior=found.within is not None and found.within <= alpha,
        method=found.method,
    )


class _MarginTests(NamedTuple):
    """One-sided p-values of: worse by the margin or more; better by it or more; worse by at most it."""

    worse: float | None
    better: float | None
    within: float | None
    method: str


def _absolute_tests(pairs: _Pairs, margin: float, alpha: float, higher_is_better: bool) -> _MarginTests:
    found = _evidence(pairs)
    if isinstance(found, str):
        return _MarginTests(None, None, None, found)
    gain = found if higher_is_better else found.reversed
    return _MarginTests(
        worse=gain.p_at_most(-margin, alpha),
        better=gain.reversed.p_at_most(-margin, alpha),
        within=gain.reversed.p_at_most(margin, alpha),
        method=found.method,
    )


def _relative_tests(pairs: _Pairs, share: float, alpha: float, higher_is_better: bool) -> _MarginTests:
    """The margin moves with the baseline's score, whose own uncertainty counts."""
    level = float(pairs.baseline.mean())
    if level == 0.0:
        return _MarginTests(None, None, None, "none: the baseline's score is 0, and so is any share of it")
    if pairs.binary and pairs.clusters is None:
        table = pairs.table
        down, up = 1.0 - share, 1.0 + share
        method = "score test of the ratio of paired proportions, with the exact test of the difference"
        if higher_is_better:
            return _MarginTests(
                p_ratio_at_most(table, down, alpha),
                p_ratio_at_least(table, up, alpha),
                p_ratio_at_least(table, down, alpha),
                method,
            )
        return _MarginTests(
            p_ratio_at_least(table, up, alpha),
            p_ratio_at_most(table, down, alpha),
            p_ratio_at_most(table, up, alpha),
            method,
        )
    toward = 1.0 if higher_is_better else -1.0
    allowance = share * math.copysign(1.0, level) * pairs.baseline
    gain = toward * (pairs.candidate - pairs.baseline)
    low, high = (
        _mean_evidence(gain + allowance, pairs.clusters),
        _mean_evidence(gain - allowance, pairs.clusters),
    )
    if isinstance(low, str):
        return _MarginTests(None, None, None, low)
    if isinstance(high, str):
        return _MarginTests(None, None, None, high)
    return _MarginTests(
        low.p_at_most(0.0, alpha),
        high.reversed.p_at_most(0.0, alpha),
        low.reversed.p_at_most(0.0, alpha),
        f"{low.method} of candidate - (1 - share) * baseline",
    )


def _check(baseline: ArrayLike, candidate: ArrayLike, clusters: ArrayLike | None) -> _Pairs:
    first, second = numpy.asarray(baseline, numpy.float64), numpy.asarray(candidate, numpy.float64)
    if first.ndim != 1 or first.shape != second.shape or not first.size:
        raise ValueError("the pairs need two sequences of equal, positive length")
    for name, values in (("baseline", first), ("candidate", second)):
        bad = numpy.flatnonzero(~numpy.isfinite(values))
        if bad.size:
            raise ValueError(
                f"the {name}'s value of pair {bad[0]} is {values[bad[0]]}; leave out the {bad.size} pairs "
                "without a finite value"
            )
    if clusters is None:
        return _Pairs(first, second, None)
    labels = numpy.asarray(clusters)
    if labels.shape != first.shape:
        raise ValueError(f"{labels.size} cluster labels for {first.size} pairs")
    names, numbers = numpy.unique(labels, return_inverse=True)
    return _Pairs(first, second, None if len(names) == len(first) else numbers.astype(numpy.intp))


def _evidence(pairs: _Pairs) -> _Evidence | str:
    """What the pairs say, or why they say nothing."""
    if pairs.binary and pairs.clusters is None:
        return _FlipEvidence(pairs.table.flips)
    differences = pairs.candidate - pairs.baseline
    if not pairs.binary:
        return _mean_evidence(differences, pairs.clusters)
    assert pairs.clusters is not None
    groups = int(pairs.clusters.max()) + 1
    if not differences.any():
        method = "no pair differs: exact bound on the rate of clusters with a differing pair"
        return _FlipEvidence(trinomial.Flips(0, 0, groups), method)
    spread = _mean_evidence(differences, pairs.clusters)
    return spread if isinstance(spread, str) else _Wider(spread, _FlipEvidence(pairs.table.flips))


def _mean_evidence(differences: Array, clusters: NDArray[numpy.intp] | None) -> MeanEvidence | str:
    stderr = standard_error(differences, clusters)
    if stderr is None:
        return "none: one pair has no spread" if clusters is None else "none: one cluster has no spread"
    largest = float(numpy.abs(differences).max())
    if largest == 0.0:
        return "none: no pair differs, and how far one could differ is not known"
    if stderr <= NO_SPREAD * largest:
        return "none: all pairs differ by the same amount, and their spread is not known"
    freedom = (len(differences) if clusters is None else int(clusters.max()) + 1) - 1
    return MeanEvidence(
        float(differences.mean()), stderr, freedom, PAIRED_T if clusters is None else CLUSTER_T
    )


def _interval(found: _Evidence, confidence: float) -> Interval:
    alpha = (1.0 - confidence) / 2
    return found.lower_limit(alpha), -found.reversed.lower_limit(alpha)


def _difference_p(found: _Evidence) -> float:
    """Of no difference; at most 0.05 where the 95 % interval leaves 0 out."""
    sides: Sequence[float] = (found.p_at_most(0.0, 0.025), found.reversed.p_at_most(0.0, 0.025))
    return min(1.0, 2.0 * min(sides))
