"""What several routes take."""

from typing import Annotated

from fastapi import Depends, Path, Query, Request

from dataset_svc.service import Services

Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before", max_length=200)]
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
DatasetId = Annotated[str, Path(max_length=100)]
SnapshotId = Annotated[str, Path(max_length=100)]


def services_of(request: Request) -> Services:
    """The services that the application's lifespan has opened."""
    services: Services = request.app.state.services
    return services


Opened = Annotated[Services, Depends(services_of)]
