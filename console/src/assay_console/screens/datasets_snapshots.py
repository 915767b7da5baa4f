"""Snapshots of datasets: rows, statistics, downloads, what differs between two."""

import asyncio
import re
from enum import StrEnum
from typing import Annotated

from fastapi import APIRouter, Request, Response
from fastapi import Query as FromQuery

from assay.models import Dataset, Page, Row, Snapshot, SnapshotDifference, SnapshotStatistics
from assay_console.downloads import download
from assay_console.gateway import ApiError, Gateway, Query
from assay_console.pages import is_part, pages_of
from assay_console.screens.datasets_rows import RowWindow, shown_difference, whole, window
from assay_console.sign_in import Api

ROWS_SHOWN = 20
"""Rows on one page."""

router = APIRouter()


class ContentFormat(StrEnum):
    """The files that a snapshot can be downloaded as."""

    JSONL = "jsonl"
    PARQUET = "parquet"


@router.get("/datasets/snapshots/{snapshot_id}", name="snapshot")
async def snapshot(
    request: Request, api: Api, snapshot_id: str, offset: Annotated[int, FromQuery(ge=0)] = 0
) -> Response:
    """One snapshot, current or not, with a page of its rows."""
    found = await api.get(f"/v1/snapshots/{snapshot_id}", Snapshot)
    dataset, rows = await asyncio.gather(
        api.get(f"/v1/datasets/{found.dataset_id}", Dataset), rows_of(api, found, offset=offset)
    )
    return pages_of(request).page(
        request, "datasets/snapshot.html", dataset=dataset, snapshot=found, rows=rows
    )


@router.get("/datasets/snapshots/{snapshot_id}/rows/{index}", name="snapshot_row")
async def row(request: Request, api: Api, snapshot_id: str, index: int) -> Response:
    """One row, whole."""
    found, page = await asyncio.gather(
        api.get(f"/v1/snapshots/{snapshot_id}", Snapshot),
        api.get(f"/v1/snapshots/{snapshot_id}/rows", Page[Row], query={"offset": max(index, 0), "limit": 1}),
    )
    values = page.items[0].row if page.items else None
    fields = (
        None
        if values is None
        else [
            (column.name, column.type, values.get(column.name), whole(values.get(column.name)))
            for column in found.columns
        ]
    )
    return pages_of(request).page(
        request,
        "datasets/row_page.html",
        status=200 if fields is not None else 404,
        snapshot=found,
        index=index,
        fields=fields,
        page_offset=index - index % ROWS_SHOWN,
    )


@router.get("/datasets/snapshots/{snapshot_id}/statistics", name="snapshot_statistics")
async def statistics(request: Request, api: Api, snapshot_id: str) -> Response:
    """What was counted in the rows: a part of a snapshot's page, or a page of its own."""
    counted, found = await asyncio.gather(
        api.get(f"/v1/snapshots/{snapshot_id}/statistics", SnapshotStatistics),
        api.get(f"/v1/snapshots/{snapshot_id}", Snapshot),
    )
    template = "datasets/statistics.html" if is_part(request) else "datasets/statistics_page.html"
    return pages_of(request).page(request, template, statistics=counted, snapshot=found)


@router.get("/datasets/snapshots/{snapshot_id}/content.{file_format}", name="snapshot_content")
async def content(api: Api, snapshot_id: str, file_format: ContentFormat) -> Response:
    """The file, as it comes from the platform."""
    found = await api.get(f"/v1/snapshots/{snapshot_id}", Snapshot)
    name = f"{dataset_name(found)}-{found.split}-{found.digest[:12]}.{file_format}"
    return await download(api, f"/v1/snapshots/{snapshot_id}/content.{file_format}", filename=name)


@router.get("/datasets/{dataset_id}/differences", name="dataset_differences")
async def differences(
    request: Request,
    api: Api,
    dataset_id: str,
    before: str,
    after: str,
    key: str = "",
    change: str = "",
    offset: Annotated[int, FromQuery(ge=0)] = 0,
) -> Response:
    """How the snapshot ``after`` differs from ``before``; rows of one ``key`` are the same row."""
    dataset, old, new = await asyncio.gather(
        api.get(f"/v1/datasets/{dataset_id}", Dataset),
        api.get(f"/v1/snapshots/{before}", Snapshot),
        api.get(f"/v1/snapshots/{after}", Snapshot),
    )
    query: Query = {"against": before, "key": key, "change": change, "offset": offset, "limit": ROWS_SHOWN}
    error: ApiError | None = None
    found: SnapshotDifference | None = None
    try:
        found = await api.get(f"/v1/snapshots/{after}/diff", SnapshotDifference, query=query)
    except ApiError as refused:
        if not refused.is_refusal:
            raise
        error = refused
    return pages_of(request).page(
        request,
        "datasets/differences.html",
        status=200 if error is None else error.status,
        dataset=dataset,
        before=old,
        after=new,
        key=key,
        keys=_possible_keys(old, new),
        change=change,
        offset=offset,
        limit=ROWS_SHOWN,
        difference=found,
        items=[shown_difference(item) for item in found.items] if found else [],
        error=error,
    )


async def rows_of(api: Gateway, snapshot: Snapshot | None, *, offset: int) -> RowWindow | None:
    """A page of a snapshot's rows, each with the values of all columns; None where there is no snapshot."""
    if snapshot is None:
        return None
    query = {"offset": offset, "limit": ROWS_SHOWN}
    page = await api.get(f"/v1/snapshots/{snapshot.id}/rows", Page[Row], query=query)
    return window(page.items, columns=snapshot.columns, offset=offset, limit=ROWS_SHOWN, total=snapshot.rows)


def _possible_keys(before: Snapshot, after: Snapshot) -> list[str]:
    """Columns of both whose type can name a row: text and whole numbers."""
    others = {column.name for column in before.columns}
    return [
        column.name
        for column in after.columns
        if column.name in others and (column.type == "string" or re.fullmatch(r"u?int\d+", column.type))
    ]


def dataset_name(snapshot: Snapshot) -> str:
    """The name of the dataset that the snapshot belongs to."""
    return str((snapshot.model_extra or {}).get("dataset_name", snapshot.dataset_id))
