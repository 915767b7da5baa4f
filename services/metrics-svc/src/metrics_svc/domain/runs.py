"""What is known of a run's scores: how far scoring is, what came out."""

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from metrics_svc.domain.plans import Deviation, FailurePolicy, RunPlan
from metrics_svc.domain.runtime.details import RuntimeDetails


def now() -> str:
    """The time, RFC 3339, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class ScoringState(StrEnum):
    """How far the scoring of a run is."""

    SCORING = "scoring"
    FINAL = "final"
    FAILED = "failed"


class ArtifactReference(BaseModel):
    """The artifact of a run."""

    model_config = ConfigDict(extra="allow")

    id: str
    name: str
    backend: str


class RunSubject(BaseModel):
    """What a run evaluates, from its plan; kept with the scores so that a comparison can be explained."""

    run_name: str
    artifact: ArtifactReference
    dataset_id: str
    dataset_name: str
    snapshot_digest: str
    method_id: str
    method_name: str
    method_version: int
    recipe_hash: str
    task: str
    conditions: dict[str, JsonValue] = Field(description="what else bears on the numbers, by name")

    @classmethod
    def of(cls, run: Mapping[str, Any], plan: RunPlan) -> "RunSubject":
        """From a run and its plan."""
        options = plan.harness.options
        return cls(
            run_name=run.get("name") or run["id"],
            artifact=ArtifactReference.model_validate(
                {name: plan.artifact.get(name) for name in ("id", "name", "model", "backend")}
            ),
            dataset_id=plan.dataset["id"],
            dataset_name=plan.dataset["name"],
            snapshot_digest=plan.dataset["digest"],
            method_id=plan.method["id"],
            method_name=plan.method["name"],
            method_version=plan.method["version"],
            recipe_hash=plan.method["recipe_hash"],
            task=plan.task.task,
            conditions={
                "task definition": plan.task.config_sha256,
                "task version": plan.task.version,
                "lm_eval": plan.task.library_versions.get("lm-eval"),
                "generation arguments": plan.task.generation_kwargs,
                "num_fewshot": plan.task.num_fewshot,
                "few-shot rows": _one_or_all(plan.harness.fewshot_digests()),
                "few-shot seed": options.fewshot_seed,
                "system instruction": options.system_instruction,
                "chat template": options.apply_chat_template,
                "multiturn few-shot": options.apply_chat_template and options.fewshot_as_multiturn,
                "repeats": plan.task.repeats,
                "limit": plan.options.limit,
                "concurrency": plan.options.concurrency,
                "batch_size": plan.options.batch_size,
                "failed samples": plan.options.on_failure.value,
            },
        )


def _one_or_all(digests: list[str]) -> JsonValue:
    """The only one as it is; all of several; ``None`` of none."""
    return [*digests] if len(digests) > 1 else next(iter(digests), None)


class ScoringError(BaseModel):
    """Why a run has no final metrics."""

    code: str
    message: str


class MemberCounts(BaseModel):
    """How far one task of a group is."""

    task: str
    samples_scored: int
    samples_failed: int
    samples_expected: int


class QualityMetrics(BaseModel):
    """Quality of the responses of a run; while ``state`` is ``scoring``, of the samples scored so far.

    Attributes:
        canonical: whether the numbers may be set beside published ones of the task, and ``deviations`` why
            not; ``None`` while nothing is known of the run yet.
        quality: lm-eval's numbers by ``<task>.<metric>,<filter>`` and ``<task>.<metric>_stderr,<filter>``, of
            a group for every task in it and for the group; ``None`` where lm-eval gives none. While scoring:
            running means of the per-sample values.
        sample_metrics: metrics that have a value per sample, which comparisons and sample lists can use. The
            value of a sample for its group is the one for its task.
        members: of a group, how far each of its tasks is.
        failure_policy: what ``samples_failed`` count as.
    """

    run_id: str
    state: ScoringState
    canonical: bool | None = None
    deviations: list[Deviation] = []
    samples_scored: int = 0
    samples_failed: int = 0
    samples_expected: int | None = None
    failure_policy: FailurePolicy | None = None
    quality: dict[str, float | None] = {}
    higher_is_better: dict[str, bool] = {}
    sample_metrics: list[str] = []
    not_finite: list[str] = []
    members: list[MemberCounts] = []
    subject: RunSubject | None = None
    error: ScoringError | None = None
    finished_at: str | None = None


class RunMetrics(QualityMetrics):
    """Metrics of a run: its own scoring, and how it was served.

    Attributes:
        runtime: by name, such as ``ttftP50`` (s), ``tps``, ``requestsPerSecond`` (1/s), ``power`` (W) or
            ``tokensPerWatt`` (tokens/J); ``None`` with its reason in ``runtime_details.null_reasons``. Each
            with its interval in ``runtime_details.estimates``.
    """

    runtime: dict[str, float | None] = {}
    runtime_details: RuntimeDetails | None = None
