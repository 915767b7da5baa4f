"""Other scorings of finished runs."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from assay_chassis.errors import Unavailable
from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.web import PageModel, client_of, problems
from assay_harness.spec import Scoring
from metrics_svc.api.parameters import Cursor, Limit, Service
from metrics_svc.api.samples import SampleList, Wanted, sample_list
from metrics_svc.errors import (
    InvalidFilter,
    InvalidScoring,
    RunNotFinal,
    UnknownMetric,
    UnknownRun,
    UnknownScoring,
)
from metrics_svc.service.scorings import ScoredView

router = APIRouter(route_class=GuardedRoute)


class ScoringList(PageModel):
    """A page of scored views."""

    items: list[ScoredView]


class ScoringRequest(BaseModel):
    """A finished run and how to score its responses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str = Field(min_length=1)
    name: str | None = Field(default=None, min_length=1, max_length=200, description="for people to read")
    scoring: Scoring


@router.post(
    "/v1/scorings",
    openapi_extra=needs(Role.EDITOR),
    tags=["scorings"],
    status_code=202,
    responses={
        **problems(UnknownRun, RunNotFinal, InvalidScoring, Unavailable),
        200: {"model": ScoredView, "description": "this scoring of this run was asked for before"},
    },
)
async def create_scoring(
    body: ScoringRequest, service: Service, request: Request, response: Response
) -> ScoredView:
    """Score the responses of a finished run in another way; nothing is generated again.

    The same scoring of the same run is the same view. One that has failed is tried again.
    """
    created = await service.scorings.create(
        run_id=body.run_id, scoring=body.scoring, name=body.name, client=client_of(request)
    )
    response.status_code = 202 if created.is_new else 200
    return created.view


@router.get("/v1/scorings", openapi_extra=needs(Role.VIEWER), tags=["scorings"])
async def list_scorings(
    run_id: Annotated[str, Query(description="the run whose samples are scored")],
    service: Service,
    *,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> ScoringList:
    """The scored views of a run, newest first, without the run's own scoring."""
    page = await service.scorings.page(run_id, cursor=cursor, limit=limit)
    return ScoringList(items=page.items, next_cursor=page.next_cursor)


@router.get(
    "/v1/scorings/{scoring_id}",
    openapi_extra=needs(Role.VIEWER),
    tags=["scorings"],
    responses=problems(UnknownScoring),
)
async def get_scoring(scoring_id: str, service: Service) -> ScoredView:
    """One scored view with its metrics."""
    return await service.scorings.get(scoring_id)


@router.get(
    "/v1/scorings/{scoring_id}/samples",
    openapi_extra=needs(Role.VIEWER),
    tags=["scorings"],
    responses=problems(UnknownScoring, InvalidFilter, UnknownMetric),
)
async def list_scoring_samples(
    scoring_id: str, service: Service, wanted: Wanted, *, cursor: Cursor = None, limit: Limit = 50
) -> SampleList:
    """Samples as this view scores them, in the order in which they were finished."""
    page = await service.scorings.samples(scoring_id, wanted=wanted, cursor=cursor, limit=limit)
    return sample_list(page)
