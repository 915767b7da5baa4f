"""Uploading rows."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.requests import ClientDisconnect

from assay_chassis.errors import Fault, InvalidRequest
from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import Role
from assay_chassis.web import problems
from dataset_svc.api.models import SnapshotModel
from dataset_svc.api.parameters import DatasetId, Opened
from dataset_svc.compression import compression_of
from dataset_svc.domain.snapshots import NAME_PATTERN
from dataset_svc.errors import (
    DatasetNotFound,
    InvalidUpload,
    StorageFull,
    UploadInterrupted,
    UploadTooLarge,
)
from dataset_svc.service.uploads import Upload

router = APIRouter(route_class=GuardedRoute, tags=["datasets"])

UPLOAD_RULES = """\
Replaces the dataset's current snapshot by the JSON Lines file in the body; the old snapshot stays readable.

- The body is the file itself (`curl --data-binary @questions.jsonl`), UTF-8, one JSON object on each line;
  blank lines are skipped. It may be compressed, told by `Content-Encoding: gzip` or `zstd`, or by a
  `filename` that ends in `.gz` or `.zst`.
- Types are inferred over the whole file. Text stays text. Whole numbers and numbers with a fraction in one
  column become `double`; any other mixture in a column is refused. A missing key is the same as `null`.
- Refused: a key that appears twice in an object, `NaN` and `Infinity`, whole numbers beyond 64 bits, escaped
  halves of surrogate pairs, and what passes the limits of size, line length, nesting and columns.
- A refusal lists up to 100 faults with line and column, and changes nothing.
- The same content again gives the snapshot that is there.
"""


@router.post(
    "/datasets/{dataset_id}/data",
    status_code=201,
    summary="Upload rows",
    description=UPLOAD_RULES,
    responses=problems(DatasetNotFound, UploadTooLarge, InvalidUpload, UploadInterrupted, StorageFull),
    openapi_extra=needs(
        Role.EDITOR,
        requestBody={
            "required": True,
            "content": {"application/x-ndjson": {"schema": {"type": "string", "format": "binary"}}},
        },
    ),
)
async def add_data(
    request: Request,
    dataset_id: DatasetId,
    services: Opened,
    split: Annotated[str, Query(pattern=NAME_PATTERN, description="the split that the rows are")] = "test",
    filename: Annotated[str, Query(max_length=255, description="shown as the source")] = "",
) -> SnapshotModel:
    """See ``UPLOAD_RULES``."""
    body = upload_of(request)
    encoding = request.headers.get("content-encoding", "")
    upload = Upload(
        filename=filename, compression=compression_of(content_encoding=encoding, filename=filename)
    )
    snapshot = await services.uploads.add_data(dataset_id, body, upload=upload, split=split)
    return SnapshotModel.model_validate(snapshot)


def upload_of(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces.

    Raises:
        InvalidRequest: it is a form. The iterator raises UploadInterrupted.
    """
    if request.headers.get("content-type", "").startswith("multipart/"):
        message = "send the file itself as the body, not as a form: curl --data-binary @file.jsonl"
        raise InvalidRequest(message, faults=[Fault(message=message, field="content-type")])
    return _stream(request)


async def _stream(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            yield chunk
    except ClientDisconnect:
        raise UploadInterrupted("the connection ended before the body did. Nothing was changed.") from None
