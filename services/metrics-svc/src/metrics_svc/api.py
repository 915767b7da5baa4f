"""Routes of metrics-svc."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from assay_chassis.errors import Unavailable
from assay_chassis.web import PageModel, client_of, problems
from assay_harness.spec import Scoring
from metrics_svc.domain.comparison import Flip
from metrics_svc.domain.runs import RunMetrics
from metrics_svc.errors import (
    InvalidFilter,
    InvalidScoring,
    NotComparable,
    RunNotFinal,
    UnknownComparison,
    UnknownMetric,
    UnknownRun,
    UnknownScoring,
)
from metrics_svc.service import MetricsService
from metrics_svc.service.comparisons import ComparedItem, Comparison
from metrics_svc.service.samples import SampleFilter, SampleItem
from metrics_svc.service.scorings import ScoredView

router = APIRouter()


class SampleList(PageModel):
    """A page of scored samples."""

    items: list[SampleItem]


class ComparisonList(PageModel):
    """A page of comparisons."""

    items: list[Comparison]


class ComparedItemList(PageModel):
    """A page of paired items."""

    items: list[ComparedItem]


class ScoringList(PageModel):
    """A page of scored views."""

    items: list[ScoredView]


class ScoringRequest(BaseModel):
    """A finished run and how to score its responses."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    run_id: str = Field(min_length=1)
    name: str | None = Field(default=None, min_length=1, max_length=200, description="for people to read")
    scoring: Scoring


class ComparisonRequest(BaseModel):
    """Two runs with final metrics."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    baseline_run_id: str = Field(min_length=1, description="the run that the other one is judged against")
    candidate_run_id: str = Field(min_length=1)


def _service(request: Request) -> MetricsService:
    service: MetricsService = request.app.state.service
    return service


Service = Annotated[MetricsService, Depends(_service)]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before")]
Limit = Annotated[int, Query(ge=1, le=200)]
Metric = Annotated[str | None, Query(description="`<task>.<metric>,<filter>`, with a value per sample")]


def _sample_filter(
    task: Annotated[str | None, Query(description="only samples of this task of a group")] = None,
    metric: Metric = None,
    correct: Annotated[
        bool | None, Query(description="only right, or only wrong samples by `metric`")
    ] = None,
) -> SampleFilter:
    return SampleFilter(task=task, metric=metric, correct=correct)


Wanted = Annotated[SampleFilter, Depends(_sample_filter)]


@router.get("/v1/metrics/runs/{run_id}", tags=["runs"], responses=problems(UnknownRun, Unavailable))
async def get_run_metrics(run_id: str, service: Service) -> RunMetrics:
    """Quality and runtime metrics of a run: final, or of the samples so far while it is being scored."""
    return await service.runs.metrics(run_id)


@router.get(
    "/v1/metrics/runs/{run_id}/samples",
    tags=["runs"],
    responses=problems(UnknownRun, InvalidFilter, Unavailable),
)
async def list_samples(
    run_id: str, service: Service, wanted: Wanted, *, cursor: Cursor = None, limit: Limit = 50
) -> SampleList:
    """Scored samples in the order in which they were finished."""
    page = await service.runs.samples(run_id, wanted=wanted, cursor=cursor, limit=limit)
    return SampleList(items=page.items, next_cursor=page.next_cursor)


@router.post(
    "/v1/scorings",
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


@router.get("/v1/scorings", tags=["scorings"])
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


@router.get("/v1/scorings/{scoring_id}", tags=["scorings"], responses=problems(UnknownScoring))
async def get_scoring(scoring_id: str, service: Service) -> ScoredView:
    """One scored view with its metrics."""
    return await service.scorings.get(scoring_id)


@router.get(
    "/v1/scorings/{scoring_id}/samples",
    tags=["scorings"],
    responses=problems(UnknownScoring, InvalidFilter, UnknownMetric),
)
async def list_scoring_samples(
    scoring_id: str, service: Service, wanted: Wanted, *, cursor: Cursor = None, limit: Limit = 50
) -> SampleList:
    """Samples as this view scores them, in the order in which they were finished."""
    page = await service.scorings.samples(scoring_id, wanted=wanted, cursor=cursor, limit=limit)
    return SampleList(items=page.items, next_cursor=page.next_cursor)


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
