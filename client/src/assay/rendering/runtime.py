"""Runtime metrics as text, for one run and for two."""

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from assay.models import Comparison, RunMetrics
from assay.rendering.text import MISSING, Heading, clean, fields, seconds, table

LABELS = {
    "ttftP50": "first token after",
    "ttftP99": "first token after",
    "itlP50": "between tokens",
    "itlP99": "between tokens",
    "tps": "output tokens",
    "requestsPerSecond": "requests",
    "power": "mean power",
    "tokensPerWatt": "output tokens",
}
_SECONDS = frozenset({"ttftP50", "ttftP99", "itlP50", "itlP99"})
_PERCENTILES = {
    "ttftP50": ("ttft", "p50"),
    "ttftP99": ("ttft", "p99"),
    "itlP50": ("itl", "p50"),
    "itlP99": ("itl", "p99"),
}
_OBSERVATIONS_FOR_P99 = 299
_ABSENCES = ("not measured", "not applicable")


def amount(metric: str, value: float) -> str:
    """A runtime number with its unit."""
    if metric in _SECONDS:
        return seconds(value)
    if metric == "power":
        return f"{value:.1f} W"
    if metric == "tokensPerWatt":
        return f"{value:.3f} /J"
    return f"{value:.1f} /s"


def runtime_table(metrics: RunMetrics) -> RenderableType:
    """The runtime metrics of a run with their intervals; below, what is not measured and why."""
    details = metrics.runtime_details or {}
    reasons = details.get("null_reasons") or {}
    notes = _Notes()
    rows = []
    for metric, value in metrics.runtime.items():
        shown, interval = _with_interval(metric, value, details, notes)
        if value is None:
            notes.add(metric, reasons.get(metric) or _power_reason(metric, details))
        rows.append((metric, LABELS.get(metric, ""), shown, interval))
    headings = (
        Heading("runtime metric"),
        Heading("of"),
        Heading("value", number=True),
        Heading("95 % interval", number=True),
    )
    return Group(table(headings, rows), notes.text(), fields(_context(details)))


def runtime_comparison(comparison: Comparison) -> RenderableType:
    """The runtime metrics of two runs side by side, with B / A."""
    notes = _Notes()
    rows = []
    for line in comparison.runtime:
        ratio = MISSING if line.ratio is None else f"{line.ratio:.2f}x"
        notes.add(line.metric, _of_both(line.note))
        rows.append(
            (
                line.metric,
                LABELS.get(line.metric, ""),
                _amount_or_absence(line.metric, line.baseline, line.note),
                _amount_or_absence(line.metric, line.candidate, line.note),
                ratio,
            )
        )
    headings = (
        Heading("runtime metric"),
        Heading("of"),
        Heading("A", number=True),
        Heading("B", number=True),
        Heading("B / A", number=True),
    )
    # Without a colour: nothing says which ratios mean something.
    caveat = Text("Ratios of one pass each; how much they vary from pass to pass is not known.", style="dim")
    return Group(table(headings, rows), notes.text(), caveat)


def _of_both(note: str | None) -> str | None:
    """The note on two runs; where it says the same of both, it says it once."""
    before, separator, candidate = (note or "").partition("; candidate: ")
    same = separator and before.removeprefix("baseline: ") == candidate != before
    return candidate if same else note


class _Notes:
    """Remarks below a table; metrics with the same remark share it."""

    def __init__(self) -> None:
        self._metrics: dict[str, list[str]] = {}

    def add(self, metric: str, remark: str | None) -> None:
        if remark:
            self._metrics.setdefault(remark, []).append(metric)

    def text(self) -> Text:
        lines = [f"{', '.join(metrics)}: {remark}" for remark, metrics in self._metrics.items()]
        return Text(clean("\n".join(lines)), style="dim")


def _amount_or_absence(metric: str, value: float | None, note: str | None) -> Text:
    return Text(_absence(note), style="yellow") if value is None else Text(amount(metric, value))


def _absence(reason: str | None) -> str:
    """Which of the two reasons a number may be missing for; the full one is in the notes."""
    return next((words for words in _ABSENCES if words in (reason or "")), _ABSENCES[0])


def _with_interval(
    metric: str, value: float | None, details: Mapping[str, Any], notes: _Notes
) -> tuple[Text, str]:
    """Value and interval of one metric."""
    if value is None:
        reason = (details.get("null_reasons") or {}).get(metric)
        return _amount_or_absence(metric, None, reason), ""
    kind, rank = _PERCENTILES.get(metric, ("", ""))
    distribution = details.get(kind) or {}
    percentile = distribution.get(rank) or {}
    low, high = percentile.get("low"), percentile.get("high")
    if percentile.get("at_least"):
        needed = f"; p99 needs {_OBSERVATIONS_FOR_P99}" if rank == "p99" else ""
        count = distribution.get("n")
        notes.add(metric, f"at least; {count} observations are too few for an upper bound{needed}")
        return Text(f"\N{GREATER-THAN OR EQUAL TO} {amount(metric, value)}"), ""
    known = low is not None and high is not None
    return Text(amount(metric, value)), f"{seconds(low)} .. {seconds(high)}" if known else ""


def _power_reason(metric: str, details: Mapping[str, Any]) -> str:
    if metric not in {"power", "tokensPerWatt"}:
        return ""
    return "; ".join((details.get("power") or {}).get("reasons") or ())


def _context(details: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What stands behind the numbers."""
    lines = []
    if details.get("requests") is not None:
        failed, retries = details.get("failed_requests") or 0, details.get("retries") or 0
        lines.append(("requests", f"{details['requests']} answered, {failed} failed, {retries} retried"))
    if details.get("output_tokens") is not None:
        window = details.get("window_s")
        over = f" in {seconds(window)} with requests in flight" if window is not None else ""
        lines.append(
            ("tokens", f"{details.get('prompt_tokens', 0)} in, {details['output_tokens']} out{over}")
        )
    delay = details.get("schedule_delay") or {}
    middle, worst = (delay.get("p50") or {}).get("value"), (delay.get("p99") or {}).get("value")
    if middle is not None:
        text = f"p50 {seconds(middle)}, p99 {seconds(worst)}, counted in none of the above"
        lines.append(("schedule delay", text))
    gaps = details.get("itl") or {}
    if gaps.get("n"):
        share = 100 * (gaps.get("merged_share") or 0.0)
        lines.append(("token gaps", f"{gaps['n']} measured, {share:.1f} % left out as merged reads"))
    if details.get("stamp_sources"):
        lines.append(
            ("time stamps", ", ".join(f"{name}: {n}" for name, n in details["stamp_sources"].items()))
        )
    if details.get("cpu_seconds") is not None:
        lines.append(("engine CPU time", f"{details['cpu_seconds']:.1f} s"))
    return lines
