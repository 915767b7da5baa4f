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

from assay_evidence.runtime.timeline import MIN_BLOCKS, FloatArray, IntArray, RequestTimeline, TimeBlocks
from assay_evidence.statistics.quantiles import quantile_ranks

BIN_WIDTH = 0.002
_LOWEST_S = 1e-7
_LOG_WIDTH = math.log1p(BIN_WIDTH)
_BINS = math.ceil(math.log(1e6 / _LOWEST_S) / _LOG_WIDTH)
_MAX_PERSISTENCE = 0.9
_MICROSECONDS = 1e6
# Gaps below are counted by the microsecond, which gives their exact quantiles.
_COUNTED_US = 1 << 18

Weights = NDArray[numpy.int64]
"""(resamples, blocks): how often each block is drawn; every row adds up to the number of blocks."""


class Quantile(NamedTuple):
    """A quantile of a run and of its resamples.

    Attributes:
        value: nearest rank.
        at_least: too few observations to bound it from above; for p99 that is fewer than 299.
        resampled: (resamples,).
    """

    value: float
    at_least: bool
    resampled: FloatArray


@dataclass(frozen=True, slots=True)
class Observations:
    """Positive observations in seconds, as far as quantiles need them.

    Attributes:
        n: how many.
        counts: (blocks, bins) by ``bin_of``.
        ordered: all of them ascending, or their values and how often each occurs in ``repeats``.
    """

    n: int
    counts: NDArray[numpy.int64]
    ordered: FloatArray
    repeats: IntArray | None = None

    def at_rank(self, rank: int) -> float:
        """The observation of a rank, from 1."""
        if self.repeats is None:
            return float(self.ordered[rank - 1])
        return float(self.ordered[int(numpy.searchsorted(numpy.cumsum(self.repeats), rank))])


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
    return Observations(n=len(seconds), counts=counts.reshape(blocks, _BINS), ordered=numpy.sort(seconds))


def observe_gaps(requests: pyarrow.Table, timeline: RequestTimeline, blocks: TimeBlocks) -> Observations:
    """Gaps between successive tokens of the requests that have a time for every token.

    Gaps of 0 are left out: both tokens came in one read, so that their gap is not known.
    """
    counts = numpy.zeros((len(blocks), _BINS), dtype=numpy.int64)
    short = numpy.zeros(_COUNTED_US, dtype=numpy.int64)
    long: list[IntArray] = []
    bins = bin_of(numpy.arange(_COUNTED_US) / _MICROSECONDS)
    # 64-bit list offsets, so that one array can hold the tokens of any run.
    offsets = requests["token_offsets_us"].cast(pyarrow.large_list(pyarrow.uint32())).combine_chunks()
    bounds = numpy.searchsorted(blocks.of_request, numpy.arange(len(blocks) + 1))
    for number in range(len(blocks)):
        part = slice(int(bounds[number]), int(bounds[number + 1]))
        gaps = _gaps(offsets, timeline.rows[part][timeline.exact[part]])
        is_short = gaps < _COUNTED_US
        below, above = gaps[is_short], gaps[~is_short]
        short += numpy.bincount(below, minlength=_COUNTED_US)
        counts[number] = numpy.bincount(bins[below], minlength=_BINS)
        if len(above):
            long.append(above)
            counts[number] += numpy.bincount(bin_of(above / _MICROSECONDS), minlength=_BINS)
    present = numpy.flatnonzero(short)
    longer = numpy.sort(numpy.concatenate(long)) if long else numpy.zeros(0, dtype=numpy.int64)
    return Observations(
        n=int(counts.sum()),
        counts=counts,
        ordered=numpy.concatenate([present, longer]) / _MICROSECONDS,
        repeats=numpy.concatenate([short[present], numpy.ones(len(longer), dtype=numpy.int64)]),
    )


def _gaps(offsets: pyarrow.Array, rows: IntArray) -> IntArray:
    """Positive gaps, microseconds."""
    lists = offsets.take(pyarrow.array(rows))
    values = lists.flatten().to_numpy().astype(numpy.int64)
    if len(values) < 2:
        return numpy.zeros(0, dtype=numpy.int64)
    gaps = numpy.diff(values)
    # No gap between the last token of one request and the first of the next.
    starts = numpy.cumsum(lists.value_lengths().fill_null(0).to_numpy())[:-1]
    gaps[starts[(starts > 0) & (starts < len(values))] - 1] = 0
    apart: IntArray = gaps[gaps > 0]
    return apart


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
    # A resample of blocks without any observation says nothing; it counts as the run itself.
    moved = numpy.where(numpy.isnan(positions), 0.0, positions - own)
    return Quantile(
        value=value,
        at_least=quantile_ranks(n, share).high is None,
        resampled=value * numpy.exp(moved * _LOG_WIDTH * wider),
    )


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
