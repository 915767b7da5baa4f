"""The runtime metrics of one run with their resamples: the one definition for reports and comparisons.

TTFT: first token with text minus sent. ITL: the gap between two successive tokens, by the spread rule of
``runtime.gaps``. Latency: response complete minus sent, of every request with a response. Throughput: per
second in which at least one request was in flight, summed over instances. Percentiles are nearest rank.
docs/runtime-metrics.md has all definitions.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy
import pyarrow
import pyarrow.compute

from assay_evidence.report import PowerProvenance, RuntimeEstimate
from assay_evidence.runtime.goodput import GoodputBounds
from assay_evidence.runtime.measured import ORDER_STATISTICS, Measured, OwnInterval
from assay_evidence.runtime.power import energy_of_blocks, mean_power, power_provenance
from assay_evidence.runtime.rates import (
    NO_GENERATION,
    NO_RESPONSE,
    Amounts,
    BlockSums,
    CorrectAnswers,
    energy,
    goodput,
    throughput,
)
from assay_evidence.runtime.resampling import (
    Observations,
    ObservedGaps,
    Weights,
    draw_blocks,
    mean,
    observe,
    observe_gaps,
    quantile,
)
from assay_evidence.runtime.telemetry import InstanceTelemetry
from assay_evidence.runtime.timeline import (
    MIN_BLOCKS,
    NANOSECONDS,
    BoolArray,
    FloatArray,
    IntArray,
    RequestTimeline,
    TimeBlocks,
    cut_into_blocks,
    read_timeline,
)
from assay_evidence.runtime_metrics import RUNTIME_METRICS
from assay_evidence.statistics.quantiles import percentile

TIMING_COLUMNS = (
    "kind",
    "instance",
    "answered",
    "completion_tokens",
    "sent_ns",
    "first_token_ns",
    "done_ns",
    "exact_token_times",
    "token_offsets_us",
)


@dataclass(frozen=True, slots=True)
class RunMeasurements:
    """All runtime metrics of one run that requests and sensors give, by name.

    Attributes:
        gaps: what the spread rule did.
        blocks: time blocks that the run was cut into.
        few_blocks: why these are too few for intervals; ``None`` where they are not.
        window_s: time with at least one request in flight, summed over instances.
        instances: serving instances that requests were sent to.
        power: where power comes from.
        constant_power: energy was measured, but not its course: intervals take power as constant.
    """

    metrics: Mapping[str, Measured]
    gaps: ObservedGaps
    blocks: int
    few_blocks: str | None
    window_s: float
    instances: int
    power: PowerProvenance
    constant_power: bool

    def estimates(self) -> dict[str, RuntimeEstimate]:
        """All of them with their own intervals."""
        return {name: self.estimate(measured) for name, measured in self.metrics.items()}

    def estimate(self, measured: Measured) -> RuntimeEstimate:
        """A metric with its interval, as one of this run."""
        return measured.estimate(
            blocks=self.blocks, few_blocks=self.few_blocks, window_s=self.window_s or None
        )


def measure(
    requests: pyarrow.Table,
    telemetry: Mapping[str, InstanceTelemetry],
    *,
    correct: CorrectAnswers | None,
    resamples: int,
    seed: int,
    side: int,
    bounds: GoodputBounds | None = None,
) -> RunMeasurements:
    """Measure one run.

    Args:
        requests: all requests of the run with the columns ``index`` and ``TIMING_COLUMNS``.
        telemetry: by instance.
        correct: for energy per correct answer.
        side: 0 or 1; the two runs of a comparison are resampled independently.
        bounds: for goodput.
    """
    timeline = read_timeline(requests)
    blocks = cut_into_blocks(timeline)
    weights = draw_blocks(len(blocks), resamples=resamples, seed=seed, side=side)
    provenance = power_provenance(timeline, telemetry)
    amounts = Amounts(
        correct=correct,
        bounds=bounds if bounds is not None and bounds.given else None,
        failed=len(requests) - int(pyarrow.compute.sum(requests["answered"]).as_py() or 0),
        watts=mean_power(timeline, telemetry),
        joules=energy_of_blocks(timeline, blocks, telemetry),
        readings=provenance.readings,
    )
    sums = BlockSums.of(timeline, blocks, weights=weights, amounts=amounts)
    gaps = observe_gaps(requests, timeline, blocks)
    return RunMeasurements(
        metrics={
            **_times(timeline, blocks, gaps.observations, weights=weights),
            **throughput(timeline, sums),
            **goodput(timeline, sums, amounts),
            **energy(sums, power=provenance, amounts=amounts),
        },
        gaps=gaps,
        blocks=len(blocks),
        few_blocks=_few_blocks(timeline, blocks),
        window_s=timeline.window_s,
        instances=len(timeline.instances),
        power=provenance,
        constant_power=amounts.watts is not None and amounts.joules is None,
    )


def _few_blocks(timeline: RequestTimeline, blocks: TimeBlocks) -> str | None:
    if len(blocks) >= MIN_BLOCKS:
        return None
    return (
        f"{len(timeline.rows)} requests with {timeline.mean_in_flight:.0f} in flight make {len(blocks)} "
        f"time block{'' if len(blocks) == 1 else 's'} of the {MIN_BLOCKS} that an interval needs"
    )


def _times(
    timeline: RequestTimeline, blocks: TimeBlocks, gaps: Observations, *, weights: Weights
) -> dict[str, Measured]:
    has_text = timeline.generated & (timeline.first_token_ns > 0)
    observations = {
        "ttft": _durations(timeline, blocks, until_ns=timeline.first_token_ns, of=has_text),
        "itl": gaps,
        "latency": _durations(timeline, blocks, until_ns=timeline.done_ns, of=timeline.answered),
    }
    return {
        name: _time(observed, share=RUNTIME_METRICS[name].share, weights=weights)
        or Measured(None, note=_no_observation(kind, timeline))
        for kind, observed in observations.items()
        for name in (f"{kind}P50", f"{kind}P90", f"{kind}P95", f"{kind}P99", f"{kind}Mean")
    }


def _time(observed: Observations, *, share: float | None, weights: Weights) -> Measured | None:
    """A percentile, or without ``share`` the mean; ``None`` where there is no observation."""
    if share is None:
        average = mean(observed, weights=weights)
        return average and Measured(average.value, average.resampled, n=observed.n)
    found = quantile(observed, share, weights=weights)
    if found is None:
        return None
    own = OwnInterval(found.low, found.high, ORDER_STATISTICS)
    if not found.at_least:
        return Measured(found.value, found.resampled, n=observed.n, own=own)
    return Measured(found.value, None, _unbounded(observed.n), at_least=True, n=observed.n, own=own)


def percentile_of(seconds: FloatArray, share: float) -> Measured | None:
    """A percentile of times that have no place in the blocks; ``None`` where there are none."""
    found = percentile(numpy.sort(seconds), share)
    if found is None:
        return None
    own = OwnInterval(found.low, found.high, ORDER_STATISTICS)
    note = _unbounded(len(seconds)) if found.at_least else None
    return Measured(found.value, note=note, at_least=found.at_least, n=len(seconds), own=own)


def _unbounded(n: int) -> str:
    return f"{n} observations do not bound this percentile from above"


def _durations(
    timeline: RequestTimeline, blocks: TimeBlocks, *, until_ns: IntArray, of: BoolArray
) -> Observations:
    seconds = (until_ns[of] - timeline.sent_ns[of]) / NANOSECONDS
    return observe(seconds, blocks.of_request[of], blocks=len(blocks))


def _no_observation(kind: str, timeline: RequestTimeline) -> str:
    if not timeline.answered.any():
        return NO_RESPONSE
    if not timeline.generated.any():
        return NO_GENERATION
    if kind == "itl" and not timeline.exact.any():
        return "not measured: the serving side gives no time for every token"
    if kind == "itl":
        return "no response has tokens that came after its first one"
    return "no response has text"
