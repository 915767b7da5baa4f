"""Percentiles of a sample with distribution-free confidence intervals (order statistics)."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc

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


def bounded_from(share: float, *, confidence: float = CONFIDENCE) -> int:
    """Observations from which on the largest one bounds the ``share`` quantile: 59 for p95, 299 for p99."""
    return math.ceil(math.log(1.0 - confidence) / math.log(share))


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
