"""Snapshots, their rows and their files."""

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import StreamingResponse

from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.web import problems
from dataset_svc.api.models import RowModel, RowPageModel, SnapshotModel, SnapshotPage
from dataset_svc.api.parameters import Cursor, DatasetId, Limit, Opened, SnapshotId
from dataset_svc.errors import DatasetNotFound, SnapshotNotFound

router = APIRouter(route_class=GuardedRoute, tags=["snapshots"])


@router.get(
    "/datasets/{dataset_id}/snapshots",
    openapi_extra=needs(Role.VIEWER),
    summary="List a dataset's snapshots",
    responses=problems(DatasetNotFound),
)
async def list_snapshots(
    dataset_id: DatasetId, services: Opened, cursor: Cursor = None, limit: Limit = 50
) -> SnapshotPage:
    """Snapshots of the dataset, newest first."""
    return SnapshotPage.model_validate(
        await services.snapshots.snapshots(dataset_id, cursor=cursor, limit=limit)
    )


@router.get(
    "/snapshots/{snapshot_id}",
    openapi_extra=needs(Role.VIEWER),
    summary="Get a snapshot",
    responses=problems(SnapshotNotFound),
)
async def get_snapshot(snapshot_id: SnapshotId, services: Opened) -> SnapshotModel:
    """One snapshot."""
    return SnapshotModel.model_validate(await services.snapshots.snapshot(snapshot_id))


@router.get(
    "/snapshots/{snapshot_id}/rows",
    openapi_extra=needs(Role.VIEWER),
    summary="Look at rows",
    responses=problems(SnapshotNotFound),
)
async def list_rows(
    snapshot_id: SnapshotId,
    services: Opened,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Limit = 20,
) -> RowPageModel:
    """Rows in the order of the upload, from `offset` on."""
    page = await services.snapshots.rows(snapshot_id, offset=offset, limit=limit)
    items = [RowModel(index=page.offset + place, row=row) for place, row in enumerate(page.items)]
    return RowPageModel(items=items, total=page.total)


@router.get(
    "/snapshots/{snapshot_id}/content.parquet",
    openapi_extra=needs(Role.VIEWER),
    summary="Download a snapshot",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/vnd.apache.parquet": {}}, "description": "the canonical Parquet file"},
        **problems(SnapshotNotFound),
    },
)
async def get_content(snapshot_id: SnapshotId, services: Opened) -> StreamingResponse:
    """The canonical Parquet file; its sha256 is the snapshot's digest."""
    content = await services.snapshots.content(snapshot_id)
    headers = {
        "content-length": str(content.size),
        "content-disposition": f'attachment; filename="{snapshot_id}.parquet"',
        "etag": f'"{content.digest}"',
    }
    return StreamingResponse(content.chunks, media_type="application/vnd.apache.parquet", headers=headers)
