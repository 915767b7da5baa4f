"""HTTP API of eval-svc."""

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Header, Query, Request
from pydantic import BaseModel, ConfigDict, Field, JsonValue

from assay_chassis.web import PageModel, client_of, problems
from eval_svc.domain import ArtifactSpec, RunRequest, RunState, SampleRecord
from eval_svc.errors import (
    BackendNotConfigured,
    IdempotencyKeyReused,
    InvalidArtifact,
    InvalidCursor,
    InvalidPlan,
    NameTaken,
    UnknownArtifact,
    UnknownBlock,
    UnknownRun,
    WrongState,
)
from eval_svc.service import EvaluationService, quality_of

router = APIRouter(prefix="/v1")


class Artifact(ArtifactSpec):
    """A registered artifact."""

    model_config = ConfigDict(extra="ignore")

    id: str
    created_at: str
    created_by: str


class ArtifactPage(PageModel):
    """A page of artifacts."""

    items: list[Artifact]


class Backend(BaseModel):
    """A serving adapter as it describes itself now."""

    model_config = ConfigDict(extra="allow")

    backend: str
    address: str
    healthy: bool
    unhealthy_reason: str


class BackendPage(PageModel):
    """All configured backends."""

    items: list[Backend]


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
    serving: list[dict[str, Any]] = Field(description="serving instances that the run has used, in order")
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


def service_of(request: Request) -> EvaluationService:
    """The service that ``wiring`` put on the application."""
    service: EvaluationService = request.app.state.service
    return service


Service = Annotated[EvaluationService, Depends(service_of)]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before")]
Limit = Annotated[int, Query(ge=1, le=200)]
USES = "runs that read this {}: as evaluated rows, as few-shot rows, or for a member of a group"


def _artifact(document: dict[str, Any]) -> Artifact:
    return Artifact.model_validate({**document, "id": document["_id"]})


def _run(document: dict[str, Any]) -> Run:
    return Run.model_validate(
        {
            **document,
            "id": document["_id"],
            "canonical": document["plan"]["canonical"],
            "deviations": document["plan"].get("deviations", ()),
            "quality": quality_of(document),
            "cancel_requested": bool(document.get("cancel_requested")),
        }
    )


@router.get("/backends", tags=["backends"])
async def list_backends(service: Service) -> BackendPage:
    """What every configured serving adapter can do, now."""
    return BackendPage(items=[Backend.model_validate(item) for item in await service.backends()])


@router.post(
    "/artifacts",
    status_code=201,
    tags=["artifacts"],
    responses=problems(NameTaken, BackendNotConfigured, InvalidArtifact),
)
async def register_artifact(spec: ArtifactSpec, request: Request, service: Service) -> Artifact:
    """Register what is to be evaluated: a model in a form that one backend serves."""
    return _artifact(await service.register_artifact(spec, client=client_of(request)))


@router.get("/artifacts", tags=["artifacts"])
async def list_artifacts(
    service: Service, name: str | None = None, cursor: Cursor = None, limit: Limit = 50
) -> ArtifactPage:
    """Artifacts, newest first."""
    page = await service.artifacts(name=name, cursor=cursor, limit=limit)
    return ArtifactPage(items=[_artifact(item) for item in page.items], next_cursor=page.next_cursor)


@router.get("/artifacts/{artifact_id}", tags=["artifacts"], responses=problems(UnknownArtifact))
async def get_artifact(artifact_id: str, service: Service) -> Artifact:
    """One artifact."""
    return _artifact(await service.artifact(artifact_id))


@router.post("/evaluations/plan", tags=["evaluations"], responses=problems(UnknownArtifact, InvalidPlan))
async def plan_evaluation(body: RunRequest, service: Service) -> PlanAnswer:
    """What this request would run, after all checks, and what it can show; starts nothing."""
    return PlanAnswer.model_validate(await service.preview(body))


@router.post(
    "/evaluations",
    status_code=202,
    tags=["evaluations"],
    responses=problems(UnknownArtifact, InvalidPlan, IdempotencyKeyReused),
)
async def start_evaluation(
    body: RunRequest,
    request: Request,
    service: Service,
    idempotency_key: Annotated[str | None, Header(max_length=200)] = None,
) -> Run:
    """Check, freeze the plan and queue the run. A repeated `Idempotency-Key` gives the same run."""
    document = await service.start(
        body,
        client=client_of(request),
        idempotency_key=idempotency_key,
        traceparent=request.app.state.telemetry.traceparent(),
    )
    return _run(document)


@router.get("/evaluations", tags=["evaluations"])
async def list_evaluations(
    service: Service,
    name: str | None = None,
    state: RunState | None = None,
    dataset_id: str | None = None,
    uses_dataset: Annotated[str | None, Query(description=USES.format("dataset"))] = None,
    uses_snapshot: Annotated[str | None, Query(description=USES.format("snapshot"))] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> RunPage:
    """Runs, newest first. Filters add up: a run is listed if it satisfies all of them."""
    page = await service.runs(
        name=name,
        state=state,
        dataset_id=dataset_id,
        uses=[used for used in (uses_dataset, uses_snapshot) if used is not None],
        cursor=cursor,
        limit=limit,
    )
    return RunPage(items=[_run(item) for item in page.items], next_cursor=page.next_cursor)


@router.get("/evaluations/{run_id}", tags=["evaluations"], responses=problems(UnknownRun))
async def get_evaluation(run_id: str, service: Service) -> Run:
    """One run with its plan and progress."""
    return _run(await service.run(run_id))


@router.post(
    "/evaluations/{run_id}/{action}",
    status_code=202,
    tags=["evaluations"],
    responses=problems(UnknownRun, WrongState),
)
async def change_evaluation(
    run_id: str, action: Literal["cancel", "resume"], request: Request, service: Service
) -> Run:
    """`cancel` ends a run and keeps its samples; `resume` queues a failed or cancelled run again."""
    if action == "cancel":
        return _run(await service.cancel(run_id, client=client_of(request)))
    return _run(await service.resume(run_id))


@router.get(
    "/evaluations/{run_id}/samples",
    tags=["evaluations"],
    responses=problems(UnknownRun, InvalidCursor),
)
async def list_samples(run_id: str, service: Service, cursor: Cursor = None, limit: Limit = 50) -> SamplePage:
    """Finished samples, in the order in which they finished."""
    page = await service.samples(run_id, cursor=cursor, limit=limit)
    return SamplePage(
        items=[SampleRecord.model_validate(item) for item in page.items], next_cursor=page.next_cursor
    )


@router.get("/evaluations/{run_id}/blocks/{block}", tags=["evaluations"], responses=problems(UnknownBlock))
async def get_block(run_id: str, block: int, service: Service) -> Block:
    """One block of the sample log, as the event `assay.eval.samples.completed.v1` names it."""
    return Block.model_validate(await service.block(run_id, block))
