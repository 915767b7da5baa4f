"""Statistics, downloads as JSON Lines, and differences."""

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from assay_chassis.errors import InvalidRequest
from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.web import problems
from dataset_svc.api.parameters import Limit, Opened, SnapshotId
from dataset_svc.domain.diffs import RowChange
from dataset_svc.errors import SnapshotNotFound, StorageFull

router = APIRouter(route_class=GuardedRoute, tags=["snapshots"])


class _Model(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class QuantilesModel(_Model):
    """Lengths: characters of text, items of lists. Exact up to 65,535, within 1 % above that."""

    minimum: int
    p25: int
    median: int
    p75: int
    p95: int
    p99: int
    maximum: int


class ColumnStatisticsModel(_Model):
    """What was counted in a column."""

    name: str
    type: str
    nulls: int = Field(description="rows without a value")
    distinct: int | None = Field(description="different values, exact; null above 1,000 and for nested types")
    lengths: QuantilesModel | None = Field(description="of texts and lists")
    minimum: int | float | None = Field(description="smallest number")
    maximum: int | float | None = Field(description="largest number")


class StatisticsModel(_Model):
    """What was counted in a snapshot."""

    rows: int
    bytes: int = Field(description="size of the canonical Parquet file")
    duplicate_rows: int = Field(description="rows that are the same as an earlier one in all columns")
    columns: list[ColumnStatisticsModel]


class TypeChangeModel(_Model):
    """A column of both snapshots that has another type."""

    name: str
    before: str
    after: str


class ColumnChangesModel(_Model):
    """What differs in the columns."""

    added: list[str]
    removed: list[str]
    retyped: list[TypeChangeModel]


class RowDifferenceModel(_Model):
    """A row that differs. Rows are counted from 0; `before` is the older snapshot."""

    change: RowChange
    index_before: int | None
    index_after: int | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class DiffModel(_Model):
    """What differs, in numbers, and a page of the rows."""

    added: int
    removed: int
    changed: int = Field(description="rows of the same key with other values; 0 without a key")
    unchanged: int
    columns: ColumnChangesModel
    items: list[RowDifferenceModel]
    total: int = Field(description="rows that all pages list together")


@router.get(
    "/snapshots/{snapshot_id}/statistics",
    openapi_extra=needs(Role.VIEWER),
    summary="Count what is in a snapshot",
    responses=problems(SnapshotNotFound, StorageFull),
)
async def get_statistics(snapshot_id: SnapshotId, services: Opened) -> StatisticsModel:
    """Counted at the first request, which takes seconds for a large snapshot; kept from then on."""
    return StatisticsModel.model_validate(await services.analysis.statistics(snapshot_id))


@router.get(
    "/snapshots/{snapshot_id}/content.jsonl",
    openapi_extra=needs(Role.VIEWER),
    summary="Download a snapshot as JSON Lines",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/x-ndjson": {}}, "description": "one JSON object on each line"},
        **problems(SnapshotNotFound, StorageFull),
    },
)
async def get_json_lines(snapshot_id: SnapshotId, services: Opened) -> StreamingResponse:
    """The rows in order, every column on each line. Uploaded again, they give the same rows."""
    lines = await services.analysis.json_lines(snapshot_id)
    headers = {
        "content-disposition": f'attachment; filename="{snapshot_id}.jsonl"',
        "etag": f'"{lines.digest}-jsonl"',
    }
    return StreamingResponse(lines.chunks, media_type="application/x-ndjson", headers=headers)


@router.get(
    "/snapshots/{snapshot_id}/diff",
    openapi_extra=needs(Role.VIEWER),
    summary="Compare two snapshots",
    responses=problems(SnapshotNotFound, InvalidRequest, StorageFull),
)
async def get_diff(
    snapshot_id: SnapshotId,
    services: Opened,
    against: Annotated[str, Query(max_length=100, description="the older snapshot")],
    key: Annotated[
        str | None, Query(max_length=200, description="column of text or whole numbers that names the rows")
    ] = None,
    change: Annotated[RowChange | None, Query(description="list only these rows")] = None,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Limit = 20,
) -> DiffModel:
    """Rows added, removed and changed since the snapshot `against`.

    With `key`, rows of the same key are the same row. Without one, rows are matched by content: a row that
    occurs three times here and once there was added twice, and nothing is `changed`.
    """
    page = await services.analysis.diff(
        snapshot_id, against=against, key=key, change=change, offset=offset, limit=limit
    )
    return DiffModel.model_validate(page)
