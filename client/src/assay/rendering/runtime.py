"""Runtime metrics as text, for one run and for two."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from assay.models import RunMetrics, RuntimeComparison
from assay.rendering.measures import Measures
from assay.rendering.text import MISSING, Heading, clean, fields, seconds, share, table
from assay_evidence.runtime_metrics import RUNTIME_METRICS, metric_families
from assay_evidence.statistics.quantiles import bounded_from

_LABELS = {
    "ttft": "first token",
    "itl": "between tokens",
    "latency": "whole answer",
    "scheduleDelay": "wait before sending",
    "tps": "output tokens",
    "requestsPerSecond": "requests",
    "goodput": "within bounds",
    "goodputShare": "within bounds",
    "errorRate": "failed requests",
    "inputTokens": "tokens in",
    "outputTokens": "tokens out",
    "power": "mean power",
    "tokensPerWatt": "output tokens",
    "joulesPerToken": "energy",
    "joulesPerRequest": "energy",
    "joulesPerCorrectAnswer": "energy",
    "coldStart": "until it answers",
    "acceleratorSeconds": "devices held",
}
_SUFFIXES = ("P50", "P90", "P95", "P99", "Mean")
_FURTHER = ("P90", "P95", "Mean")
_ABSENCES = ("not measured", "not applicable", "not recorded")
_COUNTS = frozenset({"inputTokens", "outputTokens"})


def amount(metric: str, value: float) -> str:
    """A runtime number with its unit."""
    known = RUNTIME_METRICS.get(metric)
    unit = known.unit if known else ""
    if unit == "s":
        return seconds(value) if value else "0 s"
    if unit == "tokens":
        return f"{value:,.0f}"
    if known and not unit:
        return share(value)
    shown = {"tokens/s": "/s", "1/s": "/s", "tokens/J": "/J"}.get(unit, unit)
    digits = 3 if "J" in unit else 1
    if shown == "/s" and value < 10:
        digits = 2 if value >= 1 else 3
    return f"{value:.{digits}f} {shown}".rstrip()


def runtime_table(metrics: RunMetrics) -> RenderableType:
    """The runtime metrics of a run with their intervals; below, what is not measured and why."""
    details = metrics.runtime_details or {}
    notes = _Notes()
    rows = []
    for metric, value in metrics.runtime.items():
        found = _estimate(metric, value, details)
        if value is None:
            reason = found.get("note") or MISSING
            is_told = not notes.add(metric, reason) or metric.endswith(_FURTHER)
            if not is_told and (absence := _absence(reason)) != MISSING:
                rows.append((metric, label(metric), Text(absence, style="yellow"), "", ""))
            continue
        notes.add(metric, _remark(metric, found))
        sign = "\N{GREATER-THAN OR EQUAL TO} " if found.get("at_least") else ""
        rows.append(
            (
                metric,
                label(metric),
                Text(f"{sign}{amount(metric, value)}"),
                _interval(metric, found),
                f"{found['n']:,}" if found.get("n") else "",
            )
        )
    headings = (
        Heading("runtime metric"),
        Heading("of"),
        Heading("value", number=True),
        Heading("95 % interval", number=True),
        Heading("n", number=True),
    )
    warnings = [Text(clean(f"warning: {one}"), style="yellow") for one in details.get("warnings") or ()]
    return Group(table(headings, rows), *warnings, notes.text(), fields(_context(details)))


def label(metric: str) -> str:
    """What a metric is of, in words."""
    family = next((metric.removesuffix(one) for one in _SUFFIXES if metric.endswith(one)), metric)
    return _LABELS.get(family, "")


def runtime_comparison(lines: Sequence[RuntimeComparison]) -> RenderableType:
    """The runtime metrics of two runs side by side, with candidate / base."""
    notes = _Notes()
    rows = []
    for line in lines:
        is_told = not notes.add(line.metric, _of_both(line.note)) or line.metric.endswith(_FURTHER)
        is_absent = line.baseline is None and line.candidate is None
        if is_absent and (is_told or (line.note and _absence(line.note) == MISSING)):
            continue  # the note names it
        if line.at_least:
            notes.add(line.metric, f"at least: too few observations for an upper bound{_needed(line.metric)}")
        if line.ratio is not None and line.ratio_interval_95 is None:
            notes.add(line.metric, f"no interval{_why_none(line.interval_method)}")
        rows.append(
            (
                line.metric,
                _amount_or_absence(line.metric, line.baseline, line.note),
                _amount_or_absence(line.metric, line.candidate, line.note),
                MISSING if line.ratio is None else f"{line.ratio:.2f}x",
                ratio_span(line),
                _shown_direction(line),
            )
        )
    headings = (
        Heading("runtime metric"),
        Heading("base", number=True),
        Heading("candidate", number=True),
        Heading("ratio", number=True),
        Heading("95 % interval", number=True),
        Heading("result"),
    )
    return Group(Measures(headings, rows), notes.text(), Text(clean(_caveat(lines)), style="dim"))


def ratio_span(line: RuntimeComparison) -> str:
    """The 95 % interval of candidate / base."""
    interval = line.ratio_interval_95
    return MISSING if interval is None else f"{interval[0]:.2f} .. {interval[1]:.2f}"


def _caveat(lines: Iterable[RuntimeComparison]) -> str:
    """How the intervals were made; where only a few differ in it, as most were."""
    methods = dict.fromkeys(line.interval_method for line in lines if line.ratio_interval_95 is not None)
    of = f"Intervals of one pass each ({'; '.join(methods)})" if methods else "Ratios of one pass each"
    return f"{of}; how much they vary from pass to pass is not known."


def _why_none(method: str) -> str:
    reason = method.removeprefix("none").removeprefix(": ")
    return f": {reason}" if reason else ""


def _needed(metric: str) -> str:
    known = RUNTIME_METRICS.get(metric)
    if known is None or known.share is None:
        return ""
    return f"; p{100 * known.share:.0f} needs {bounded_from(known.share)}"


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

    def add(self, metric: str, remark: str | None) -> bool:
        """Keep a remark, if there is one; whether it is a new one."""
        if not remark:
            return True
        known = remark in self._metrics
        self._metrics.setdefault(remark, []).append(metric)
        return not known

    def text(self) -> Text:
        lines = [
            f"{', '.join(metric_families(metrics))}: {remark}" for remark, metrics in self._metrics.items()
        ]
        return Text(clean("\n".join(lines)), style="dim")


def _amount_or_absence(metric: str, value: float | None, note: str | None) -> Text:
    return Text(_absence(note), style="yellow") if value is None else Text(amount(metric, value))


def _absence(reason: str | None) -> str:
    """Why a number may be missing, in two words; the full reason is in the notes."""
    return next((words for words in _ABSENCES if words in (reason or "")), MISSING)


def _estimate(metric: str, value: float | None, details: Mapping[str, Any]) -> Mapping[str, Any]:
    """Interval, count and note of a metric; runs that were scored before these were kept have fewer."""
    if metric in (estimates := details.get("estimates") or {}):
        found: Mapping[str, Any] = estimates[metric]
        return found
    if value is None:
        return {"note": (details.get("null_reasons") or {}).get(metric)}
    distribution = details.get(metric[:-3]) or {}
    of = distribution.get(metric[-3:].lower()) or {}
    return {**of, "n": distribution.get("n")}


def _interval(metric: str, found: Mapping[str, Any]) -> str:
    low, high = found.get("low"), found.get("high")
    if low is None and high is None:
        return ""
    return f"{_end(metric, low)} .. {_end(metric, high)}"


def _end(metric: str, value: float | None) -> str:
    return "?" if value is None else amount(metric, value)


def _remark(metric: str, found: Mapping[str, Any]) -> str | None:
    """What must be known of a number beside it."""
    if found.get("at_least") and found.get("high") is None and metric.endswith(("P50", "P90", "P95", "P99")):
        return f"at least; {found.get('n')} observations are too few for an upper bound{_needed(metric)}"
    note = found.get("note")
    if note is None or metric in _COUNTS:
        return None
    has_none = found.get("low") is None and found.get("high") is None and found.get("window_s") is not None
    return f"no interval: {note}" if has_none else str(note)


def _context(details: Mapping[str, Any]) -> list[tuple[str, str | Text]]:
    """What stands behind the numbers."""
    return [line for part in (_work, _gaps, _sources) for line in part(details)]


def _work(details: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if details.get("requests") is not None:
        failed, retries = details.get("failed_requests") or 0, details.get("retries") or 0
        yield "requests", f"{details['requests']} answered, {failed} failed, {retries} retried"
    if details.get("output_tokens") is not None:
        window = details.get("window_s")
        over = f" in {seconds(window)} with requests in flight" if window is not None else ""
        tokens = f"{details.get('prompt_tokens', 0)} in, {details['output_tokens']} out{over}"
        yield "tokens", tokens
    bounds = details.get("goodput_bounds") or {}
    given = [f"{name.removesuffix('_s')} {seconds(bound)}" for name, bound in bounds.items() if bound]
    if given:
        yield "goodput bounds", ", ".join(given)
    delay = details.get("schedule_delay") or {}
    middle, worst = (delay.get("p50") or {}).get("value"), (delay.get("p99") or {}).get("value")
    if middle is not None and not details.get("estimates"):
        yield "schedule delay", f"p50 {seconds(middle)}, p99 {seconds(worst)}, counted in none of the above"


def _gaps(details: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    gaps = details.get("itl") or {}
    if not gaps.get("n"):
        return
    if "spread_share" not in gaps:
        merged = share(gaps.get("merged_share") or 0.0)
        yield "token gaps", f"{gaps['n']} measured, {merged} left out as merged reads"
        return
    parts = [
        f"{gaps['n']} measured",
        f"{share(gaps['spread_share'])} spread over tokens that came together",
        f"{gaps.get('merged_reads', 0)} reads with several tokens",
    ]
    if gaps.get("unknown_gaps"):
        parts.append(f"{gaps['unknown_gaps']} unknown before the first arrival")
    yield "token gaps", ", ".join(parts)


def _sources(details: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    if details.get("stamp_sources"):
        yield "time stamps", ", ".join(f"{name}: {n}" for name, n in details["stamp_sources"].items())
    power = (details.get("power") or {}).get("provenance") or {}
    if power.get("joules") is not None:
        yield "power from", f"grade {power.get('grade')}: {'; '.join(power.get('reasons') or ())}"
    if details.get("cpu_seconds") is not None:
        yield "engine CPU time", f"{details['cpu_seconds']:.1f} s"
