"""The mean of paired differences: Student's t, or cluster-robust where items belong together."""

import math
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit

Array = NDArray[numpy.float64]


@dataclass(frozen=True, slots=True)
class MeanEvidence:
    """A mean with its standard error; tests and limits from the t distribution.

    Attributes:
        mean: of the differences.
        stderr: of the mean; above 0.
        freedom: degrees of freedom, at least 1.
        method: for people.
    """

    mean: float
    stderr: float
    freedom: int
    method: str

    @property
    def reversed(self) -> "MeanEvidence":
        """With baseline and candidate exchanged."""
        return MeanEvidence(-self.mean, self.stderr, self.freedom, self.method)

    def p_at_most(self, difference: float, alpha: float) -> float:
        """One-sided p-value of "the true mean is at most ``difference``"; ``alpha`` does not matter here."""
        return float(stdtr(self.freedom, -(self.mean - difference) / self.stderr))

    def lower_limit(self, alpha: float) -> float:
        """One-sided ``1 - alpha`` lower confidence limit."""
        return self.mean - float(stdtrit(self.freedom, 1.0 - alpha)) * self.stderr


def standard_error(differences: Array, clusters: NDArray[numpy.intp] | None) -> float | None:
    """Of the mean; ``None`` for fewer than two pairs or clusters.

    Args:
        differences: one per pair.
        clusters: number of each pair's cluster, from 0 without gaps; then Liang and Zeger's (1986) estimate
            with the factor ``G / (G - 1)``.
    """
    n = len(differences)
    if clusters is None:
        return float(differences.std(ddof=1)) / math.sqrt(n) if n > 1 else None
    sums = numpy.bincount(clusters, weights=differences - differences.mean())
    if len(sums) < 2:
        return None
    return math.sqrt(float(numpy.square(sums).sum()) * len(sums) / (len(sums) - 1)) / n
