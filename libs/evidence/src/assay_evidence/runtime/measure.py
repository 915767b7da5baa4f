"""The runtime metrics of one run with their resamples.

Definitions are those of the run's own report. TTFT: first token with text minus sent. ITL: the gap between
two successive tokens, gaps inside one read left out. Latency: response complete minus sent, of every request
with a response. Throughput: per second in which at least one request was in flight, summed over instances.
Percentiles are nearest rank.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy
import pyarrow

from assay_evidence.report import PowerProvenance
from assay_evidence.runtime.power import energy_of_blocks, mean_power, power_provenance
from assay_evidence.runtime.resampling import (
    Observations,
    Weights,
    draw_blocks,
    observe,
    observe_gaps,
    quantile,
    weighted_sums,
    widening,
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
    spread_over_blocks,
)

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
_QUANTILES = (("P50", 0.50), ("P99", 0.99))
_BUSY, _TOKENS, _ANSWERED, _CORRECT, _JOULES = range(5)
_NO_GENERATION = "not applicable: the requests ask for log-probabilities and generate nothing"
_CONSTANT_POWER = "the course of power over the run was not recorded"


@dataclass(frozen=True, slots=True)
class CorrectAnswers:
    """Samples that a metric of right and wrong counts as right: ``index`` of each."""

    metric: str
    index: IntArray


@dataclass(frozen=True, slots=True)
class Measured:
    """One metric of one run.

    Attributes:
        value: ``None``: not measured, and ``note`` says why.
        resampled: (resamples,); ``None``: there can be no interval, and ``note`` says why.
        at_least: a percentile that has too few observations to be bounded from above.
    """

    value: float | None
    resampled: FloatArray | None = None
    note: str | None = None
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class RunMeasurements:
    """All runtime metrics of one run by name.

    Attributes:
        blocks: time blocks that the run was cut into.
        few_blocks: why these are too few for intervals; ``None`` where they are not.
        power: where power comes from.
        constant_power: energy was measured, but not its course: intervals take power as constant.
    """

    metrics: Mapping[str, Measured]
    blocks: int
    few_blocks: str | None
    power: PowerProvenance
    constant_power: bool


def measure(
    requests: pyarrow.Table,
    telemetry: Mapping[str, InstanceTelemetry],
    *,
    correct: CorrectAnswers | None,
    resamples: int,
    seed: int,
    side: int,
) -> RunMeasurements:
    """Measure one run.

    Args:
        requests: all requests of the run with the columns ``index`` and ``TIMING_COLUMNS``.
        telemetry: by instance.
        correct: for energy per correct answer.
        side: 0 or 1; the two runs of a comparison are resampled independently.
    """
    timeline = read_timeline(requests)
    blocks = cut_into_blocks(timeline)
    weights = draw_blocks(len(blocks), resamples=resamples, seed=seed, side=side)
    energy = energy_of_blocks(timeline, blocks, telemetry)
    watts = mean_power(timeline, telemetry)
    sums = _BlockSums.of(timeline, blocks, weights=weights, correct=correct, watts=watts, energy=energy)
    provenance = power_provenance(timeline, telemetry)
    return RunMeasurements(
        metrics={
            **_quantiles(requests, timeline, blocks, weights=weights),
            **_throughput(timeline, sums),
            **_energy(sums, power=provenance, correct=correct, constant=energy is None),
        },
        blocks=len(blocks),
        few_blocks=_few_blocks(timeline, blocks),
        power=provenance,
        constant_power=watts is not None and energy is None,
    )


def _few_blocks(timeline: RequestTimeline, blocks: TimeBlocks) -> str | None:
    if len(blocks) >= MIN_BLOCKS:
        return None
    return (
        f"{len(timeline.rows)} requests with {timeline.mean_in_flight:.0f} in flight make {len(blocks)} "
        f"time blocks of the {MIN_BLOCKS} that an interval needs"
    )


def _quantiles(
    requests: pyarrow.Table, timeline: RequestTimeline, blocks: TimeBlocks, *, weights: Weights
) -> dict[str, Measured]:
    has_text = timeline.generated & (timeline.first_token_ns > 0)
    observations = {
        "ttft": _durations(timeline, blocks, until_ns=timeline.first_token_ns, of=has_text),
        "itl": observe_gaps(requests, timeline, blocks),
        "latency": _durations(timeline, blocks, until_ns=timeline.done_ns, of=timeline.answered),
    }
    measured: dict[str, Measured] = {}
    for name, observed in observations.items():
        for suffix, share in _QUANTILES:
            found = quantile(observed, share, weights=weights)
            if found is None:
                measured[name + suffix] = Measured(None, note=_no_observation(name, timeline))
            elif found.at_least:
                note = f"{observed.n} observations do not bound this percentile from above"
                measured[name + suffix] = Measured(found.value, None, note, at_least=True)
            else:
                measured[name + suffix] = Measured(found.value, found.resampled)
    return measured


def _durations(
    timeline: RequestTimeline, blocks: TimeBlocks, *, until_ns: IntArray, of: BoolArray
) -> Observations:
    seconds = (until_ns[of] - timeline.sent_ns[of]) / NANOSECONDS
    return observe(seconds, blocks.of_request[of], blocks=len(blocks))


def _no_observation(name: str, timeline: RequestTimeline) -> str:
    if not timeline.answered.any():
        return "no request has a response"
    if not timeline.generated.any():
        return _NO_GENERATION
    if name == "itl" and not timeline.exact.any():
        return "not measured: the serving side gives no time for every token"
    if name == "itl":
        return "no response has two tokens that were read apart"
    return "no response has text"


@dataclass(frozen=True, slots=True)
class _BlockSums:
    """Seconds, tokens, responses, correct answers and joules: of the run, and of each resample.

    Attributes:
        whole: (5,).
        of_blocks: (blocks, 5).
        resampled: (resamples, 5).
    """

    whole: FloatArray
    of_blocks: FloatArray
    resampled: FloatArray

    @classmethod
    def of(
        cls,
        timeline: RequestTimeline,
        blocks: TimeBlocks,
        *,
        weights: Weights,
        correct: CorrectAnswers | None,
        watts: float | None,
        energy: FloatArray | None,
    ) -> "_BlockSums":
        """Sum up; joules are 0 where power is not known, and proportional to time where its course is not."""
        amounts = numpy.stack(
            [timeline.tokens, timeline.answered.astype(numpy.float64), _correct_share(timeline, correct)],
            axis=1,
        )
        joules = (watts or 0.0) * blocks.busy_s if energy is None else energy
        of_blocks = numpy.column_stack(
            [blocks.busy_s, spread_over_blocks(timeline, blocks, amounts=amounts), joules]
        )
        window = timeline.window_s
        whole = numpy.array([window, *amounts.sum(axis=0), (watts or 0.0) * window])
        return cls(whole=whole, of_blocks=of_blocks, resampled=weighted_sums(weights, of_blocks))

    def rate(self, of: int, per: int, *, note: str) -> Measured:
        """``of`` divided by ``per``; not measured, with ``note``, where ``per`` is 0."""
        if not self.whole[per]:
            return Measured(None, note=note)
        value = float(self.whole[of] / self.whole[per])
        with numpy.errstate(divide="ignore", invalid="ignore"):
            resampled = self.resampled[:, of] / self.resampled[:, per]
        if value > 0:
            wider = widening(self.of_blocks[:, of] - value * self.of_blocks[:, per])
            resampled = value * (resampled / value) ** wider
        return Measured(value, resampled)


def _correct_share(timeline: RequestTimeline, correct: CorrectAnswers | None) -> FloatArray:
    """Correct answers by request: that of a sample is shared evenly by its requests with a response.

    A sample whose responses were all taken from elsewhere has none here: nothing was asked for it.
    """
    if correct is None:
        return numpy.zeros(len(timeline.rows))
    counts = timeline.answered & numpy.isin(timeline.index, correct.index)
    _, sample, of_sample = numpy.unique(timeline.index[counts], return_inverse=True, return_counts=True)
    share = numpy.zeros(len(timeline.rows))
    share[counts] = 1.0 / of_sample[sample]
    return share


def _throughput(timeline: RequestTimeline, sums: _BlockSums) -> dict[str, Measured]:
    nothing = "no request was in flight"
    tokens = sums.rate(_TOKENS, _BUSY, note=nothing)
    if not timeline.generated.any():
        reason = _NO_GENERATION if timeline.answered.any() else "no request has a response"
        tokens = Measured(None, note=reason)
    return {"tps": tokens, "requestsPerSecond": sums.rate(_ANSWERED, _BUSY, note=nothing)}


def _energy(
    sums: _BlockSums, *, power: PowerProvenance, correct: CorrectAnswers | None, constant: bool
) -> dict[str, Measured]:
    names = ("power", "tokensPerWatt", "joulesPerToken", "joulesPerCorrectAnswer")
    if power.joules is None:
        return dict.fromkeys(names, Measured(None, note=f"not measured: {'; '.join(power.reasons)}"))
    no_tokens = "no token was generated"
    watts = sums.rate(_JOULES, _BUSY, note="no request was in flight")
    if constant:
        watts = Measured(watts.value, None, _CONSTANT_POWER)
    no_metric = "the run has no metric of right and wrong"
    no_answer = f"no answer is correct by {correct.metric}" if correct else no_metric
    per_watt = sums.rate(_TOKENS, _JOULES, note="the power is 0")
    return {
        "power": watts,
        "tokensPerWatt": per_watt if sums.whole[_TOKENS] else Measured(None, note=no_tokens),
        "joulesPerToken": sums.rate(_JOULES, _TOKENS, note=no_tokens),
        "joulesPerCorrectAnswer": sums.rate(_JOULES, _CORRECT, note=no_answer),
    }
