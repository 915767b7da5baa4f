"""The ratio of two paired proportions: is the candidate's rate at most a given multiple of the baseline's?"""

import math
from typing import NamedTuple

from scipy.special import ndtr

from assay_evidence.statistics.trinomial import Flips, p_value


class PairTable(NamedTuple):
    """Pairs of 0/1 scores by what they are; ``lost``: 1 in the baseline only."""

    both: int
    lost: int
    gained: int
    neither: int

    @property
    def n(self) -> int:
        """All pairs."""
        return self.both + self.lost + self.gained + self.neither

    @property
    def flips(self) -> Flips:
        """The pairs that changed."""
        return Flips(self.gained, self.lost, self.n)


def p_ratio_at_most(table: PairTable, ratio: float, alpha: float) -> float:
    """One-sided p-value of "candidate's rate <= ``ratio`` * baseline's rate".

    The larger of two: the score test (Nam and Blackwelder 2002), whose variance is estimated under the
    hypothesis and which knows that the baseline's rate is itself uncertain, and the exact test of the
    difference at ``(ratio - 1)`` times the baseline's observed rate, which is right about few flips.
    """
    return max(_score_p(table, ratio, above=True), p_value(table.flips, _difference(table, ratio), alpha))


def p_ratio_at_least(table: PairTable, ratio: float, alpha: float) -> float:
    """One-sided p-value of "candidate's rate >= ``ratio`` * baseline's rate"; as above, the other way."""
    exact = p_value(table.flips.reversed, -_difference(table, ratio), alpha)
    return max(_score_p(table, ratio, above=False), exact)


def _difference(table: PairTable, ratio: float) -> float:
    return (ratio - 1.0) * (table.both + table.lost) / table.n


def _score_p(table: PairTable, ratio: float, *, above: bool) -> float:
    distance = (table.both + table.gained) - ratio * (table.both + table.lost)
    lost, gained = _constrained_rates(table, ratio)
    variance = table.n * ratio * (lost + gained)
    if variance <= 0:
        return 1.0
    z = distance / math.sqrt(variance)
    return float(ndtr(-z if above else z))


def _constrained_rates(table: PairTable, ratio: float) -> tuple[float, float]:
    """Most likely rates of loss and gain with candidate = ``ratio`` * baseline.

    The likelihood is greatest with the share of "neither" as observed; the rate of loss is then the larger
    root of a quadratic, and the rate of gain follows from the hypothesis.
    """
    known = 1.0 - table.neither / table.n
    offset = (1.0 - ratio) * known
    a = -(ratio + 1) * (table.both + table.lost + table.gained)
    b = (ratio + 1) * table.both * offset + table.lost * (known + (ratio + 1) * offset) + table.gained * known
    c = -table.lost * offset * known
    if a == 0:
        return 0.0, 0.0
    lost = (-b - math.sqrt(max(b * b - 4 * a * c, 0.0))) / (2 * a)
    return lost, max((lost - offset) / ratio, 0.0)
