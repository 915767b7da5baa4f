"""Comparisons of runs."""

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from assay_chassis.errors import Unavailable
from assay_chassis.web import PageModel, client_of, problems
from metrics_svc.api.parameters import Cursor, Limit, Metric, Service
from metrics_svc.domain.comparison import Flip
from metrics_svc.errors import (
    NotComparable,
    RunNotFinal,
    UnknownComparison,
    UnknownMetric,
    UnknownRun,
)
from metrics_svc.service.comparisons import ComparedItem, Comparison

router = APIRouter()


class ComparisonList(PageModel):
    """A page of comparisons."""

    items: list[Comparison]


class ComparedItemList(PageModel):
    """A page of paired items."""

    items: list[ComparedItem]


class ComparisonRequest(BaseModel):
    """Two runs with final metrics."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    baseline_run_id: str = Field(min_length=1, description="the run that the other one is judged against")
    candidate_run_id: str = Field(min_length=1)


@router.post(
    "/v1/comparisons",
    tags=["comparisons"],
    status_code=201,
    responses={
        **problems(UnknownRun, RunNotFinal, NotComparable, Unavailable),
        200: {"model": Comparison, "description": "these two runs were compared before"},
    },
)
async def create_comparison(
    body: ComparisonRequest, service: Service, request: Request, response: Response
) -> Comparison:
    """Compare two Succeeded runs item by item. The same two runs always give the same comparison."""
    created = await service.comparisons.create(
        baseline_run_id=body.baseline_run_id,
        candidate_run_id=body.candidate_run_id,
        client=client_of(request),
    )
    response.status_code = 201 if created.is_new else 200
    return created.comparison


@router.get("/v1/comparisons", tags=["comparisons"])
async def list_comparisons(service: Service, *, cursor: Cursor = None, limit: Limit = 50) -> ComparisonList:
    """Comparisons, newest first."""
    page = await service.comparisons.page(cursor=cursor, limit=limit)
    return ComparisonList(items=page.items, next_cursor=page.next_cursor)


@router.get("/v1/comparisons/{comparison_id}", tags=["comparisons"], responses=problems(UnknownComparison))
async def get_comparison(comparison_id: str, service: Service) -> Comparison:
    """One comparison."""
    return await service.comparisons.get(comparison_id)


@router.get(
    "/v1/comparisons/{comparison_id}/items",
    tags=["comparisons"],
    responses=problems(UnknownComparison, UnknownMetric),
)
async def list_comparison_items(
    comparison_id: str,
    service: Service,
    *,
    metric: Metric = None,
    flip: Annotated[Flip | None, Query(description="only items with which this happened")] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> ComparedItemList:
    """Paired items with both responses, in the order of the baseline's documents."""
    page = await service.comparisons.items(
        comparison_id, metric=metric, flip=flip, cursor=cursor, limit=limit
    )
    return ComparedItemList(items=page.items, next_cursor=page.next_cursor)
