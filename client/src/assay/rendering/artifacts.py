"""Artifacts and backends as text."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from assay.models import Artifact, Backend
from assay.rendering.text import MISSING, Heading, clean, compact, fields, moment, table


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
                "\n".join(_parameter(parameter) for parameter in parameters),
                "\n".join(_device(device) for device in document.get("devices") or ()) or MISSING,
                _sensors(document),
                _refused(document),
                backend.unhealthy_reason or backend.address,
            )
        )
    headings = (
        Heading("backend"),
        Heading("healthy"),
        Heading("engine"),
        Heading("formats"),
        Heading("serving parameters"),
        Heading("devices"),
        Heading("power sensors"),
        Heading("refuses"),
        Heading("address or reason"),
    )
    return table(headings, rows)


def _device(device: Any) -> str:
    if not isinstance(device, Mapping):
        return str(device)
    memory = int(device.get("memory_bytes") or 0)
    size = f", {memory / 2**30:.0f} GiB" if memory else ""
    return clean(f"{device.get('id')}: {device.get('product')}{size}")


def _sensors(document: Mapping[str, Any]) -> str:
    """What power is measured with; an adapter that has answered and has no sensor says so."""
    capabilities = document.get("capabilities")
    if not isinstance(capabilities, Mapping):
        return MISSING
    return ", ".join(map(str, capabilities.get("power_sensors") or ())) or "not measured"


def _refused(document: Mapping[str, Any]) -> str:
    """Fields of a request that the platform refuses for this backend, because it refuses or ignores them."""
    capabilities = document.get("capabilities")
    if not isinstance(capabilities, Mapping):
        return MISSING
    names = [str(name) for name, support in capabilities.items() if support in ("refused", "ignored")]
    return ", ".join(names) or "nothing"


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
