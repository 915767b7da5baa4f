"""Runtime and energy of two runs beside one another."""

import numpy

from assay_evidence.facts import RunFacts
from assay_evidence.report import ComparisonSettings, EnergyComparison, Interval, RuntimeComparison
from assay_evidence.runtime.gaps import TOLD_SPREAD, UNLIKE_SPREAD
from assay_evidence.runtime.goodput import read_bounds
from assay_evidence.runtime.measure import TIMING_COLUMNS, RunMeasurements, measure
from assay_evidence.runtime.measured import Measured
from assay_evidence.runtime.power import compare_provenance, power_provenance
from assay_evidence.runtime.rates import CorrectAnswers
from assay_evidence.runtime.resampling import interval
from assay_evidence.runtime.telemetry import read_telemetry
from assay_evidence.runtime.timeline import FloatArray, read_timeline
from assay_evidence.runtime_metrics import COMPARED_METRICS, ENERGY_METRICS, RUNTIME_METRICS
from assay_evidence.statistics.paired import is_binary
from assay_evidence.tables import RunEvidence

_ONE_START = "none: one start of each run says nothing of how much starts vary"


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
    bounds = [read_bounds(run.facts.plan) for run in (baseline, candidate)]
    sides = [
        measure(
            run.requests(TIMING_COLUMNS),
            read_telemetry(run.facts.telemetry),
            correct=_correct_answers(run, metric),
            resamples=settings.bootstrap_resamples,
            seed=settings.seed,
            side=side,
            bounds=bounds[side],
        )
        for side, run in enumerate((baseline, candidate))
    ]
    unlike_bounds = None if bounds[0] == bounds[1] else "the two runs have different bounds for goodput"
    made = []
    for name in COMPARED_METRICS:
        if name == "coldStart":
            made.append(_cold_start(baseline.facts, candidate.facts))
            continue
        unlike = note = None
        if name in ENERGY_METRICS:
            unlike, note = (None, energy.note) if energy.comparable else (energy.note, None)
        elif name.startswith("goodput"):
            unlike = unlike_bounds
        elif name.startswith("itl"):
            note = _spread(sides[0], sides[1])
            if RUNTIME_METRICS[name].share is not None and _is_spread_unlike(sides[0], sides[1]):
                unlike = f"{note}; percentiles of gaps so unlike are not compared, itlMean is"
        made.append(_compared(name, sides[0], sides[1], unlike=unlike, note=note))
    return made


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


def _spread(baseline: RunMeasurements, candidate: RunMeasurements) -> str | None:
    """How many gaps are shares of a longer one, where that is worth telling."""
    shares = [side.gaps.spread_share for side in (baseline, candidate)]
    if max(shares) <= TOLD_SPREAD:
        return None
    return (
        f"{100 * shares[0]:.1f} % of the baseline's gaps and {100 * shares[1]:.1f} % of the candidate's are "
        "shares of a longer one, because their tokens came together"
    )


def _is_spread_unlike(baseline: RunMeasurements, candidate: RunMeasurements) -> bool:
    """Whether percentiles would differ by the spreading alone.

    Shares of a gap vary less than the tokens did: the upper percentiles of the run with more of them look
    better than they are.
    """
    return abs(baseline.gaps.spread_share - candidate.gaps.spread_share) > UNLIKE_SPREAD


def _values(name: str, first: Measured, second: Measured) -> RuntimeComparison:
    """Both values and why one is missing; nothing is set against the other yet."""
    metric = RUNTIME_METRICS[name]
    return RuntimeComparison(
        metric=name,
        unit=metric.unit,
        higher_is_better=bool(metric.higher_is_better),
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


def _changes(first: float, second: float, *, note: str | None) -> dict[str, object]:
    """Difference and ratio of two values."""
    return {
        "difference": second - first,
        "ratio": second / first if first else None,
        "note": note if first else "no ratio: the baseline's value is 0",
    }


def _cold_start(baseline: RunFacts, candidate: RunFacts) -> RuntimeComparison:
    """The cold starts, as the runs' own reports have them."""
    first, second = (_reported(facts, "coldStart") for facts in (baseline, candidate))
    made = _values("coldStart", first, second)
    if first.value is None or second.value is None:
        return made
    changes = _changes(first.value, second.value, note=None)
    return made.model_copy(update={**changes, "interval_method": _ONE_START})


def _reported(facts: RunFacts, name: str) -> Measured:
    """A metric of the run's own report."""
    value = facts.runtime.get(name)
    reasons = (facts.runtime_details or {}).get("null_reasons")
    reason = reasons.get(name) if isinstance(reasons, dict) else None
    return Measured(value, note=None if value is not None else str(reason or "not recorded"))


def _compared(
    name: str,
    baseline: RunMeasurements,
    candidate: RunMeasurements,
    *,
    unlike: str | None,
    note: str | None,
) -> RuntimeComparison:
    """A metric of both runs.

    Args:
        unlike: why the two values must not be set against one another.
        note: what bears on them all the same.
    """
    first, second = baseline.metrics[name], candidate.metrics[name]
    made = _values(name, first, second)
    if first.value is None or second.value is None:
        return made
    if unlike is not None:
        return made.model_copy(update={"note": unlike})
    missing = _joined(baseline.few_blocks or first.note, candidate.few_blocks or second.note)
    changes = _changes(first.value, second.value, note=note)
    if missing or first.resampled is None or second.resampled is None:
        return made.model_copy(update={**changes, "interval_method": f"none: {missing}"})
    blocks = min(baseline.blocks, candidate.blocks)
    constant = (
        RUNTIME_METRICS[name].needs_power
        and name != "power"
        and (baseline.constant_power or candidate.constant_power)
    )
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
