"""Datasets, methods, artifacts and backends as text."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from assay.models import (
    Artifact,
    Backend,
    Dataset,
    Method,
    RenderedRow,
    Row,
    Snapshot,
    Task,
    Template,
)
from assay.rendering.text import (
    MISSING,
    Heading,
    compact,
    fields,
    moment,
    one_line,
    size,
    state,
    table,
    visible,
)


def dataset_table(datasets: Iterable[Dataset]) -> Table:
    """Datasets, one a line."""
    rows = []
    for dataset in datasets:
        snapshot = dataset.current_snapshot
        rows.append(
            (
                dataset.name,
                dataset.version,
                state(dataset.status),
                MISSING if snapshot is None else str(snapshot.rows),
                MISSING if snapshot is None else snapshot.split,
                moment(dataset.created_at),
                dataset.id,
            )
        )
    headings = (
        Heading("dataset"),
        Heading("version"),
        Heading("status"),
        Heading("rows", number=True),
        Heading("split"),
        Heading("created (UTC)"),
        Heading("id", style="dim"),
    )
    return table(headings, rows)


def dataset_card(dataset: Dataset) -> RenderableType:
    """One dataset with its current snapshot."""
    lines: list[tuple[str, str | Text]] = [
        ("dataset", f"{dataset.name} ({dataset.version})"),
        ("id", dataset.id),
        ("status", state(dataset.status)),
        ("created", moment(dataset.created_at)),
    ]
    if dataset.description:
        lines.append(("description", dataset.description))
    if dataset.current_snapshot is None:
        hint = f"No data yet. Add some with: assay dataset upload {dataset.name} FILE.jsonl"
        return Group(fields(lines), Text(hint))
    return Group(fields(lines), snapshot_card(dataset.current_snapshot))


def snapshot_card(snapshot: Snapshot) -> RenderableType:
    """One snapshot with its columns."""
    source = snapshot.source
    lines = [
        ("snapshot", snapshot.id),
        ("rows", f"{snapshot.rows} in split {snapshot.split!r}, {size(snapshot.bytes)}"),
        ("digest", f"sha256:{snapshot.digest}"),
        ("from", f"{source.get('filename', '?')}, {size(int(source.get('bytes', 0)))}"),
    ]
    rows = [
        (
            column.name,
            column.type,
            str(column.nulls),
            one_line(", ".join(compact(example) for example in column.examples), width=70),
        )
        for column in snapshot.columns
    ]
    headings = (Heading("column"), Heading("type"), Heading("nulls", number=True), Heading("examples"))
    return Group(fields(lines), table(headings, rows))


def row_table(rows: Iterable[Row]) -> Table:
    """Rows of a dataset with the columns that they have."""
    shown = list(rows)
    names = list(dict.fromkeys(name for row in shown for name in row.row))
    headings = (Heading("#", number=True, style="dim"), *(Heading(name) for name in names))
    return table(
        headings, ((str(row.index), *(one_line(row.row.get(name)) for name in names)) for row in shown)
    )


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


def task_table(tasks: Iterable[Task]) -> Table:
    """Tasks of lm-eval's index."""
    rows = (
        (
            task.name,
            task.output_type or MISSING,
            "yes" if task.needs_log_probabilities else "",
            ", ".join(task.columns or ()),
            Text(one_line(task.refusal or ""), style="yellow"),
        )
        for task in tasks
    )
    headings = (
        Heading("task"),
        Heading("output type"),
        Heading("log-probabilities"),
        Heading("columns"),
        Heading("not runnable because"),
    )
    return table(headings, rows)


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


def preview(rows: Iterable[RenderedRow]) -> RenderableType:
    """Rows as the model would be asked them."""
    parts: list[RenderableType] = []
    for row in rows:
        lines = [("prompt", row.prompt)]
        choices = [request["continuation"] for request in row.requests if request.get("continuation")]
        lines += [("choice", str(choice)) for choice in choices]
        lines.append(("expected", row.target))
        parts += [fields(lines, title=f"row {row.index}"), Text("")]
    return Group(*parts)


def backend_table(backends: Iterable[Backend]) -> Table:
    """Serving adapters and whether they answer."""
    rows = []
    for backend in backends:
        document = backend.document()
        healthy = Text("yes", style="green") if backend.healthy else Text("no", style="red")
        parameters = document.get("serving_parameters") or ()
        rows.append(
            (
                backend.backend,
                healthy,
                f"{backend.engine or MISSING} {backend.engine_version or ''}".strip(),
                ", ".join(str(name) for name in document.get("artifact_formats") or ()),
                "; ".join(_parameter(parameter) for parameter in parameters),
                backend.unhealthy_reason or backend.address,
            )
        )
    headings = (
        Heading("backend"),
        Heading("healthy"),
        Heading("engine"),
        Heading("formats"),
        Heading("serving parameters"),
        Heading("address or reason"),
    )
    return table(headings, rows)


def _parameter(parameter: Any) -> str:
    if not isinstance(parameter, Mapping):
        return str(parameter)
    choices = parameter.get("choices")
    return f"{parameter.get('name')}={'|'.join(map(str, choices))}" if choices else str(parameter.get("name"))


def artifact_table(artifacts: Iterable[Artifact]) -> Table:
    """Artifacts, one a line."""
    rows = (
        (
            artifact.name,
            artifact.model,
            artifact.backend,
            _assignments(artifact.serving_parameters),
            moment(artifact.created_at),
            artifact.id,
        )
        for artifact in artifacts
    )
    headings = (
        Heading("artifact"),
        Heading("model"),
        Heading("backend"),
        Heading("serving parameters"),
        Heading("created (UTC)"),
        Heading("id", style="dim"),
    )
    return table(headings, rows)


def artifact_card(artifact: Artifact) -> RenderableType:
    """One artifact, every field."""
    hidden = {"created_at", "serving_parameters"}
    lines: list[tuple[str, str | Text]] = [
        (name, compact(value))
        for name, value in artifact.document().items()
        if name not in hidden and value not in (None, "")
    ]
    lines.append(("serving_parameters", _assignments(artifact.serving_parameters) or MISSING))
    lines.append(("created", moment(artifact.created_at)))
    return fields(lines)


def _assignments(values: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in values.items())
