"""What reports are made of, beside the comparison itself."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pydantic import JsonValue

from assay_evidence.decision import Judgement
from assay_evidence.policy import Policy
from assay_evidence.report import CandidateReport, ComparedRun, ComparisonSettings
from metrics_svc.reports.latencies import RunLatencies


@dataclass(frozen=True, slots=True)
class ExampleSide:
    """One run's part of an example; ``value`` is that of the example's metric."""

    index: int
    value: float | None
    response: str | None
    filtered: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Example:
    """A paired item that flipped. ``flip_class`` is a name of ``FlipClass``, ``flip`` gained or lost."""

    metric: str
    flip: str
    flip_class: str | None
    doc_hash: str
    prompt: str | None
    target: str
    unstable_under_aa: bool | None
    baseline: ExampleSide
    candidate: ExampleSide


@dataclass(frozen=True, slots=True)
class CandidateMaterial:
    """One candidate with what its part of a report shows; ``latencies`` are the candidate's."""

    report: CandidateReport
    examples: Sequence[Example] = ()
    latencies: RunLatencies | None = None


@dataclass(frozen=True, slots=True)
class ComparisonMaterial:
    """A comparison. ``baseline_latencies`` are ``None`` where no request has times."""

    id: str
    created_at: str
    created_by: str
    settings: ComparisonSettings
    baseline: ComparedRun
    noise_floor_run: ComparedRun | None
    candidates: Sequence[CandidateMaterial]
    baseline_latencies: RunLatencies | None = None


@dataclass(frozen=True, slots=True)
class DecisionMaterial:
    """A decision; ``comparison`` has the one candidate that was judged."""

    id: str
    created_at: str
    created_by: str
    judgement: Judgement
    policy: Policy
    bundle_digest: str
    comparison: ComparisonMaterial
