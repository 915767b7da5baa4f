"""Deleting datasets and snapshots."""

from fastapi import APIRouter

from assay_chassis.errors import Unavailable
from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.web import problems
from dataset_svc.api.parameters import DatasetId, Opened, SnapshotId
from dataset_svc.errors import DatasetNotFound, SnapshotNotFound, UsedByRuns

router = APIRouter(route_class=GuardedRoute)


@router.delete(
    "/datasets/{dataset_id}",
    openapi_extra=needs(Role.EDITOR),
    status_code=204,
    tags=["datasets"],
    summary="Delete a dataset",
    responses=problems(DatasetNotFound, UsedByRuns, Unavailable),
)
async def delete_dataset(dataset_id: DatasetId, services: Opened) -> None:
    """Delete a dataset with all its snapshots. Refused, with the runs named, when a run refers to one."""
    await services.deletion.delete_dataset(dataset_id)


@router.delete(
    "/snapshots/{snapshot_id}",
    openapi_extra=needs(Role.EDITOR),
    status_code=204,
    tags=["snapshots"],
    summary="Delete a snapshot",
    responses=problems(SnapshotNotFound, UsedByRuns, Unavailable),
)
async def delete_snapshot(snapshot_id: SnapshotId, services: Opened) -> None:
    """Delete a snapshot that was replaced. Refused, with the runs named, when a run refers to it."""
    await services.deletion.delete_snapshot(snapshot_id)
