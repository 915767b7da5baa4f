"""Exact properties of the tests of 0/1 pairs, by adding up the trinomial: type I error, coverage and power.

A region says, for every number of flips, how many of them must be gains for a test to reject "the true
difference is at most d". Its probability at any churn and difference is then a sum, without simulation.
"""

from collections.abc import Callable

import numpy
from numpy.typing import NDArray
from scipy.special import bdtrc, gammaln, xlog1py, xlogy

from assay_evidence.statistics.trinomial import Flips, p_value

Array = NDArray[numpy.float64]
Rejects = Callable[[Flips], bool]


def region(rejects: Rejects, n: int, *, most_flips: int) -> NDArray[numpy.int64]:
    """Fewest gains with which ``rejects`` holds, by number of flips from 0; one more than the flips: never.

    ``rejects`` must go on holding when a loss is exchanged for a gain. The search starts where it ended for
    one flip less, so that a test costs a few calls per number of flips.
    """
    fewest = numpy.empty(min(most_flips, n) + 1, dtype=numpy.int64)
    here = 0
    for flips in range(len(fewest)):
        here = min(here, flips + 1)
        while here <= flips and not rejects(Flips(here, flips - here, n)):
            here += 1
        while here > 0 and rejects(Flips(here - 1, flips - here + 1, n)):
            here -= 1
        fewest[flips] = here
    return fewest


def exact_region(n: int, *, difference: float, alpha: float, most_flips: int) -> NDArray[numpy.int64]:
    """Of the exact test of "the true difference is at most ``difference``"."""
    return region(lambda flips: p_value(flips, difference, alpha) <= alpha, n, most_flips=most_flips)


def probability(fewest: NDArray[numpy.int64], n: int, *, churn: float, difference: float) -> float:
    """That the outcome of ``n`` pairs lies in a region; more flips than it knows are not in it.

    Args:
        fewest: gains needed by number of flips, as of ``region``.
        churn, difference: of the truth; ``|difference| <= churn``.
    """
    flips = numpy.arange(len(fewest), dtype=numpy.float64)
    ways = gammaln(n + 1) - gammaln(flips + 1) - gammaln(n - flips + 1)
    weights = numpy.exp(ways + xlogy(flips, churn) + xlog1py(n - flips, -churn))
    share = min(1.0, max(0.0, (1 + difference / churn) / 2)) if churn else 0.5
    tails = numpy.where(fewest > flips, 0.0, 1.0)
    open_ = (fewest >= 1) & (fewest <= flips)
    tails[open_] = bdtrc(fewest[open_] - 1.0, flips[open_].astype(numpy.int64), share)
    return float(weights @ tails)
