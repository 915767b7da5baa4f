"""What the routes have in common: the service, and parameters of lists."""

from typing import Annotated

from fastapi import Depends, Query, Request

from eval_svc.service import EvaluationService


def service_of(request: Request) -> EvaluationService:
    """The service that ``wiring`` put on the application."""
    service: EvaluationService = request.app.state.service
    return service


Service = Annotated[EvaluationService, Depends(service_of)]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before")]
Limit = Annotated[int, Query(ge=1, le=200)]
Search = Annotated[
    str | None,
    Query(
        min_length=1,
        max_length=200,
        pattern="^[^\\x00]+$",
        description="only those with this text in their name, in upper or lower case",
    ),
]
