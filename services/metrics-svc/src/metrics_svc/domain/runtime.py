"""Runtime metrics from the times of requests.

Definitions. TTFT: first token with text minus the moment the request was sent. ITL: the gap between two
successive tokens after the first. tps: output tokens divided by the time in which at least one request was
in flight, summed over serving instances, because only times of one instance may be compared. What a request
waited before it was sent is reported beside these and is in none of them.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict

import numpy
from numpy.typing import NDArray
from pydantic import BaseModel, JsonValue

from assay_evidence.runtime.telemetry import InstanceTelemetry
from assay_evidence.statistics.quantiles import percentile
from metrics_svc.domain.samples import RequestRecord, RequestTimes, SampleRecord

NANOSECONDS = 1e9
MICROSECONDS = 1e6

RUNTIME_METRICS = (
    "ttftP50",
    "ttftP99",
    "itlP50",
    "itlP99",
    "tps",
    "requestsPerSecond",
    "power",
    "tokensPerWatt",
)
_SHOWN_OF_A_SENSOR = {"sensor", "device_id", "scope", "joules", "seconds", "readings", "method"}


class Percentile(BaseModel):
    """Nearest-rank percentile, seconds, with its distribution-free 95 % interval.

    ``at_least``: too few observations to bound it from above; for p99 that is fewer than 299.
    """

    value: float
    low: float | None
    high: float | None
    at_least: bool


class Distribution(BaseModel):
    """Percentiles of ``n`` observations, seconds."""

    n: int
    p50: Percentile | None
    p99: Percentile | None


class GapDistribution(Distribution):
    """Inter-token gaps.

    Attributes:
        merged_gaps: gaps left out because both tokens came in one read.
        merged_share: their share of all gaps; a high one says that the reader was too slow.
        inexact_requests: requests left out because they have no time for every token.
    """

    merged_gaps: int
    merged_share: float
    inexact_requests: int


class PowerDetails(BaseModel):
    """Power and where it comes from. ``watts`` is ``None`` unless a sensor covered every instance."""

    status: str
    watts: float | None
    reasons: list[str]
    readings: list[JsonValue]


class RuntimeDetails(BaseModel):
    """What stands behind the runtime metrics. Times in seconds.

    Attributes:
        window_s: time with at least one request in flight, summed over instances.
        instances: serving instances that answered.
        requests: requests with a response.
        failed_requests: requests without one.
        retries: attempts beyond the first.
        without_text: generating requests whose response has no text, so no first token.
        schedule_delay: wait of a request before it was sent to the engine; in no other number.
        gap_independence: what the interval of ITL takes for granted.
        null_reasons: why a runtime metric is ``None``.
    """

    percentile_definition: str = "nearest rank"
    confidence: float = 0.95
    gap_independence: str = "the interval of ITL treats all gaps as independent observations"
    ttft: Distribution
    itl: GapDistribution
    schedule_delay: Distribution
    window_s: float
    instances: int
    output_tokens: int
    prompt_tokens: int
    requests: int
    failed_requests: int
    retries: int
    without_text: int
    stamp_sources: dict[str, int]
    power: PowerDetails
    cpu_seconds: float | None
    null_reasons: dict[str, str]


class RuntimeReport(BaseModel):
    """Runtime metrics by name, and the details."""

    metrics: dict[str, float | None]
    details: RuntimeDetails


class RuntimeTally:
    """Collects the times of samples, block by block; the report does not depend on their order."""

    def __init__(self) -> None:
        self._ttft: list[float] = []
        self._gaps: list[NDArray[numpy.float64]] = []
        self._merged = 0
        self._inexact = 0
        self._without_text = 0
        self._schedule_delays: list[float] = []
        self._intervals: dict[str, list[tuple[int, int]]] = defaultdict(list)
        self._output_tokens = 0
        self._prompt_tokens = 0
        self._answered = 0
        self._generated = 0
        self._failed = 0
        self._retries = 0
        self._stamp_sources: Counter[str] = Counter()

    def add(self, samples: Iterable[SampleRecord]) -> None:
        """Take in samples, each once."""
        for sample in samples:
            for request in sample.requests:
                self._add_request(request)

    def _add_request(self, request: RequestRecord) -> None:
        self._retries += request.retries
        if request.schedule_delay_s is not None:
            self._schedule_delays.append(request.schedule_delay_s)
        times = request.times
        if times is None:
            # A response without times was reused: it cost nothing and says nothing of the engine.
            self._failed += request.response is None and request.log_probability is None
            return
        self._intervals[request.instance_id or "unknown"].append((times.sent_ns, times.done_ns))
        if request.response is None and request.log_probability is None:
            self._failed += 1  # its time counts, because the engine was busy with it
            return
        self._answered += 1
        self._prompt_tokens += request.prompt_tokens or 0
        self._stamp_sources[times.stamp_source] += 1
        if request.kind == "generate":
            self._output_tokens += request.completion_tokens or 0
            self._add_token_times(times)

    def _add_token_times(self, times: RequestTimes) -> None:
        self._generated += 1
        if times.first_token_ns:
            self._ttft.append((times.first_token_ns - times.sent_ns) / NANOSECONDS)
        else:
            self._without_text += 1
        if not times.exact_token_times:
            self._inexact += 1
            return
        gaps = numpy.diff(numpy.asarray(times.token_offsets_us, dtype=numpy.float64)) / MICROSECONDS
        apart = gaps[gaps > 0]
        self._merged += len(gaps) - len(apart)
        if len(apart):
            self._gaps.append(apart)

    def report(self, telemetry: Sequence[InstanceTelemetry] = ()) -> RuntimeReport:
        """The metrics of everything taken in so far.

        Args:
            telemetry: of every serving instance of the run.
        """
        windows = {name: union_length(intervals) for name, intervals in sorted(self._intervals.items())}
        window_s = sum(windows.values()) / NANOSECONDS
        gaps = numpy.concatenate(self._gaps) if self._gaps else numpy.empty(0)
        ttft, itl = _distribution(numpy.asarray(self._ttft)), _distribution(gaps)
        tps = self._output_tokens / window_s if self._generated and window_s else None
        power = _power(telemetry, windows)
        metrics = {
            "ttftP50": ttft.p50 and ttft.p50.value,
            "ttftP99": ttft.p99 and ttft.p99.value,
            "itlP50": itl.p50 and itl.p50.value,
            "itlP99": itl.p99 and itl.p99.value,
            "tps": tps,
            "requestsPerSecond": self._answered / window_s if window_s else None,
            "power": power.watts,
            "tokensPerWatt": tps / power.watts if tps is not None and power.watts else None,
        }
        merged_of = self._merged + len(gaps)
        cpu_seconds = [one.cpu_seconds for one in telemetry if one.cpu_seconds is not None]
        details = RuntimeDetails(
            ttft=ttft,
            itl=GapDistribution(
                **itl.model_dump(),
                merged_gaps=self._merged,
                merged_share=self._merged / merged_of if merged_of else 0.0,
                inexact_requests=self._inexact,
            ),
            schedule_delay=_distribution(numpy.asarray(self._schedule_delays)),
            window_s=window_s,
            instances=len(windows),
            output_tokens=self._output_tokens,
            prompt_tokens=self._prompt_tokens,
            requests=self._answered,
            failed_requests=self._failed,
            retries=self._retries,
            without_text=self._without_text,
            stamp_sources=dict(sorted(self._stamp_sources.items())),
            power=power,
            cpu_seconds=sum(cpu_seconds) if cpu_seconds else None,
            null_reasons={
                name: self._null_reason(name, power) for name, value in metrics.items() if value is None
            },
        )
        return RuntimeReport(metrics=metrics, details=details)

    def _null_reason(self, metric: str, power: PowerDetails) -> str:
        if metric == "power":
            return f"not measured: {'; '.join(power.reasons)}"
        if not self._answered:
            return "no request has a response"
        if not self._generated:
            return "not applicable: the requests ask for log-probabilities and generate nothing"
        if metric == "tokensPerWatt":
            return f"not measured: {'; '.join(power.reasons) or 'power is 0'}"
        if metric.startswith("itl") and self._inexact == self._generated:
            return "not measured: the serving side gives no time for every token"
        if metric.startswith("itl"):
            return "no response has two tokens that were read apart"
        return "no response has text"


def union_length(intervals: Iterable[tuple[int, int]]) -> int:
    """Length of the union of closed intervals, in their unit."""
    total = 0
    end: int | None = None
    for start, stop in sorted(intervals):
        if end is None or start > end:
            total += stop - start
            end = stop
        elif stop > end:
            total += stop - end
            end = stop
    return total


def _distribution(values: NDArray[numpy.float64]) -> Distribution:
    ordered = numpy.sort(values)
    estimates = (percentile(ordered, 0.50), percentile(ordered, 0.99))
    p50, p99 = (estimate and Percentile(**asdict(estimate)) for estimate in estimates)
    return Distribution(n=len(values), p50=p50, p99=p99)


def _power(telemetry: Sequence[InstanceTelemetry], windows: dict[str, int]) -> PowerDetails:
    """Mean power over the instances, each weighted by the time in which it had requests in flight."""
    readings: list[JsonValue] = [
        {
            "instance_id": one.instance_id,
            **sensor.model_dump(include=_SHOWN_OF_A_SENSOR),
            "counted": sensor in one.counted(),
        }
        for one in telemetry
        for sensor in one.power or ()
    ]
    measured = {
        one.instance_id: sum(sensor.watts for sensor in counted)
        for one in telemetry
        if (counted := one.counted())
    }
    missing = [name for name in windows if name not in measured]
    total = sum(windows.values())
    if missing or not total:
        reasons = {reason for one in telemetry for reason in one.unavailable}
        without = [f"no power readings of serving instance {name}" for name in missing]
        return PowerDetails(
            status="not measured",
            watts=None,
            reasons=sorted(reasons) or without or ["no request was sent"],
            readings=readings,
        )
    watts = sum(measured[name] * length for name, length in windows.items()) / total
    return PowerDetails(status="measured", watts=watts, reasons=[], readings=readings)
