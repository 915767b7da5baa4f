"""Why items flipped, by class, and what became of their responses."""

import math

import numpy
import pyarrow
from numpy.typing import NDArray

from assay_evidence.flips.responses import ResponseChanges
from assay_evidence.pairing import PairedValues, Pairing, paired_values
from assay_evidence.report import FlipAnalysis, FlipClass
from assay_evidence.tables import RunEvidence

CLASSES = tuple(FlipClass)
"""The order in which they are tried, and by their positions the numbers that stand for them."""

Flags = NDArray[numpy.bool_]


class FlipClassifier:
    """Finds out why the pairs of two runs flipped, metric by metric."""

    def __init__(
        self, baseline: RunEvidence, candidate: RunEvidence, pairing: Pairing, responses: ResponseChanges
    ) -> None:
        self._runs = (baseline, candidate)
        self._pairing = pairing
        self._responses = responses
        self._changed = _changed(baseline, candidate, pairing)
        self._extractions: dict[str, tuple[pyarrow.Array, pyarrow.Array]] = {}

    def classify(self, metric: str, values: PairedValues, *, higher_is_better: bool) -> NDArray[numpy.int8]:
        """Why each pair of ``values`` flipped: a position in ``CLASSES``, -1 where it did not.

        ``values`` are all 0 or 1.
        """
        (baseline, candidate), responses = self._runs, self._responses
        changed = numpy.flatnonzero(values.changed)
        classes = numpy.full(len(values), -1, dtype=numpy.int8)
        if not len(changed):
            return classes
        at = values.at[changed]
        right = 1.0 if higher_is_better else 0.0
        gained = values.candidate[changed] == right
        decided = [
            baseline.failed[self._pairing.baseline[at]] | candidate.failed[self._pairing.candidate[at]],
            responses.blank[at],
            numpy.where(gained, responses.baseline_truncated[at], responses.candidate_truncated[at]),
            self._other_filter_agrees(metric, right=right)[at],
            baseline.choices[self._pairing.baseline[at]] > 0,
        ]
        number = numpy.zeros(len(at), dtype=bool)
        left = ~numpy.logical_or.reduce(decided)
        number[left] = self._other_number(metric, at[left])
        conditions = [*decided, number]
        classes[changed] = numpy.select(conditions, range(len(conditions)), default=len(conditions))
        return classes

    def _other_filter_agrees(self, metric: str, *, right: float) -> Flags:
        """Of all pairs: another filter of the same metric finds both sides right."""
        baseline, candidate = self._runs
        agrees = numpy.zeros(len(self._pairing), dtype=bool)
        parts = baseline.metric_parts(metric)
        assert parts is not None, "there are values"
        task, key = parts
        name = key.rpartition(",")[0]
        for other in baseline.values:
            if other != key and other.rpartition(",")[0] == name:
                values = paired_values(baseline, candidate, self._pairing, metric=f"{task}.{other}")
                if values is not None:
                    agrees[values.at] |= (values.baseline == right) & (values.candidate == right)
        return agrees

    def _other_number(self, metric: str, at: NDArray[numpy.int64]) -> Flags:
        """Of the pairs ``at``: both extractions are numbers, and not the same."""
        found = numpy.zeros(len(at), dtype=bool)
        filter_name = metric.rpartition(",")[2]
        if not len(at) or any(filter_name not in run.filters for run in self._runs):
            return found
        rows = pyarrow.array(numpy.searchsorted(self._changed, at))
        texts = [side.take(rows).to_pylist() for side in self._extracted(filter_name)]
        numbers = ((number_in(first), number_in(second)) for first, second in zip(*texts, strict=True))
        found[:] = [first is not None and second is not None and first != second for first, second in numbers]
        return found

    def _extracted(self, filter_name: str) -> tuple[pyarrow.Array, pyarrow.Array]:
        """What the filter made of the pairs that changed; read once for all the tasks of a group."""
        if filter_name not in self._extractions:
            baseline, candidate = self._runs
            self._extractions[filter_name] = (
                baseline.filtered(filter_name, self._pairing.baseline[self._changed]),
                candidate.filtered(filter_name, self._pairing.candidate[self._changed]),
            )
        return self._extractions[filter_name]


def analyse(
    metric: str,
    *,
    values: PairedValues,
    classes: NDArray[numpy.int8],
    higher_is_better: bool,
    responses: ResponseChanges,
    unstable: Flags | None,
) -> FlipAnalysis:
    """The flips of one metric.

    Args:
        values, classes: see ``FlipClassifier.classify``.
        unstable: of each of ``values`` whether the item also changes between two runs of the baseline's
            artifact; ``None`` where there are no two.
    """
    flipped = classes >= 0
    gained = flipped & (values.candidate == (1.0 if higher_is_better else 0.0))
    compared, differs = responses.compared[values.at], responses.differs[values.at]
    character, token = (one[values.at][differs] for one in (responses.first_character, responses.first_token))
    return FlipAnalysis(
        metric=metric,
        gained_by_class=_counts(classes[gained]),
        lost_by_class=_counts(classes[flipped & ~gained]),
        unstable_under_aa=None if unstable is None else int((flipped & unstable).sum()),
        compared_responses=int(compared.sum()),
        identical_responses=int((compared & ~differs).sum()),
        differ_at_first_token=int((token == 0).sum()),
        token_basis=responses.token_basis,
        first_difference_char_p50=float(numpy.median(character)) if len(character) else None,
        first_difference_token_p50=float(numpy.median(token)) if len(token) else None,
    )


def number_in(text: str | None) -> float | None:
    """The number that an extracted answer is, such as ``$1,250.``; ``None`` where it is none."""
    if text is None:
        return None
    stripped = text.strip().replace(",", "").replace("$", "").rstrip(".%").strip()
    try:
        number = float(stripped)
    except ValueError:
        return None
    return number if math.isfinite(number) else None


def _changed(baseline: RunEvidence, candidate: RunEvidence, pairing: Pairing) -> NDArray[numpy.int64]:
    """The pairs of which any value differs."""
    changed = numpy.zeros(len(pairing), dtype=bool)
    for key, first in baseline.values.items():
        second = candidate.values.get(key)
        if second is not None:
            changed |= first.values[pairing.baseline] != second.values[pairing.candidate]
    return numpy.flatnonzero(changed)


def _counts(classes: NDArray[numpy.int8]) -> dict[FlipClass, int]:
    counts = numpy.bincount(classes, minlength=len(CLASSES))
    return {one: int(count) for one, count in zip(CLASSES, counts, strict=True) if count}
