"""Why items flipped, by class, and what became of their responses."""

from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from assay_evidence.flips.responses import ResponseChanges
from assay_evidence.pairing import PairedValues, Pairing, paired_values
from assay_evidence.report import FlipAnalysis, FlipClass
from assay_evidence.tables import RunEvidence

CLASSES = tuple(FlipClass)
"""The order in which ``classify`` tries them, and the numbers that it gives."""

Flags = NDArray[numpy.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class _Flipped:
    """The pairs of one metric that flipped: positions of the samples, and which side is right."""

    baseline: NDArray[numpy.int64]
    candidate: NDArray[numpy.int64]
    gained: Flags


def classify(
    baseline: RunEvidence,
    candidate: RunEvidence,
    pairing: Pairing,
    *,
    metric: str,
    values: PairedValues,
    higher_is_better: bool,
    responses: ResponseChanges,
) -> NDArray[numpy.int8]:
    """Why each pair of ``values`` flipped: a position in ``CLASSES``, -1 where it did not.

    ``values`` are all 0 or 1.
    """
    changed = numpy.flatnonzero(values.changed)
    at = values.at[changed]
    right = 1.0 if higher_is_better else 0.0
    flipped = _Flipped(pairing.baseline[at], pairing.candidate[at], values.candidate[changed] == right)
    classes = numpy.full(len(values), -1, dtype=numpy.int8)
    if len(changed):
        agrees = _other_filter_agrees(baseline, candidate, pairing, metric=metric, right=right)[at]
        conditions = [
            baseline.failed[flipped.baseline] | candidate.failed[flipped.candidate],
            responses.blank[at],
            numpy.where(flipped.gained, responses.baseline_truncated[at], responses.candidate_truncated[at]),
            agrees,
            baseline.choices[flipped.baseline] > 0,
            _other_number(baseline, candidate, flipped, metric=metric),
        ]
        classes[changed] = numpy.select(conditions, range(len(conditions)), default=len(conditions))
    return classes


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
        values, classes: see ``classify``.
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
    return number if numpy.isfinite(number) else None


def _counts(classes: NDArray[numpy.int8]) -> dict[FlipClass, int]:
    counts = numpy.bincount(classes, minlength=len(CLASSES))
    return {one: int(count) for one, count in zip(CLASSES, counts, strict=True) if count}


def _other_filter_agrees(
    baseline: RunEvidence, candidate: RunEvidence, pairing: Pairing, *, metric: str, right: float
) -> Flags:
    """Of all pairs: another filter of the same metric finds both sides right."""
    agrees = numpy.zeros(len(pairing), dtype=bool)
    parts = baseline.metric_parts(metric)
    if parts is None:
        return agrees
    task, key = parts
    name = key.rpartition(",")[0]
    for other in baseline.values:
        if other != key and other.rpartition(",")[0] == name:
            values = paired_values(baseline, candidate, pairing, metric=f"{task}.{other}")
            if values is not None:
                agrees[values.at] |= (values.baseline == right) & (values.candidate == right)
    return agrees


def _other_number(baseline: RunEvidence, candidate: RunEvidence, flipped: _Flipped, *, metric: str) -> Flags:
    """Both extractions are numbers, and not the same."""
    filter_name = metric.rpartition(",")[2]
    if filter_name not in baseline.filters or filter_name not in candidate.filters:
        return numpy.zeros(len(flipped.baseline), dtype=bool)
    texts = (
        baseline.filtered(filter_name, flipped.baseline).to_pylist(),
        candidate.filtered(filter_name, flipped.candidate).to_pylist(),
    )
    numbers = ((number_in(first), number_in(second)) for first, second in zip(*texts, strict=True))
    return numpy.array(
        [first is not None and second is not None and first != second for first, second in numbers],
        dtype=bool,
    )
