"""Runtime metrics of a run as tables and charts."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from assay.models import RunMetrics, Sample
from assay_console.formats import count, number, percent, seconds
from assay_evidence.runtime_metrics import RUNTIME_METRICS

KEY_METRICS = ("ttftP50", "ttftP99", "itlP50", "itlP99", "tps", "power", "tokensPerWatt")
"""Those that a reader looks for first, in this order."""
_PERCENTILES = ("P50", "P90", "P95", "P99")
_CHARTS = {"ttft": "Time to first token", "itl": "Time between tokens"}
_MOST_STEPS = 400


@dataclass(frozen=True, slots=True)
class RuntimeLine:
    """One runtime metric, its numbers written with their unit.

    Attributes:
        value: ``None``: not measured or not applicable, and ``note`` says why.
        interval: 95 %; an end that cannot be given is "?"; empty where there is none.
        note: why there is no value or interval, or what bears on the number.
    """

    name: str
    title: str
    unit: str
    value: str | None
    absence: str
    interval: str
    samples: str
    window: str
    note: str


@dataclass(frozen=True, slots=True)
class LatencyChart:
    """Percentiles of one time: for charts.js, and as lines of a table."""

    title: str
    chart: Mapping[str, Any]
    lines: Sequence[RuntimeLine]


@dataclass(frozen=True, slots=True)
class Distribution:
    """How single observations are spread: for charts.js, and the shares as rows of a table."""

    title: str
    observations: int
    chart: Mapping[str, Any]
    rows: Sequence[tuple[str, float]]


def runtime_lines(metrics: RunMetrics) -> tuple[Sequence[RuntimeLine], Sequence[RuntimeLine]]:
    """The metrics that are looked for first, and the others."""
    details = metrics.runtime_details or {}
    names = list(metrics.runtime)
    first = [_line(name, metrics.runtime.get(name), details) for name in KEY_METRICS if name in names]
    rest = [_line(name, metrics.runtime[name], details) for name in names if name not in KEY_METRICS]
    return first, rest


def latency_charts(metrics: RunMetrics) -> Sequence[LatencyChart]:
    """Percentiles of the first token and of the gaps, with their intervals; only what was measured."""
    details = metrics.runtime_details or {}
    found = []
    for family, title in _CHARTS.items():
        names = [
            f"{family}{one}" for one in _PERCENTILES if metrics.runtime.get(f"{family}{one}") is not None
        ]
        if not names:
            continue
        estimates = [_estimate(name, details) for name in names]
        values = [float(metrics.runtime[name] or 0) for name in names]
        unit, times = _drawn_in(max(values))
        chart = {
            "x": list(range(len(names))),
            "xNames": [name.removeprefix(family) for name in names],
            "series": [
                {
                    "label": title,
                    "values": [value * times for value in values],
                    "lower": [_scaled(one.get("low"), times) for one in estimates],
                    "upper": [_scaled(one.get("high"), times) for one in estimates],
                }
            ],
            "xLabel": "Percentile",
            "yLabel": unit,
            "kind": "line",
            "interval": "whiskers",
            "zero": True,
        }
        lines = [_line(name, metrics.runtime[name], details) for name in names]
        found.append(LatencyChart(title, chart, lines))
    return found


def distributions(samples: Iterable[Sample]) -> Sequence[Distribution]:
    """Cumulative distributions of the first token and of the gaps between tokens, over these samples."""
    first_tokens: list[float] = []
    gaps: list[float] = []
    for sample in samples:
        for request in sample.requests:
            times = request.get("times") or {}
            if request.get("reused_from") is None and times.get("first_token_ns"):
                first_tokens.append((times["first_token_ns"] - times["sent_ns"]) / 1e9)
                if times.get("exact_token_times"):
                    offsets = times.get("token_offsets_us") or []
                    gaps += [(after - before) / 1e6 for before, after in pairwise(offsets)]
    named = zip(_CHARTS.values(), (first_tokens, gaps), strict=True)
    return [_distribution(title, sorted(values)) for title, values in named if values]


def amount(name: str, value: float | None) -> str:
    """A runtime number with its unit."""
    known = RUNTIME_METRICS.get(name)
    unit = known.unit if known else ""
    if value is None:
        return "?"
    if unit == "s":
        return "0 s" if value == 0 else seconds(value)
    if known is not None and not unit:
        return percent(value)
    if unit == "tokens":
        return f"{count(value)} tokens"
    return f"{number(value)} {unit}".rstrip()


def _line(name: str, value: float | None, details: Mapping[str, Any]) -> RuntimeLine:
    known, found = RUNTIME_METRICS.get(name), _estimate(name, details)
    low, high = found.get("low"), found.get("high")
    at_least = "≥ " if found.get("at_least") else ""
    reason = found.get("note") or (details.get("null_reasons") or {}).get(name) or ""
    absence, note = _absence(reason) if value is None else ("", reason)
    window = found.get("window_s")
    return RuntimeLine(
        name=name,
        title=known.title if known else "",
        unit=known.unit if known else "",
        value=None if value is None else f"{at_least}{amount(name, value)}",
        absence=absence,
        interval="" if low is None and high is None else f"{amount(name, low)} to {amount(name, high)}",
        samples=count(found["n"]) if found.get("n") else "",
        window="" if window is None else seconds(window),
        note=note,
    )


def _absence(reason: str) -> tuple[str, str]:
    """Why there is no number, in two words, and the rest of the reason."""
    for words in ("not measured", "not applicable", "not recorded"):
        if reason.startswith(words):
            return words, reason.removeprefix(words).removeprefix(":").strip()
    return "not measured", reason


def _estimate(name: str, details: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = (details.get("estimates") or {}).get(name) or {}
    return found


def _drawn_in(largest: float) -> tuple[str, float]:
    """The unit of an axis that ends at so many seconds, and how many of it a second has."""
    if largest >= 1:
        return "s", 1.0
    return ("ms", 1e3) if largest >= 1e-3 else ("µs", 1e6)


def _scaled(value: float | None, times: float) -> float | None:
    return None if value is None else value * times


def _distribution(title: str, values: Sequence[float]) -> Distribution:
    """``values`` ascending. Of many, every k-th step is drawn; the ends always are."""
    size = len(values)
    every = max(1, size // _MOST_STEPS)
    kept = sorted({*range(0, size, every), size - 1})
    unit, times = _drawn_in(values[-1])
    shares = (0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)
    return Distribution(
        title=title,
        observations=size,
        chart={
            "x": [values[index] * times for index in kept],
            "series": [{"label": "Share of observations", "values": [(index + 1) / size for index in kept]}],
            "xLabel": f"{title} ({unit})",
            "yLabel": "Share at or below",
            "kind": "steps",
            "zero": True,
        },
        rows=[(percent(share, 0), values[max(0, math.ceil(share * size) - 1)]) for share in shares],
    )
