"""Metrics of one method over time."""

from typing import Annotated

from fastapi import APIRouter, Query

from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.web import PageModel, problems
from metrics_svc.api.parameters import Cursor, Limit, Service
from metrics_svc.errors import InvalidFilter, UnknownMetric
from metrics_svc.service.trends import TrendFilter, TrendPoint

router = APIRouter(route_class=GuardedRoute)

_TIME = "a time with its zone, or a date in UTC; included"
Name = Annotated[str | None, Query(min_length=1, max_length=500)]


class TrendList(PageModel):
    """A page of points, oldest first."""

    items: list[TrendPoint]


@router.get(
    "/v1/trends",
    openapi_extra=needs(Role.VIEWER),
    tags=["trends"],
    responses=problems(InvalidFilter, UnknownMetric),
)
async def list_trend(
    method_id: Annotated[str, Query(min_length=1, description="the method, all its versions")],
    service: Service,
    *,
    metric: Annotated[
        str | None,
        Query(description="`<task>.<metric>,<filter>`; the first one of each run if none is named"),
    ] = None,
    dataset_id: Name = None,
    artifact_id: Name = None,
    since: Annotated[str | None, Query(description=_TIME)] = None,
    until: Annotated[str | None, Query(description=_TIME)] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> TrendList:
    """The final runs of a method with one quality metric and all runtime metrics, oldest first."""
    wanted = TrendFilter(
        method_id=method_id,
        metric=metric,
        dataset_id=dataset_id,
        artifact_id=artifact_id,
        since=since,
        until=until,
    )
    page = await service.trends.page(wanted, cursor=cursor, limit=limit)
    return TrendList(items=page.items, next_cursor=page.next_cursor)
