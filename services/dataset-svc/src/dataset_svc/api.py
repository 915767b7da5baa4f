"""HTTP routes of dataset-svc."""

from collections.abc import AsyncIterator
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import ClientDisconnect

from assay_chassis.errors import Fault, InvalidRequest
from assay_chassis.web import PageModel, problems
from dataset_svc.domain import NAME_PATTERN, DatasetStatus
from dataset_svc.errors import (
    DatasetNotFound,
    InvalidUpload,
    NameTaken,
    SnapshotNotFound,
    UploadInterrupted,
    UploadTooLarge,
)
from dataset_svc.service import DatasetService

router = APIRouter(prefix="/v1")

Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before", max_length=200)]
Limit = Annotated[int, Query(ge=1, le=200)]
Name = Annotated[str, Field(pattern=NAME_PATTERN)]
DatasetId = Annotated[str, Path(max_length=100)]
SnapshotId = Annotated[str, Path(max_length=100)]

UPLOAD_RULES = """\
Replaces the dataset's current snapshot by the JSON Lines file in the body; the old snapshot stays readable.

- The body is the file itself (`curl --data-binary @questions.jsonl`), UTF-8, one JSON object on each line;
  blank lines are skipped.
- Types are inferred over the whole file. Text stays text. Whole numbers and numbers with a fraction in one
  column become `double`; any other mixture in a column is refused. A missing key is the same as `null`.
- Refused: a key that appears twice in an object, `NaN` and `Infinity`, whole numbers beyond 64 bits, escaped
  halves of surrogate pairs, and what passes the limits of size, line length, nesting and columns.
- A refusal lists up to 100 faults with line and column, and changes nothing.
- The same content again gives the snapshot that is there.
"""


class _Model(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class NewDataset(BaseModel):
    """A dataset to register."""

    model_config = ConfigDict(extra="forbid")

    name: Name = Field(examples=["capital-questions"])
    version: Name = "main"
    description: str = Field(default="", max_length=2000)


class ColumnModel(_Model):
    """One column of a snapshot."""

    name: str
    type: str = Field(description="string, int64, double, bool, list<...> or struct<name: ...>")
    nulls: int = Field(description="rows without a value")
    examples: list[str | int | float | bool] = Field(description="up to three different values")


class SourceModel(_Model):
    """The uploaded file."""

    kind: str
    filename: str
    sha256: str
    bytes: int


class SnapshotModel(_Model):
    """Immutable rows of a dataset."""

    id: str
    dataset_id: str
    dataset_name: str
    digest: str = Field(description="sha256 of the canonical Parquet file")
    rows: int
    bytes: int = Field(description="size of the canonical Parquet file")
    split: str
    columns: list[ColumnModel]
    source: SourceModel
    created_at: datetime


class DatasetModel(_Model):
    """A named entry of the registry."""

    id: str
    name: str
    version: str
    description: str
    status: DatasetStatus
    current_snapshot: SnapshotModel | None
    created_at: datetime


class DatasetPage(PageModel, _Model):
    """Datasets, newest first."""

    items: list[DatasetModel]


class SnapshotPage(PageModel, _Model):
    """Snapshots, newest first."""

    items: list[SnapshotModel]


class RowModel(BaseModel):
    """One row; ``index`` counts from 0."""

    index: int
    row: dict[str, Any]


class RowPageModel(BaseModel):
    """Some rows of a snapshot, in the order of the upload."""

    items: list[RowModel]
    total: int


def service_of(request: Request) -> DatasetService:
    """The service object that the application's lifespan has opened."""
    service: DatasetService = request.app.state.service
    return service


Service = Annotated[DatasetService, Depends(service_of)]


@router.post(
    "/datasets",
    status_code=201,
    tags=["datasets"],
    summary="Register a dataset",
    responses=problems(NameTaken),
)
async def create_dataset(body: NewDataset, service: Service) -> DatasetModel:
    """Register a named dataset. It is `Empty` until data is added."""
    dataset = await service.create_dataset(name=body.name, version=body.version, description=body.description)
    return DatasetModel.model_validate(dataset)


@router.get("/datasets", tags=["datasets"], summary="List datasets")
async def list_datasets(
    service: Service, name: str | None = None, cursor: Cursor = None, limit: Limit = 50
) -> DatasetPage:
    """Datasets, newest first; with `name`, those of exactly that name."""
    return DatasetPage.model_validate(await service.datasets(name=name, cursor=cursor, limit=limit))


@router.get(
    "/datasets/{dataset_id}", tags=["datasets"], summary="Get a dataset", responses=problems(DatasetNotFound)
)
async def get_dataset(dataset_id: DatasetId, service: Service) -> DatasetModel:
    """One dataset with its current snapshot."""
    return DatasetModel.model_validate(await service.dataset(dataset_id))


@router.post(
    "/datasets/{dataset_id}/data",
    status_code=201,
    tags=["datasets"],
    summary="Upload rows",
    description=UPLOAD_RULES,
    responses=problems(DatasetNotFound, UploadTooLarge, InvalidUpload, UploadInterrupted),
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/x-ndjson": {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def add_data(
    request: Request,
    dataset_id: DatasetId,
    service: Service,
    split: Annotated[str, Query(pattern=NAME_PATTERN, description="the split that the rows are")] = "test",
    filename: Annotated[str, Query(max_length=255, description="shown as the source")] = "",
) -> SnapshotModel:
    """See ``UPLOAD_RULES``."""
    body = upload_of(request)
    snapshot = await service.add_data(dataset_id, body, split=split, filename=filename)
    return SnapshotModel.model_validate(snapshot)


def upload_of(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces.

    Raises:
        InvalidRequest: it is a form or compressed. The iterator raises UploadInterrupted.
    """
    if request.headers.get("content-type", "").startswith("multipart/"):
        message = "send the file itself as the body, not as a form: curl --data-binary @file.jsonl"
        raise InvalidRequest(message, faults=[Fault(message=message, field="content-type")])
    if request.headers.get("content-encoding", "identity") != "identity":
        message = "send the file uncompressed"
        raise InvalidRequest(message, faults=[Fault(message=message, field="content-encoding")])
    return _stream(request)


async def _stream(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise UploadInterrupted("the connection ended before the body did. Nothing was changed.") from None


@router.get(
    "/datasets/{dataset_id}/snapshots",
    tags=["snapshots"],
    summary="List a dataset's snapshots",
    responses=problems(DatasetNotFound),
)
async def list_snapshots(
    dataset_id: DatasetId, service: Service, cursor: Cursor = None, limit: Limit = 50
) -> SnapshotPage:
    """Snapshots of the dataset, newest first."""
    return SnapshotPage.model_validate(await service.snapshots(dataset_id, cursor=cursor, limit=limit))


@router.get(
    "/snapshots/{snapshot_id}",
    tags=["snapshots"],
    summary="Get a snapshot",
    responses=problems(SnapshotNotFound),
)
async def get_snapshot(snapshot_id: SnapshotId, service: Service) -> SnapshotModel:
    """One snapshot."""
    return SnapshotModel.model_validate(await service.snapshot(snapshot_id))


@router.get(
    "/snapshots/{snapshot_id}/rows",
    tags=["snapshots"],
    summary="Look at rows",
    responses=problems(SnapshotNotFound),
)
async def list_rows(
    snapshot_id: SnapshotId,
    service: Service,
    offset: Annotated[int, Query(ge=0)] = 0,
    limit: Limit = 20,
) -> RowPageModel:
    """Rows in the order of the upload, from `offset` on."""
    page = await service.rows(snapshot_id, offset=offset, limit=limit)
    items = [RowModel(index=page.offset + place, row=row) for place, row in enumerate(page.items)]
    return RowPageModel(items=items, total=page.total)


@router.get(
    "/snapshots/{snapshot_id}/content.parquet",
    tags=["snapshots"],
    summary="Download a snapshot",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"application/vnd.apache.parquet": {}}, "description": "the canonical Parquet file"},
        **problems(SnapshotNotFound),
    },
)
async def get_content(snapshot_id: SnapshotId, service: Service) -> StreamingResponse:
    """The canonical Parquet file; its sha256 is the snapshot's digest."""
    content = await service.content(snapshot_id)
    headers = {
        "content-length": str(content.size),
        "content-disposition": f'attachment; filename="{snapshot_id}.parquet"',
        "etag": f'"{content.digest}"',
    }
    return StreamingResponse(content.chunks, media_type="application/vnd.apache.parquet", headers=headers)
