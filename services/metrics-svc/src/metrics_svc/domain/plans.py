"""The frozen plan of a run, as far as scoring and comparing need it."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError, model_validator

from assay_evidence.runtime.goodput import GoodputBounds
from assay_evidence.runtime.telemetry import InstanceTelemetry, read_telemetry
from assay_harness.results import TaskFacts
from assay_harness.spec import Recipe, RowOrigin, TaskOptions
from metrics_svc.errors import Unscorable


class FailurePolicy(StrEnum):
    """What becomes of a sample without a response."""

    SCORE_ZERO = "score_zero"
    EXCLUDE = "exclude"
    FAIL = "fail"


class _Plan(BaseModel):
    """Frozen; the plan has more than is needed here."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class SnapshotReference(_Plan):
    """Rows in dataset-svc. ``digest``: sha256 of their Parquet file; ``origin``: where they come from."""

    snapshot_id: str
    digest: str
    split: str = "test"
    origin: RowOrigin | None = None


class RowReferences(_Plan):
    """The rows of one task."""

    evaluation: SnapshotReference
    fewshot: SnapshotReference | None = None


class MemberReferences(RowReferences):
    """The rows of one task of a group."""

    task: str


class HarnessInputs(_Plan):
    """What opens the harness: on ``evaluation`` and ``fewshot``, or on the rows of every task of a group."""

    recipe: Recipe
    options: TaskOptions
    evaluation: SnapshotReference | None = None
    fewshot: SnapshotReference | None = None
    members: list[MemberReferences] | None = None

    @model_validator(mode="after")
    def _has_rows(self) -> "HarnessInputs":
        """One of the two must be there."""
        if self.evaluation is None and not self.members:
            raise ValueError("it names no rows")
        return self

    def fewshot_digests(self) -> list[str]:
        """The digests of all few-shot rows, each once, in order."""
        rows: list[SnapshotReference | None] = [self.fewshot, *(one.fewshot for one in self.members or ())]
        return list(dict.fromkeys(one.digest for one in rows if one is not None))


class PlannedTask(_Plan):
    """The task as the harness described it when the run was planned."""

    task: str
    version: str
    config_sha256: str
    num_fewshot: int
    repeats: int = 1
    filters: list[str] = []
    generation_kwargs: dict[str, JsonValue] = {}
    library_versions: dict[str, str] = {}


class PlannedOptions(_Plan):
    """The options of the run that bear on its numbers."""

    on_failure: FailurePolicy = FailurePolicy.SCORE_ZERO
    limit: int | None = None
    concurrency: int = 1
    batch_size: int = 1
    goodput: GoodputBounds | None = None


class Deviation(BaseModel):
    """Where a run differs from the task's own definition; ``None`` is "not defined" or "not known"."""

    field: str
    task_value: JsonValue
    run_value: JsonValue
    message: str


class RunPlan(_Plan):
    """The frozen plan of a run, as far as scoring and comparing need it."""

    plan_hash: str
    dataset: dict[str, Any]
    method: dict[str, Any]
    artifact: dict[str, Any]
    canonical: bool | None = None
    deviations: list[Deviation] = []
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


def telemetry_records(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """What eval-svc recorded on each serving instance of a run, as it returns it."""
    return [
        {**(instance.get("telemetry") or {}), "instance_id": instance["instance_id"]}
        for instance in run.get("serving", ())
    ]


def telemetry_of(run: Mapping[str, Any]) -> list[InstanceTelemetry]:
    """The same, read."""
    return list(read_telemetry(telemetry_records(run)).values())


def rescored(plan: RunPlan, *, filters: list[str]) -> RunPlan:
    """The plan of a run that is scored in another way than its task's: never what others have published."""
    message = (
        f"the responses are scored by {', '.join(filters)} of the caller's choice; the task's own are "
        f"{', '.join(plan.task.filters)}"
    )
    deviation = Deviation(
        field="scoring", task_value=list(plan.task.filters), run_value=list(filters), message=message
    )
    return plan.model_copy(update={"canonical": False, "deviations": [*plan.deviations, deviation]})


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
