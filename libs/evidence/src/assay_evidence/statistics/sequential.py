"""Stopping a run early: looks at prefixes of a fixed random order, with the error of all looks together held.

Lan and DeMets (1983) alpha spending of the O'Brien and Fleming (1979) type: little is spent early. The
nominal level of each look follows from the joint distribution of the looks, by recursive numerical
integration (Armitage, McPherson and Rowe 1969). A run may also end because it is hopeless; that rule does not
bind: going on all the same cannot raise the error.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal, NamedTuple

import numpy
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from assay_evidence.statistics.paired import margin_test, paired_difference

Array = NDArray[numpy.float64]

LEAST_ALPHA = 1e-8
"""A look whose level is below this proves nothing: it ends no run."""

HOPELESS = 0.05
"""Chance of being proven at the end below which a run is hopeless."""

_REACH = 9.0
"""Standard deviations of the process beyond which nothing is added up."""

_QUADRATURE = 256
_MASK = (1 << 64) - 1
_STEP = 0x9E3779B97F4A7C15


def evaluation_order(n: int, seed: int) -> NDArray[numpy.int64]:
    """A random permutation of ``0..n-1``, the same for all time and on every machine.

    Item i gets the i-th output of SplitMix64 (Steele, Lea and Flood 2014) started at the first output for
    ``seed``; items are evaluated by ascending output. Outputs of one start are all different.

    Raises:
        ValueError: a negative n, or a seed that is not between 0 and 2^64 - 1.
    """
    if n < 0:
        raise ValueError(f"n is {n}, not at least 0")
    if not 0 <= seed <= _MASK:
        raise ValueError(f"the seed is {seed}, not between 0 and 2^64 - 1")
    start = _mix(numpy.array([(seed + _STEP) & _MASK], dtype=numpy.uint64))
    keys = _mix(start + numpy.arange(1, n + 1, dtype=numpy.uint64) * numpy.uint64(_STEP))
    return numpy.argsort(keys, kind="stable").astype(numpy.int64)


def _mix(state: NDArray[numpy.uint64]) -> NDArray[numpy.uint64]:
    """SplitMix64's output function; arithmetic modulo 2^64."""
    state = (state ^ (state >> numpy.uint64(30))) * numpy.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> numpy.uint64(27))) * numpy.uint64(0x94D049BB133111EB)
    return state ^ (state >> numpy.uint64(31))


def plan_looks(planned: int, *, first_share: float, count: int) -> list[int]:
    """Numbers of items at which to look: evenly spaced, the first at ``first_share``, the last all of them.

    Fewer than ``count`` where ``planned`` is small.

    Raises:
        ValueError: an argument out of range.
    """
    if planned < 1 or count < 1:
        raise ValueError(f"{count} looks at {planned} items: both must be at least 1")
    if not 0 < first_share <= 1:
        raise ValueError(f"the share at the first look is {first_share}, not above 0 and at most 1")
    if count == 1:
        return [planned]
    shares = (first_share + (1 - first_share) * step / (count - 1) for step in range(count))
    return sorted({min(planned, max(1, round(share * planned))) for share in shares} | {planned})


def nominal_alphas(looks: Sequence[int], alpha: float) -> list[float]:
    """One-sided level of each look, so that all together err with probability ``alpha``.

    Args:
        looks: ascending numbers of items; information grows in proportion.

    Raises:
        ValueError: looks that do not ascend, or alpha out of range.
    """
    return [float(ndtr(-bound)) for bound in boundaries(looks, alpha)]


def boundaries(looks: Sequence[int], alpha: float) -> list[float]:
    """Critical values of the standardised statistic at each look; see ``nominal_alphas``."""
    if not looks or looks[0] < 1 or any(first >= second for first, second in pairwise(looks)):
        raise ValueError(f"looks must be positive and ascend: {list(looks)}")
    if not 0 < alpha < 0.5:
        raise ValueError(f"alpha is {alpha}, not between 0 and 0.5")
    times = [look / looks[-1] for look in looks]
    start = float(ndtri(1 - alpha / 2))
    spent = [2 * float(ndtr(-start / math.sqrt(time))) for time in times]
    bounds = [-float(ndtri(spent[0]))]
    process = _Process(numpy.zeros(1), numpy.ones(1))
    before = 0.0
    for (earlier, now), (spent_before, spent_now) in zip(pairwise(times), pairwise(spent), strict=True):
        process = process.below(bounds[-1] * math.sqrt(earlier), elapsed=earlier - before, time=earlier)
        bounds.append(process.crossed(spent_now - spent_before, elapsed=now - earlier) / math.sqrt(now))
        before = earlier
    return bounds


class _Process(NamedTuple):
    """A Brownian motion that has not crossed a boundary: its places at one look and their probabilities."""

    places: Array
    masses: Array

    def below(self, boundary: float, *, elapsed: float, time: float) -> "_Process":
        """The same one look later, at ``time``, where it is below ``boundary``."""
        nodes, weights = numpy.polynomial.legendre.leggauss(_QUADRATURE)
        low, high = -_REACH * math.sqrt(time), min(boundary, _REACH * math.sqrt(time))
        places = (high - low) / 2 * nodes + (high + low) / 2
        moves = (places[:, None] - self.places[None, :]) / math.sqrt(elapsed)
        density = numpy.exp(-0.5 * moves * moves) @ self.masses / math.sqrt(2 * math.pi * elapsed)
        return _Process(places, density * weights * (high - low) / 2)

    def crossed(self, error: float, *, elapsed: float) -> float:
        """The boundary that it lies above with probability ``error`` one look later."""
        low, high = -_REACH, 5 * _REACH
        for _ in range(60):
            middle = (low + high) / 2
            if float(ndtr((self.places - middle) / math.sqrt(elapsed)) @ self.masses) > error:
                low = middle
            else:
                high = middle
        return high


def judge_look(
    baseline: ArrayLike,
    candidate: ArrayLike,
    *,
    margin: float,
    higher_is_better: bool,
    looks: Sequence[int],
    look: int,
    alpha: float,
) -> Literal["proven", "hopeless", "continue"]:
    """What the pairs of a look say.

    ``proven``: not worse by the margin, at the level of this look. ``hopeless``: worse by more than it, at
    that level; or the chance of being proven at the last look is below ``HOPELESS`` both if the trend goes on
    and if there is in truth no difference.

    Args:
        baseline, candidate: values of the items of the first ``looks[look]`` in evaluation order.
        margin: absolute, in the unit of the values.
        looks: all planned looks.
        look: position of this one, from 0.
        alpha: one-sided error of all looks together.

    Raises:
        ValueError: as of ``margin_test`` and ``nominal_alphas``.
    """
    bounds = boundaries(looks, alpha)
    level = float(ndtr(-bounds[look]))
    if level >= LEAST_ALPHA:
        found = margin_test(
            baseline, candidate, margin=margin, alpha=level, higher_is_better=higher_is_better
        )
        if found.non_inferior:
            return "proven"
        if found.inferior:
            return "hopeless"
    if look == len(looks) - 1:
        return "continue"
    pairs = paired_difference(baseline, candidate)
    if not pairs.stderr:
        return "continue"
    gain = pairs.difference if higher_is_better else -pairs.difference
    share = looks[look] / looks[-1]
    chance = chance_at_end(gain + margin, pairs.stderr, margin=margin, time=share, bound=bounds[-1])
    return "hopeless" if float(chance) < HOPELESS else "continue"


def chance_at_end(
    distance: Array | float, stderr: Array | float, *, margin: float, time: float, bound: float
) -> Array:
    """Probability of ending above the last bound (conditional power); of two drifts, that which gives more.

    Args:
        distance: observed gain plus margin; ``stderr``: its standard error, above 0.
        time: share of the planned items that are in, below 1.
        bound: last critical value.
    """
    now = numpy.asarray(distance) / stderr * math.sqrt(time)
    drift = numpy.maximum(now / time, margin / (numpy.asarray(stderr) * math.sqrt(time)))
    return numpy.asarray(ndtr((now + drift * (1 - time) - bound) / math.sqrt(1 - time)), numpy.float64)
