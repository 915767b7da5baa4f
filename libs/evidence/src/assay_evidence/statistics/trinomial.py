"""The difference of two paired 0/1 scores: an exact unconditional test and the interval that it inverts.

Of ``n`` pairs ``gained`` are wrong in the baseline and right in the candidate, ``lost`` the other way round.
These counts are trinomial; the difference is ``P(gained) - P(lost)`` and the churn ``P(gained) + P(lost)`` is
a nuisance. Outcomes are ordered by Tango's (1998) score limit. The p-value of "the difference is at most d"
is the largest probability, over the churns in a confidence interval (Berger and Boos 1994), of an outcome
that speaks against it at least as loudly as the one seen; the limit (Buehler 1957) is the d whose p-value is
``alpha``.
The ordering does not depend on d, so that the p-value rises with d and the test and the interval agree. The
error is at most ``(1 + CHURN_ERROR) * alpha`` for every n, churn and difference.
"""

import math
from typing import NamedTuple

import numpy
from numpy.typing import NDArray
from scipy.special import betainc, betaincinv, gammaln, ndtri, xlog1py, xlogy

Array = NDArray[numpy.float64]

CHURN_ERROR = 1e-3
"""Share of alpha with which the interval of the churn may miss it."""

GRID = 17
"""Churns at which the probability is computed; they lie half a standard error apart."""

ENOUGH_FLIPS = 1000
"""Flips from which on the score limit itself is used: its error is then below 0.1 points."""

TAIL_DEVIATIONS = 7.0
"""Standard deviations of the number of flips beyond which outcomes are left out."""


class Flips(NamedTuple):
    """Pairs that changed, of ``n``."""

    gained: int
    lost: int
    n: int

    @property
    def changed(self) -> int:
        """Flips in both directions."""
        return self.gained + self.lost

    @property
    def reversed(self) -> "Flips":
        """With baseline and candidate exchanged."""
        return Flips(self.lost, self.gained, self.n)


def lower_limit(flips: Flips, alpha: float) -> float:
    """One-sided ``1 - alpha`` lower confidence limit of the difference."""
    if flips.lost == flips.n:
        return -1.0
    if flips.changed == 0:
        return -(1.0 - alpha ** (1.0 / flips.n))
    start = score_limit(flips, alpha)
    if flips.changed >= ENOUGH_FLIPS:
        return start
    order = _Order(flips, alpha, start)
    return _root(order, start, alpha)


def p_value(flips: Flips, difference: float, alpha: float) -> float:
    """One-sided p-value of "the true difference is at most ``difference``"."""
    if flips.changed >= ENOUGH_FLIPS:
        return float(_upper_tail(score(flips.gained, flips.lost, flips.n, difference)))
    if flips.lost == flips.n:
        return 1.0
    return _Order(flips, alpha, score_limit(flips, alpha)).p_value(difference)


def score(gained: "Array | float", lost: "Array | float", n: int, difference: float) -> Array:
    """Tango's score statistic of "the difference is ``difference``", positive where more was gained.

    The churn is estimated under the hypothesis; 0 / 0 (no flips, no difference) is 0.
    """
    gained, lost = numpy.asarray(gained, numpy.float64), numpy.asarray(lost, numpy.float64)
    slope = (2 * n - gained + lost) * difference - gained - lost
    constant = -lost * difference * (1 - difference)
    root = numpy.sqrt(numpy.maximum(slope * slope - 8 * n * constant, 0.0))
    # Two forms of one root; each keeps its digits where the other cancels.
    with numpy.errstate(divide="ignore", invalid="ignore"):
        rate_lost = numpy.where(slope > 0, -2 * constant / (slope + root), (root - slope) / (4 * n))
    rate_lost = numpy.where((slope > 0) & (slope + root == 0), 0.0, rate_lost)
    variance = n * (2 * rate_lost + difference * (1 - difference))
    distance = gained - lost - n * difference
    with numpy.errstate(divide="ignore", invalid="ignore"):
        value = distance / numpy.sqrt(numpy.maximum(variance, 0.0))
    return numpy.where(distance == 0, 0.0, value)


def score_limit(flips: Flips, alpha: float) -> float:
    """Tango's one-sided lower limit: the smallest difference that the score test does not reject."""
    level = -float(ndtri(alpha))
    low, high = -1.0, (flips.gained - flips.lost) / flips.n
    for _ in range(60):
        middle = (low + high) / 2
        if float(score(flips.gained, flips.lost, flips.n, middle)) > level:
            low = middle
        else:
            high = middle
    return low


def _upper_tail(z: "Array | float") -> "Array | float":
    from scipy.special import ndtr

    return ndtr(-numpy.asarray(z))


class _Order:
    """Outcomes whose score limit is at least that of the one seen, and their probability.

    ``counts`` are numbers of flips; ``needed`` of each: the fewest gains with which the outcome belongs.
    """

    def __init__(self, flips: Flips, alpha: float, limit: float) -> None:
        self._n = n = flips.n
        error = CHURN_ERROR * alpha / 2
        changed = flips.changed
        self._churn_low = float(betaincinv(changed, n - changed + 1, error)) if changed else 0.0
        self._churn_high = float(betaincinv(changed + 1, n - changed, 1 - error)) if changed < n else 1.0
        self._limit = limit
        reach_low = self._churn_low * n - TAIL_DEVIATIONS * math.sqrt(self._churn_low * n) - 1
        reach_high = self._churn_high * n + TAIL_DEVIATIONS * math.sqrt(self._churn_high * n) + 8
        self._counts = numpy.arange(
            max(0, math.floor(reach_low)), min(n, math.ceil(reach_high)) + 1, dtype=numpy.float64
        )
        self._needed = self._fewest_gains(-float(ndtri(alpha)))
        at = changed - int(self._counts[0])
        self._needed[at] = min(self._needed[at], flips.gained)  # the outcome itself, whatever rounding says
        self._ways = gammaln(n + 1) - gammaln(self._counts + 1) - gammaln(n - self._counts + 1)

    def _fewest_gains(self, level: float) -> Array:
        """Smallest number of gains, by number of flips, whose score at the limit reaches ``level``."""
        low, high = numpy.zeros_like(self._counts), self._counts + 1
        for _ in range(max(1, math.ceil(math.log2(self._counts[-1] + 2)))):
            middle = numpy.floor((low + high) / 2)
            reached = score(middle, self._counts - middle, self._n, self._limit) >= level - 1e-9
            high = numpy.where(reached & (low < high), middle, high)
            low = numpy.where(~reached & (low < high), middle + 1, low)
        return high

    def p_value(self, difference: float) -> float:
        """Largest probability over the churns that the data allow."""
        low, high = max(self._churn_low, abs(difference)), self._churn_high
        if low >= high:
            if abs(difference) > high:
                return 0.0
            return float(self._probability(difference, numpy.array([low]))[0])
        churns = numpy.square(numpy.linspace(math.sqrt(low), math.sqrt(high), GRID))
        churns[0], churns[-1] = low, high
        found = self._probability(difference, churns)
        return float(min(1.0, found.max()))

    def _probability(self, difference: float, churns: Array) -> Array:
        """Of the outcomes that belong, at each churn."""
        counts, needed = self._counts, self._needed
        share = numpy.clip((1 + difference / numpy.maximum(churns, 1e-300)) / 2, 0.0, 1.0)[:, None]
        flips = numpy.exp(
            self._ways + xlogy(counts, churns[:, None]) + xlog1py(self._n - counts, -churns[:, None])
        )
        inside = (needed >= 1) & (needed <= counts)
        gains = numpy.where(needed < 1, 1.0, 0.0) * numpy.ones_like(share)
        gains[:, inside] = betainc(needed[inside], counts[inside] - needed[inside] + 1, share)
        return (flips * gains).sum(axis=1)


def _root(order: _Order, start: float, alpha: float) -> float:
    """The difference at which the p-value is ``alpha``, by secants on the probit scale within a bracket."""
    goal = float(ndtri(alpha))
    low, high = -1.0, 1.0
    x = start
    previous: tuple[float, float] | None = None
    for _ in range(60):
        p = order.p_value(x)
        gap = float(ndtri(min(max(p, 1e-300), 1 - 1e-16))) - goal
        if gap > 0:
            high = x
        else:
            low = x
        if abs(gap) < 1e-10 or high - low < 1e-13:
            break
        if previous is not None and gap != previous[1]:
            step = x - gap * (x - previous[0]) / (gap - previous[1])
        else:
            step = x - math.copysign(max(1e-3 * abs(x), 1e-6), gap)
        previous = (x, gap)
        x = step if low < step < high else (low + high) / 2
    return x
