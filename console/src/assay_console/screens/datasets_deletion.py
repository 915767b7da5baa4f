"""Deleting datasets and snapshots: a page that asks first, and says what is in the way."""

import asyncio
from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from assay.models import Dataset, Page, Run, Snapshot
from assay_console.gateway import ApiError, Gateway
from assay_console.pages import pages_of, path_of
from assay_console.screens.datasets_snapshots import dataset_name
from assay_console.sign_in import EditorApi

RUNS_NAMED = 10
"""Runs that are named where they keep something from being deleted."""

router = APIRouter()


@router.get("/datasets/{dataset_id}/delete", name="dataset_delete")
async def ask_for_dataset(request: Request, api: EditorApi, dataset_id: str) -> Response:
    """What would be deleted, and which runs refer to it."""
    return await _dataset_page(request, api, dataset_id)


@router.post("/datasets/{dataset_id}/delete", name="dataset_delete_confirmed")
async def delete_dataset(request: Request, api: EditorApi, dataset_id: str) -> Response:
    """Delete it and go to the list, or show why that is refused."""
    error = await _refusal_of(api, f"/v1/datasets/{dataset_id}")
    if error is not None:
        return await _dataset_page(request, api, dataset_id, error=error)
    return RedirectResponse(path_of(request, "datasets"), 303)


@router.get("/datasets/snapshots/{snapshot_id}/delete", name="snapshot_delete")
async def ask_for_snapshot(request: Request, api: EditorApi, snapshot_id: str) -> Response:
    """What would be deleted, and which runs refer to it."""
    return await _snapshot_page(request, api, snapshot_id)


@router.post("/datasets/snapshots/{snapshot_id}/delete", name="snapshot_delete_confirmed")
async def delete_snapshot(request: Request, api: EditorApi, snapshot_id: str) -> Response:
    """Delete it and go to its dataset, or show why that is refused."""
    found = await api.get(f"/v1/snapshots/{snapshot_id}", Snapshot)
    error = await _refusal_of(api, f"/v1/snapshots/{snapshot_id}")
    if error is not None:
        return await _snapshot_page(request, api, snapshot_id, error=error)
    return RedirectResponse(path_of(request, "dataset", dataset_id=found.dataset_id), 303)


async def _refusal_of(api: Gateway, path: str) -> ApiError | None:
    """Delete; the error where the platform refuses, unless there is nothing to delete."""
    try:
        await api.delete(path)
    except ApiError as error:
        if not error.is_refusal or error.status == 404:
            raise
        return error
    return None


async def _dataset_page(
    request: Request, api: Gateway, dataset_id: str, *, error: ApiError | None = None
) -> Response:
    found, runs = await asyncio.gather(
        api.get(f"/v1/datasets/{dataset_id}", Dataset),
        api.page("/v1/evaluations", Run, limit=RUNS_NAMED, query={"uses_dataset": dataset_id}),
    )
    home = path_of(request, "dataset", dataset_id=found.id)
    return _page(
        request,
        what=f"dataset {found.name}",
        text="The dataset is deleted with all its snapshots. This cannot be undone.",
        trail=[(found.name, home)],
        back=home,
        runs=runs,
        error=error,
    )


async def _snapshot_page(
    request: Request, api: Gateway, snapshot_id: str, *, error: ApiError | None = None
) -> Response:
    found, runs = await asyncio.gather(
        api.get(f"/v1/snapshots/{snapshot_id}", Snapshot),
        api.page("/v1/evaluations", Run, limit=RUNS_NAMED, query={"uses_snapshot": snapshot_id}),
    )
    here = path_of(request, "snapshot", snapshot_id=found.id)
    return _page(
        request,
        what=f"snapshot {found.digest[:12]}",
        text=f"The snapshot is deleted with its {found.rows:,} rows. This cannot be undone.",
        trail=[
            (dataset_name(found), path_of(request, "dataset", dataset_id=found.dataset_id)),
            (f"Snapshot {found.digest[:12]}", here),
        ],
        back=here,
        runs=runs,
        error=error,
    )


def _page(
    request: Request,
    *,
    what: str,
    text: str,
    trail: Sequence[tuple[str, str]],
    back: str,
    runs: Page[Run],
    error: ApiError | None,
) -> Response:
    return pages_of(request).page(
        request,
        "datasets/delete.html",
        status=200 if error is None else error.status,
        what=what,
        text=text,
        trail=[("Datasets", path_of(request, "datasets")), *trail],
        back=back,
        runs=runs,
        error=error,
    )
