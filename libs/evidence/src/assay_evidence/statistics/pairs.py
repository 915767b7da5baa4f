"""Paired values, checked, and what they say of the true difference: which procedure fits which values."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy
from numpy.typing import ArrayLike, NDArray

from assay_evidence.statistics import trinomial
from assay_evidence.statistics.bounded import BoundedEvidence
from assay_evidence.statistics.means import MeanEvidence, standard_error
from assay_evidence.statistics.ratio import PairTable

Array = NDArray[numpy.float64]

EXACT = "exact unconditional (trinomial, ordered by Tango's score limit)"
SCORE = "Tango's score test (many flips)"
PAIRED_T = "paired t"
CLUSTER_T = "cluster-robust t"
WIDER = "the wider of cluster-robust t and the test of independent pairs"

NO_SPREAD = 1e-12
"""Standard error, as a share of the largest difference, below which all differences count as equal."""


class Evidence(Protocol):
    """What pairs say of the true difference; tests and limits of it agree."""

    @property
    def method(self) -> str:
        """Procedure, for people."""

    @property
    def reversed(self) -> "Evidence":
        """With baseline and candidate exchanged."""

    def p_at_most(self, difference: float, alpha: float) -> float:
        """One-sided p-value of "the true difference is at most ``difference``", for ``alpha``."""

    def lower_limit(self, alpha: float) -> float:
        """One-sided ``1 - alpha`` lower confidence limit of the difference."""


@dataclass(frozen=True, slots=True)
class FlipEvidence:
    """Of pairs of 0/1 values."""

    flips: trinomial.Flips
    method: str = EXACT

    @property
    def reversed(self) -> "FlipEvidence":
        """With baseline and candidate exchanged."""
        return FlipEvidence(self.flips.reversed, self.method)

    def p_at_most(self, difference: float, alpha: float) -> float:
        """See ``trinomial.p_value``."""
        return trinomial.p_value(self.flips, difference, alpha)

    def lower_limit(self, alpha: float) -> float:
        """See ``trinomial.lower_limit``."""
        return trinomial.lower_limit(self.flips, alpha)


@dataclass(frozen=True, slots=True)
class WiderEvidence:
    """Two procedures, of which each time the one counts that claims less."""

    first: Evidence
    second: Evidence
    method: str = WIDER

    @property
    def reversed(self) -> "WiderEvidence":
        """With baseline and candidate exchanged."""
        return WiderEvidence(self.first.reversed, self.second.reversed, self.method)

    def p_at_most(self, difference: float, alpha: float) -> float:
        """The larger p-value."""
        return max(self.first.p_at_most(difference, alpha), self.second.p_at_most(difference, alpha))

    def lower_limit(self, alpha: float) -> float:
        """The lower limit."""
        return min(self.first.lower_limit(alpha), self.second.lower_limit(alpha))


class Pairs(NamedTuple):
    """Finite values of both sides, and each pair's cluster, from 0; ``None``: every pair is its own."""

    baseline: Array
    candidate: Array
    clusters: NDArray[numpy.intp] | None

    @property
    def independent(self) -> int:
        """Number of clusters, or of pairs where they are not clustered."""
        return len(self.baseline) if self.clusters is None else int(self.clusters.max()) + 1

    @property
    def differences(self) -> Array:
        """Candidate minus baseline."""
        return self.candidate - self.baseline

    @property
    def changed(self) -> int:
        """Pairs whose values differ."""
        return int(numpy.count_nonzero(self.differences))

    @property
    def binary(self) -> bool:
        """Whether every value is 0 or 1."""
        return is_binary(self.baseline) and is_binary(self.candidate)

    @property
    def scores(self) -> bool:
        """Whether every value lies between 0 and 1."""
        lowest = min(float(self.baseline.min()), float(self.candidate.min()))
        return lowest >= 0 and max(float(self.baseline.max()), float(self.candidate.max())) <= 1

    @property
    def table(self) -> PairTable:
        """Counts of 0/1 pairs."""
        first, second = self.baseline == 1.0, self.candidate == 1.0
        both = int(numpy.count_nonzero(first & second))
        lost = int(numpy.count_nonzero(first)) - both
        gained = int(numpy.count_nonzero(second)) - both
        return PairTable(both, lost, gained, len(first) - both - lost - gained)


def is_binary(values: ArrayLike) -> bool:
    """Whether every value is 0 or 1."""
    found = numpy.asarray(values)
    return bool(((found == 0) | (found == 1)).all())


def check_pairs(baseline: ArrayLike, candidate: ArrayLike, clusters: ArrayLike | None) -> Pairs:
    """The pairs as arrays.

    Raises:
        ValueError: no pairs, unequal lengths, or a value that is not finite.
    """
    first, second = numpy.asarray(baseline, numpy.float64), numpy.asarray(candidate, numpy.float64)
    if first.ndim != 1 or first.shape != second.shape or not first.size:
        raise ValueError("the pairs need two sequences of equal, positive length")
    for name, values in (("baseline", first), ("candidate", second)):
        bad = numpy.flatnonzero(~numpy.isfinite(values))
        if bad.size:
            raise ValueError(
                f"the {name}'s value of pair {bad[0]} is {values[bad[0]]}; leave out the {bad.size} pairs "
                "without a finite value"
            )
    if clusters is None:
        return Pairs(first, second, None)
    labels = numpy.asarray(clusters)
    if labels.shape != first.shape:
        raise ValueError(f"{labels.size} cluster labels for {first.size} pairs")
    names, numbers = numpy.unique(labels, return_inverse=True)
    return Pairs(first, second, None if len(names) == len(first) else numbers.astype(numpy.intp))


def evidence_of(pairs: Pairs) -> Evidence | str:
    """What the pairs say of candidate minus baseline, or why they say nothing."""
    if not pairs.binary:
        return evidence_of_mean(pairs, pairs.differences, reach=1.0) if pairs.changed else _unchanged(pairs)
    flips = pairs.table.flips
    independent = FlipEvidence(flips, EXACT if flips.changed < trinomial.ENOUGH_FLIPS else SCORE)
    if pairs.clusters is None:
        return independent
    return _wider(_student(pairs, pairs.differences), independent) if flips.changed else _unchanged(pairs)


def _unchanged(pairs: Pairs) -> Evidence | str:
    """Not one pair differs: of scores between 0 and 1, the rate at which they could is bounded exactly."""
    if not pairs.scores:
        return "none: no pair differs, and how far one could differ is not known"
    what = "pairs" if pairs.clusters is None else "clusters with a pair"
    method = f"no pair differs: exact bound on the rate of {what} that do (scores between 0 and 1)"
    return FlipEvidence(trinomial.Flips(0, 0, pairs.independent), method)


def evidence_of_mean(pairs: Pairs, differences: Array, *, reach: float) -> Evidence | str:
    """Of a difference or contrast per pair; those of scores lie between ``-reach`` and ``reach``."""
    if not pairs.scores:
        return _student(pairs, differences)
    differing = differences[differences != 0]
    independent = BoundedEvidence(differing, len(differences) - len(differing), worst=-reach, best=reach)
    return independent if pairs.clusters is None else _wider(_student(pairs, differences), independent)


def _student(pairs: Pairs, differences: Array) -> Evidence | str:
    stderr = standard_error(differences, pairs.clusters)
    if stderr is None:
        return f"none: one {'pair' if pairs.clusters is None else 'cluster'} has no spread"
    if stderr <= NO_SPREAD * float(numpy.abs(differences).max()):
        return "none: all pairs differ by the same amount, and their spread is not known"
    method = PAIRED_T if pairs.clusters is None else CLUSTER_T
    return MeanEvidence(float(differences.mean()), stderr, pairs.independent - 1, method)


def _wider(student: Evidence | str, independent: Evidence) -> Evidence | str:
    return student if isinstance(student, str) else WiderEvidence(student, independent)
