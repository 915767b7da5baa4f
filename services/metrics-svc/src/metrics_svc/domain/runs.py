"""A run as metrics-svc sees it: what was planned, how far scoring is, what came out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError

from assay_harness.results import DocumentScore, TaskFacts
from assay_harness.spec import Recipe, TaskOptions
from metrics_svc.domain.runtime import InstanceTelemetry, RuntimeDetails
from metrics_svc.domain.samples import ScoredSample
from metrics_svc.errors import Unscorable


def now() -> str:
    """The time, RFC 3339, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class ScoringState(StrEnum):
    """How far the scoring of a run is."""

    SCORING = "scoring"
    FINAL = "final"
    FAILED = "failed"


class FailurePolicy(StrEnum):
    """What becomes of a sample without a response."""

    SCORE_ZERO = "score_zero"
    EXCLUDE = "exclude"
    FAIL = "fail"


class _Plan(BaseModel):
    """Frozen; the plan has more than is needed here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SnapshotReference(_Plan):
    """Rows in dataset-svc. ``digest`` is the sha256 of their Parquet file."""

    snapshot_id: str
    digest: str
    split: str = "test"


class HarnessInputs(_Plan):
    """What opens the harness."""

    recipe: Recipe
    options: TaskOptions
    evaluation: SnapshotReference
    fewshot: SnapshotReference | None = None


class PlannedTask(_Plan):
    """The task as the harness described it when the run was planned."""

    task: str
    version: str
    config_sha256: str
    num_fewshot: int
    generation_kwargs: dict[str, JsonValue] = {}
    library_versions: dict[str, str] = {}


class PlannedOptions(_Plan):
    """The options of the run that bear on its numbers."""

    on_failure: FailurePolicy = FailurePolicy.SCORE_ZERO
    limit: int | None = None
    concurrency: int = 1
    batch_size: int = 1


class RunPlan(_Plan):
    """The frozen plan of a run, as far as scoring and comparing need it."""

    plan_hash: str
    dataset: dict[str, Any]
    method: dict[str, Any]
    artifact: dict[str, Any]
    task: PlannedTask
    options: PlannedOptions
    harness: HarnessInputs


def read_plan(run: Mapping[str, Any]) -> RunPlan:
    """The plan of a run as eval-svc returns it.

    Raises:
        Unscorable: the plan lacks something; names the first wrong field.
    """
    try:
        return RunPlan.model_validate(run["plan"])
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Unscorable("malformed-plan", f"plan.{place}: {first['msg']}") from error


def read_telemetry(run: Mapping[str, Any]) -> list[InstanceTelemetry]:
    """What was measured on each serving instance of a run as eval-svc returns it."""
    return [
        InstanceTelemetry.model_validate(
            {**(instance.get("telemetry") or {}), "instance_id": instance["instance_id"]}
        )
        for instance in run.get("serving", ())
    ]


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
            snapshot_digest=plan.harness.evaluation.digest,
            method_id=plan.method["id"],
            method_name=plan.method["name"],
            method_version=plan.method["version"],
            recipe_hash=plan.method["recipe_hash"],
            task=plan.task.task,
            conditions={
                "task definition": plan.task.config_sha256,
                "task version": plan.task.version,
                "lm_eval": plan.task.library_versions.get("lm_eval"),
                "generation arguments": plan.task.generation_kwargs,
                "num_fewshot": plan.task.num_fewshot,
                "few-shot rows": plan.harness.fewshot and plan.harness.fewshot.digest,
                "few-shot seed": options.fewshot_seed,
                "limit": plan.options.limit,
                "concurrency": plan.options.concurrency,
                "batch_size": plan.options.batch_size,
                "failed samples": plan.options.on_failure.value,
            },
        )


class ScoringError(BaseModel):
    """Why a run has no final metrics."""

    code: str
    message: str


class RunMetrics(BaseModel):
    """Metrics of a run; while ``state`` is ``scoring``, of the samples scored so far.

    Attributes:
        quality: lm-eval's numbers by ``<task>.<metric>,<filter>`` and ``<task>.<metric>_stderr,<filter>``;
            ``None`` where lm-eval gives none. While scoring: running means of the per-sample values.
        sample_metrics: metrics that have a value per sample, which comparisons and sample lists can use.
        runtime: ``ttftP50``, ``ttftP99``, ``itlP50``, ``itlP99`` (s), ``tps``, ``requestsPerSecond`` (1/s),
            ``power`` (W), ``tokensPerWatt`` (tokens/J); ``None`` with its reason in
            ``runtime_details.null_reasons``.
        failure_policy: what ``samples_failed`` count as.
    """

    run_id: str
    state: ScoringState
    samples_scored: int = 0
    samples_failed: int = 0
    samples_expected: int | None = None
    failure_policy: FailurePolicy | None = None
    quality: dict[str, float | None] = {}
    higher_is_better: dict[str, bool] = {}
    sample_metrics: list[str] = []
    not_finite: list[str] = []
    runtime: dict[str, float | None] = {}
    runtime_details: RuntimeDetails | None = None
    subject: RunSubject | None = None
    error: ScoringError | None = None
    finished_at: str | None = None


@dataclass(frozen=True, slots=True)
class CompleteScores:
    """The scores of all samples of a run, failed ones treated by the run's policy.

    Attributes:
        scores: in the order of the documents.
        numeric: keys ``metric,filter`` whose value per document is a number.
    """

    scores: list[DocumentScore]
    numeric: list[str]


def complete_scores(
    scores: Mapping[int, DocumentScore],
    failed: Iterable[int],
    *,
    policy: FailurePolicy,
    higher_is_better: Mapping[str, bool],
) -> CompleteScores:
    """Apply the policy for failed samples.

    Args:
        scores: by document index.
        failed: indexes of documents without a response.
        policy: see ``FailurePolicy``.
        higher_is_better: ``TaskFacts.higher_is_better``, by metric.

    Raises:
        Unscorable: the policy forbids failed samples, a metric has no zero, or nothing was scored.
    """
    missing = sorted(failed)
    if not scores:
        raise Unscorable("nothing-scored", f"none of the {len(missing)} samples has a response")
    ordered = [scores[index] for index in sorted(scores)]
    numeric = [
        key
        for key in ordered[0].values
        if all(isinstance(score.values.get(key), int | float) for score in ordered)
    ]
    if missing and policy is FailurePolicy.FAIL:
        raise Unscorable("samples-failed", f"{len(missing)} samples failed, which the run's options forbid")
    if missing and policy is FailurePolicy.SCORE_ZERO:
        zero = _zero_score(ordered[0], numeric=numeric, higher_is_better=higher_is_better)
        ordered += [
            DocumentScore(index=index, values=dict(zero.values), number_types=zero.number_types, filtered={})
            for index in missing
        ]
        ordered.sort(key=lambda score: score.index)
    return CompleteScores(scores=ordered, numeric=numeric)


def _zero_score(
    example: DocumentScore, *, numeric: Sequence[str], higher_is_better: Mapping[str, bool]
) -> DocumentScore:
    """The score of a failed sample; NumPy types as in ``example``, because they add up in their own way."""
    for key in example.values:
        if key not in numeric:
            raise Unscorable(
                "no-zero-score",
                f"a failed sample cannot be scored 0 for {key}, whose value per sample is not a number; run "
                'again with on_failure "exclude"',
            )
        if not higher_is_better.get(key.rpartition(",")[0], True):
            raise Unscorable(
                "no-zero-score",
                f"for {key} lower is better, so 0 would reward a failed sample; run again with on_failure "
                '"exclude"',
            )
    return DocumentScore(
        index=-1, values=dict.fromkeys(example.values, 0.0), number_types=example.number_types, filtered={}
    )


def check_task(plan: RunPlan, facts: TaskFacts) -> None:
    """Refuse to score with another task definition than the run was prompted with.

    Raises:
        Unscorable: they differ.
    """
    if facts.config_sha256 != plan.task.config_sha256:
        raise Unscorable(
            "task-changed",
            f"the definition of task {plan.task.task!r} differs here from the one that the run was planned "
            "with; score it with the lm-eval version that its plan names",
        )


SampleValues = dict[str, float]
"""Per-sample numbers by ``<task>.<metric>,<filter>``."""


def sample_values(
    sample: ScoredSample, *, task: str, policy: FailurePolicy, numeric: Sequence[str]
) -> SampleValues:
    """The numbers of one sample as they enter the run's metrics.

    Args:
        sample: the sample.
        task: prefix of the keys.
        policy: a failed sample has zeros or nothing.
        numeric: keys ``metric,filter`` that a failed sample gets a zero for.
    """
    if sample.score is not None:
        return {f"{task}.{key}": value for key, value in sample.score.numbers.items()}
    if policy is FailurePolicy.SCORE_ZERO:
        return dict.fromkeys((f"{task}.{key}" for key in numeric), 0.0)
    return {}


Correctness = Literal["right", "wrong"]


def correctness(value: float, *, higher_is_better: bool) -> Correctness | None:
    """Whether a 0-or-1 value means right; ``None`` for any other value."""
    if value not in (0.0, 1.0):
        return None
    return "right" if (value == 1.0) is higher_is_better else "wrong"
