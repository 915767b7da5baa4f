"""Plans, runs and samples as the API shows them."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from assay_chassis.web import PageModel
from eval_svc.domain import RunState, SampleRecord


class Deviation(BaseModel):
    """Where a run differs from the task's own definition; `null` is "not defined" or "not known"."""

    field: str = Field(description="`dataset_path`, `evaluation_split`, `fewshot_source`, `limit`, ...")
    task_value: JsonValue
    run_value: JsonValue
    message: str


class PlannedMember(BaseModel):
    """One task of a group. Its samples are those with `start` <= `index` < `stop`."""

    model_config = ConfigDict(extra="allow")

    task: str
    dataset: dict[str, Any]
    fewshot: dict[str, Any] | None
    fewshot_source: str
    row_count: int = Field(description="rows before the limit")
    start: int
    stop: int
    samples: int
    deviations: list[Deviation]


class EffectivePlan(BaseModel):
    """Everything that decides the run's numbers."""

    model_config = ConfigDict(extra="allow")

    plan_hash: str
    canonical: bool = Field(description="whether the numbers may be set beside published ones of this task")
    deviations: list[Deviation] = Field(default=[], description="why they may not")
    notes: list[str] = Field(description="the deviations in words")
    fewshot_source: str
    dataset: dict[str, Any] = Field(
        description="the evaluated rows; of several datasets, `id` is the first one's, `digest` covers all"
    )
    fewshot: dict[str, Any] | None
    members: list[PlannedMember] | None = Field(default=None, description="the tasks of a group, in order")
    method: dict[str, Any]
    artifact: dict[str, Any]
    task: dict[str, Any]
    options: dict[str, Any]


class NeededSamples(BaseModel):
    """Samples with which a loss of `margin` is ruled out."""

    margin: float
    samples: int


class PowerFigures(BaseModel):
    """What the samples of a run can show in a comparison."""

    samples: int
    assumed_churn: float = Field(description="share of answers that change between the two runs")
    detectable_difference: float | None = Field(
        description="smallest loss of an accuracy that so many samples show; `null`: they show none"
    )
    needed: list[NeededSamples]
    note: str


class PlanAnswer(EffectivePlan):
    """An effective plan and, beside it, what so many samples can show."""

    power: PowerFigures


class StoppedEarly(BaseModel):
    """Why a run ended before all its rows were evaluated."""

    look: int = Field(description="which of the plan's `early_stop.looks` decided, from 0")
    samples: int = Field(description="documents that this look judged; the run may have some more")
    outcome: Literal["proven", "hopeless"]


class MemberProgress(BaseModel):
    """Samples of one task of a group."""

    task: str
    samples_total: int
    samples_done: int
    samples_failed: int


class Progress(BaseModel):
    """Samples of a run."""

    samples_total: int
    samples_done: int
    samples_failed: int
    members: list[MemberProgress] | None = Field(default=None, description="of a group, by task in order")


class RunError(BaseModel):
    """Why a run failed."""

    code: str
    message: str


class RunLedger(BaseModel):
    """What the serving instances of a run have cost; sums of what is known, `null` where nothing is."""

    instances: int
    incomplete: int = Field(description="instances of which not everything is known: the sums are too low")
    waited_s: float | None = Field(description="until the adapter had room")
    schedule_s: float | None
    pull_s: float | None
    load_s: float | None
    ready_s: float | None
    cold_start_s: float | None = Field(description="the four before: from the request to a real completion")
    serving_s: float | None
    drain_s: float | None
    occupied_s: float | None = Field(description="in which accelerators were held")
    accelerator_seconds: float | None
    idle_joules: float | None = Field(description="in `idle_seconds`: ready, with no request in flight")
    idle_seconds: float | None


class Run(BaseModel):
    """An evaluation run."""

    id: str
    name: str
    state: RunState
    plan: EffectivePlan
    canonical: bool = Field(description="whether the numbers may be set beside published ones of this task")
    deviations: list[Deviation] = Field(description="why they may not")
    power: PowerFigures | None = Field(default=None, description="what so many samples can show")
    progress: Progress
    stopped_early: StoppedEarly | None = Field(
        default=None,
        description="of a run with `early_stop` that did; the metrics are of `samples_done` rows",
    )
    error: RunError | None
    serving: list[dict[str, Any]] = Field(
        description="serving instances that the run has used, in order: `instance_id`, `phase_times`, "
        "`provenance`, `launcher`, `accelerators`, `idle_baselines`, `telemetry`, `ledger`, `calibration` "
        "(`before` and `after` the requests), `log` (its size) and how it `ended`"
    )
    ledger: RunLedger | None = Field(default=None, description="what all of them have cost together")
    quality: dict[str, float | None] | None
    runtime: dict[str, float | None] | None
    attempts: int = Field(description="how often a worker has started on it")
    cancel_requested: bool
    created_at: str
    created_by: str
    started_at: str | None
    finished_at: str | None


class RunPage(PageModel):
    """A page of runs."""

    items: list[Run]


class SamplePage(PageModel):
    """A page of finished samples."""

    items: list[SampleRecord]


class Block(BaseModel):
    """A block of the sample log."""

    run_id: str
    block: int
    samples: list[SampleRecord]
