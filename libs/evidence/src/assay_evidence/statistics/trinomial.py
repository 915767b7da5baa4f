"""The difference of two paired 0/1 scores: an exact unconditional test and the interval that it inverts.

Of ``n`` pairs ``gained`` are wrong in the baseline and right in the candidate, ``lost`` the other way round.
These counts are trinomial; the difference is ``P(gained) - P(lost)`` and the churn ``P(gained) + P(lost)`` is
a nuisance. Outcomes are ordered by Tango's (1998) score limit. The p-value of "the difference is at most d"
is the largest probability, over the churns in a confidence interval (Berger and Boos 1994), of an outcome
that speaks against it at least as loudly as the one seen; the limit (Buehler 1957) is the d whose p-value is
``alpha``.

The ordering depends on ``alpha`` but not on d. So the p-value rises with d, the test and the limit agree, and
the error is at most ``(1 + CHURN_ERROR) * alpha`` for every n, churn and difference.
"""

import math
from typing import NamedTuple

import numpy
from numpy.typing import ArrayLike, NDArray
from scipy.special import betainc, betaincinv, gammaln, ndtr, ndtri, xlog1py, xlogy

Array = NDArray[numpy.float64]

CHURN_ERROR = 1e-3
"""Share of alpha with which the interval of the churn may miss it."""

ENOUGH_FLIPS = 1000
"""Flips from which on the score test itself is used: its error is then within 0.2 points of alpha."""

_GRID = numpy.linspace(0.0, 1.0, 17)
"""Churns that are tried, from the lowest to the highest, by their roots: half a standard error apart."""

_TAIL_DEVIATIONS = 7.0
"""Standard deviations of the number of flips beyond which outcomes are left out."""

_NEGLIGIBLE = 1e-18


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
    """One-sided ``1 - alpha`` lower confidence limit of the difference.

    Without flips it is ``alpha**(1 / n) - 1``: n pairs without one rule out any larger loss.
    """
    if flips.lost == flips.n:
        return -1.0
    if flips.changed >= ENOUGH_FLIPS:
        return score_limit(flips, alpha)
    return _AtLeastAsGood(flips, alpha).limit()


def p_value(flips: Flips, difference: float, alpha: float) -> float:
    """One-sided p-value of "the true difference is at most ``difference``"; ``alpha`` sets the ordering.

    At most ``alpha`` exactly where ``lower_limit`` is at least ``difference``.
    """
    if flips.lost == flips.n:
        return 1.0
    if flips.changed >= ENOUGH_FLIPS:
        return float(ndtr(-score(flips.gained, flips.lost, flips.n, difference)))
    return _AtLeastAsGood(flips, alpha).probability(difference)


def score(gained: ArrayLike, lost: ArrayLike, n: int, difference: Array | float) -> Array:
    """Tango's score statistic of "the difference is ``difference``", positive where more was gained."""
    rate_gained = numpy.asarray(gained, numpy.float64) / n
    rate_lost = numpy.asarray(lost, numpy.float64) / n
    variance = score_variance(rate_gained, rate_lost, difference) / n
    distance = rate_gained - rate_lost - difference
    return numpy.asarray(distance / numpy.sqrt(numpy.maximum(variance, _NEGLIGIBLE)), numpy.float64)


def score_variance(rate_gained: ArrayLike, rate_lost: ArrayLike, difference: Array | float) -> Array:
    """Variance of one pair's difference with the churn that is most likely if the mean is ``difference``."""
    gained, lost = numpy.asarray(rate_gained, numpy.float64), numpy.asarray(rate_lost, numpy.float64)
    slope = (2 - gained + lost) * difference - gained - lost
    constant = -lost * difference * (1 - difference)
    root = numpy.sqrt(numpy.maximum(slope * slope - 8 * constant, 0.0))
    positive = slope > 0
    # Two forms of the same root; each keeps its digits where the other cancels.
    below = numpy.where(positive, slope + root, 1.0)
    likely = numpy.where(positive, -2 * constant / below, (root - slope) / 4)
    return numpy.asarray(numpy.maximum(2 * likely + difference * (1 - difference), 0.0), numpy.float64)


def score_limit(flips: Flips, alpha: float) -> float:
    """Tango's one-sided lower limit: the smallest difference that the score test does not reject."""
    level = -float(ndtri(alpha))
    if flips.changed == 0:
        return -level * level / (flips.n + level * level)
    low, high = -1.0, (flips.gained - flips.lost) / flips.n
    for _ in range(10):  # each round leaves a 32nd of the range
        places = numpy.linspace(low, high, 33)
        above = int(numpy.count_nonzero(score(flips.gained, flips.lost, flips.n, places[1:-1]) > level))
        low, high = float(places[above]), float(places[above + 1])
    return low


def _rank(flips: Flips, alpha: float) -> float:
    """By which outcomes are ordered: the score limit, or what no flips at all rule out if that is more."""
    limit = score_limit(flips, alpha)
    return limit if flips.changed else max(limit, math.expm1(math.log(alpha) / flips.n))


class _AtLeastAsGood:
    """The outcomes that rank at least as high as the one seen, and their probability.

    ``_counts`` are numbers of flips; ``_needed`` of each: the fewest gains with which the outcome belongs.
    """

    def __init__(self, flips: Flips, alpha: float) -> None:
        n, changed = flips.n, flips.changed
        self._n, self._alpha, self._start = n, alpha, _rank(flips, alpha)
        error = CHURN_ERROR * alpha / 2
        self._churn_low = float(betaincinv(changed, n - changed + 1, error)) if changed else 0.0
        self._churn_high = float(betaincinv(changed + 1, n - changed, 1 - error)) if changed < n else 1.0
        low, high = self._churn_low * n, self._churn_high * n
        first = max(0, math.floor(low - _TAIL_DEVIATIONS * math.sqrt(low)))
        last = min(n, math.ceil(high + _TAIL_DEVIATIONS * math.sqrt(high) + 8))
        self._counts = numpy.arange(first, last + 1, dtype=numpy.float64)
        self._needed = self._fewest_gains(-float(ndtri(alpha)))
        at = changed - first
        self._needed[at] = min(self._needed[at], flips.gained)  # the outcome itself, whatever rounding says
        if first == 0:
            self._needed[0] = 0.0 if _rank(Flips(0, 0, n), alpha) >= self._start else 1.0
        self._ways = gammaln(n + 1) - gammaln(self._counts + 1) - gammaln(n - self._counts + 1)

    def _fewest_gains(self, level: float) -> Array:
        """Smallest number of gains, by number of flips, whose score at the limit reaches ``level``."""
        low, high = numpy.zeros_like(self._counts), self._counts + 1
        for _ in range(math.ceil(math.log2(self._counts[-1] + 2)) + 1):
            middle = numpy.floor((low + high) / 2)
            reached = score(middle, self._counts - middle, self._n, self._start) >= level - 1e-9
            unsettled = low < high
            high = numpy.where(reached & unsettled, middle, high)
            low = numpy.where(~reached & unsettled, middle + 1, low)
        return high

    def probability(self, difference: float) -> float:
        """Largest over the churns that the data allow and that allow ``difference``."""
        return float(self._over_churns(difference, _GRID).max())

    def limit(self) -> float:
        """The difference whose ``probability`` is alpha.

        The churn with the largest probability hardly moves with the difference: the root is found for it and
        its neighbours, and again if the whole grid then has a larger one.
        """
        found = self._start
        for _ in range(5):
            best = int(self._over_churns(found, _GRID).argmax())
            found = self._root(found, _GRID[max(0, best - 1) : best + 2])
            if self.probability(found) <= self._alpha * (1 + 1e-9):
                return found
        return self._root(found, _GRID)

    def _over_churns(self, difference: float, positions: Array) -> Array:
        """Probability at each position in the range of churns; 0 where no churn is possible."""
        # "At most" a gain that no allowed churn permits is no less likely than at most the largest that does.
        difference = min(difference, self._churn_high)
        low, high = max(self._churn_low, abs(difference)), self._churn_high
        if low > high:
            return numpy.zeros(len(positions))
        first, last = math.sqrt(low), math.sqrt(high)
        churns = numpy.clip(numpy.square(first + positions * (last - first)), low, high)[:, None]
        weights = numpy.exp(
            self._ways + xlogy(self._counts, churns) + xlog1py(self._n - self._counts, -churns)
        )
        needed = numpy.broadcast_to(self._needed, weights.shape)
        gains = numpy.where(needed < 1, 1.0, 0.0)
        open_ = (needed >= 1) & (needed <= self._counts) & (weights > _NEGLIGIBLE)
        share = numpy.clip((1 + difference / numpy.maximum(churns, 1e-300)) / 2, 0.0, 1.0)
        counts = numpy.broadcast_to(self._counts, weights.shape)[open_]
        gains[open_] = betainc(
            needed[open_], counts - needed[open_] + 1, numpy.broadcast_to(share, weights.shape)[open_]
        )
        total: Array = (weights * gains).sum(axis=1)
        return numpy.minimum(total, 1.0)

    def _root(self, start: float, positions: Array) -> float:
        """Where the largest probability is alpha: secants on the probit scale, inside a bracket."""
        goal = float(ndtri(self._alpha))
        low, high, here = -1.0, 1.0, start
        before, gap_before = start, math.nan
        for _ in range(80):
            p = float(self._over_churns(here, positions).max())
            gap = float(ndtri(min(max(p, 1e-300), 1 - 1e-16))) - goal
            if gap > 0:
                high = here
            else:
                low = here
            if abs(gap) < 1e-11 or high - low < 1e-14:
                break
            if math.isnan(gap_before) or gap == gap_before:
                guess = here - math.copysign(max(1e-3 * abs(here), 1e-7), gap)
            else:
                guess = here - gap * (here - before) / (gap - gap_before)
            before, gap_before = here, gap
            here = guess if low < guess < high else (low + high) / 2
        return here
