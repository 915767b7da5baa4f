"""Metrics and samples of runs."""

from fastapi import APIRouter

from assay_chassis.errors import Unavailable
from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.web import problems
from metrics_svc.api.parameters import Cursor, Limit, Service
from metrics_svc.api.samples import SampleList, Wanted, sample_list
from metrics_svc.domain.runs import RunMetrics
from metrics_svc.errors import InvalidFilter, UnknownRun

router = APIRouter(route_class=GuardedRoute)


@router.get(
    "/v1/metrics/runs/{run_id}",
    openapi_extra=needs(Role.VIEWER),
    tags=["runs"],
    responses=problems(UnknownRun, Unavailable),
)
async def get_run_metrics(run_id: str, service: Service) -> RunMetrics:
    """Quality and runtime metrics of a run: final, or of the samples so far while it is being scored."""
    return await service.runs.metrics(run_id)


@router.get(
    "/v1/metrics/runs/{run_id}/samples",
    openapi_extra=needs(Role.VIEWER),
    tags=["runs"],
    responses=problems(UnknownRun, InvalidFilter, Unavailable),
)
async def list_samples(
    run_id: str, service: Service, wanted: Wanted, *, cursor: Cursor = None, limit: Limit = 50
) -> SampleList:
    """Scored samples in the order in which they were finished."""
    page = await service.runs.samples(run_id, wanted=wanted, cursor=cursor, limit=limit)
    return sample_list(page)
