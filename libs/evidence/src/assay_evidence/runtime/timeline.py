"""When the requests of one run were in flight, and how that time is cut into blocks for resampling.

Block rule. The requests of an instance, in the order in which they were sent, are cut into consecutive
blocks of equal size: at least ``MIN_REQUESTS`` requests and twice as many as were in flight on average (so
that a block lasts about two latencies and requests that disturb one another share a block), at most
``MAX_BLOCKS`` blocks in a run. Conditions that last longer than a block are then seen as well as conditions
that last shorter, as long as there are many blocks.
"""

from dataclasses import dataclass

import numpy
import pyarrow
import pyarrow.compute
from numpy.typing import NDArray

NANOSECONDS = 1e9
MAX_BLOCKS = 20
MIN_BLOCKS = 8
MIN_REQUESTS = 8
_SPREAD_AT_ONCE = 16_384
_UNKNOWN_INSTANCE = "unknown"

FloatArray = NDArray[numpy.float64]
IntArray = NDArray[numpy.int64]
BoolArray = NDArray[numpy.bool_]


@dataclass(frozen=True, slots=True)
class InstanceTimeline:
    """One serving instance: ``first`` and ``stop`` bound its requests in ``RequestTimeline``.

    ``starts_ns`` and ``ends_ns`` are the stretches with at least one request in flight, ascending and apart.
    """

    name: str
    first: int
    stop: int
    starts_ns: IntArray
    ends_ns: IntArray

    @property
    def busy_ns(self) -> int:
        """Time with at least one request in flight."""
        return int((self.ends_ns - self.starts_ns).sum())

    def busy_until(self, moments_ns: IntArray) -> FloatArray:
        """Seconds with a request in flight before each moment."""
        origin = self.starts_ns[0]
        edges = numpy.stack([self.starts_ns, self.ends_ns], axis=1).ravel() - origin
        lengths = self.ends_ns - self.starts_ns
        after = numpy.cumsum(lengths)
        passed = numpy.stack([after - lengths, after], axis=1).ravel()
        result: FloatArray = numpy.interp(moments_ns - origin, edges, passed) / NANOSECONDS
        return result


@dataclass(frozen=True, slots=True)
class RequestTimeline:
    """The requests that have times, ordered by instance and by the moment at which they were sent.

    Attributes:
        rows: their rows in the requests table.
        index: of the sample that each belongs to.
        sent_ns, done_ns: monotonic clock of the instance's host.
        first_token_ns: 0 where no text came.
        answered: whether there is a response; a failed one only kept the engine busy.
        generated: answered, and the request asked for text.
        tokens: output tokens of the generated ones, 0 of the others.
        exact: generated, with one time for every token.
        instances: in the order of their names.
    """

    rows: IntArray
    index: IntArray
    sent_ns: IntArray
    done_ns: IntArray
    first_token_ns: IntArray
    answered: BoolArray
    generated: BoolArray
    tokens: FloatArray
    exact: BoolArray
    instances: tuple[InstanceTimeline, ...]

    @property
    def window_s(self) -> float:
        """Time with at least one request in flight, summed over instances."""
        return sum(instance.busy_ns for instance in self.instances) / NANOSECONDS

    @property
    def mean_in_flight(self) -> float:
        """Requests in flight at the same time, on average over the window; 0 without a window."""
        window = self.window_s
        return float((self.done_ns - self.sent_ns).sum()) / NANOSECONDS / window if window else 0.0


@dataclass(frozen=True, slots=True)
class TimeBlocks:
    """Consecutive blocks of time of a run.

    Attributes:
        of_request: block of each request of the timeline, by the moment at which it was sent; ascending.
        bounds_ns: per instance, the starts of its blocks and the end of the last one.
        busy_s: per block, seconds with at least one request in flight; they add up to the window.
        first_of_instance: per instance, the number of its first block.
    """

    of_request: IntArray
    bounds_ns: tuple[IntArray, ...]
    busy_s: FloatArray
    first_of_instance: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.busy_s)


def read_timeline(requests: pyarrow.Table) -> RequestTimeline:
    """The timeline of a requests table (``tables.REQUEST_COLUMNS``)."""
    timed = pyarrow.compute.and_(*(requests[name].is_valid() for name in ("sent_ns", "done_ns")))
    rows = numpy.flatnonzero(timed.to_numpy())
    kept = requests.select(
        [
            "index",
            "kind",
            "instance",
            "answered",
            "completion_tokens",
            "sent_ns",
            "first_token_ns",
            "done_ns",
            "exact_token_times",
        ]
    ).take(rows)
    names = kept["instance"].fill_null(_UNKNOWN_INSTANCE)
    known = sorted(pyarrow.compute.unique(names).to_pylist())
    code = pyarrow.compute.index_in(names, pyarrow.array(known, pyarrow.string())).to_numpy()
    sent = kept["sent_ns"].to_numpy()
    order = numpy.lexsort((rows, sent, code))
    answered = kept["answered"].to_numpy()[order]
    generated = answered & pyarrow.compute.equal(kept["kind"], "generate").to_numpy()[order]
    tokens = kept["completion_tokens"].fill_null(0).to_numpy()[order].astype(numpy.float64)
    sent = sent[order]
    done = numpy.maximum(kept["done_ns"].to_numpy()[order], sent)
    counts = numpy.bincount(code, minlength=len(known)) if len(rows) else numpy.zeros(0, numpy.int64)
    stops = numpy.cumsum(counts)
    return RequestTimeline(
        rows=rows[order],
        index=kept["index"].to_numpy()[order],
        sent_ns=sent,
        done_ns=done,
        first_token_ns=kept["first_token_ns"].fill_null(0).to_numpy()[order],
        answered=answered,
        generated=generated,
        tokens=numpy.where(generated, tokens, 0.0),
        exact=generated & kept["exact_token_times"].to_numpy()[order],
        instances=tuple(
            _instance(name, sent, done, first=int(stop - count), stop=int(stop))
            for name, count, stop in zip(known, counts, stops, strict=True)
        ),
    )


def _instance(name: str, sent: IntArray, done: IntArray, *, first: int, stop: int) -> InstanceTimeline:
    """Stretches in flight: a new one begins where a request is sent after all earlier ones are done."""
    starts, reached = sent[first:stop], numpy.maximum.accumulate(done[first:stop])
    begins = numpy.flatnonzero(numpy.append(True, starts[1:] > reached[:-1]))
    ends = numpy.append(begins[1:], len(starts)) - 1
    return InstanceTimeline(
        name=name, first=first, stop=stop, starts_ns=starts[begins], ends_ns=reached[ends]
    )


def cut_into_blocks(timeline: RequestTimeline) -> TimeBlocks:
    """Cut the run by the block rule of this module."""
    n = len(timeline.rows)
    size = max(MIN_REQUESTS, int(numpy.ceil(2 * timeline.mean_in_flight)), -(-n // MAX_BLOCKS))
    of_request = numpy.zeros(n, dtype=numpy.int64)
    bounds: list[IntArray] = []
    busy: list[FloatArray] = []
    firsts: list[int] = []
    blocks = 0
    for instance in timeline.instances:
        held = instance.stop - instance.first
        count = max(1, held // size)
        starts = instance.first + (numpy.arange(count) * held) // count
        of_request[instance.first : instance.stop] = (
            blocks + numpy.searchsorted(starts, numpy.arange(instance.first, instance.stop), side="right") - 1
        )
        # One more nanosecond: the last request is done before the last block ends.
        edges = numpy.append(timeline.sent_ns[starts], instance.ends_ns[-1] + 1)
        bounds.append(edges)
        busy.append(numpy.diff(instance.busy_until(edges)))
        firsts.append(blocks)
        blocks += count
    return TimeBlocks(
        of_request=of_request,
        bounds_ns=tuple(bounds),
        busy_s=numpy.concatenate(busy) if busy else numpy.zeros(0),
        first_of_instance=tuple(firsts),
    )


def spread_over_blocks(timeline: RequestTimeline, blocks: TimeBlocks, *, amounts: FloatArray) -> FloatArray:
    """What was done in each block, where a request's work is spread evenly over its time in flight.

    Without the spreading a block would be credited with what the block before it has begun, and the
    resampled throughput would vary more than the throughput does.

    Args:
        amounts: (requests, kinds): what each request of the timeline brought.

    Returns:
        (blocks, kinds); the columns add up to those of ``amounts``.
    """
    done = numpy.zeros((len(blocks), amounts.shape[1]))
    for instance, first_block, bounds in zip(
        timeline.instances, blocks.first_of_instance, blocks.bounds_ns, strict=True
    ):
        until = numpy.zeros((len(bounds), amounts.shape[1]))
        for start in range(instance.first, instance.stop, _SPREAD_AT_ONCE):
            part = slice(start, min(start + _SPREAD_AT_ONCE, instance.stop))
            sent = timeline.sent_ns[part]
            lasts = numpy.maximum(timeline.done_ns[part] - sent, 1)
            share = (bounds[:, None] - sent[None, :]) / lasts[None, :]
            until += numpy.clip(share, 0.0, 1.0, out=share) @ amounts[part]
        done[first_block : first_block + len(bounds) - 1] = numpy.diff(until, axis=0)
    return done
