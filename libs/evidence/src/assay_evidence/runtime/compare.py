"""Runtime and energy of two runs beside one another."""

import numpy

from assay_evidence.facts import RunFacts
from assay_evidence.report import ComparisonSettings, EnergyComparison, Interval, RuntimeComparison
from assay_evidence.runtime.measure import (
    TIMING_COLUMNS,
    CorrectAnswers,
    RunMeasurements,
    measure,
)
from assay_evidence.runtime.power import compare_provenance, power_provenance
from assay_evidence.runtime.resampling import interval
from assay_evidence.runtime.telemetry import read_telemetry
from assay_evidence.runtime.timeline import FloatArray, read_timeline
from assay_evidence.statistics.paired import is_binary
from assay_evidence.tables import RunEvidence

_UNITS = {
    "ttftP50": "s",
    "ttftP99": "s",
    "itlP50": "s",
    "itlP99": "s",
    "latencyP50": "s",
    "latencyP99": "s",
    "tps": "tokens/s",
    "requestsPerSecond": "1/s",
    "power": "W",
    "tokensPerWatt": "tokens/J",
    "joulesPerToken": "J",
    "joulesPerCorrectAnswer": "J",
}
_HIGHER_IS_BETTER = frozenset({"tps", "requestsPerSecond", "tokensPerWatt"})
_OF_ENERGY = frozenset({"power", "tokensPerWatt", "joulesPerToken", "joulesPerCorrectAnswer"})
_TIED_TO_POWER = _OF_ENERGY - {"power"}


def compare_runtime(
    baseline: RunEvidence,
    candidate: RunEvidence,
    *,
    settings: ComparisonSettings,
    energy: EnergyComparison | None = None,
    correct_by: str | None = None,
) -> list[RuntimeComparison]:
    """Every runtime metric of both runs, over all their requests, with bootstrap intervals.

    The runs are independent samples: each is resampled on its own, by blocks of time, and what was measured
    of a request stays together.

    Args:
        settings: number of resamples and seed.
        energy: from ``compare_energy``; where it is not comparable, neither are the metrics of energy.
        correct_by: metric of right and wrong (``<task>.<metric>,<filter>``) that says which answers are
            correct; the first one that the baseline has, where not given.
    """
    energy = energy or compare_energy(baseline, candidate)
    metric = correct_by or _metric_of_correctness(baseline)
    sides = [
        measure(
            run.requests(TIMING_COLUMNS),
            read_telemetry(run.facts.telemetry),
            correct=_correct_answers(run, metric),
            resamples=settings.bootstrap_resamples,
            seed=settings.seed,
            side=side,
        )
        for side, run in enumerate((baseline, candidate))
    ]
    return [
        _compared(name, sides[0], sides[1], energy=energy if name in _OF_ENERGY else None) for name in _UNITS
    ]


def compare_energy(
    baseline: RunEvidence, candidate: RunEvidence, *, allow_unlike: bool = False
) -> EnergyComparison:
    """Where the power of both runs comes from, and whether their energy may be compared.

    Args:
        allow_unlike: compare unlike grades and scopes all the same; the note stays.
    """
    grades = [
        power_provenance(
            read_timeline(run.requests(TIMING_COLUMNS[:-1])), read_telemetry(run.facts.telemetry)
        )
        for run in (baseline, candidate)
    ]
    return compare_provenance(grades[0], grades[1], allow_unlike=allow_unlike)


def _metric_of_correctness(run: RunEvidence) -> str | None:
    for metric in run.facts.sample_metrics:
        values = run.metric(metric)
        if values is not None and values.present.any() and is_binary(values.values[values.present]):
            return metric
    return None


def _correct_answers(run: RunEvidence, metric: str | None) -> CorrectAnswers | None:
    values = run.metric(metric) if metric else None
    if metric is None or values is None or not _is_higher_better(run.facts, metric):
        return None
    return CorrectAnswers(metric, run.index[values.present & (values.values == 1.0)])


def _is_higher_better(facts: RunFacts, metric: str) -> bool:
    return facts.higher_is_better.get(metric, True)


def _compared(
    name: str, baseline: RunMeasurements, candidate: RunMeasurements, *, energy: EnergyComparison | None
) -> RuntimeComparison:
    first, second = baseline.metrics[name], candidate.metrics[name]
    made = RuntimeComparison(
        metric=name,
        unit=_UNITS[name],
        higher_is_better=name in _HIGHER_IS_BETTER,
        baseline=first.value,
        candidate=second.value,
        difference=None,
        difference_interval_95=None,
        ratio=None,
        ratio_interval_95=None,
        ratio_interval_90=None,
        interval_method="none",
        at_least=first.at_least or second.at_least,
        note=_joined(
            first.note if first.value is None else None, second.note if second.value is None else None
        ),
    )
    if first.value is None or second.value is None:
        return made
    if energy is not None and not energy.comparable:
        return made.model_copy(update={"note": energy.note})
    missing = _joined(baseline.few_blocks or first.note, candidate.few_blocks or second.note)
    changes: dict[str, object] = {
        "difference": second.value - first.value,
        "ratio": second.value / first.value if first.value else None,
        "note": energy.note if energy is not None else None,
    }
    if not first.value:
        changes["note"] = "no ratio: the baseline's value is 0"
    if missing or first.resampled is None or second.resampled is None:
        return made.model_copy(update={**changes, "interval_method": f"none: {missing}"})
    blocks = min(baseline.blocks, candidate.blocks)
    constant = name in _TIED_TO_POWER and (baseline.constant_power or candidate.constant_power)
    changes["interval_method"] = (
        f"bootstrap over {baseline.blocks} and {candidate.blocks} time blocks, {len(first.resampled)} "
        f"resamples, percentiles widened for few blocks" + ("; power taken as constant" if constant else "")
    )
    changes |= _intervals(first.resampled, second.resampled, blocks=blocks, with_ratio=bool(first.value))
    return made.model_copy(update=changes)


def _intervals(
    baseline: FloatArray, candidate: FloatArray, *, blocks: int, with_ratio: bool
) -> dict[str, Interval | None]:
    made = {"difference_interval_95": interval(candidate - baseline, blocks=blocks, confidence=0.95)}
    if with_ratio:
        with numpy.errstate(divide="ignore", invalid="ignore"):
            ratio = candidate / baseline
        made["ratio_interval_95"] = interval(ratio, blocks=blocks, confidence=0.95)
        made["ratio_interval_90"] = interval(ratio, blocks=blocks, confidence=0.90)
    return made


def _joined(baseline: str | None, candidate: str | None) -> str | None:
    """Notes of both sides; one where they are equal."""
    if baseline == candidate:
        return baseline
    parts = (("baseline", baseline), ("candidate", candidate))
    return "; ".join(f"{side}: {note}" for side, note in parts if note) or None
