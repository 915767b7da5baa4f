"""Datasets: the list, creating one, and what one has now."""

import asyncio
from typing import Annotated

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from assay.models import Dataset, Ingest, Snapshot
from assay_console.gateway import ApiError, Gateway
from assay_console.pages import is_part, pages_of, path_of
from assay_console.screens import datasets_data, datasets_deletion, datasets_methods, datasets_snapshots
from assay_console.screens.datasets_snapshots import ROWS_SHOWN, rows_of
from assay_console.screens.name_search import name_search
from assay_console.sign_in import Api, EditorApi

# Snapshots first: /datasets/snapshots/... is no dataset.
_PARTS = (datasets_snapshots, datasets_data, datasets_methods, datasets_deletion)

router = APIRouter(routes=[route for part in _PARTS for route in part.router.routes])


@router.get("/datasets", name="datasets")
async def datasets(request: Request, api: Api, name: str = "", cursor: str = "") -> Response:
    """The list, newest first; with a name, the datasets that have it in theirs."""
    page = await api.page(
        "/v1/datasets",
        Dataset,
        cursor=cursor,
        limit=request.app.state.settings.page_size,
        query=name_search(name),
    )
    return pages_of(request).page(
        request,
        "datasets/list.html",
        datasets=page.items,
        next_cursor=page.next_cursor,
        name=name,
        cursor=cursor,
    )


@router.get("/datasets/new", name="dataset_new")
async def new(request: Request, _: EditorApi) -> Response:
    """The form of "Create Dataset"."""
    return pages_of(request).page(
        request, "datasets/new.html", error=None, values={"name": "", "version": "main", "description": ""}
    )


@router.post("/datasets", name="dataset_create")
async def create(
    request: Request,
    api: EditorApi,
    name: Annotated[str, Form()] = "",
    version: Annotated[str, Form()] = "main",
    description: Annotated[str, Form()] = "",
) -> Response:
    """Create it and go to it, or show the form again with what is wrong."""
    values = {"name": name.strip(), "version": version.strip(), "description": description}
    try:
        created = await api.post("/v1/datasets", Dataset, body=values)
    except ApiError as error:
        if not error.is_refusal:
            raise
        return pages_of(request).page(
            request, "datasets/new.html", status=error.status, error=error, values=values
        )
    return RedirectResponse(path_of(request, "dataset", dataset_id=created.id), 303)


@router.get("/datasets/{dataset_id}", name="dataset")
async def dataset(
    request: Request,
    api: Api,
    dataset_id: str,
    offset: Annotated[int, Query(ge=0)] = 0,
    snapshots: str = "",
    uploaded: str = "",
) -> Response:
    """What the dataset has now: a page of its rows from ``offset`` on, and of its snapshots."""
    found = await api.get(f"/v1/datasets/{dataset_id}", Dataset)
    current = found.current_snapshot
    history, job, rows = await asyncio.gather(
        api.page(f"/v1/datasets/{dataset_id}/snapshots", Snapshot, cursor=snapshots, limit=ROWS_SHOWN),
        _import_to_tell_of(api, found),
        rows_of(api, current, offset=offset),
    )
    return pages_of(request).page(
        request,
        "datasets/info.html",
        dataset=found,
        snapshot=current,
        rows=rows,
        history=history,
        history_cursor=snapshots,
        job=job,
        was_uploaded=current is not None and uploaded == current.id,
    )


@router.get("/datasets/{dataset_id}/row", name="dataset_row")
async def row(request: Request, api: Api, dataset_id: str) -> Response:
    """The dataset's row in the list, which asks again while an import runs."""
    try:
        found = await api.get(f"/v1/datasets/{dataset_id}", Dataset)
    except ApiError as error:
        if error.status == 401 or not is_part(request):
            raise
        # A part of a table: what else tells of errors would not be a row.
        return pages_of(request).page(request, "datasets/row_missing.html", error=error)
    return pages_of(request).page(request, "datasets/row.html", dataset=found)


async def _import_to_tell_of(api: Gateway, found: Dataset) -> Ingest | None:
    """The import that runs, or the last one where it failed and nothing newer came since."""
    latest = found.latest_ingest
    if latest is None or latest["state"] in ("Succeeded", "Cancelled"):
        return None
    current = found.current_snapshot
    is_answered = current is not None and (latest["finished_at"] or "~") < current.created_at
    if latest["state"] == "Failed" and is_answered:
        return None
    return await api.get(f"/v1/ingests/{latest['id']}", Ingest)
