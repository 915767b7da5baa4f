"""Runtime metrics as text, for one run and for two."""

import re
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from assay.models import Comparison, RunMetrics
from assay.rendering.text import MISSING, Heading, fields, seconds, table

LABELS = {
    "ttftP50": "time to first token, p50",
    "ttftP99": "time to first token, p99",
    "itlP50": "inter-token latency, p50",
    "itlP99": "inter-token latency, p99",
    "tps": "output tokens per second",
    "requestsPerSecond": "requests per second",
    "power": "power",
    "tokensPerWatt": "tokens per joule (tps / W)",
}
_SECONDS = frozenset({"ttftP50", "ttftP99", "itlP50", "itlP99"})
_PERCENTILES = {
    "ttftP50": ("ttft", "p50"),
    "ttftP99": ("ttft", "p99"),
    "itlP50": ("itl", "p50"),
    "itlP99": ("itl", "p99"),
}
_OBSERVATIONS_FOR_P99 = 299


def amount(metric: str, value: float | None) -> str:
    """A runtime number with its unit."""
    if value is None:
        return MISSING
    if metric in _SECONDS:
        return seconds(value)
    if metric == "power":
        return f"{value:.1f} W"
    if metric == "tokensPerWatt":
        return f"{value:.3f} tok/J"
    return f"{value:.1f} /s"


def runtime_table(metrics: RunMetrics) -> RenderableType:
    """The runtime metrics of a run with their intervals, and what was not measured with the reason."""
    details = metrics.runtime_details or {}
    rows = []
    for metric, value in metrics.runtime.items():
        shown, interval, note = _with_interval(metric, value, details)
        rows.append((LABELS.get(metric, metric), metric, shown, interval, note))
    headings = (
        Heading("runtime metric"),
        Heading("name", style="dim"),
        Heading("value", number=True),
        Heading("95 % interval"),
        Heading("note"),
    )
    return Group(table(headings, rows), fields(_context(details)))


def runtime_comparison(comparison: Comparison) -> RenderableType:
    """The runtime metrics of two runs side by side, with B / A."""
    rows = []
    for line in comparison.runtime:
        ratio = MISSING if line.ratio is None else f"{line.ratio:.2f}x"
        rows.append(
            (
                LABELS.get(line.metric, line.metric),
                amount(line.metric, line.baseline),
                amount(line.metric, line.candidate),
                Text(ratio, style=_verdict(line.ratio, higher_is_better=line.higher_is_better)),
                line.note or _missing_note(line.baseline, line.candidate),
            )
        )
    headings = (
        Heading("runtime metric"),
        Heading("A", number=True),
        Heading("B", number=True),
        Heading("B / A", number=True),
        Heading("note"),
    )
    return table(headings, rows)


def _verdict(ratio: float | None, *, higher_is_better: bool | None) -> str:
    # One pass over the data gives no spread between runs, so small ratios are left without a colour.
    if ratio is None or higher_is_better is None or 0.95 <= ratio <= 1.05:
        return ""
    return "green" if (ratio > 1) is higher_is_better else "red"


def _missing_note(baseline: float | None, candidate: float | None) -> str:
    return "not measured" if baseline is None and candidate is None else ""


def _with_interval(
    metric: str, value: float | None, details: Mapping[str, Any]
) -> tuple[str | Text, str, str]:
    """Value, interval and note of one metric."""
    if value is None:
        return Text(_absence(metric, details), style="yellow"), "", _reason(metric, details)
    if metric not in _PERCENTILES:
        return amount(metric, value), "", ""
    kind, rank = _PERCENTILES[metric]
    distribution = details.get(kind) or {}
    percentile = distribution.get(rank) or {}
    low, high = percentile.get("low"), percentile.get("high")
    if percentile.get("at_least"):
        count = distribution.get("n")
        interval = f"{seconds(low)} or more" if low is not None else ""
        note = f"a lower bound: {count} observations, p99 needs {_OBSERVATIONS_FOR_P99}"
        return f"at least {amount(metric, value)}", interval, note
    interval = f"{seconds(low)} .. {seconds(high)}" if low is not None and high is not None else ""
    return amount(metric, value), interval, ""


def _absence(metric: str, details: Mapping[str, Any]) -> str:
    reason = str((details.get("null_reasons") or {}).get(metric, ""))
    return "not applicable" if "not applicable" in reason else "not measured"


def _reason(metric: str, details: Mapping[str, Any]) -> str:
    given = (details.get("null_reasons") or {}).get(metric)
    if given:
        # The value's own column says these words already.
        return re.sub(r"^not (measured|applicable): ", "", str(given))
    if metric in {"power", "tokensPerWatt"}:
        return "; ".join((details.get("power") or {}).get("reasons") or ())
    return ""


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
