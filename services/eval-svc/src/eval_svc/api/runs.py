"""Routes of plans, runs and what they keep."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import PlainTextResponse

from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.web import client_of, problems
from eval_svc.api.documents import Block, PlanAnswer, Run, RunPage, SamplePage
from eval_svc.api.parameters import Cursor, Limit, Search, Service
from eval_svc.domain import RunFilter, RunRequest, RunState, SampleRecord
from eval_svc.errors import (
    IdempotencyKeyReused,
    InvalidCursor,
    InvalidPlan,
    UnknownArtifact,
    UnknownBlock,
    UnknownInstanceLog,
    UnknownRun,
    WrongState,
)
from eval_svc.service import quality_of
from eval_svc.usage import without_series

router = APIRouter(route_class=GuardedRoute, prefix="/v1")

USES = "runs that read this {}: as evaluated rows, as few-shot rows, or for a member of a group"


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


@router.post(
    "/evaluations/plan",
    openapi_extra=needs(Role.VIEWER),
    tags=["evaluations"],
    responses=problems(UnknownArtifact, InvalidPlan),
)
async def plan_evaluation(body: RunRequest, service: Service) -> PlanAnswer:
    """What this request would run, after all checks, and what it can show; starts nothing."""
    return PlanAnswer.model_validate(await service.preview(body))


@router.post(
    "/evaluations",
    openapi_extra=needs(Role.EDITOR),
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


@router.get("/evaluations", openapi_extra=needs(Role.VIEWER), tags=["evaluations"])
async def list_evaluations(
    service: Service,
    name: str | None = None,
    search: Search = None,
    state: RunState | None = None,
    dataset_id: str | None = None,
    artifact_id: str | None = None,
    uses_dataset: Annotated[str | None, Query(description=USES.format("dataset"))] = None,
    uses_snapshot: Annotated[str | None, Query(description=USES.format("snapshot"))] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> RunPage:
    """Runs, newest first. Filters add up: a run is listed if it satisfies all of them.

    The `series` of power sensors and the `members` of groups' plans are left out; a single run has them.
    """
    wanted = RunFilter(
        name=name,
        search=search,
        state=state,
        dataset_id=dataset_id,
        artifact_id=artifact_id,
        uses=[used for used in (uses_dataset, uses_snapshot) if used is not None],
    )
    page = await service.runs(wanted, cursor=cursor, limit=limit)
    return RunPage(items=[_run(_in_a_list(item)) for item in page.items], next_cursor=page.next_cursor)


def _in_a_list(run: Mapping[str, Any]) -> dict[str, Any]:
    """What is large and nobody reads in a list (a group's members: 57 kB of MMLU's 97) is left out."""
    return {**without_series(run), "plan": {**run["plan"], "members": None}}


@router.get(
    "/evaluations/{run_id}",
    openapi_extra=needs(Role.VIEWER),
    tags=["evaluations"],
    responses=problems(UnknownRun),
)
async def get_evaluation(run_id: str, service: Service) -> Run:
    """One run with its plan and progress."""
    return _run(await service.run(run_id))


@router.post(
    "/evaluations/{run_id}/{action}",
    openapi_extra=needs(Role.EDITOR),
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
    openapi_extra=needs(Role.VIEWER),
    tags=["evaluations"],
    responses=problems(UnknownRun, InvalidCursor),
)
async def list_samples(run_id: str, service: Service, cursor: Cursor = None, limit: Limit = 50) -> SamplePage:
    """Finished samples, in the order in which they finished."""
    page = await service.samples(run_id, cursor=cursor, limit=limit)
    return SamplePage(
        items=[SampleRecord.model_validate(item) for item in page.items], next_cursor=page.next_cursor
    )


@router.get(
    "/evaluations/{run_id}/blocks/{block}",
    openapi_extra=needs(Role.VIEWER),
    tags=["evaluations"],
    responses=problems(UnknownBlock),
)
async def get_block(run_id: str, block: int, service: Service) -> Block:
    """One block of the sample log, as the event `assay.eval.samples.completed.v1` names it."""
    return Block.model_validate(await service.block(run_id, block))


@router.get(
    "/evaluations/{run_id}/logs",
    openapi_extra=needs(Role.VIEWER),
    tags=["evaluations"],
    response_class=PlainTextResponse,
    responses=problems(UnknownRun, UnknownInstanceLog),
)
async def get_logs(
    run_id: str,
    service: Service,
    instance_id: Annotated[str | None, Query(description="of one serving instance; else of all")] = None,
) -> PlainTextResponse:
    """What the engines have logged: the last 256 KiB of every serving instance that has ended."""
    return PlainTextResponse(await service.logs(run_id, instance_id=instance_id))
