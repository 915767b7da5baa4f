"""Comparison of two runs, item by item."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from assay_evidence.statistics.paired import is_binary, mcnemar_exact, paired_difference
from metrics_svc.domain.comparison_report import (
    ComparedRun,
    ComparisonReport,
    Coverage,
    Flips,
    PairedItem,
    QualityComparison,
    RuntimeComparison,
    WeakRule,
)
from metrics_svc.domain.pairing import ItemKey, Pair, Pairing, pair_items
from metrics_svc.domain.runs import RunMetrics, RunSubject
from metrics_svc.domain.runtime import HIGHER_IS_BETTER, RUNTIME_METRICS
from metrics_svc.errors import NotComparable


class Flip(StrEnum):
    """What became of an item from the baseline to the candidate."""

    GAINED = "gained"
    LOST = "lost"
    BOTH_RIGHT = "both_right"
    BOTH_WRONG = "both_wrong"


@dataclass(frozen=True, slots=True)
class Item:
    """One scored sample of a run, and where it lies.

    Attributes:
        key: its content.
        index: row of the document.
        block: number of the block in the run's sample log.
        position: position in that block.
        values: per-sample numbers by ``<task>.<metric>,<filter>``.
    """

    key: ItemKey
    index: int
    block: int
    position: int
    values: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a comparison needs of one final run. ``items`` are in the order of the documents."""

    metrics: RunMetrics
    subject: RunSubject
    items: Sequence[Item]


@dataclass(frozen=True, slots=True)
class ComparisonOutcome:
    """A report and the pairs behind it, in the order of the baseline's documents."""

    report: ComparisonReport
    items: list[PairedItem]


def compare(baseline: Evidence, candidate: Evidence) -> ComparisonOutcome:
    """Compare two final runs.

    Raises:
        NotComparable: they ran different tasks, or share no item.
    """
    if baseline.subject.task != candidate.subject.task:
        raise NotComparable(
            f"the baseline ran task {baseline.subject.task!r}, the candidate {candidate.subject.task!r}; "
            "compare runs of the same method"
        )
    pairing = pair_items([item.key for item in baseline.items], [item.key for item in candidate.items])
    warnings = _warnings(baseline, candidate, pairing)
    if not pairing.pairs:
        raise NotComparable("; ".join(("the runs share no item", *warnings)))
    metrics = [name for name in baseline.metrics.sample_metrics if name in candidate.metrics.sample_metrics]
    quality = []
    values = _paired_values(baseline, candidate, pairing.pairs)
    directions = _directions(metrics, baseline, candidate)
    for metric in metrics:
        if metric in values:  # else no pair has it on both sides
            quality.append(
                _compare_metric(
                    metric, baseline, candidate, values=values[metric], direction=directions.get(metric)
                )
            )
    report = ComparisonReport(
        baseline=_side(baseline),
        candidate=_side(candidate),
        coverage=Coverage(
            paired=len(pairing.pairs),
            baseline_only=len(pairing.baseline_only),
            candidate_only=len(pairing.candidate_only),
            fraction=pairing.fraction,
        ),
        warnings=warnings,
        quality=quality,
        runtime=[_compare_runtime(metric, baseline.metrics, candidate.metrics) for metric in RUNTIME_METRICS],
    )
    names = {compared.metric: number for number, compared in enumerate(quality)}
    pairs = ((baseline.items[first], candidate.items[second]) for first, second in pairing.pairs)
    return ComparisonOutcome(
        report=report, items=[_paired_item(first, second, names) for first, second in pairs]
    )


def flip_of(baseline: float, candidate: float, *, higher_is_better: bool) -> Flip:
    """What became of an item with two 0-or-1 values."""
    right = 1.0 if higher_is_better else 0.0
    match baseline == right, candidate == right:
        case False, True:
            return Flip.GAINED
        case True, False:
            return Flip.LOST
        case True, True:
            return Flip.BOTH_RIGHT
        case _:
            return Flip.BOTH_WRONG


def _side(evidence: Evidence) -> ComparedRun:
    artifact = evidence.subject.artifact
    return ComparedRun(
        run_id=evidence.metrics.run_id,
        run_name=evidence.subject.run_name,
        artifact_id=artifact.id,
        artifact_name=artifact.name,
        backend=artifact.backend,
        canonical=evidence.metrics.canonical,
        samples_scored=evidence.metrics.samples_scored,
        samples_failed=evidence.metrics.samples_failed,
    )


@dataclass(frozen=True, slots=True)
class _PairedValues:
    """Values of one metric in the order of the pairs that have it on both sides."""

    baseline: list[float]
    candidate: list[float]


def _paired_values(
    baseline: Evidence, candidate: Evidence, pairs: Sequence[Pair]
) -> dict[str, _PairedValues]:
    """By metric. One pass over the items: a group has many tasks, and each item values for few of them."""
    found: dict[str, _PairedValues] = {}
    for pair in pairs:
        other = candidate.items[pair.candidate].values
        for metric, value in baseline.items[pair.baseline].values.items():
            if metric in other:
                values = found.setdefault(metric, _PairedValues([], []))
                values.baseline.append(value)
                values.candidate.append(other[metric])
    return found


def _compare_metric(
    metric: str,
    baseline: Evidence,
    candidate: Evidence,
    *,
    values: _PairedValues,
    direction: bool | None,
) -> QualityComparison:
    first, second = values.baseline, values.candidate
    difference = paired_difference(first, second)
    binary = is_binary(first) and is_binary(second)
    flips = _flips(first, second, higher_is_better=direction) if binary and direction is not None else None
    return QualityComparison(
        metric=metric,
        higher_is_better=direction,
        kind="binary" if binary else "continuous",
        n=difference.n,
        baseline=difference.baseline,
        candidate=difference.candidate,
        baseline_run=baseline.metrics.quality.get(metric),
        candidate_run=candidate.metrics.quality.get(metric),
        difference=difference.difference,
        stderr=difference.stderr,
        confidence_interval=difference.interval_95,
        interval_method=difference.interval_method,
        changed=difference.changed,
        changed_rate_upper=difference.changed_rate_upper,
        flips=flips,
        mcnemar_p=mcnemar_exact(flips.gained, flips.lost) if flips else None,
        weak_rule=_weak_rule(metric, baseline.metrics, candidate.metrics),
    )


def _directions(metrics: Sequence[str], baseline: Evidence, candidate: Evidence) -> dict[str, bool]:
    """Direction of the per-sample values: known only where the metric is their mean on both sides."""
    means = (_is_mean(baseline), _is_mean(candidate))
    return {
        metric: direction
        for metric in metrics
        if all(metric in side for side in means)
        and (direction := baseline.metrics.higher_is_better.get(metric)) is not None
    }


def _is_mean(side: Evidence) -> set[str]:
    """The metrics of a run that are the means of its per-sample values."""
    sums: dict[str, float] = defaultdict(float)
    counts: Counter[str] = Counter()
    for item in side.items:
        for metric, value in item.values.items():
            sums[metric] += value
            counts[metric] += 1
    return {
        metric
        for metric, total in sums.items()
        if (reported := side.metrics.quality.get(metric)) is not None
        and abs(reported - total / counts[metric]) <= 1e-6 * max(1.0, abs(reported))
    }


def _flips(first: Sequence[float], second: Sequence[float], *, higher_is_better: bool) -> Flips:
    counts = dict.fromkeys(Flip, 0)
    for left, right in zip(first, second, strict=True):
        counts[flip_of(left, right, higher_is_better=higher_is_better)] += 1
    return Flips(**{flip.value: count for flip, count in counts.items()})


def _weak_rule(metric: str, baseline: RunMetrics, candidate: RunMetrics) -> WeakRule:
    name, _, filter_name = metric.rpartition(",")
    stderr = baseline.quality.get(f"{name}_stderr,{filter_name}")
    first, second = baseline.quality.get(metric), candidate.quality.get(metric)
    if stderr is None or first is None or second is None:
        return WeakRule(stderr=stderr, within_stderr=None)
    return WeakRule(stderr=stderr, within_stderr=abs(second - first) <= stderr)


def _compare_runtime(metric: str, baseline: RunMetrics, candidate: RunMetrics) -> RuntimeComparison:
    first, second = baseline.runtime.get(metric), candidate.runtime.get(metric)
    notes = []
    for side, metrics, value in (("baseline", baseline, first), ("candidate", candidate, second)):
        if value is None:
            reasons = metrics.runtime_details.null_reasons if metrics.runtime_details else {}
            notes.append(f"{side}: {reasons.get(metric, 'not measured')}")
    ratio = second / first if first and second is not None else None
    return RuntimeComparison(
        metric=metric,
        higher_is_better=HIGHER_IS_BETTER.get(metric, False),
        baseline=first,
        candidate=second,
        ratio=ratio,
        note="; ".join(notes) or None,
    )


def _warnings(baseline: Evidence, candidate: Evidence, pairing: Pairing) -> list[str]:
    first, second = baseline.subject, candidate.subject
    warnings = []
    if first.snapshot_digest != second.snapshot_digest:
        warnings.append(
            f"the runs read different snapshots ({first.dataset_name} {first.snapshot_digest[:12]}, "
            f"{second.dataset_name} {second.snapshot_digest[:12]}); only equal items are paired"
        )
    if first.recipe_hash != second.recipe_hash:
        warnings.append(
            f"the runs used different recipes ({first.method_name} version {first.method_version}, "
            f"{second.method_name} version {second.method_version})"
        )
    for name, value in first.conditions.items():
        if name not in second.conditions:
            continue  # recorded by another release; what it does not know does not differ
        if value != (other := second.conditions[name]):
            warnings.append(f"{name} differs: {value!r} in the baseline, {other!r} in the candidate")
    for side, evidence in (("baseline", baseline), ("candidate", candidate)):
        failed = evidence.metrics.samples_failed
        if failed:
            policy = evidence.metrics.failure_policy
            warnings.append(f"{failed} samples of the {side} have no response (policy: {policy})")
    left_over = len(pairing.baseline_only) + len(pairing.candidate_only)
    if left_over:
        warnings.append(
            f"{left_over} items have no partner ({len(pairing.baseline_only)} only in the baseline, "
            f"{len(pairing.candidate_only)} only in the candidate)"
        )
    if pairing.same_document_only:
        warnings.append(
            f"{pairing.same_document_only} documents are in both runs with another prompt or target, and are "
            "not paired; check few-shot source, template and task version"
        )
    return warnings


def _paired_item(baseline: Item, candidate: Item, numbers: Mapping[str, int]) -> PairedItem:
    return PairedItem(
        doc_hash=baseline.key.doc_hash,
        baseline_block=baseline.block,
        baseline_position=baseline.position,
        baseline_values=_numbered(baseline.values, numbers),
        candidate_block=candidate.block,
        candidate_position=candidate.position,
        candidate_values=_numbered(candidate.values, numbers),
    )


def _numbered(values: Mapping[str, float], numbers: Mapping[str, int]) -> dict[int, float]:
    return {numbers[name]: value for name, value in values.items() if name in numbers}
