"""Add/Replace Data: importing from the Hugging Face Hub, or uploading a JSON Lines file."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse
from starlette.datastructures import UploadFile

from assay.models import Dataset, Document, Fault, Ingest, Problem, Snapshot
from assay_console.gateway import ApiError, Gateway
from assay_console.pages import is_part, pages_of, path_of
from assay_console.sign_in import Api, EditorApi

IMPORTS_SHOWN = 10
FAULTS_SHOWN = 50
"""Faults of an upload that are listed; how many more there are stands below."""
_PIECE_BYTES = 1 << 18

_CHOICE = {"unknown-split": "split", "unknown-subset": "subset", "subset-needed": "subset"}
"""Failures whose hints are what could be asked for instead, and the field that takes one."""

_FIELD = {
    "unknown-repository": "repo_id",
    "gated-repository": "repo_id",
    "no-data-files": "repo_id",
    "unknown-revision": "revision",
    "no-rows": "split",
}
"""Failures that another value of this field may mend."""

router = APIRouter()


class SourceKind(StrEnum):
    """Where data can come from, as the API names it."""

    HUB = "huggingface"
    JSONL = "jsonl"


@router.get("/datasets/{dataset_id}/data", name="dataset_data")
async def data(
    request: Request,
    api: EditorApi,
    dataset_id: str,
    source: SourceKind = SourceKind.HUB,
    job: str = "",
    cursor: str = "",
) -> Response:
    """The form of one kind of source; with ``job`` an import, whose source fills the form."""
    found = await api.get(f"/v1/ingests/{job}", Ingest) if job else None
    if found is not None and found.state == "Succeeded":
        return RedirectResponse(_ready(request, dataset_id, found.snapshot_id), 303)
    asked = dict(found.source) if found else {"revision": "main"}
    # What a link offers in place of what the job asked for.
    asked |= {
        name: request.query_params[name]
        for name in ("repo_id", "subset", "split", "revision", "fewshot_split")
        if name in request.query_params
    }
    return await _data_page(request, api, dataset_id, source=source, asked=asked, job=found, cursor=cursor)


@router.post("/datasets/{dataset_id}/imports", name="dataset_import")
async def start_import(
    request: Request,
    api: EditorApi,
    dataset_id: str,
    repo_id: Annotated[str, Form(alias="source.repo_id")] = "",
    subset: Annotated[str, Form(alias="source.subset")] = "",
    split: Annotated[str, Form(alias="source.split")] = "",
    revision: Annotated[str, Form(alias="source.revision")] = "main",
    fewshot_split: Annotated[str, Form(alias="source.fewshot_split")] = "",
) -> Response:
    """Queue an import and show it, or show the form again with what is wrong."""
    asked = {
        "kind": SourceKind.HUB.value,
        "repo_id": repo_id.strip(),
        "subset": subset.strip() or None,
        "split": split.strip(),
        "revision": revision.strip() or "main",
        "fewshot_split": fewshot_split.strip() or None,
    }
    try:
        job = await api.post(f"/v1/datasets/{dataset_id}/ingests", Ingest, body={"source": asked})
    except ApiError as error:
        if not error.is_refusal or error.status == 404:
            raise
        return await _data_page(
            request, api, dataset_id, source=SourceKind.HUB, asked=asked, error=_worded(error)
        )
    target = path_of(request, "dataset_data", dataset_id=dataset_id, source=SourceKind.HUB.value, job=job.id)
    return RedirectResponse(target, 303)


@router.get("/datasets/{dataset_id}/imports/{job_id}", name="dataset_import_state")
async def import_state(
    request: Request, api: Api, dataset_id: str, job_id: str, reload: bool = False
) -> Response:
    """How far an import is; with ``reload``, the page that shows it gives way at its end."""
    job = await api.get(f"/v1/ingests/{job_id}", Ingest)
    if not is_part(request):
        target = path_of(
            request, "dataset_data", dataset_id=dataset_id, source=SourceKind.HUB.value, job=job_id
        )
        return RedirectResponse(target, 303)
    response = pages_of(request).page(
        request, "datasets/import_state.html", dataset_id=dataset_id, job=job, reload=reload, **_choices(job)
    )
    if reload and job.state == "Succeeded":
        response.headers["HX-Redirect"] = _ready(request, dataset_id, job.snapshot_id)
    elif reload and job.is_over:
        response.headers["HX-Refresh"] = "true"
    return response


@router.post("/datasets/{dataset_id}/imports/{job_id}/cancel", name="dataset_import_cancel")
async def cancel_import(request: Request, api: EditorApi, dataset_id: str, job_id: str) -> Response:
    """End an import and show how it ended; one that is over already stays as it is."""
    try:
        await api.post(f"/v1/ingests/{job_id}/cancel", Document)
    except ApiError as error:
        if error.status != 409:
            raise
    target = path_of(request, "dataset_data", dataset_id=dataset_id, source=SourceKind.HUB.value, job=job_id)
    return RedirectResponse(target, 303)


@router.post("/datasets/{dataset_id}/data", name="dataset_upload")
async def upload(
    request: Request, api: EditorApi, dataset_id: str, split: str = "test", filename: str = ""
) -> Response:
    """Pass a file on to the platform as it comes.

    Scripts send the file itself, to see how much has gone, and are answered with where to go or with a part
    of a page. Without scripts the browser sends a form.
    """
    try:
        if request.headers.get("content-type", "").startswith("multipart/form-data"):
            made = await _upload_form(request, api, dataset_id)
        else:
            made = await _send(api, dataset_id, request.stream(), split=split, filename=filename)
    except ApiError as error:
        if not error.is_refusal or error.status == 404:
            raise
        return await _upload_refused(request, api, dataset_id, error)
    target = _ready(request, dataset_id, made.id)
    if is_part(request):
        return JSONResponse({"location": target}, status_code=201)
    return RedirectResponse(target, 303)


def _ready(request: Request, dataset_id: str, snapshot_id: str | None) -> str:
    """The page of the dataset, which says that it is Ready where this snapshot is its current one."""
    return path_of(request, "dataset", dataset_id=dataset_id, uploaded=snapshot_id)


async def _upload_form(request: Request, api: Gateway, dataset_id: str) -> Snapshot:
    async with request.form(max_files=1, max_fields=10) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile) or not file.filename:
            fault = Fault(field="file", message="Choose a file.")
            raise ApiError(422, Problem(title="There is no file", errors=[fault]))
        return await _send(
            api,
            dataset_id,
            _pieces(file),
            split=str(form.get("split") or "test"),
            filename=file.filename,
        )


async def _send(
    api: Gateway, dataset_id: str, content: AsyncIterator[bytes], *, split: str, filename: str
) -> Snapshot:
    query = {"split": split.strip(), "filename": filename[-255:]}
    return await api.upload(f"/v1/datasets/{dataset_id}/data", Snapshot, content=content, query=query)


async def _pieces(file: UploadFile) -> AsyncIterator[bytes]:
    while piece := await file.read(_PIECE_BYTES):
        yield piece


async def _upload_refused(request: Request, api: Gateway, dataset_id: str, error: ApiError) -> Response:
    values = {"error": error, "faults_shown": FAULTS_SHOWN}
    if is_part(request):
        return pages_of(request).page(request, "datasets/upload_refused.html", status=error.status, **values)
    return await _data_page(
        request, api, dataset_id, source=SourceKind.JSONL, asked={"revision": "main"}, error=error
    )


async def _data_page(
    request: Request,
    api: Gateway,
    dataset_id: str,
    *,
    source: SourceKind,
    asked: Mapping[str, Any],
    job: Ingest | None = None,
    error: ApiError | None = None,
    cursor: str = "",
) -> Response:
    dataset, imports = await asyncio.gather(
        api.get(f"/v1/datasets/{dataset_id}", Dataset),
        api.page(f"/v1/datasets/{dataset_id}/ingests", Ingest, cursor=cursor, limit=IMPORTS_SHOWN),
    )
    return pages_of(request).page(
        request,
        "datasets/data.html",
        status=200 if error is None else error.status,
        dataset=dataset,
        dataset_id=dataset_id,
        source=source.value,
        asked=asked,
        job=job,
        imports=imports,
        cursor=cursor,
        error=error,
        faults_shown=FAULTS_SHOWN,
        import_error=_import_error(job),
        **(_choices(job) if job else {}),
    )


def _choices(job: Ingest) -> dict[str, Any]:
    """The field that a failed import should have had another value of, and the values there are."""
    error = job.error
    field = _CHOICE.get(error.code) if error else None
    hints = list(error.hints or ()) if error and field else []
    if field == "split" and job.source.get("split") in hints:
        field = "fewshot_split"
    return {"choice_field": field if hints else None, "choices": hints}


def _import_error(job: Ingest | None) -> ApiError | None:
    """The failure of an import as a fault of the field that may mend it; None where no field can."""
    if job is None or job.error is None:
        return None
    field = _choices(job)["choice_field"] or _FIELD.get(job.error.code)
    if field is None:
        return None
    fault = Fault(field=f"source.{field}", message=job.error.message)
    return ApiError(422, Problem(title="The import failed", errors=[fault]))


_WORDS = {
    "source.repo_id": "Write it as on the Hub: owner/name, or only a name.",
    "source.split": "Name one split: letters, digits, dots, dashes and underscores.",
    "source.fewshot_split": "Name one split: letters, digits, dots, dashes and underscores.",
    "source.subset": "A name without control characters.",
    "source.revision": "A branch, a tag or a commit.",
}


def _worded(error: ApiError) -> ApiError:
    """The same refusal; where a text has not the shape of a field, people are told the shape in words."""
    faults = [
        fault.model_copy(update={"message": _WORDS[fault.field or ""]})
        if fault.field in _WORDS and "match pattern" in fault.message
        else fault
        for fault in error.faults
    ]
    if not faults:
        return error
    problem = error.problem.model_copy(update={"errors": faults, "detail": "Mend the marked fields."})
    return ApiError(error.status, problem)
