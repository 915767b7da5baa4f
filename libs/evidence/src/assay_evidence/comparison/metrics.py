"""All metrics of one candidate: quality, flips, noise, and what the table of pairs says of each."""

from dataclasses import dataclass, replace

import numpy
import pyarrow
from numpy.typing import NDArray

from assay_evidence.comparison.pairs import MetricPairs, PairTable
from assay_evidence.comparison.rules import rule_of
from assay_evidence.flips import FlipClassifier, ResponseChanges, analyse, response_changes
from assay_evidence.noise import SecondRun, SelfChange, noise_floor
from assay_evidence.noise import coverage_findings as noise_findings
from assay_evidence.pairing import PairedValues, paired_values
from assay_evidence.policy import PolicySpec
from assay_evidence.quality import Compared, MetricRule, compare_metric, corrected
from assay_evidence.report import (
    ComparisonSettings,
    Finding,
    FlipAnalysis,
    NoiseFloor,
    QualityComparison,
    Severity,
)
from assay_evidence.tables import RunEvidence


@dataclass(frozen=True, slots=True, eq=False)
class MetricComparisons:
    """What the metrics say, and the table of pairs."""

    quality: list[QualityComparison]
    flips: list[FlipAnalysis]
    noise: list[NoiseFloor]
    pairs: pyarrow.Table
    findings: list[Finding]

    def with_findings(self, more: list[Finding]) -> "MetricComparisons":
        """With further findings before its own."""
        return replace(self, findings=[*more, *self.findings])


def compare_metrics(
    compared: Compared,
    *,
    whole: tuple[RunEvidence, RunEvidence],
    settings: ComparisonSettings,
    policy: PolicySpec | None,
    alpha: float,
    second: SecondRun | None,
) -> MetricComparisons:
    """Compare every metric that both runs have values of.

    Args:
        compared: the samples that count.
        whole: both runs with all their samples; the runs' own numbers are of these.
        alpha: one-sided level of this candidate's tests.
        second: of the baseline's artifact, for the noise floor.
    """
    work = _Work(compared, response_changes(compared.baseline, compared.candidate, compared.pairing), second)
    findings: list[Finding] = []
    baseline, candidate = (run.facts for run in whole)
    for metric in dict.fromkeys([*baseline.sample_metrics, *candidate.sample_metrics]):
        values = None
        if metric in baseline.sample_metrics and metric in candidate.sample_metrics:
            values = paired_values(compared.baseline, compared.candidate, compared.pairing, metric=metric)
        if values is None or not len(values):
            if len(compared.pairing):
                findings.append(_not_compared(metric, task=baseline.task))
            continue
        rule = rule_of(
            metric, baseline=whole[0], candidate=whole[1], settings=settings, policy=policy, alpha=alpha
        )
        work.add(metric, values, rule)
    families = {one.metric: int(not one.metric.startswith(f"{baseline.task}.")) for one in work.quality}
    floor = policy.coverage_floor if policy else settings.coverage_floor
    findings += [guard for one in work.quality for guard in one.guards if guard.severity is Severity.INVALID]
    floors = {one.metric: one for one in work.noise}
    findings += noise_findings(floors, {one.metric: one.n for one in work.quality}, floor=floor)
    return MetricComparisons(
        quality=corrected(work.quality, families),
        flips=work.flips,
        noise=work.noise,
        pairs=work.table.table(work.responses),
        findings=[_softened(finding) for finding in findings],
    )


class _Work:
    """Collects the results metric by metric."""

    def __init__(self, compared: Compared, responses: ResponseChanges, second: SecondRun | None) -> None:
        self.responses = responses
        self.table = PairTable(compared.baseline, compared.candidate, compared.pairing)
        self.quality: list[QualityComparison] = []
        self.flips: list[FlipAnalysis] = []
        self.noise: list[NoiseFloor] = []
        self._classifier = FlipClassifier(compared.baseline, compared.candidate, compared.pairing, responses)
        self._compared = compared
        self._second = second

    def add(self, metric: str, values: PairedValues, rule: MetricRule) -> None:
        """Compare one metric; ``values`` has at least one pair."""
        compared = self._compared
        quality = compare_metric(compared, metric, values, rule)
        self.quality.append(quality)
        change = None if self._second is None else self._second.change(metric)
        known, unstable = _at(change, compared.pairing.baseline[values.at])
        classes = None
        if quality.flips is not None:
            assert rule.higher_is_better is not None, "flips have a direction"
            classes = self._classifier.classify(metric, values, higher_is_better=rule.higher_is_better)
            self.flips.append(
                analyse(
                    metric,
                    values=values,
                    classes=classes,
                    higher_is_better=rule.higher_is_better,
                    responses=self.responses,
                    unstable=unstable,
                )
            )
        parts = compared.baseline.metric_parts(metric)
        assert parts is not None, "there are values"
        self.table.add(
            MetricPairs(
                task=parts[0],
                key=parts[1],
                values=values,
                classes=classes,
                higher_is_better=bool(rule.higher_is_better),
                unstable=unstable,
                known=known,
            )
        )
        if change is not None and self._second is not None:
            floor = noise_floor(
                values,
                change,
                pairing=compared.pairing,
                metric=metric,
                run_id=self._second.second.facts.view_id,
                alpha=rule.alpha,
            )
            self.noise += [floor] if floor else []


def _at(
    change: SelfChange | None, samples: NDArray[numpy.int64]
) -> tuple[NDArray[numpy.bool_] | None, NDArray[numpy.bool_] | None]:
    if change is None:
        return None, None
    return change.known[samples], change.changed[samples]


def _not_compared(metric: str, *, task: str) -> Finding:
    """A metric of the run's own task that is missing is no detail: a policy may name it."""
    is_own = metric.startswith(f"{task}.")
    return Finding(
        code="metric-not-paired",
        severity=Severity.NOT_COMPARABLE if is_own else Severity.WARNING,
        message=f"{metric} has no values on both sides of any pair",
        details={"metric": metric},
    )


def _softened(finding: Finding) -> Finding:
    """Of one metric: it makes that metric worthless, not the whole comparison."""
    if finding.severity is not Severity.INVALID:
        return finding
    return finding.model_copy(update={"severity": Severity.NOT_COMPARABLE})
