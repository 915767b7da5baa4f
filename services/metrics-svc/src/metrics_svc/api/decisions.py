"""Decisions and their evidence."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from assay_chassis.errors import Unavailable
from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.web import PageModel, client_of, problems
from assay_evidence.decision import Verdict
from metrics_svc.api.parameters import Cursor, Limit, Service
from metrics_svc.errors import (
    EvidenceTooLarge,
    RepeatedRun,
    RunNotFinal,
    UnknownColumn,
    UnknownDecision,
    UnknownPolicy,
    UnknownRun,
)
from metrics_svc.service.decisions import Decision, DecisionInputs

router = APIRouter(route_class=GuardedRoute, tags=["decisions"])


class DecisionRequest(BaseModel):
    """Two final runs and the policy that judges. Every run may be named by a scored view of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    baseline_run_id: str = Field(min_length=1, description="what the candidate is to replace")
    candidate_run_id: str = Field(min_length=1)
    policy: str = Field(
        default="default", min_length=1, description="`name` (latest version), `name@version` or identifier"
    )
    noise_floor_run_id: str | None = Field(
        default=None, min_length=1, description="a second run of the baseline's artifact"
    )
    cluster_column: str | None = Field(
        default=None, min_length=1, max_length=200, description="column whose equal values form a cluster"
    )


class DecisionList(PageModel):
    """A page of decisions."""

    items: list[Decision]


@router.post(
    "/v1/decisions",
    openapi_extra=needs(Role.EDITOR),
    status_code=201,
    responses={
        **problems(
            UnknownRun, UnknownPolicy, RunNotFinal, RepeatedRun, UnknownColumn, EvidenceTooLarge, Unavailable
        ),
        200: {"model": Decision, "description": "this was decided before"},
    },
)
async def create_decision(
    body: DecisionRequest, service: Service, request: Request, response: Response
) -> Decision:
    """Judge a candidate by a policy: ACCEPT, REJECT or INCONCLUSIVE, with every reason.

    The same runs and the same version of the policy always give the same decision, which is kept for good.
    """
    made = await service.decisions.create(
        DecisionInputs(
            baseline=body.baseline_run_id,
            candidate=body.candidate_run_id,
            policy=body.policy,
            noise_floor=body.noise_floor_run_id,
            cluster_column=body.cluster_column,
        ),
        client=client_of(request),
    )
    response.status_code = 201 if made.is_new else 200
    return made.decision


@router.get("/v1/decisions", openapi_extra=needs(Role.VIEWER))
async def list_decisions(
    service: Service,
    *,
    candidate_run_id: Annotated[str | None, Query(description="only decisions on this run")] = None,
    verdict: Verdict | None = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> DecisionList:
    """Decisions, newest first."""
    page = await service.decisions.page(
        candidate_run_id=candidate_run_id, verdict=verdict, cursor=cursor, limit=limit
    )
    return DecisionList(items=page.items, next_cursor=page.next_cursor)


@router.get(
    "/v1/decisions/{decision_id}", openapi_extra=needs(Role.VIEWER), responses=problems(UnknownDecision)
)
async def get_decision(decision_id: str, service: Service) -> Decision:
    """One decision."""
    return await service.decisions.get(decision_id)


@router.get(
    "/v1/decisions/{decision_id}/bundle",
    openapi_extra=needs(Role.VIEWER),
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/zip": {"schema": {"type": "string", "format": "binary"}}}},
        **problems(UnknownDecision, Unavailable),
    },
)
async def get_bundle(decision_id: str, service: Service) -> StreamingResponse:
    """The evidence of a decision in one file, always with the same bytes.

    `assay verify bundle FILE --digest DIGEST` recomputes the verdict from it, offline.
    """
    bundle = await service.decisions.bundle(decision_id)
    headers = {
        "content-length": str(bundle.size),
        "content-disposition": f'attachment; filename="{decision_id}.zip"',
        "etag": f'"{bundle.digest}"',
    }
    return StreamingResponse(bundle.chunks, media_type="application/zip", headers=headers)
