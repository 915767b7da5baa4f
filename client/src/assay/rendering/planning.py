"""What a number of samples can show, and metrics over time, as text."""

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.text import Text

from assay.models import NeededSamples, PlannedPower, PowerPlan, TrendPoint
from assay.rendering.measures import Measures
from assay.rendering.runtime import amount
from assay.rendering.text import MISSING, Heading, clean, moment, score, share, table

_SHORT_DIGEST = 8
CHURN_SOURCES = {
    "given": "as given",
    "observed": "observed in the newest comparison of the method",
    "assumed": "assumed: no method was named that has been compared",
}


def planned_power(power: PlannedPower) -> str:
    """What a planned run can show, on one line."""
    parts = []
    if power.detectable_difference is not None:
        parts.append(f"{power.samples} samples show a loss from {power.detectable_difference:.4f} on")
    needed = ", ".join(f"{_needed(entry)} for a margin of {entry.margin:g}" for entry in power.needed)
    if needed:
        parts.append(f"needed: {needed}")
    parts.append(
        f"at {share(power.assumed_churn)} changed answers (`assay power --churn` takes another share)"
    )
    return "; ".join(parts)


def power_report(plan: PowerPlan) -> RenderableType:
    """How many samples margins need, and what the wanted number shows."""
    source = CHURN_SOURCES.get(plan.churn_source, plan.churn_source)
    where = f" ({plan.observed_in})" if plan.observed_in else ""
    parts: list[RenderableType] = []
    if plan.detectable_difference is not None:
        found = f"{plan.samples} samples show a loss from {plan.detectable_difference:.4f} on"
        parts.append(Text(found, style="bold"))
    rows = [(f"{entry.margin:g}", _needed(entry)) for entry in plan.needed]
    if rows:
        headings = (
            Heading("to show a loss below", number=True),
            Heading("samples needed", number=True),
        )
        parts.append(table(headings, rows))
    parts.append(Text(clean(f"share of answers that change: {share(plan.churn)}, {source}{where}")))
    if plan.alpha is not None and plan.power is not None:
        parts.append(Text(f"one-sided error {plan.alpha:g}, power {plan.power:g}"))
    if plan.note:
        parts.append(Text(clean(plan.note), style="dim"))
    return Group(*parts)


def trend_table(points: Sequence[TrendPoint]) -> RenderableType:
    """A metric of the runs of a method, by artifact and then by time."""
    metrics = {point.metric for point in points}
    ordered = sorted(points, key=lambda point: (_artifact(point), point.finished_at or ""))
    rows = [
        (
            _artifact(point),
            moment(point.finished_at),
            _value(point) if len(metrics) == 1 else f"{point.metric} {_value(point)}",
            _speed(point),
            _version(point),
            point.snapshot_digest[:_SHORT_DIGEST],
            point.run_name,
        )
        for point in ordered
    ]
    headings = (
        Heading("artifact"),
        Heading("finished (UTC)"),
        Heading("value", number=True),
        Heading("tokens/s", number=True),
        Heading("method", number=True),
        Heading("rows", style="dim"),
        Heading("run"),
    )
    only = next(iter(metrics)) if len(metrics) == 1 else None
    title = only or "the first metric of each run"
    return Group(Text(clean(title), style="bold"), Measures(headings, rows))


def _artifact(point: TrendPoint) -> str:
    backend = point.artifact.get("backend")
    name = str(point.artifact.get("name") or MISSING)
    return f"{name} on {backend}" if backend else name


def _value(point: TrendPoint) -> str:
    error = "" if point.stderr is None else f" ± {point.stderr:.4f}"
    return f"{score(point.value)}{error}"


def _speed(point: TrendPoint) -> str:
    value = point.runtime.get("tps")
    return MISSING if value is None else amount("tps", value)


def _version(point: TrendPoint) -> str:
    published = "" if point.canonical is not False else ", not as published"
    return MISSING if point.method_version is None else f"v{point.method_version}{published}"


def _needed(entry: NeededSamples) -> str:
    return MISSING if entry.samples is None else str(entry.samples)
