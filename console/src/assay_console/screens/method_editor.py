"""The form of a method with its preview: what it is drawn from, for a new method and for a new version."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fastapi import Request

from assay.models import Fault, Form, Method, Problem
from assay_console.gateway import ApiError, Gateway
from assay_console.screens.method_forms import (
    MAPPING_PREFIX,
    NUM_FEWSHOT,
    OFFSET,
    TASK,
    TEMPLATE,
    DrawnField,
    MappedColumn,
    at_fields,
    body_of,
    drawn_fields,
    is_required,
    key_of,
    mapped_columns,
    mapping_of,
)
from assay_console.screens.method_previews import ShownPreview, shown_preview

Values = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Editor:
    """What the page of the form shows.

    Attributes:
        form: the API's form.
        dataset_id: whose rows it is for.
        method: the method that gets a new version; ``None`` for a new method.
        fields, advanced: what is drawn, and what is folded away.
        columns: for a task, where its columns are found in the rows.
        values: what the browser sent.
        error: why the platform refused to define it, or does not know the task.
        task_error: why the form is one without the task that was named.
        preview: a row as it would be asked; ``None`` where there is none (yet).
        preview_error: why not.
        waiting_for: labels of the fields that a preview needs first.
    """

    form: Form
    dataset_id: str
    method: Method | None
    fields: Sequence[DrawnField]
    advanced: Sequence[DrawnField]
    columns: Sequence[MappedColumn]
    values: Values
    error: ApiError | None = None
    task_error: ApiError | None = None
    preview: ShownPreview | None = None
    preview_error: ApiError | None = None
    waiting_for: Sequence[str] = ()

    @property
    def paths(self) -> Sequence[str]:
        """Every field of the page at which a fault can stand."""
        own = [one.path for one in (*self.fields, *self.advanced)]
        return [*own, *(one.path for one in self.columns), NUM_FEWSHOT, OFFSET]

    @property
    def has_advanced_fault(self) -> bool:
        """Whether the folded part has to be open."""
        return any(one.fault for one in self.advanced)

    @property
    def has_task_fault(self) -> bool:
        """Whether there is no form for the task that was named."""
        return self.task_error is not None

    @property
    def preview_faults(self) -> Mapping[str, str]:
        """What keeps the preview from being shown, by the key of the field; mapped columns share one."""
        found: dict[str, list[str]] = {}
        for fault in self.preview_error.faults if self.preview_error else ():
            is_mapping = (fault.field or "").startswith(MAPPING_PREFIX)
            key = key_of(MAPPING_PREFIX.rstrip(".") if is_mapping else fault.field or "")
            found.setdefault(key, []).append(fault.message)
        return {key: "; ".join(messages) for key, messages in found.items()}

    def body(self) -> dict[str, Any]:
        """The body that defines the method."""
        return body_of(self.form, self.values, recipe=self.method.recipe if self.method else {})


async def sent_values(request: Request) -> dict[str, str]:
    """The fields of a sent form, and of the address."""
    sent = {key: value for key, value in request.query_params.items() if isinstance(value, str)}
    if request.method == "POST":
        async with request.form() as form:
            sent |= {key: value for key, value in form.items() if isinstance(value, str)}
    return sent


async def editor_of(
    api: Gateway, values: Values, *, method: Method | None = None, error: ApiError | None = None
) -> Editor:
    """The form for what the browser sent.

    Raises:
        ApiError: there is no form for this dataset.
    """
    recipe = method.recipe if method else {}
    dataset_id = values.get("dataset_id", "")
    template = values.get("template") or values.get(TEMPLATE) or recipe.get("template") or ""
    own_task = str(recipe.get("task", "")) if recipe.get("template") == template else ""
    task = (values.get("task") or values.get(TASK, own_task)).strip()
    form, task_error = await _form(api, dataset_id=dataset_id, template=template, task=task)
    # A task that is named in the address stands in the field, whether there is one of that name or not.
    current = {**values, TASK: task} if task else dict(values)
    # What the form knows only once it is there: at which of its fields each fault belongs.
    at_their_fields = at_fields(error, [one.path for one in form.ui.fields]) if error else task_error
    fields = [
        one
        for one in drawn_fields(form, current, recipe=recipe, error=at_their_fields)
        if method is None or one.path != "name"
    ]
    return Editor(
        form=form,
        dataset_id=dataset_id,
        method=method,
        fields=[one for one in fields if not one.advanced],
        advanced=[one for one in fields if one.advanced],
        columns=mapped_columns(form, current),
        values=current,
        error=at_their_fields,
        task_error=task_error,
    )


async def with_preview(api: Gateway, editor: Editor) -> Editor:
    """The editor with a row as it would be asked, or with why there is none."""
    fields = (*editor.fields, *editor.advanced)
    missing = [
        one.label
        for one in fields
        if one.decides_prompts and not one.value and is_required(editor.form, one.path)
    ]
    if missing:
        return replace(editor, waiting_for=missing)
    if editor.has_task_fault:
        return replace(editor, preview_error=editor.task_error)
    body = {
        "recipe": editor.body()["recipe"],
        "dataset_id": editor.dataset_id,
        "column_mapping": mapping_of(editor.columns),
    }
    values = editor.values
    offset = values.get("preview.row") or values.get(OFFSET) or "0"
    try:
        shown = await shown_preview(
            api,
            "/v1/methods/preview",
            body | fewshot_of(values.get(NUM_FEWSHOT, "")),
            offset=whole_number(offset),
        )
    except ApiError as error:
        if not error.is_refusal:
            raise
        return replace(editor, preview_error=at_fields(error, editor.paths))
    return replace(editor, preview=shown)


def fewshot_of(text: str) -> dict[str, Any]:
    """The option of a preview; none where the method's own number is meant."""
    return {"num_fewshot": whole_number(text)} if text.strip() else {}


def whole_number(text: str) -> Any:
    """The number, or the text as it is for the platform to refuse."""
    return int(text) if re.fullmatch(r"\s*-?[0-9]{1,15}\s*", text) else text


async def _form(api: Gateway, *, dataset_id: str, template: str, task: str) -> tuple[Form, ApiError | None]:
    """The form, and what is wrong with the task: then it is the form without one."""
    query = {"dataset_id": dataset_id, "template": template}
    try:
        return await api.get("/v1/methods/form", Form, query={**query, "task": task}), None
    except ApiError as error:
        if not task or not error.is_refusal:
            raise
        form = await api.get("/v1/methods/form", Form, query=query)
        fault = Fault(message=error.problem.detail or error.problem.title, field=TASK)
        return form, ApiError(422, Problem(title="This task cannot be used", errors=[fault]))
