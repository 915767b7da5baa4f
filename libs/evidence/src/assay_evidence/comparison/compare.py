"""Compares a baseline with candidates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
import pyarrow
from numpy.typing import NDArray

from assay_evidence.comparison.metrics import MetricComparisons, compare_metrics
from assay_evidence.comparison.prefix import Evaluated, evaluated
from assay_evidence.noise import SecondRun, second_run_findings
from assay_evidence.pairing import Pairing, pair_runs
from assay_evidence.policy import PolicySpec
from assay_evidence.quality import Compared
from assay_evidence.report import (
    CandidateReport,
    ComparedRun,
    ComparisonReport,
    ComparisonSettings,
    Coverage,
    Finding,
    PlanDifference,
    Severity,
)
from assay_evidence.runtime import compare_energy, compare_runtime
from assay_evidence.tables import RunEvidence
from assay_evidence.validity import (
    Sides,
    coverage_findings,
    coverage_of,
    fact_findings,
    plan_differences,
    plan_findings,
)
from assay_evidence.workload import workload_parity


@dataclass(frozen=True, slots=True, eq=False)
class ComparisonOutcome:
    """A report, and for each candidate the table of its pairs (``pairs.PAIR_COLUMNS``)."""

    report: ComparisonReport
    pairs: list[pyarrow.Table]


def compare(
    baseline: RunEvidence,
    candidates: Sequence[RunEvidence],
    *,
    settings: ComparisonSettings,
    policy: PolicySpec | None = None,
    noise_floor: RunEvidence | None = None,
    clusters: Mapping[int, str] | None = None,
) -> ComparisonOutcome:
    """Compare candidates with a baseline, item by item. Bad evidence gives an invalid report, never an error.

    Args:
        settings: margin, level and the like; stored with the report.
        policy: where one judges, its rules give margin, level and direction of each metric, and it sets the
            floors. A candidate that stopped early is tested at the level of the look at which it ended.
        noise_floor: a second run of the baseline's artifact.
        clusters: label of the cluster of each document of the baseline, by index; a document without one is
            a cluster of its own. Without clusters, equal items are one.
    """
    compared = [
        _Comparison(baseline, candidate, settings, policy, noise_floor, clusters).outcome()
        for candidate in candidates
    ]
    report = ComparisonReport(
        settings=settings,
        baseline=_compared_run(baseline),
        noise_floor_run=None if noise_floor is None else _compared_run(noise_floor),
        candidates=[one for one, _ in compared],
    )
    return ComparisonOutcome(report=report, pairs=[pairs for _, pairs in compared])


@dataclass(frozen=True, slots=True, eq=False)
class _Comparison:
    """Of one candidate."""

    baseline: RunEvidence
    candidate: RunEvidence
    settings: ComparisonSettings
    policy: PolicySpec | None
    noise_floor: RunEvidence | None
    clusters: Mapping[int, str] | None

    def outcome(self) -> tuple[CandidateReport, pyarrow.Table]:
        counted = evaluated(self.baseline, self.candidate)
        pairing = _usable(counted, pair_runs(counted.baseline, counted.candidate))
        findings, coverage, differences = self._validity(counted, pairing)
        metrics = self._metrics(counted, pairing)
        findings += [*metrics.findings, *self._cluster_findings(counted, pairing)]
        energy = compare_energy(self.baseline, self.candidate)
        report = CandidateReport(
            candidate=_compared_run(self.candidate),
            valid=all(finding.severity is not Severity.INVALID for finding in findings),
            findings=sorted(findings, key=lambda finding: _ORDER.index(finding.severity)),
            coverage=coverage,
            plan_differences=differences,
            quality=metrics.quality,
            flips=metrics.flips,
            noise=metrics.noise,
            runtime=compare_runtime(self.baseline, self.candidate, settings=self.settings, energy=energy),
            energy=energy,
            workload=workload_parity(counted.baseline, counted.candidate, pairing, settings=self.settings),
        )
        return report, metrics.pairs

    def _validity(
        self, counted: Evaluated, pairing: Pairing
    ) -> tuple[list[Finding], Coverage, list[PlanDifference]]:
        settings, policy = self.settings, self.policy
        allowed = policy.allowed_plan_differences if policy else ()
        plans = self.baseline.facts.plan, self.candidate.facts.plan
        differences = plan_differences(plans[0], plans[1], allowed=allowed)
        sides = Sides(
            counted.baseline,
            counted.candidate,
            pairing,
            baseline_total=counted.baseline_total,
            candidate_total=counted.candidate_total,
        )
        coverage = coverage_of(sides, floor=policy.coverage_floor if policy else settings.coverage_floor)
        most = policy.max_failed_share if policy else 1.0 - settings.coverage_floor
        findings = [
            *fact_findings(self.baseline, self.candidate),
            *coverage_findings(sides, coverage, differences=differences, max_failed_share=most),
            *plan_findings(plans[0], plans[1], differences),
            *counted.findings,
        ]
        return findings, coverage, differences

    def _metrics(self, counted: Evaluated, pairing: Pairing) -> MetricComparisons:
        findings: list[Finding] = []
        second = None
        if self.noise_floor is not None:
            findings = second_run_findings(
                self.baseline,
                self.noise_floor,
                differences=plan_differences(self.baseline.facts.plan, self.noise_floor.facts.plan),
            )
            second = None if findings else SecondRun.of(counted.baseline, self.noise_floor)
        compared = Compared(
            counted.baseline, counted.candidate, pairing, clusters=self._clusters(counted, pairing)
        )
        made = compare_metrics(
            compared,
            whole=(self.baseline, self.candidate),
            settings=self.settings,
            policy=self.policy,
            alpha=counted.level(self.policy.alpha if self.policy else self.settings.alpha),
            second=second,
        )
        return made.with_findings(findings)

    def _clusters(self, counted: Evaluated, pairing: Pairing) -> NDArray[numpy.int64] | None:
        if self.clusters is None:
            return pairing.item if pairing.repeated else None
        index = counted.baseline.index[pairing.baseline].tolist()
        labels = self.clusters
        numbers = {label: number for number, label in enumerate(dict.fromkeys(labels.values()))}
        alone = len(numbers)
        return numpy.array(
            [numbers[labels[one]] if one in labels else alone + place for place, one in enumerate(index)],
            dtype=numpy.int64,
        )

    def _cluster_findings(self, counted: Evaluated, pairing: Pairing) -> list[Finding]:
        if self.clusters is None:
            return []
        index = counted.baseline.index[pairing.baseline].tolist()
        without = sum(one not in self.clusters for one in index)
        if not without:
            return []
        return [
            Finding(
                code="clusters-incomplete",
                severity=Severity.WARNING,
                message=f"{without} of {len(index)} pairs have no cluster; each is one of its own",
            )
        ]


_ORDER = tuple(Severity)


def _usable(counted: Evaluated, pairing: Pairing) -> Pairing:
    """Without the pairs of which one sample failed and is not scored 0."""
    keep = numpy.ones(len(pairing), dtype=bool)
    for run, at in ((counted.baseline, pairing.baseline), (counted.candidate, pairing.candidate)):
        if run.facts.failure_policy != "score_zero":
            keep &= ~run.failed[at]
    return pairing.kept(keep)


def _compared_run(run: RunEvidence) -> ComparedRun:
    facts = run.facts
    return ComparedRun(
        run_id=facts.run_id,
        scoring_id=facts.scoring_id,
        run_name=facts.run_name,
        task=facts.task,
        artifact_id=str(facts.artifact.get("id")),
        artifact_name=str(facts.artifact.get("name")),
        backend=facts.backend,
        canonical=facts.canonical,
        samples_scored=facts.samples_scored,
        samples_failed=facts.samples_failed,
        early_stop=facts.early_stop is not None,
        tables=dict(run.digests),
    )
