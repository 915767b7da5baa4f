"""Bootstrap over time blocks: totals, quantiles and intervals.

Blocks of a run are drawn with replacement, as many as it has. A quantile of a resample is read off the
blocks' histograms, whose bins are ``BIN_WIDTH`` wide relative to the value, and interpolated inside the bin,
so that a resample costs as much for ten million gaps as for ten thousand; the run's own value is exact.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import numpy
import pyarrow
from numpy.typing import NDArray
from scipy.special import ndtr, stdtrit

from assay_evidence.runtime.gaps import MICROSECONDS, TokenGaps, gaps_of_lists
from assay_evidence.runtime.timeline import MIN_BLOCKS, FloatArray, IntArray, RequestTimeline, TimeBlocks
from assay_evidence.statistics.quantiles import quantile_ranks

BIN_WIDTH = 0.002
_LOWEST_S = 1e-7
_LOG_WIDTH = math.log1p(BIN_WIDTH)
_BINS = math.ceil(math.log(1e6 / _LOWEST_S) / _LOG_WIDTH)
_MAX_PERSISTENCE = 0.9
# Gaps below are counted by the microsecond, which gives their exact quantiles.
_COUNTED_US = 1 << 18

Weights = NDArray[numpy.int64]
"""(resamples, blocks): how often each block is drawn; every row adds up to the number of blocks."""


class Quantile(NamedTuple):
    """A quantile of a run and of its resamples.

    Attributes:
        value: nearest rank.
        low, high: order statistics that enclose the true quantile with 95 %, were the observations
            independent; ``None`` where there are too few.
        at_least: too few observations to bound it from above; for p99 that is fewer than 299.
        resampled: (resamples,).
    """

    value: float
    low: float | None
    high: float | None
    at_least: bool
    resampled: FloatArray


class Mean(NamedTuple):
    """A mean of a run and of its resamples, (resamples,)."""

    value: float
    resampled: FloatArray


@dataclass(frozen=True, slots=True)
class Observations:
    """Positive observations in seconds, as far as quantiles and means need them.

    Attributes:
        n: how many.
        counts: (blocks, bins) by ``bin_of``.
        totals: (blocks,) their sums.
        ordered: all of them ascending, or their values and how often each occurs in ``repeats``.
        independent: how many independent ones they are worth; ``n`` where each was measured by itself.
    """

    n: int
    counts: NDArray[numpy.int64]
    totals: FloatArray
    ordered: FloatArray
    independent: int
    repeats: IntArray | None = None

    def at_rank(self, rank: int) -> float:
        """The observation of a rank, from 1."""
        if self.repeats is None:
            return float(self.ordered[rank - 1])
        return float(self.ordered[int(numpy.searchsorted(numpy.cumsum(self.repeats), rank))])

    def enclosing(self, share: float) -> tuple[float | None, float | None]:
        """The order statistics that enclose a quantile; ranks of independent ones are scaled up, outwards."""
        ranks, scale = quantile_ranks(self.independent, share), self.n / self.independent
        low = None if ranks.low is None else self.at_rank(max(1, math.floor(ranks.low * scale)))
        high = None if ranks.high is None else self.at_rank(min(self.n, math.ceil(ranks.high * scale)))
        return low, high


@dataclass(frozen=True, slots=True)
class ObservedGaps:
    """Gaps between tokens, and what the spread rule (``runtime.gaps``) did; all counts are of gaps.

    Attributes:
        spread: shares of a longer gap, whose tokens came together.
        merged: tokens without an arrival of their own.
        unknown: those of them that came with a request's first token, and so have no gap at all.
    """

    observations: Observations
    spread: int
    merged: int
    unknown: int

    @property
    def spread_share(self) -> float:
        """Share of the gaps that were made by spreading; 0 without any gap."""
        return self.spread / self.observations.n if self.observations.n else 0.0


def draw_blocks(count: int, *, resamples: int, seed: int, side: int) -> Weights:
    """Weights of the resamples of a run with ``count`` blocks; both sides of a comparison draw for itself."""
    if not count:
        return numpy.zeros((resamples, 0), dtype=numpy.int64)
    generator = numpy.random.default_rng([seed, side])
    return generator.multinomial(count, numpy.full(count, 1.0 / count), size=resamples)


def bin_of(seconds: FloatArray) -> IntArray:
    """Histogram bin of positive observations."""
    number = numpy.log(numpy.maximum(seconds, _LOWEST_S) / _LOWEST_S) / _LOG_WIDTH
    return numpy.minimum(number.astype(numpy.int64), _BINS - 1)


def observe(seconds: FloatArray, block: IntArray, *, blocks: int) -> Observations:
    """Observations in seconds, each with its block."""
    counts = numpy.bincount(block * _BINS + bin_of(seconds), minlength=blocks * _BINS)
    totals: FloatArray = numpy.bincount(block, weights=seconds, minlength=blocks).astype(numpy.float64)
    return Observations(
        n=len(seconds),
        counts=counts.reshape(blocks, _BINS),
        totals=totals,
        ordered=numpy.sort(seconds),
        independent=len(seconds),
    )


def observe_gaps(requests: pyarrow.Table, timeline: RequestTimeline, blocks: TimeBlocks) -> ObservedGaps:
    """Gaps between the tokens of the requests that have a time for every token, by the spread rule.

    Shares of one gap are one measurement: so many gaps are worth as many independent ones as Kish's effective
    sample size says.
    """
    # 64-bit list offsets, so that one array can hold the tokens of any run.
    offsets = requests["token_offsets_us"].cast(pyarrow.large_list(pyarrow.uint32())).combine_chunks()
    bounds = numpy.searchsorted(blocks.of_request, numpy.arange(len(blocks) + 1))
    tally = _GapTally(len(blocks))
    for number in range(len(blocks)):
        part = slice(int(bounds[number]), int(bounds[number + 1]))
        rows = timeline.rows[part][timeline.exact[part]]
        tally.add(gaps_of_lists(offsets.take(pyarrow.array(rows))), block=number)
    return tally.observed()


class _GapTally:
    """Counts gaps block by block: undivided short ones by the microsecond, the others by their value."""

    def __init__(self, blocks: int) -> None:
        self._counts = numpy.zeros((blocks, _BINS), dtype=numpy.int64)
        self._totals = numpy.zeros(blocks)
        self._short = numpy.zeros(_COUNTED_US, dtype=numpy.int64)
        self._bin_of_short = bin_of(numpy.arange(_COUNTED_US) / MICROSECONDS)
        self._others: list[FloatArray] = []
        self._repeats: list[IntArray] = []
        self._squares = 0
        self._spread = self._merged = self._unknown = 0

    def add(self, gaps: TokenGaps, *, block: int) -> None:
        """Count the gaps of one block."""
        is_short = (gaps.tokens == 1) & (gaps.before_us < _COUNTED_US)
        short = gaps.before_us[is_short]
        others, repeats = gaps.seconds[~is_short], gaps.tokens[~is_short]
        self._short += numpy.bincount(short, minlength=_COUNTED_US)
        # Sums of counts, which a float holds exactly.
        weighed = numpy.bincount(bin_of(others), weights=repeats, minlength=_BINS)
        self._counts[block] = numpy.bincount(self._bin_of_short[short], minlength=_BINS) + weighed.astype(int)
        self._totals[block] = int(gaps.before_us.sum()) / MICROSECONDS
        self._others.append(others)
        self._repeats.append(repeats)
        self._squares += int((gaps.tokens**2).sum())
        self._spread += gaps.spread
        self._merged += gaps.merged
        self._unknown += gaps.unknown

    def observed(self) -> ObservedGaps:
        """What was counted."""
        n = int(self._counts.sum())
        present = numpy.flatnonzero(self._short)
        ordered = numpy.concatenate([present / MICROSECONDS, *self._others])
        repeats = numpy.concatenate([self._short[present], *self._repeats])
        order = numpy.argsort(ordered)
        observations = Observations(
            n=n,
            counts=self._counts,
            totals=self._totals,
            ordered=ordered[order],
            independent=n * n // self._squares if n else 0,
            repeats=repeats[order],
        )
        return ObservedGaps(observations, spread=self._spread, merged=self._merged, unknown=self._unknown)


def quantile(observations: Observations, share: float, *, weights: Weights) -> Quantile | None:
    """A quantile and its resamples; ``None`` where there is no observation."""
    n = observations.n
    if n == 0:
        return None
    # share * n may come out a hair above a whole number; the hair is not another rank.
    rank = min(n, max(1, math.ceil(share * n - 1e-9)))
    value = observations.at_rank(rank)
    used = numpy.flatnonzero(observations.counts.any(axis=0))
    # From 0 below the first bin up to all of a block's observations.
    below = numpy.zeros((len(observations.counts), len(used) + 1))
    numpy.cumsum(observations.counts[:, used], axis=1, out=below[:, 1:])
    own = float(_positions(below, numpy.ones((1, len(below)), dtype=numpy.int64), used, share=share)[0])
    positions = _positions(below, weights, used, share=share)
    # A tail is too rare to show how long conditions last; the middle shows it.
    wider = max(widening(_excess(below, share=one)) for one in (0.5, share))
    low, high = observations.enclosing(share)
    # A resample of blocks without any observation says nothing; it counts as the run itself.
    moved = numpy.where(numpy.isnan(positions), 0.0, positions - own)
    return Quantile(
        value=value,
        low=low,
        high=high,
        at_least=high is None,
        resampled=value * numpy.exp(moved * _LOG_WIDTH * wider),
    )


def mean(observations: Observations, *, weights: Weights) -> Mean | None:
    """The mean and its resamples; ``None`` where there is no observation."""
    if observations.n == 0:
        return None
    counts = observations.counts.sum(axis=1)
    value = float(observations.totals.sum()) / observations.n
    sums = weighted_sums(weights, numpy.column_stack([observations.totals, counts]))
    # As for quantiles, a resample without any observation counts as the run itself.
    held = sums[:, 1] > 0
    moved = numpy.where(held, sums[:, 0] / numpy.where(held, sums[:, 1], 1.0), value)
    return Mean(value, stretched(moved, value, by=widening(observations.totals - value * counts)))


def stretched(resampled: FloatArray, value: float, *, by: float) -> FloatArray:
    """Resamples of a positive number moved away from its ``value``, on the logarithmic scale, by a factor."""
    return value * (resampled / value) ** by if value > 0 else resampled


def _excess(below: FloatArray, *, share: float) -> FloatArray:
    """How many more observations above the quantile each block has than its part: what moves the quantile.

    Args:
        below: (blocks, bins + 1), observations below each bin in use.
    """
    whole, totals = below.sum(axis=0), below[:, -1]
    cut = int(numpy.searchsorted(whole, share * whole[-1]))
    excess: FloatArray = totals * (whole[cut] / whole[-1]) - below[:, cut]
    return excess


def widening(effects: FloatArray) -> float:
    """How much wider than under independent blocks an interval must be, because neighbours are alike.

    The ratio of standard errors of the mean of a first-order autoregressive series and of an independent one,
    from the correlation of neighbouring blocks, corrected for its bias in short series; at least 1.

    Args:
        effects: (blocks,): what each block contributes to the deviation of the estimate, in order of time.
    """
    count = len(effects)
    deviations = effects - effects.mean()
    squares = float(deviations @ deviations)
    if count < MIN_BLOCKS or squares <= 0:
        return 1.0
    correlation = float(deviations[1:] @ deviations[:-1]) / squares
    persistence = min(max((count * correlation + 1) / (count - 3), 0.0), _MAX_PERSISTENCE)
    return math.sqrt((1 + persistence) / (1 - persistence))


def _positions(below: FloatArray, weights: Weights, used: IntArray, *, share: float) -> FloatArray:
    """Where the resamples' quantiles lie, in bins, interpolated within the bin; NaN without observations.

    Looks at a dozen bins for each resample instead of adding up all bins of the blocks that it drew.

    Args:
        below: (blocks, bins + 1), observations below each bin in use.
        used: numbers of these bins.
    """
    of_bin = numpy.ascontiguousarray(below.T)
    total = weighted_sums(weights, below[:, -1:])[:, 0]
    wanted = share * total
    low = numpy.zeros(len(weights), dtype=numpy.int64)
    high = numpy.full(len(weights), len(used) - 1)
    while (low < high).any():
        middle = (low + high) // 2
        is_below = (weights * of_bin[middle + 1]).sum(axis=1) < wanted
        low, high = numpy.where(is_below, middle + 1, low), numpy.where(is_below, high, middle)
    before = (weights * of_bin[low]).sum(axis=1)
    held = (weights * of_bin[low + 1]).sum(axis=1) - before
    inside = (wanted - before) / numpy.where(held > 0, held, 1.0)
    return numpy.where(total > 0, used[low] + inside, numpy.nan)


def weighted_sums(weights: Weights, of_blocks: FloatArray) -> FloatArray:
    """(resamples, kinds) sums of (blocks, kinds).

    Without BLAS, whose threads wait for each other where the processors are busy, for longer than this takes.
    """
    sums: FloatArray = numpy.einsum("rb,bk->rk", weights, of_blocks)
    return sums


def interval(values: FloatArray, *, blocks: int, confidence: float) -> tuple[float, float] | None:
    """Two-sided percentile interval of resampled values.

    Its percentiles lie further out than those of the confidence, as far as Student's t lies outside the
    normal distribution and the resampled spread below the unbiased one: with few blocks the plain percentile
    interval is too short.

    Args:
        blocks: of the run with the fewer.

    Returns:
        ``None`` for fewer than ``MIN_BLOCKS`` blocks or values that are not finite.
    """
    if blocks < MIN_BLOCKS or not bool(numpy.isfinite(values).all()):
        return None
    reach = float(stdtrit(blocks - 1, 0.5 + confidence / 2)) * math.sqrt(blocks / (blocks - 1))
    tail = float(ndtr(-reach))
    low, high = numpy.quantile(values, [tail, 1 - tail])
    return float(low), float(high)
