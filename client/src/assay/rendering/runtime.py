"""Runtime metrics as text, for one run and for two."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from assay.models import RunMetrics, RuntimeComparison
from assay.rendering.measures import Measures
from assay.rendering.text import MISSING, Heading, clean, fields, seconds, table

LABELS = {
    "ttftP50": "first token after",
    "ttftP99": "first token after",
    "itlP50": "between tokens",
    "itlP99": "between tokens",
    "latencyP50": "whole answer after",
    "latencyP99": "whole answer after",
    "tps": "output tokens",
    "requestsPerSecond": "requests",
    "power": "mean power",
    "tokensPerWatt": "output tokens",
    "joulesPerToken": "energy",
    "joulesPerCorrectAnswer": "energy",
}
_SECONDS = frozenset({"ttftP50", "ttftP99", "itlP50", "itlP99", "latencyP50", "latencyP99"})
_JOULES = frozenset({"joulesPerToken", "joulesPerCorrectAnswer"})
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
    if metric in _JOULES:
        return f"{value:.3f} J"
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


def runtime_comparison(lines: Sequence[RuntimeComparison]) -> RenderableType:
    """The runtime metrics of two runs side by side, with candidate / base."""
    notes = _Notes()
    rows = []
    for line in lines:
        notes.add(line.metric, _of_both(line.note))
        if line.at_least:
            few = f"at least; fewer than {_OBSERVATIONS_FOR_P99} observations do not bound a p99 from above"
            notes.add(line.metric, few)
        rows.append(
            (
                line.metric,
                LABELS.get(line.metric, ""),
                _amount_or_absence(line.metric, line.baseline, line.note),
                _amount_or_absence(line.metric, line.candidate, line.note),
                MISSING if line.ratio is None else f"{line.ratio:.2f}x",
                ratio_span(line),
                _shown_direction(line),
            )
        )
    headings = (
        Heading("runtime metric"),
        Heading("meaning"),
        Heading("base", number=True),
        Heading("candidate", number=True),
        Heading("ratio", number=True),
        Heading("95 % interval", number=True),
        Heading("result"),
    )
    methods = dict.fromkeys(line.interval_method for line in lines if line.ratio_interval_95 is not None)
    caveat = f"Intervals of one pass each ({'; '.join(methods)})" if methods else "Ratios of one pass each"
    caveat += "; how much they vary from pass to pass is not known."
    return Group(Measures(headings, rows), notes.text(), Text(clean(caveat), style="dim"))


def ratio_span(line: RuntimeComparison) -> str:
    """The 95 % interval of candidate / base."""
    interval = line.ratio_interval_95
    return MISSING if interval is None else f"{interval[0]:.2f} .. {interval[1]:.2f}"


def _shown_direction(line: RuntimeComparison) -> Text:
    """Better or worse only where the whole interval says so."""
    interval = line.ratio_interval_95
    if interval is None or line.higher_is_better is None or interval[0] <= 1 <= interval[1]:
        return Text(MISSING, style="dim")
    better = (interval[0] > 1) is line.higher_is_better
    return Text("better" if better else "worse", style="green" if better else "red")


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
