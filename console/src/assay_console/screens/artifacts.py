"""Artifacts: the list, registering one, and one with its key and its runs."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Form, Request, Response
from fastapi.responses import RedirectResponse

from assay.models import Artifact, Backend, Fault, Page, Problem, Run
from assay_console.gateway import ApiError, Gateway
from assay_console.pages import pages_of, path_of
from assay_console.screens.assignments import BadLine, assignments
from assay_console.screens.name_search import name_search
from assay_console.sign_in import Api, EditorApi

router = APIRouter()

BACKENDS = ("gpu", "rngd", "cpu")
ENDPOINT = "endpoint"
_EMPTY: Mapping[str, str] = {
    "name": "",
    "model": "",
    "backend": "",
    "uri": "",
    "format": "",
    "sha256": "",
    "revision": "",
    "serving_parameters": "",
    "description": "",
}


@router.get("/artifacts", name="artifacts")
async def artifacts(request: Request, api: Api, name: str = "", cursor: str = "") -> Response:
    """The list, newest first, with what their backends say of themselves."""
    size = request.app.state.settings.page_size
    page, backends = await asyncio.gather(
        api.page("/v1/artifacts", Artifact, cursor=cursor, limit=size, query=name_search(name)),
        backends_of(api),
    )
    return pages_of(request).page(
        request,
        "artifacts/list.html",
        artifacts=page.items,
        next_cursor=page.next_cursor,
        name=name,
        cursor=cursor,
        healthy={backend.backend: backend.healthy for backend in backends},
    )


@router.get("/artifacts/new", name="artifact_new")
async def new(request: Request, api: EditorApi) -> Response:
    """The form of "Register Artifact"."""
    return _form(request, await backends_of(api), values=_EMPTY)


@router.post("/artifacts", name="artifact_create")
async def create(request: Request, api: EditorApi) -> Response:
    """Register it and go to it, or show the form again with what is wrong; the key is never shown again."""
    form = await request.form()
    values = {name: str(form.get(name, "")).strip() for name in _EMPTY}
    try:
        body = _registration(values, endpoint_key=str(form.get("endpoint_key", "")).strip())
        created = await api.post("/v1/artifacts", Artifact, body=body)
    except ApiError as error:
        # An adapter that does not answer is no reason to lose what was typed.
        if not error.is_refusal and error.status != 503:
            raise
        return _form(request, await backends_of(api), values=values, error=_of_fields(error))
    return RedirectResponse(path_of(request, "artifact", artifact_id=created.id), 303)


@router.get("/artifacts/{artifact_id}", name="artifact")
async def artifact(request: Request, api: Api, artifact_id: str, cursor: str = "", key: str = "") -> Response:
    """One artifact and a page of its runs; ``key=replaced`` tells that its key was."""
    return await _artifact(request, api, artifact_id, cursor=cursor, is_replaced=key == "replaced")


@router.post("/artifacts/{artifact_id}/endpoint-key", name="artifact_key")
async def replace_key(
    request: Request, api: EditorApi, artifact_id: str, endpoint_key: Annotated[str, Form()] = ""
) -> Response:
    """Give an endpoint another key."""
    try:
        await api.put(
            f"/v1/artifacts/{artifact_id}/endpoint-key", body={"endpoint_key": endpoint_key.strip()}
        )
    except ApiError as error:
        if not error.is_refusal or error.status == 404:
            raise
        return await _artifact(request, api, artifact_id, error=error)
    return RedirectResponse(path_of(request, "artifact", artifact_id=artifact_id, key="replaced"), 303)


async def backends_of(api: Gateway) -> Sequence[Backend]:
    """The serving adapters as they are now; none where nobody can say."""
    try:
        return (await api.get("/v1/backends", Page[Backend])).items
    except ApiError as error:
        if error.status == 401:
            raise
        return ()


async def _artifact(
    request: Request,
    api: Gateway,
    artifact_id: str,
    *,
    cursor: str = "",
    is_replaced: bool = False,
    error: ApiError | None = None,
) -> Response:
    size = request.app.state.settings.page_size
    found, runs, backends = await asyncio.gather(
        api.get(f"/v1/artifacts/{artifact_id}", Artifact),
        api.page("/v1/evaluations", Run, cursor=cursor, limit=size, query={"artifact_id": artifact_id}),
        backends_of(api),
    )
    return pages_of(request).page(
        request,
        "artifacts/detail.html",
        status=error.status if error else 200,
        artifact=found,
        backend=next((backend for backend in backends if backend.backend == found.backend), None),
        runs=runs.items,
        next_cursor=runs.next_cursor,
        cursor=cursor,
        is_endpoint=found.format == ENDPOINT,
        is_replaced=is_replaced,
        error=error,
    )


def _form(
    request: Request, backends: Sequence[Backend], *, values: Mapping[str, str], error: ApiError | None = None
) -> Response:
    known = {backend.backend: backend for backend in backends}
    names = [*known, *(name for name in BACKENDS if name not in known)]
    return pages_of(request).page(
        request,
        "artifacts/new.html",
        status=error.status if error else 200,
        values=values,
        error=error,
        backends=backends,
        backend_choices=[(name, _backend_text(name, known.get(name))) for name in names],
        formats=sorted(
            {one for backend in backends for one in backend.document().get("artifact_formats", ())}
        ),
    )


def _of_fields(error: ApiError) -> ApiError:
    """The same refusal, with what is wrong with single parameters at the field that holds them all."""
    own = "serving_parameters."
    inside = [fault for fault in error.faults if (fault.field or "").startswith(own)]
    if not inside:
        return error
    message = "; ".join(f"{(fault.field or '').removeprefix(own)}: {fault.message}" for fault in inside)
    others = [fault for fault in error.faults if fault not in inside]
    faults = [*others, Fault(message=message, field="serving_parameters")]
    return ApiError(error.status, error.problem.model_copy(update={"errors": faults}))


def _backend_text(name: str, backend: Backend | None) -> str:
    if backend is None:
        return f"{name} (no serving adapter is configured)"
    engine = f" – {backend.engine} {backend.engine_version or ''}".rstrip() if backend.engine else ""
    return f"{name}{engine}{'' if backend.healthy else ' (does not answer now)'}"


def _registration(values: Mapping[str, str], *, endpoint_key: str) -> dict[str, Any]:
    """The body of a registration; what was left empty is left to the platform. Raises ApiError."""
    body: dict[str, Any] = {name: value for name, value in values.items() if value}
    try:
        body["serving_parameters"] = assignments(values["serving_parameters"])
    except BadLine as error:
        problem = Problem(
            title="Something is wrong with the input",
            errors=[Fault(message=str(error), field="serving_parameters")],
        )
        raise ApiError(422, problem) from error
    required = {name: values[name] for name in ("name", "model", "backend", "uri")}
    return {**body, **required, **({"endpoint_key": endpoint_key} if endpoint_key else {})}
