"""Statistics on paired items and on percentiles. Pure functions of numbers.

Sources: order-statistic intervals for quantiles (binomial), the paired t interval, and the exact (binomial)
form of McNemar's test, as in any text on nonparametric statistics.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc, stdtrit

CONFIDENCE = 0.95


class RankInterval(NamedTuple):
    """Ranks, from 1, of the observations that enclose a quantile; ``None`` where no rank is far enough."""

    low: int | None
    high: int | None


@dataclass(frozen=True, slots=True)
class PercentileEstimate:
    """A percentile of a sample and its confidence interval, in the sample's unit.

    ``value`` is the nearest-rank percentile: the smallest observation that at least the wanted share of the
    observations does not exceed. ``low`` or ``high`` is ``None`` where the sample is too small to bound that
    side; ``at_least`` then says that the true percentile may lie anywhere above.
    """

    value: float
    low: float | None
    high: float | None
    at_least: bool


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Candidate minus baseline over pairs.

    Attributes:
        n: pairs.
        baseline: mean of the baseline.
        candidate: mean of the candidate.
        difference: ``candidate - baseline``.
        stderr: standard error of the difference; ``None`` for fewer than two pairs.
        interval: 95 % confidence interval of the difference; ``None`` where there is none.
        interval_method: how it was made, or why there is none.
        changed: pairs whose values differ.
        changed_rate_upper: exact one-sided 95 % upper bound of the rate of such pairs.
    """

    n: int
    baseline: float
    candidate: float
    difference: float
    stderr: float | None
    interval: tuple[float, float] | None
    interval_method: str
    changed: int
    changed_rate_upper: float


def quantile_ranks(n: int, share: float, *, confidence: float = CONFIDENCE) -> RankInterval:
    """Ranks whose order statistics enclose the ``share`` quantile with at least ``confidence``.

    Free of any assumption on the distribution, for independent observations: the number of observations
    below the quantile is binomial. Half of the error goes to each side; where the upper side cannot be
    bounded with half, it may take more and the lower side gets what is left, so that for p99 the maximum
    becomes an upper bound at n = 299.
    """
    error = 1.0 - confidence
    low_error = error / 2
    high: int | None
    if bdtrc(n - 1, n, share) <= error / 2:
        high = _smallest(1, n, lambda rank: float(bdtrc(rank - 1, n, share)) <= error / 2)
    elif bdtrc(n - 1, n, share) <= error:
        high, low_error = n, error - float(bdtrc(n - 1, n, share))
    else:
        high = None
    first_too_high = _smallest(1, n + 1, lambda rank: float(bdtr(rank - 1, n, share)) > low_error)
    return RankInterval(low=first_too_high - 1 or None, high=high)


def _smallest(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Smallest whole number in ``low..high`` for which a monotone predicate holds; ``high`` if none below."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low


def percentile(ordered: NDArray[numpy.float64], share: float) -> PercentileEstimate | None:
    """Nearest-rank percentile of ascending observations with its interval; ``None`` when there are none."""
    n = len(ordered)
    if n == 0:
        return None
    ranks = quantile_ranks(n, share)
    # share * n may come out a hair above a whole number; the hair is not another rank.
    rank = min(n, max(1, math.ceil(share * n - 1e-9)))
    return PercentileEstimate(
        value=float(ordered[rank - 1]),
        low=None if ranks.low is None else float(ordered[ranks.low - 1]),
        high=None if ranks.high is None else float(ordered[ranks.high - 1]),
        at_least=ranks.high is None,
    )


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


def rate_upper_bound(events: int, n: int) -> float:
    """Exact one-sided 95 % upper bound (Clopper and Pearson) of a rate; ``events`` of ``n`` were seen."""
    if events >= n:
        return 1.0
    low, high = events / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if float(bdtr(events, n, middle)) > 1.0 - CONFIDENCE:
            low = middle
        else:
            high = middle
    return high


def paired_difference(baseline: Sequence[float], candidate: Sequence[float]) -> PairedDifference:
    """Mean difference of pairs with its standard error and confidence interval.

    Where no pair differs, the standard error is 0 and says nothing; for values of 0 and 1 the interval is
    then the exact bound on the rate of differing pairs, in both directions.

    Raises:
        ValueError: no pairs, or unequal lengths.
    """
    n = len(baseline)
    if n == 0 or n != len(candidate):
        raise ValueError("the pairs need two sequences of equal, positive length")
    first = numpy.asarray(baseline, dtype=numpy.float64)
    second = numpy.asarray(candidate, dtype=numpy.float64)
    differences = second - first
    changed = int(numpy.count_nonzero(differences))
    upper = rate_upper_bound(changed, n)
    mean = float(differences.mean())
    stderr = float(differences.std(ddof=1) / math.sqrt(n)) if n > 1 else None
    interval: tuple[float, float] | None = None
    if changed == 0:
        if is_binary(baseline):
            interval, method = (-upper, upper), "no pair differs: exact bound on the rate of differing pairs"
        else:
            method = "none: no pair differs, and how far one could differ is not known"
    elif stderr is None:
        method = "none: one pair has no spread"
    else:
        reach = float(stdtrit(n - 1, 0.5 + CONFIDENCE / 2)) * stderr
        interval, method = (mean - reach, mean + reach), "paired t"
    return PairedDifference(
        n=n,
        baseline=float(first.mean()),
        candidate=float(second.mean()),
        difference=mean,
        stderr=stderr,
        interval=interval,
        interval_method=method,
        changed=changed,
        changed_rate_upper=upper,
    )


def is_binary(values: Sequence[float]) -> bool:
    """Whether every value is 0 or 1."""
    return all(value in (0.0, 1.0) for value in values)
