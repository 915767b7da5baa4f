"""Throughput, goodput and energy of one run: ratios of what was done in each block of time."""

from dataclasses import dataclass
from enum import IntEnum

import numpy

from assay_evidence.report import PowerProvenance
from assay_evidence.runtime.goodput import NO_BOUNDS, GoodputBounds
from assay_evidence.runtime.measured import EXACT_BINOMIAL, Measured, OwnInterval
from assay_evidence.runtime.resampling import Weights, stretched, weighted_sums, widening
from assay_evidence.runtime.timeline import (
    FloatArray,
    IntArray,
    RequestTimeline,
    TimeBlocks,
    spread_over_blocks,
)
from assay_evidence.statistics.paired import rate_interval

NO_GENERATION = "not applicable: the requests ask for log-probabilities and generate nothing"
NO_RESPONSE = "no request has a response"
_NO_REQUEST = "no request was in flight"
_NO_TOKEN = "no token was generated"


class _Sum(IntEnum):
    """Columns of ``BlockSums``."""

    BUSY = 0
    TOKENS = 1
    ANSWERED = 2
    CORRECT = 3
    CONSIDERED = 4
    GOOD = 5
    JOULES = 6


@dataclass(frozen=True, slots=True)
class CorrectAnswers:
    """Samples that a metric of right and wrong counts as right: ``index`` of each."""

    metric: str
    index: IntArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Amounts:
    """What is counted of a run beside its requests and their tokens.

    Attributes:
        correct: for energy per correct answer.
        bounds: for goodput.
        failed: requests without a response.
        watts: mean power; ``None``: not measured.
        joules: (blocks,); ``None``: the course of power is not known.
        readings: of the sensors.
    """

    correct: CorrectAnswers | None
    bounds: GoodputBounds | None
    failed: int
    watts: float | None
    joules: FloatArray | None
    readings: int


@dataclass(frozen=True, slots=True)
class BlockSums:
    """Sums by ``_Sum``: of the run, of its blocks, and of each resample.

    Attributes:
        whole: (sums,).
        of_blocks: (blocks, sums).
        resampled: (resamples, sums).
    """

    whole: FloatArray
    of_blocks: FloatArray
    resampled: FloatArray

    @classmethod
    def of(
        cls, timeline: RequestTimeline, blocks: TimeBlocks, *, weights: Weights, amounts: Amounts
    ) -> "BlockSums":
        """Sum up; joules are 0 where power is not known, and proportional to time where its course is not."""
        bounds = amounts.bounds
        nothing = numpy.zeros(len(timeline.rows))
        counted = numpy.stack(
            [
                timeline.tokens,
                timeline.answered.astype(numpy.float64),
                _correct_share(timeline, amounts.correct),
                bounds.considered(timeline).astype(numpy.float64) if bounds else nothing,
                bounds.met(timeline).astype(numpy.float64) if bounds else nothing,
            ],
            axis=1,
        )
        watts = amounts.watts or 0.0
        joules = watts * blocks.busy_s if amounts.joules is None else amounts.joules
        of_blocks = numpy.column_stack(
            [blocks.busy_s, spread_over_blocks(timeline, blocks, amounts=counted), joules]
        )
        window = timeline.window_s
        whole = numpy.array([window, *counted.sum(axis=0), watts * window])
        return cls(whole=whole, of_blocks=of_blocks, resampled=weighted_sums(weights, of_blocks))

    def count(self, of: _Sum) -> int:
        """A sum that is a whole number."""
        return round(float(self.whole[of]))

    def rate(self, of: _Sum, per: _Sum, *, n: int, note: str) -> Measured:
        """``of`` divided by ``per``, from ``n`` observations; with ``note`` and no value where that is 0."""
        if not self.whole[per]:
            return Measured(None, note=note)
        value = float(self.whole[of] / self.whole[per])
        with numpy.errstate(divide="ignore", invalid="ignore"):
            resampled = self.resampled[:, of] / self.resampled[:, per]
        wider = widening(self.of_blocks[:, of] - value * self.of_blocks[:, per])
        return Measured(value, stretched(resampled, value, by=wider), n=n)


def throughput(timeline: RequestTimeline, sums: BlockSums) -> dict[str, Measured]:
    """Output tokens and requests per second."""
    tokens = sums.rate(_Sum.TOKENS, _Sum.BUSY, n=int(timeline.generated.sum()), note=_NO_REQUEST)
    if not timeline.generated.any():
        tokens = Measured(None, note=NO_GENERATION if timeline.answered.any() else NO_RESPONSE)
    answered = sums.rate(_Sum.ANSWERED, _Sum.BUSY, n=sums.count(_Sum.ANSWERED), note=_NO_REQUEST)
    return {"tps": tokens, "requestsPerSecond": answered}


def goodput(timeline: RequestTimeline, sums: BlockSums, amounts: Amounts) -> dict[str, Measured]:
    """Requests that meet all bounds: per second, and as a share of all, failed ones included."""
    bounds = amounts.bounds
    considered = sums.count(_Sum.CONSIDERED)
    if bounds is None:
        missing = NO_BOUNDS
    elif considered:
        return _goodput(sums, n=considered + amounts.failed)
    elif timeline.answered.any():
        missing = NO_GENERATION
    else:
        missing = NO_RESPONSE
    return dict.fromkeys(("goodput", "goodputShare"), Measured(None, note=missing))


def _goodput(sums: BlockSums, *, n: int) -> dict[str, Measured]:
    good, considered = sums.count(_Sum.GOOD), sums.count(_Sum.CONSIDERED)
    rate = sums.rate(_Sum.GOOD, _Sum.BUSY, n=n, note=_NO_REQUEST)
    share = sums.rate(_Sum.GOOD, _Sum.CONSIDERED, n=n, note=_NO_REQUEST)
    if good == 0:
        rate = Measured(0.0, n=n, note="no request meets the bounds, so resampling them says nothing")
    if good in (0, considered):
        # All blocks are alike then; what is not known is in the exact interval alone.
        met = "no request meets" if good == 0 else "every answered request meets"
        share = Measured(None, n=n, note=f"{met} the bounds, so resampling them says nothing")
    answered = considered / n
    resampled = None if share.resampled is None else share.resampled * answered
    return {
        "goodput": rate,
        "goodputShare": Measured(
            good / n,
            resampled,
            n=n,
            own=OwnInterval(*rate_interval(good, n), EXACT_BINOMIAL),
            note=share.note,
        ),
    }


def energy(sums: BlockSums, *, power: PowerProvenance, amounts: Amounts) -> dict[str, Measured]:
    """Mean power, and energy by token, request and correct answer."""
    names = ("power", "tokensPerWatt", "joulesPerToken", "joulesPerRequest", "joulesPerCorrectAnswer")
    if power.joules is None:
        return dict.fromkeys(names, Measured(None, note=f"not measured: {'; '.join(power.reasons)}"))
    n, correct = amounts.readings, amounts.correct
    watts = sums.rate(_Sum.JOULES, _Sum.BUSY, n=n, note=_NO_REQUEST)
    if amounts.joules is None:
        watts = Measured(watts.value, n=n, note="the course of power over the run was not recorded")
    no_answer = (
        f"no answer is correct by {correct.metric}"
        if correct
        else ("the run has no metric of right and wrong")
    )
    per_watt = sums.rate(_Sum.TOKENS, _Sum.JOULES, n=n, note="the power is 0")
    return {
        "power": watts,
        "tokensPerWatt": per_watt if sums.whole[_Sum.TOKENS] else Measured(None, note=_NO_TOKEN),
        "joulesPerToken": sums.rate(_Sum.JOULES, _Sum.TOKENS, n=n, note=_NO_TOKEN),
        "joulesPerRequest": sums.rate(_Sum.JOULES, _Sum.ANSWERED, n=n, note=NO_RESPONSE),
        "joulesPerCorrectAnswer": sums.rate(_Sum.JOULES, _Sum.CORRECT, n=n, note=no_answer),
    }


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
