"""Stopping a run early: looks at prefixes of a fixed random order, with the error of all looks together held.

Lan and DeMets (1983) alpha spending of the O'Brien and Fleming (1979) type: little is spent early. The
nominal level of each look follows from the joint distribution of the looks, by recursive numerical
integration (Armitage, McPherson and Rowe 1969).
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import numpy
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

from assay_evidence.statistics.paired import margin_test

LEAST_ALPHA = 1e-10
"""A look whose level is below this cannot stop the run."""

_NODES = 256
_REACH = 9.0
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
    nodes, weights = numpy.polynomial.legendre.leggauss(_NODES)
    bounds = [-float(ndtri(spent[0]))]
    density: NDArray[numpy.float64] | None = None
    points = numpy.zeros(1)
    masses = numpy.ones(1)  # probability at ``points`` of the process before the first look: all at 0
    for position in range(1, len(times)):
        before, now = times[position - 1], times[position]
        earlier = times[position - 2] if position > 1 else 0.0
        points, masses = _advance(
            points, masses, before - earlier, bounds[-1] * math.sqrt(before), before, (nodes, weights)
        )
        bounds.append(
            _bound(points, masses, math.sqrt(now - before), spent[position] - spent[position - 1])
            / math.sqrt(now)
        )
    del density
    return bounds


def _advance(
    points: NDArray[numpy.float64],
    masses: NDArray[numpy.float64],
    step: float,
    bound: float,
    time: float,
    rule: tuple[NDArray[numpy.float64], NDArray[numpy.float64]],
) -> tuple[NDArray[numpy.float64], NDArray[numpy.float64]]:
    """The process at the next look where it has not crossed ``bound``: points and their probabilities."""
    low, high = -_REACH * math.sqrt(time), min(bound, _REACH * math.sqrt(time))
    new = (high - low) / 2 * rule[0] + (high + low) / 2
    moves = (new[:, None] - points[None, :]) / math.sqrt(step)
    density = (numpy.exp(-0.5 * moves * moves) @ masses) / math.sqrt(2 * math.pi * step)
    return new, density * rule[1] * (high - low) / 2


def _bound(
    points: NDArray[numpy.float64], masses: NDArray[numpy.float64], step: float, error: float
) -> float:
    """Where the process, one look later, lies above with probability ``error``."""
    low, high = -_REACH, 50.0
    for _ in range(80):
        middle = (low + high) / 2
        if float(ndtr((points - middle) / step) @ masses) > error:
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

    Args:
        baseline, candidate: values of the items of the first ``looks[look]`` in evaluation order.
        looks: all planned looks.
        look: position of this one, from 0.
        alpha: one-sided error of all looks together.
    """
    level = nominal_alphas(looks, alpha)[look]
    if level < LEAST_ALPHA:
        return "continue"
    found = margin_test(baseline, candidate, margin=margin, alpha=level, higher_is_better=higher_is_better)
    if found.non_inferior:
        return "proven"
    return "hopeless" if found.inferior else "continue"
