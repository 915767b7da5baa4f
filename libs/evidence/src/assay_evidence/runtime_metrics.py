"""The runtime metrics: names, units, which direction is better, what they may be used for.

One table for reports, comparisons, policies and the client. docs/runtime-metrics.md defines each metric.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final


class RuntimeUse(StrEnum):
    """How far a metric may be used; each includes the ones before it."""

    REPORTED = "reported"  # of one run
    COMPARED = "compared"  # beside that of another run
    JUDGED = "judged"  # bounded by a policy


@dataclass(frozen=True, slots=True, kw_only=True)
class RuntimeMetric:
    """One runtime metric.

    Attributes:
        title: what it is, for people.
        unit: ``s``, ``1/s``, ``tokens/s``, ``W``, ``J``, ``tokens/J``, ``tokens``; empty for a share.
        higher_is_better: ``None``: neither direction is.
        share: of a percentile, the share of observations that it is not below; else ``None``.
        needs_power: whether it needs a power reading.
    """

    title: str
    unit: str
    higher_is_better: bool | None = False
    use: RuntimeUse = RuntimeUse.JUDGED
    share: float | None = None
    needs_power: bool = False


_PERCENTILES: Final = {"P50": 0.50, "P90": 0.90, "P95": 0.95, "P99": 0.99}
_TIMES: Final = {"ttft": "Time to first token", "itl": "Between tokens", "latency": "Whole request"}
_OF_TIMES: Final = (*_PERCENTILES, "Mean")


def _times(name: str, title: str) -> Iterator[tuple[str, RuntimeMetric]]:
    """Percentiles and mean of a time."""
    for suffix, share in _PERCENTILES.items():
        words = "median" if share == 0.5 else f"{100 * share:.0f}th percentile"
        yield name + suffix, RuntimeMetric(title=f"{title}, {words}", unit="s", share=share)
    yield f"{name}Mean", RuntimeMetric(title=f"{title}, mean", unit="s")


def _metrics() -> Iterator[tuple[str, RuntimeMetric]]:
    reported = RuntimeUse.REPORTED
    for name, title in _TIMES.items():
        yield from _times(name, title)
    for suffix, words in (("P50", "median"), ("P99", "99th percentile")):
        yield (
            f"scheduleDelay{suffix}",
            RuntimeMetric(
                title=f"Wait before sending, {words}", unit="s", use=reported, share=_PERCENTILES[suffix]
            ),
        )
    yield "tps", RuntimeMetric(title="Output tokens per second", unit="tokens/s", higher_is_better=True)
    yield "requestsPerSecond", RuntimeMetric(title="Requests per second", unit="1/s", higher_is_better=True)
    yield (
        "goodput",
        RuntimeMetric(title="Requests within bounds per second", unit="1/s", higher_is_better=True),
    )
    yield "goodputShare", RuntimeMetric(title="Requests within bounds", unit="", higher_is_better=True)
    yield "errorRate", RuntimeMetric(title="Failed requests", unit="", use=reported)
    yield (
        "inputTokens",
        RuntimeMetric(title="Input tokens", unit="tokens", higher_is_better=None, use=reported),
    )
    yield (
        "outputTokens",
        RuntimeMetric(title="Output tokens", unit="tokens", higher_is_better=None, use=reported),
    )
    yield "power", RuntimeMetric(title="Power", unit="W", needs_power=True)
    yield (
        "tokensPerWatt",
        RuntimeMetric(title="Tokens per joule", unit="tokens/J", higher_is_better=True, needs_power=True),
    )
    yield "joulesPerToken", RuntimeMetric(title="Energy of a token", unit="J", needs_power=True)
    yield "joulesPerRequest", RuntimeMetric(title="Energy of a request", unit="J", needs_power=True)
    yield (
        "joulesPerCorrectAnswer",
        RuntimeMetric(title="Energy of a correct answer", unit="J", needs_power=True),
    )
    # One start of one instance: there is nothing to say how much it varies, so no rule may hang on it.
    yield "coldStart", RuntimeMetric(title="Cold start", unit="s", use=RuntimeUse.COMPARED)
    yield "acceleratorSeconds", RuntimeMetric(title="Accelerator time held", unit="s", use=reported)


RUNTIME_METRICS: Final[Mapping[str, RuntimeMetric]] = MappingProxyType(dict(_metrics()))
"""By name, in the order in which they are shown."""

COMPARED_METRICS: Final = tuple(
    name for name, metric in RUNTIME_METRICS.items() if metric.use is not RuntimeUse.REPORTED
)
"""Those that a comparison shows."""

JUDGED_METRICS: Final = tuple(
    name for name, metric in RUNTIME_METRICS.items() if metric.use is RuntimeUse.JUDGED
)
"""Those that a policy may bound."""

ENERGY_METRICS: Final = tuple(name for name, metric in RUNTIME_METRICS.items() if metric.needs_power)
"""Those that need a power reading."""


def metric_families(metrics: Sequence[str]) -> list[str]:
    """Names of metrics, shorter: ``ttft`` for all its percentiles and its mean, where all are there."""
    shortened: dict[str, None] = {}
    for metric in metrics:
        family = next((name for name in _TIMES if metric.removeprefix(name) in _OF_TIMES), None)
        whole = family is not None and all(family + suffix in metrics for suffix in _OF_TIMES)
        shortened[family if whole and family is not None else metric] = None
    return list(shortened)
