"""Metrics and samples of runs."""

from fastapi import APIRouter

from assay_chassis.errors import Unavailable
from assay_chassis.web import problems
from metrics_svc.api.parameters import Cursor, Limit, Service
from metrics_svc.api.samples import SampleList, Wanted
from metrics_svc.domain.runs import RunMetrics
from metrics_svc.errors import InvalidFilter, UnknownRun

router = APIRouter()


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
