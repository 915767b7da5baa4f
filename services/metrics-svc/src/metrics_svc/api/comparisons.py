"""Comparisons of runs."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from assay_chassis.errors import Unavailable
from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.web import PageModel, client_of, problems
from assay_evidence.comparison import Flip
from assay_evidence.report import ComparisonSettings, FlipClass
from metrics_svc.api.parameters import Cursor, Limit, Metric, Service
from metrics_svc.errors import (
    InvalidFilter,
    RepeatedRun,
    RunNotFinal,
    UnknownColumn,
    UnknownComparison,
    UnknownMetric,
    UnknownRun,
)
from metrics_svc.service.comparisons import Comparison, ComparisonInputs
from metrics_svc.service.items import ComparedItem, ItemFilter

router = APIRouter(route_class=GuardedRoute)

MOST_CANDIDATES = 20


class ComparisonList(PageModel):
    """A page of comparisons."""

    items: list[Comparison]


class ComparedItemList(PageModel):
    """A page of paired items."""

    items: list[ComparedItem]


class ComparisonRequest(BaseModel):
    """Final runs and how to compare them. Every run may be named by a scored view of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    baseline_run_id: str = Field(min_length=1, description="the run that the others are compared with")
    candidate_run_ids: list[Annotated[str, Field(min_length=1)]] = Field(
        min_length=1, max_length=MOST_CANDIDATES
    )
    noise_floor_run_id: str | None = Field(
        default=None, min_length=1, description="a second run of the baseline's artifact"
    )
    margin: float = Field(default=0.02, gt=0, lt=1, description="of every metric, in its own unit")
    alpha: float = Field(default=0.05, gt=0, lt=0.5, description="one-sided error")
    coverage_floor: float = Field(
        default=0.99, ge=0, le=1, description="share of the larger run that must be paired"
    )
    cluster_column: str | None = Field(
        default=None, min_length=1, max_length=200, description="column whose equal values form a cluster"
    )

    def inputs(self) -> ComparisonInputs:
        """What the comparison is a function of."""
        return ComparisonInputs(
            baseline=self.baseline_run_id,
            candidates=tuple(self.candidate_run_ids),
            noise_floor=self.noise_floor_run_id,
            settings=ComparisonSettings(
                margin=self.margin,
                alpha=self.alpha,
                coverage_floor=self.coverage_floor,
                cluster_column=self.cluster_column,
            ),
        )


def _item_filter(
    candidate: Annotated[
        str | None, Query(description="run or scored view of a candidate; the first one if not given")
    ] = None,
    metric: Metric = None,
    flip: Annotated[Flip | None, Query(description="only items with which this happened")] = None,
    flip_class: Annotated[
        FlipClass | None, Query(description="only items that flipped for this reason")
    ] = None,
) -> ItemFilter:
    return ItemFilter(candidate=candidate, metric=metric, flip=flip, flip_class=flip_class)


@router.post(
    "/v1/comparisons",
    openapi_extra=needs(Role.EDITOR),
    tags=["comparisons"],
    status_code=201,
    responses={
        **problems(UnknownRun, RunNotFinal, RepeatedRun, UnknownColumn, Unavailable),
        200: {"model": Comparison, "description": "these runs were compared in this way before"},
    },
)
async def create_comparison(
    body: ComparisonRequest, service: Service, request: Request, response: Response
) -> Comparison:
    """Compare one or more Succeeded runs with a baseline, item by item.

    Runs that do not answer the same questions are not refused: the comparison is stored with `valid: false`
    and the findings that say why. The same request always gives the same comparison.
    """
    kept = await service.comparisons.create(body.inputs(), client=client_of(request))
    response.status_code = 201 if kept.is_new else 200
    return kept.comparison


@router.get("/v1/comparisons", openapi_extra=needs(Role.VIEWER), tags=["comparisons"])
async def list_comparisons(service: Service, *, cursor: Cursor = None, limit: Limit = 50) -> ComparisonList:
    """Comparisons, newest first."""
    page = await service.comparisons.page(cursor=cursor, limit=limit)
    return ComparisonList(items=page.items, next_cursor=page.next_cursor)


@router.get(
    "/v1/comparisons/{comparison_id}",
    openapi_extra=needs(Role.VIEWER),
    tags=["comparisons"],
    responses=problems(UnknownComparison),
)
async def get_comparison(comparison_id: str, service: Service) -> Comparison:
    """One comparison."""
    return await service.comparisons.get(comparison_id)


@router.get(
    "/v1/comparisons/{comparison_id}/items",
    openapi_extra=needs(Role.VIEWER),
    tags=["comparisons"],
    responses=problems(UnknownComparison, UnknownMetric, InvalidFilter),
)
async def list_comparison_items(
    comparison_id: str,
    service: Service,
    wanted: Annotated[ItemFilter, Depends(_item_filter)],
    *,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> ComparedItemList:
    """Paired items with both responses, in the order of the baseline's documents."""
    page = await service.items.page(comparison_id, wanted=wanted, cursor=cursor, limit=limit)
    return ComparedItemList(items=page.items, next_cursor=page.next_cursor)
