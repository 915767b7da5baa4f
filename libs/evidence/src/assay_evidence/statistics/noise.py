"""Does the candidate change more items than a second run of the baseline does?"""

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from scipy.special import bdtrc

from assay_evidence.statistics import paired


@dataclass(frozen=True, slots=True)
class ExcessChurn:
    """Churn of B against A beyond that of A against A, over items that all three runs have.

    Attributes:
        n: items.
        churn_aa, churn_ab: shares of items that changed.
        excess: ``churn_ab - churn_aa``.
        interval_95: of the excess; ``None`` without items.
        p: one-sided exact McNemar test of "B changes no more items than the second A".
    """

    n: int
    churn_aa: float
    churn_ab: float
    excess: float
    interval_95: tuple[float, float] | None
    p: float


def excess_churn(changed_aa: NDArray[numpy.bool_], changed_ab: NDArray[numpy.bool_]) -> ExcessChurn:
    """Compare two flags per item: changed in the second run of A, changed in B; both against the first A.

    Raises:
        ValueError: no items, or unequal lengths.
    """
    aa, ab = numpy.asarray(changed_aa, bool), numpy.asarray(changed_ab, bool)
    if aa.ndim != 1 or aa.shape != ab.shape or not aa.size:
        raise ValueError("excess churn needs two sequences of flags of equal, positive length")
    only_ab, only_aa = int(numpy.count_nonzero(ab & ~aa)), int(numpy.count_nonzero(aa & ~ab))
    differing = only_ab + only_aa
    churn_aa, churn_ab = float(aa.mean()), float(ab.mean())
    return ExcessChurn(
        n=len(aa),
        churn_aa=churn_aa,
        churn_ab=churn_ab,
        excess=(only_ab - only_aa) / len(aa),
        interval_95=paired.interval(aa, ab, confidence=0.95),
        p=float(bdtrc(only_ab - 1, differing, 0.5)) if only_ab else 1.0,
    )
