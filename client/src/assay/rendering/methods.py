"""Tasks, methods, forms and previews as text."""

import shlex
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from assay.models import Form, Method, Preview, RenderedRow, Task, TaskPage, Template
from assay.rendering.text import (
    MISSING,
    Heading,
    clean,
    counted,
    fields,
    moment,
    one_line,
    table,
    visible,
)

_SHORT_HASH = 16


def template_list(templates: Iterable[Template]) -> RenderableType:
    """Templates with their parameters."""
    parts: list[RenderableType] = []
    headings = (Heading("parameter"), Heading("required"), Heading("default"), Heading("meaning"))
    for template in templates:
        parts += [Text(f"{template.title} ({template.name})", style="bold"), Text(template.description)]
        rows = (
            (
                parameter.name,
                "yes" if parameter.required else "",
                "" if parameter.required else one_line(visible(parameter.default)),
                parameter.description,
            )
            for parameter in template.parameters
        )
        parts.append(table(headings, rows))
    return Group(*parts)


def task_report(page: TaskPage, *, sought: str) -> RenderableType:
    """Tasks that were found; where there are none, the names that may have been meant."""
    if not page.items:
        nearest = f" Nearest names: {', '.join(page.suggestions)}" if page.suggestions else ""
        return Text(clean(f"nothing matches {sought}.{nearest}"))
    rows = (
        (
            task.name,
            _status(task),
            task.output_type or task.kind,
            MISSING if task.num_fewshot is None else str(task.num_fewshot),
            _columns(task),
            Text(clean(one_line(task.reason if task.status != "needs-log-probabilities" else ""))),
        )
        for task in page.items
    )
    headings = (
        Heading("task"),
        Heading("status"),
        Heading("output type"),
        Heading("few-shot", number=True),
        Heading("columns or members"),
        Heading("reason"),
    )
    return table(headings, rows)


def task_card(task: Task) -> RenderableType:
    """One task or group, every field that says something."""
    lines: list[tuple[str, str | Text]] = [
        ("task", task.name),
        ("kind", task.kind),
        ("status", _status(task)),
    ]
    if task.reason:
        lines.append(("reason", task.reason))
    document = task.document()
    names = ("output_type", "version", "dataset_path", "dataset_name", "num_fewshot")
    lines += [(name.replace("_", " "), str(document[name])) for name in names if document.get(name)]
    if task.splits:
        lines.append(("splits", ", ".join(f"{role}: {name}" for role, name in task.splits.items())))
    if task.columns is not None:
        lines.append(("columns", ", ".join(task.columns)))
    elif task.kind == "task":
        lines.append(("columns", "known only to the task's own code; a preview shows whether they are there"))
    for name in ("members", "groups", "tags", "missing_packages"):
        if document.get(name):
            lines.append((name.replace("_", " "), ", ".join(map(str, document[name]))))
    return fields(lines)


def _status(task: Task) -> Text:
    styles = {"ok": "green", "needs-log-probabilities": "cyan"}
    return Text(clean(task.status or MISSING), style=styles.get(task.status, "yellow"))


def _columns(task: Task) -> str:
    if task.members:
        return f"{len(task.members)}: {one_line(', '.join(task.members), width=50)}"
    return one_line(", ".join(task.columns or ()), width=50)


def recipe_name(recipe: Mapping[str, Any]) -> str:
    """A recipe in a few words."""
    if "task" in recipe:
        return f"{recipe.get('template')}: {recipe['task']}"
    return f"{recipe.get('template')}: {recipe.get('input_field')} -> {recipe.get('expected_output_field')}"


def method_table(methods: Iterable[Method]) -> Table:
    """Methods, one a line."""
    rows = (
        (method.name, str(method.version), recipe_name(method.recipe), moment(method.created_at), method.id)
        for method in methods
    )
    headings = (
        Heading("method"),
        Heading("version", number=True),
        Heading("recipe"),
        Heading("created (UTC)"),
        Heading("id", style="dim"),
    )
    return table(headings, rows)


def method_card(method: Method) -> RenderableType:
    """One method with its recipe."""
    lines: list[tuple[str, str | Text]] = [
        ("method", f"{method.name}, version {method.version}"),
        ("id", method.id),
        ("created", moment(method.created_at)),
        ("recipe hash", method.recipe_hash),
    ]
    if method.description:
        lines.append(("description", method.description))
    lines += [(f"  {name}", visible(value)) for name, value in method.recipe.items()]
    return fields(lines)


def form_card(form: Form) -> RenderableType:
    """A form: what is guessed for which field and why, and the command that uses it."""
    source = form.source
    lines: list[tuple[str, str | Text]] = [
        (
            "dataset",
            f"{source.get('dataset_name')}, {source.get('rows')} rows, split {source.get('split')!r}",
        ),
        ("source", str(source.get("kind"))),
        ("template", f"{form.title} ({form.template})"),
        ("fits", Text("yes", style="green") if form.fits else Text("no", style="red")),
        ("because", form.reason),
    ]
    others = [offer for offer in form.templates if offer.template != form.template]
    lines += [
        ("also" if offer.fits else "not", f"{offer.title} ({offer.template}): {offer.reason}")
        for offer in others
    ]
    parts: list[RenderableType] = [fields(lines), _form_fields(form)]
    if form.column_mapping is not None and form.column_mapping.guesses:
        rows = (
            (guess.field, guess.value or Text("not found", style="red"), guess.reason)
            for guess in form.column_mapping.guesses
        )
        headings = (Heading("the task reads"), Heading("from column"), Heading("because"))
        parts.append(table(headings, rows))
    for one in form.ui.fields:
        if one.choices and one.path != "recipe.template":
            choices = ((choice.value, one_line(choice.hint, width=100)) for choice in one.choices)
            parts.append(table((Heading(f"{one.label}: choices"), Heading("")), choices))
            # The same columns can be chosen for every field.
            if one.widget == "select":
                break
    return Group(*parts, Text(f"Next: {_next_command(form)}", style="dim"))


def _form_fields(form: Form) -> Table:
    reasons = {"recipe.task": "as you named it"} if form.task is not None else {}
    reasons |= {guess.field: guess.reason for guess in form.guesses}
    recipe = form.defaults.get("recipe") or {}
    rows = []
    for one in form.ui.fields:
        name = one.path.removeprefix("recipe.")
        if one.widget == "hidden" or one.path == "recipe.template" or not one.path.startswith("recipe."):
            continue
        value = recipe.get(name)
        default = Text("you choose", style="yellow") if value is None else Text(clean(visible(value)))
        rows.append((one.label, f"--{name.replace('_', '-')}", default, reasons.get(one.path, one.help)))
    headings = (Heading("field"), Heading("option"), Heading("default"), Heading("because, or what it is"))
    return table(headings, rows)


def _next_command(form: Form) -> str:
    """The command that takes the defaults of the form."""
    guessed = {guess.field.removeprefix("recipe."): guess.value for guess in form.guesses}
    if form.task is not None:
        guessed["task"] = form.task.name
    given = {name: value for name, value in guessed.items() if value is not None and value != "{{input}}"}
    words = ["assay", "method", "create", "NAME"]
    for name, value in given.items():
        words += [f"--{name.replace('_', '-')}", value]
    if form.defaults.get("dataset_id"):
        words += ["--dataset", str(form.source.get("dataset_name"))]
    mapping = form.column_mapping.mapping if form.column_mapping is not None else {}
    maps = " ".join(shlex.join(["--map", f"{wanted}={column}"]) for wanted, column in mapping.items())
    return clean(shlex.join(words) + (f"; then run with {maps}" if maps else ""))


def preview_report(preview: Preview) -> RenderableType:
    """Rows as the model would be asked them, and what decides how they look."""
    parts: list[RenderableType] = []
    several = len({row.task for row in preview.items}) > 1 or len(preview.sources) > 1
    for row in preview.items:
        title = f"row {row.index}, {row.task}" if several else f"row {row.index}"
        parts += [fields(_row_lines(row), title=title), Text("")]
    return Group(*parts, fields(_preview_lines(preview)))


def _row_lines(row: RenderedRow) -> list[tuple[str, str | Text]]:
    lines: list[tuple[str, str | Text]] = []
    if row.messages is None:
        lines.append(("prompt", row.prompt))
    else:
        lines += [(str(turn.get("role")), str(turn.get("content"))) for turn in row.messages]
    # Every repeat asks the same.
    shown = dict.fromkeys(str(one["continuation"]) for one in row.requests if one.get("continuation"))
    lines += [("choice", continuation) for continuation in shown]
    lines.append(("expected", row.target))
    if row.prompt_hash:
        lines.append(("prompt hash", Text(row.prompt_hash[:_SHORT_HASH], style="dim")))
    return lines


def _preview_lines(preview: Preview) -> list[tuple[str, str | Text]]:
    lines: list[tuple[str, str | Text]] = []
    if preview.total is not None:
        lines.append(("shown", f"{len(preview.items)} of {preview.total} rows"))
    lines.append(("few-shot", _fewshot(preview)))
    lines += [
        ("not as published", Text(clean(deviation.message), style="yellow"))
        for deviation in preview.deviations
    ]
    return lines


def _fewshot(preview: Preview) -> str:
    if preview.num_fewshot == 0:
        return "no examples"
    sources = [(source.fewshot, source.fewshot_origin) for source in preview.sources if source.fewshot]
    named = dict.fromkeys(
        f"{rows.get('dataset_name')}, split {rows.get('split')!r}, {origin}" for rows, origin in sources
    )
    other = {
        "evaluation_rows": "the evaluated rows, each leaving itself out",
        "task": "the task's own definition",
    }
    where = "; ".join(named) or other.get(preview.fewshot_source, preview.fewshot_source)
    return f"{counted(preview.num_fewshot, 'example')} from {where}"
