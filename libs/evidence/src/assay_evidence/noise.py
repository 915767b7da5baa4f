"""The noise floor: how much the baseline differs from itself, and whether the candidate differs by more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from assay_evidence.pairing import PairedValues, Pairing, pair_runs, paired_values
from assay_evidence.report import Finding, NoiseFloor, PlanDifference, Severity
from assay_evidence.statistics.noise import excess_churn
from assay_evidence.tables import RunEvidence

SUBJECT = "noise"
NAMED = 5
"""Paths that a message names."""


@dataclass(frozen=True, slots=True, eq=False)
class SelfChange:
    """What changed of one metric between two runs of the baseline's artifact; one entry per its sample.

    Attributes:
        known: samples with a value in both runs.
        changed: whether the values differ.
        difference: second run minus first; 0 where not known.
    """

    known: NDArray[numpy.bool_]
    changed: NDArray[numpy.bool_]
    difference: NDArray[numpy.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SecondRun:
    """A second run of the baseline's artifact, paired with the baseline."""

    baseline: RunEvidence
    second: RunEvidence
    pairing: Pairing

    @classmethod
    def of(cls, baseline: RunEvidence, second: RunEvidence) -> "SecondRun":
        """Pair the two."""
        return cls(baseline, second, pair_runs(baseline, second))

    def change(self, metric: str) -> SelfChange | None:
        """Of ``metric``; ``None`` where a run has no such values."""
        values = paired_values(self.baseline, self.second, self.pairing, metric=metric)
        if values is None:
            return None
        at, n = self.pairing.baseline[values.at], len(self.baseline)
        known, changed, difference = numpy.zeros(n, bool), numpy.zeros(n, bool), numpy.zeros(n)
        known[at] = True
        changed[at] = values.changed
        difference[at] = values.candidate - values.baseline
        return SelfChange(known, changed, difference)


def second_run_findings(
    baseline: RunEvidence, second: RunEvidence, *, differences: Sequence[PlanDifference]
) -> list[Finding]:
    """Why ``second`` is no second run of the baseline; empty where it is one.

    Args:
        differences: of the two effective plans.
    """
    if second.facts.view_id == baseline.facts.view_id:
        return [
            _unusable("noise-floor-same-run", "the noise floor needs a second run; it names the baseline")
        ]
    digests = [run.facts.artifact.get("sha256") or run.facts.artifact.get("id") for run in (baseline, second)]
    if digests[0] != digests[1] or baseline.facts.backend != second.facts.backend:
        message = (
            f"run {second.facts.view_id} is of artifact {second.facts.artifact.get('name')!r} on "
            f"{second.facts.backend}, not of the baseline's, so it says nothing of the baseline's own noise"
        )
        return [_unusable("noise-floor-other-artifact", message)]
    unlike = [one.path for one in differences if not one.expected]
    if unlike or second.facts.scoring != baseline.facts.scoring:
        message = (
            f"run {second.facts.view_id} is not a repetition of the baseline: "
            f"{', '.join(unlike[:NAMED]) or 'its scoring'} differs"
        )
        return [_unusable("noise-floor-other-plan", message)]
    return []


def noise_floor(
    values: PairedValues, change: SelfChange, *, pairing: Pairing, metric: str, run_id: str, alpha: float
) -> NoiseFloor | None:
    """Churn of one metric against that of the baseline alone; ``None`` where no item is in all three runs."""
    at = pairing.baseline[values.at]
    shared = change.known[at]
    if not shared.any():
        return None
    changed_aa, changed_ab = change.changed[at][shared], values.changed[shared]
    found = excess_churn(changed_aa, changed_ab)
    return NoiseFloor(
        metric=metric,
        run_id=run_id,
        n=found.n,
        churn_aa=found.churn_aa,
        churn_ab=found.churn_ab,
        excess=found.excess,
        excess_interval_95=found.interval_95,
        excess_p=found.p,
        difference_aa=float(change.difference[at][shared].mean()),
        above_noise=found.p <= alpha,
    )


def coverage_findings(
    floors: Mapping[str, NoiseFloor], pairs: Mapping[str, int], *, floor: float
) -> list[Finding]:
    """Metrics of which too few pairs are in the second run of the baseline."""
    found = []
    for metric, one in floors.items():
        if one.n < floor * pairs[metric]:
            message = (
                f"{metric}: only {one.n} of {pairs[metric]} pairs are in the second run of the baseline; the "
                "noise floor is of these"
            )
            found.append(
                Finding(
                    code="noise-floor-partial", severity=Severity.WARNING, message=message, subject=SUBJECT
                )
            )
    return found


def _unusable(code: str, message: str) -> Finding:
    return Finding(code=code, severity=Severity.NOT_COMPARABLE, message=message, subject=SUBJECT)
