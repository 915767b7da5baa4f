"""The mean of differences of scores between 0 and 1 that are not all 0 or 1, such as F1.

Where a few pairs differ by much and the others hardly, the t test errs as often as 1 in 8 at a nominal 1 in
20: a sample without the rare loss does not know that there is one. Gaffke's (2005) limit does not: each
difference, and one more at the worst that is possible, gets a share of an exponential draw; the limit is the
alpha quantile of the mean with these random weights. It needs no assumption on the distribution, is that of
Clopper and Pearson for values of 0 and 1, and approaches the t interval as n grows. Its level is a conjecture
that nobody has refuted; it held in every simulation of ours. The quantile is by the saddlepoint approximation
of Lugannani and Rice (1980).
"""

import math
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

Array = NDArray[numpy.float64]

_PRECISION = 1e-9
"""Of the derivative, in standard deviations; the cumulant function is flat there."""

_MANY = 8192
"""Differing pairs from which on differences are rounded, to the safe side, to multiples of ``_STEP``."""

_STEP = 2.0**-15

METHOD = "Gaffke's limit (scores taken to lie between 0 and 1)"


@dataclass(frozen=True, slots=True)
class BoundedEvidence:
    """Differences that cannot be below ``worst`` or above ``best``.

    Attributes:
        differing: those that are not 0.
        unchanged: how many are 0.
    """

    differing: Array
    unchanged: int
    worst: float = -1.0
    best: float = 1.0
    method: str = METHOD

    @property
    def reversed(self) -> "BoundedEvidence":
        """With baseline and candidate exchanged."""
        return BoundedEvidence(-self.differing, self.unchanged, -self.best, -self.worst, self.method)

    def p_at_most(self, difference: float, alpha: float) -> float:
        """One-sided p-value of "the true mean is at most ``difference``"; ``alpha`` does not matter here."""
        return _RandomMean(self).below(difference)

    def lower_limit(self, alpha: float) -> float:
        """One-sided ``1 - alpha`` lower confidence limit."""
        return _RandomMean(self).quantile(alpha)


class _RandomMean:
    """Mean of the differences and of ``worst``, weighted by exponential draws over their sum."""

    def __init__(self, evidence: BoundedEvidence) -> None:
        values, counts = evidence.differing, numpy.ones(len(evidence.differing))
        if len(values) > _MANY:
            values, found = numpy.unique(numpy.floor(values / _STEP), return_counts=True)
            values, counts = numpy.maximum(values * _STEP, evidence.worst), found.astype(numpy.float64)
        if evidence.unchanged:
            values, counts = numpy.append(values, 0.0), numpy.append(counts, float(evidence.unchanged))
        self._values = numpy.append(values, evidence.worst)
        self._counts = numpy.append(counts, 1.0)
        self._saddle = 0.0

    def below(self, difference: float) -> float:
        """Probability that the mean is at most ``difference``: that a sum of exponentials is at most 0."""
        distances = self._values - difference
        if distances.max() <= 0:
            return 1.0
        if distances.min() >= 0:
            return 0.0
        saddle = self._saddle = self._solve(distances)
        shrunk = 1.0 - saddle * distances
        height = float(self._counts @ numpy.log(shrunk))  # minus the cumulant function; at least 0
        curvature = float(self._counts @ numpy.square(distances / shrunk))
        root = math.copysign(math.sqrt(2 * max(height, 0.0)), saddle)
        if abs(root) < 1e-2:
            skewness = 2 * float(self._counts @ distances**3) / curvature**1.5
            correction = -skewness / 6
        else:
            correction = 1 / (saddle * math.sqrt(curvature)) - 1 / root
        density = math.exp(-0.5 * root * root) / math.sqrt(2 * math.pi)
        return float(min(1.0, max(0.0, float(ndtr(root)) - density * correction)))

    def _solve(self, distances: Array) -> float:
        """Where the derivative of the cumulant function, which rises, is 0: Newton steps inside a bracket."""
        low, high = 1.0 / float(distances.min()), 1.0 / float(distances.max())
        here = self._saddle
        if not here:
            here = -float(self._counts @ distances) / float(self._counts @ numpy.square(distances))
        if not low < here < high:
            here = (low if here <= low else high) / 2
        for _ in range(50):
            terms = distances / (1.0 - here * distances)
            slope, curvature = float(self._counts @ terms), float(self._counts @ numpy.square(terms))
            if abs(slope) <= _PRECISION * math.sqrt(curvature):
                break
            low, high = (here, high) if slope < 0 else (low, here)
            step = here - slope / curvature
            here = step if low < step < high else (low + high) / 2
        return here

    def quantile(self, alpha: float) -> float:
        """The difference that the mean is below with probability ``alpha``: secants on the probit scale."""
        goal = float(ndtri(alpha))
        low, high = float(self._values.min()), float(self._values.max())
        n = float(self._counts.sum())
        mean = float(self._counts @ self._values) / n
        spread = math.sqrt(float(self._counts @ numpy.square(self._values - mean))) / n
        here = min(max(mean + goal * spread, low + 1e-3 * (high - low)), mean)
        before, gap_before = mean, float(ndtri(min(max(self.below(mean), 1e-300), 1 - 1e-16))) - goal
        for _ in range(80):
            gap = float(ndtri(min(max(self.below(here), 1e-300), 1 - 1e-16))) - goal
            low, high = (low, here) if gap > 0 else (here, high)
            if abs(gap) < 1e-7 or high - low < 1e-14:
                break
            guess = here - gap * (here - before) / (gap - gap_before) if gap != gap_before else low
            before, gap_before = here, gap
            here = guess if low < guess < high else (low + high) / 2
        return here
