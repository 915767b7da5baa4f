"""The ratio of two paired proportions: how far is the candidate's rate from a multiple of the baseline's?"""

import math
from typing import NamedTuple

from assay_evidence.statistics.trinomial import Flips


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


def ratio_score(table: PairTable, ratio: float) -> float:
    """Score statistic of "candidate's rate = ``ratio`` * baseline's", positive where the candidate has more.

    Standard normal in large samples (Nam and Blackwelder 2002). The variance is estimated under the
    hypothesis; that the baseline's rate is itself uncertain is part of it. ``nan`` where it is 0.
    """
    lost, gained = _constrained_rates(table, ratio)
    variance = table.n * ratio * (lost + gained)
    distance = (table.both + table.gained) - ratio * (table.both + table.lost)
    return distance / math.sqrt(variance) if variance > 0 else math.nan


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
