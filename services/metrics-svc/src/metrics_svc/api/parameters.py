"""What the routes have in common: the service behind them and the parameters of lists."""

from typing import Annotated

from fastapi import Depends, Query, Request

from metrics_svc.service import MetricsService


def _service(request: Request) -> MetricsService:
    service: MetricsService = request.app.state.service
    return service


Service = Annotated[MetricsService, Depends(_service)]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before")]
Limit = Annotated[int, Query(ge=1, le=200)]
Metric = Annotated[str | None, Query(description="`<task>.<metric>,<filter>`, with a value per sample")]
