"""Evaluation methods: the list, a method with its versions and a preview, and the form that defines one."""

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import RedirectResponse

from assay.models import Dataset, Form, Method, Page, Task, TaskPage, Template
from assay_console.gateway import ApiError, Gateway
from assay_console.pages import is_part, pages_of, path_of
from assay_console.roles import Role
from assay_console.screens.method_editor import (
    Editor,
    editor_of,
    fewshot_of,
    sent_values,
    with_preview,
)
from assay_console.screens.method_forms import (
    NUM_FEWSHOT,
    OFFSET,
    TASK,
    at_fields,
    mapped_columns,
    mapping_of,
)
from assay_console.screens.method_previews import ShownPreview, shown_preview
from assay_console.screens.name_search import name_search
from assay_console.sign_in import Api, EditorApi, require

router = APIRouter()

_SHOWN_TASKS = 20
_SHOWN_VERSIONS = 10
_BUILTIN = "builtin-lm-eval"


@dataclass(frozen=True, slots=True)
class VersionLine:
    """A version in the list of versions, and what differs from the one before."""

    method: Method
    changed: Sequence[str]


@router.get("/methods", name="methods")
async def methods(request: Request, api: Api, name: str = "", cursor: str = "") -> Response:
    """The list, newest first."""
    page, templates = await asyncio.gather(
        api.page(
            "/v1/methods",
            Method,
            cursor=cursor,
            limit=request.app.state.settings.page_size,
            query=name_search(name),
        ),
        _templates(api),
    )
    return pages_of(request).page(
        request,
        "methods/list.html",
        methods=page.items,
        next_cursor=page.next_cursor,
        templates=templates,
        name=name,
        cursor=cursor,
    )


@router.get("/methods/datasets", name="method_datasets")
async def datasets(
    request: Request, api: Api, method_id: str = "", purpose: str = "new", name: str = "", cursor: str = ""
) -> Response:
    """Choose the dataset: for a new method, or for a new version or a preview of ``method_id``."""
    if not method_id or purpose != "preview":
        require(request, Role.EDITOR)
    page = await api.page(
        "/v1/datasets",
        Dataset,
        cursor=cursor,
        limit=request.app.state.settings.page_size,
        query=name_search(name),
    )
    method = await api.get(f"/v1/methods/{method_id}", Method) if method_id else None
    return pages_of(request).page(
        request,
        "methods/datasets.html",
        datasets=page.items,
        next_cursor=page.next_cursor,
        method=method,
        purpose=purpose,
        name=name,
        cursor=cursor,
    )


@router.get("/methods/new", name="method_new")
async def new(request: Request, api: EditorApi, dataset_id: str = "") -> Response:
    """The form of "Create Evaluation Method"; what the address names stands in its fields."""
    if not dataset_id:
        return RedirectResponse(path_of(request, "method_datasets"), 303)
    return await _edit(request, api, None)


@router.post("/methods/new", name="method_create")
async def create(request: Request, api: EditorApi) -> Response:
    """Define it and go to it, or show the form again with what is wrong."""
    values = await sent_values(request)
    editor = await editor_of(api, values)
    try:
        created = await api.post("/v1/methods", Method, body=editor.body())
    except ApiError as error:
        return await _refused(request, api, values, error=error)
    target = path_of(request, "method", method_id=created.id, dataset_id=editor.dataset_id)
    return RedirectResponse(target, 303)


@router.post("/methods/preview", name="method_preview")
async def preview(request: Request, api: EditorApi) -> Response:
    """A row as the form's recipe would ask it: a part, or the whole page for browsers without scripts."""
    values = await sent_values(request)
    method_id = values.get("method_id", "")
    method = await api.get(f"/v1/methods/{method_id}", Method) if method_id else None
    editor = await with_preview(api, await editor_of(api, values, method=method))
    template = "methods/preview_result.html" if is_part(request) else "methods/edit.html"
    return pages_of(request).page(request, template, editor=editor)


@router.get("/methods/task", name="method_task")
async def task_card(request: Request, api: EditorApi) -> Response:
    """What the named task is, and where its columns are found in the rows: a part of the form."""
    values = await sent_values(request)
    editor = await editor_of(api, values | {"template": _BUILTIN})
    return pages_of(request).page(request, "methods/task_part.html", editor=editor)


@router.get("/methods/tasks", name="method_tasks")
async def tasks(
    request: Request,
    api: EditorApi,
    task: str = Query(default="", alias=TASK, max_length=200),
    dataset_id: str = "",
) -> Response:
    """Tasks to choose from, with the reason of those that cannot run: a part of the form."""
    text = task.strip()
    found = TaskPage(items=[])
    candidates: Sequence[Any] = ()
    if text:
        found = await api.get("/v1/tasks", TaskPage, query={"query": text, "limit": _SHOWN_TASKS})
    else:
        query = {"dataset_id": dataset_id, "template": _BUILTIN}
        form = await api.get("/v1/methods/form", Form, query=query)
        candidates = next((one.choices for one in form.ui.fields if one.path == TASK), ())
    return pages_of(request).page(
        request,
        "methods/tasks_part.html",
        tasks=found.items,
        suggestions=found.suggestions,
        candidates=candidates,
        sought=text,
    )


@router.get("/methods/{method_id}", name="method")
async def method_page(
    request: Request,
    api: Api,
    method_id: str,
    version: int | None = Query(default=None, ge=1),
    before: int | None = Query(default=None, ge=1),
    dataset_id: str = "",
    row: int = Query(default=0, ge=0),
    num_fewshot: str = "",
) -> Response:
    """The recipe of a version, the versions, and a row of a dataset as it is asked."""
    newest = await api.get(f"/v1/methods/{method_id}", Method)
    if version is None or version == newest.version:
        method = newest
    else:
        method = await api.get(f"/v1/methods/{method_id}/versions/{version}", Method)
    last = min(newest.version, before - 1 if before else newest.version)
    versions, templates, task, offered, (shown, preview_error) = await asyncio.gather(
        _versions(api, newest, last=last),
        _templates(api),
        _task(api, method),
        api.page("/v1/datasets", Dataset, limit=request.app.state.settings.page_size),
        _preview_on(api, method, dataset_id=dataset_id, row=row, num_fewshot=num_fewshot),
    )
    return pages_of(request).page(
        request,
        "methods/detail.html",
        method=method,
        newest=newest,
        versions=versions,
        older=versions[-1].method.version if versions and versions[-1].method.version > 1 else None,
        kind=templates.get(str(method.recipe.get("template"))),
        task=task,
        datasets=[one for one in offered.items if one.current_snapshot is not None],
        has_more_datasets=offered.next_cursor is not None,
        dataset_id=dataset_id,
        num_fewshot=num_fewshot,
        shown=shown,
        preview_error=preview_error,
    )


@router.get("/methods/{method_id}/versions/new", name="method_version_new")
async def version_new(request: Request, api: EditorApi, method_id: str, dataset_id: str = "") -> Response:
    """The form with what the newest version says."""
    if not dataset_id:
        target = path_of(request, "method_datasets", method_id=method_id, purpose="version")
        return RedirectResponse(target, 303)
    return await _edit(request, api, await api.get(f"/v1/methods/{method_id}", Method))


@router.post("/methods/{method_id}/versions/new", name="method_version_create")
async def version_create(request: Request, api: EditorApi, method_id: str) -> Response:
    """Add the version and go to it, or show the form again with what is wrong."""
    values = await sent_values(request)
    method = await api.get(f"/v1/methods/{method_id}", Method)
    editor = await editor_of(api, values, method=method)
    body = {key: value for key, value in editor.body().items() if key != "name"}
    try:
        created = await api.post(f"/v1/methods/{method_id}/versions", Method, body=body)
    except ApiError as error:
        return await _refused(request, api, values, method=method, error=error)
    unchanged = "yes" if created.version == method.version else None
    target = path_of(
        request, "method", method_id=method_id, dataset_id=editor.dataset_id, unchanged=unchanged
    )
    return RedirectResponse(target, 303)


async def _edit(request: Request, api: Gateway, method: Method | None) -> Response:
    """The page of the form, or the form alone where another template was chosen on it."""
    values = await sent_values(request)
    try:
        editor = await editor_of(api, values, method=method)
    except ApiError as error:
        if not any(fault.field == "dataset_id" for fault in error.faults):
            raise
        # There are no rows to make a form for; a dataset that does not exist is told as such.
        dataset = await api.get(f"/v1/datasets/{values['dataset_id']}", Dataset)
        return pages_of(request).page(
            request, "methods/no_rows.html", status=error.status, dataset=dataset, error=error
        )
    if not is_part(request):
        return pages_of(request).page(request, "methods/edit.html", editor=editor)
    answer = pages_of(request).page(request, "methods/editor_part.html", editor=editor)
    answer.headers["HX-Replace-Url"] = _address(request, editor)
    return answer


async def _refused(
    request: Request,
    api: Gateway,
    values: Mapping[str, str],
    *,
    error: ApiError,
    method: Method | None = None,
) -> Response:
    if not error.is_refusal:
        raise error
    editor = await editor_of(api, values, method=method, error=error)
    return pages_of(request).page(request, "methods/edit.html", status=error.status, editor=editor)


def _address(request: Request, editor: Editor) -> str:
    """Where the same form is found again."""
    template = editor.form.template
    if editor.method is None:
        return path_of(request, "method_new", dataset_id=editor.dataset_id, template=template)
    return path_of(
        request,
        "method_version_new",
        method_id=editor.method.id,
        dataset_id=editor.dataset_id,
        template=template,
    )


async def _templates(api: Gateway) -> Mapping[str, Template]:
    return {one.name: one for one in (await api.get("/v1/templates", Page[Template])).items}


async def _task(api: Gateway, method: Method) -> Task | None:
    """The task of a built-in method, if lm-eval still has it."""
    if "task" not in method.recipe:
        return None
    try:
        return await api.get(f"/v1/tasks/{method.recipe['task']}", Task)
    except ApiError as error:
        if error.status == 404:
            return None
        raise


async def _versions(api: Gateway, newest: Method, *, last: int) -> Sequence[VersionLine]:
    """Versions from ``last`` downwards, as many as fit on a page."""
    numbers = range(last, max(0, last - _SHOWN_VERSIONS - 1), -1)
    found = await asyncio.gather(
        *(api.get(f"/v1/methods/{newest.id}/versions/{number}", Method) for number in numbers)
    )
    lines = [VersionLine(one, _changed(one, before)) for one, before in itertools.pairwise(found)]
    if found and found[-1].version == 1:
        lines.append(VersionLine(found[-1], ()))
    return lines[:_SHOWN_VERSIONS]


def _changed(method: Method, before: Method) -> Sequence[str]:
    """The names of what differs."""
    names = dict.fromkeys((*before.recipe, *method.recipe))
    changed = [name for name in names if before.recipe.get(name) != method.recipe.get(name)]
    return [*changed, *(("description",) if before.description != method.description else ())]


async def _preview_on(
    api: Gateway, method: Method, *, dataset_id: str, row: int, num_fewshot: str
) -> tuple[ShownPreview | None, ApiError | None]:
    """A row of the dataset as the version asks it, or why it cannot."""
    if not dataset_id:
        return None, None
    body: dict[str, Any] = {"dataset_id": dataset_id, **fewshot_of(num_fewshot)}
    try:
        if "task" in method.recipe:
            query = {"dataset_id": dataset_id, "template": _BUILTIN, "task": str(method.recipe["task"])}
            form = await api.get("/v1/methods/form", Form, query=query)
            body["column_mapping"] = mapping_of(mapped_columns(form, {}))
        path = f"/v1/methods/{method.id}/preview"
        return await shown_preview(api, path, body, offset=row, version=method.version), None
    except ApiError as error:
        if not error.is_refusal:
            raise
        return None, at_fields(error, [NUM_FEWSHOT, OFFSET])
