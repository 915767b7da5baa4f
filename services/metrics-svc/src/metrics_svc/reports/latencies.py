"""Distributions of request times, read from a run's requests table in bounded memory."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.compute as compute
import pyarrow.parquet
from numpy.typing import NDArray

from assay_evidence.runtime.gaps import gaps_of_lists

BINS_PER_DECADE = 256
"""Every bin is 0.9 % wide, which no curve on a screen resolves."""
SHORTEST_S = 1e-6
DECADES = 10
ROWS_AT_ONCE = 4096

NANOSECONDS = 1e9

_COLUMNS = [
    "kind",
    "answered",
    "reused",
    "sent_ns",
    "first_token_ns",
    "done_ns",
    "exact_token_times",
    "token_offsets_us",
]


@dataclass(frozen=True, slots=True)
class Distribution:
    """An empirical distribution: ``shares[i]`` of ``n`` observations are at most ``seconds[i]``."""

    n: int
    seconds: NDArray[numpy.float64]
    shares: NDArray[numpy.float64]


@dataclass(frozen=True, slots=True)
class RunLatencies:
    """Times of the requests of one run; ``None`` where none was measured.

    Attributes:
        ttft: first token with text minus sent, of what was generated.
        itl: gaps between the tokens of requests with a time for every token; tokens that came together
            share the time before them.
        latency: response complete minus sent.
    """

    ttft: Distribution | None
    itl: Distribution | None
    latency: Distribution | None


class _Histogram:
    """Counts of durations in bins of equal width on a logarithmic scale."""

    def __init__(self) -> None:
        self._counts = numpy.zeros(DECADES * BINS_PER_DECADE, dtype=numpy.int64)

    def add(self, seconds: NDArray[numpy.float64], times: NDArray[numpy.int64] | None = None) -> None:
        """Count durations, each as many ``times`` as given or once; what is not above zero is no duration."""
        positive = seconds > 0
        bins = numpy.floor(numpy.log10(seconds[positive] / SHORTEST_S) * BINS_PER_DECADE).astype(numpy.int64)
        counts = 1 if times is None else times[positive]
        numpy.add.at(self._counts, numpy.clip(bins, 0, len(self._counts) - 1), counts)

    def distribution(self) -> Distribution | None:
        """The distribution so far, with one point for each bin that has any."""
        total = int(self._counts.sum())
        if not total:
            return None
        filled = numpy.flatnonzero(self._counts)
        upper = SHORTEST_S * 10 ** ((filled + 1) / BINS_PER_DECADE)
        return Distribution(n=total, seconds=upper, shares=self._counts[filled].cumsum() / total)


def read_latencies(requests: Path) -> RunLatencies:
    """Read the distributions out of a requests table (``assay_evidence.tables.REQUEST_COLUMNS``).

    Requests that were not sent (reused answers) or not answered have no part in them.
    """
    ttft, itl, latency = _Histogram(), _Histogram(), _Histogram()
    with pyarrow.parquet.ParquetFile(requests) as file:
        for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=_COLUMNS):
            sent, first = batch.column("sent_ns"), batch.column("first_token_ns")
            wanted = _flags(batch, "answered") & ~_flags(batch, "reused")
            latency.add(_seconds(compute.subtract(batch.column("done_ns"), sent))[wanted])
            generated = wanted & _booleans(compute.equal(batch.column("kind"), "generate"))
            has_text = generated & _booleans(compute.greater(first, 0))
            ttft.add(_seconds(compute.subtract(first, sent))[has_text])
            exact = generated & _flags(batch, "exact_token_times")
            gaps = gaps_of_lists(batch.column("token_offsets_us").filter(pyarrow.array(exact)))
            itl.add(gaps.seconds, gaps.tokens)
    return RunLatencies(ttft=ttft.distribution(), itl=itl.distribution(), latency=latency.distribution())


def _flags(batch: Any, name: str) -> NDArray[numpy.bool_]:
    return _booleans(batch.column(name))


def _booleans(values: Any) -> NDArray[numpy.bool_]:
    """Null is false."""
    return numpy.asarray(values.fill_null(False).to_numpy(zero_copy_only=False), dtype=numpy.bool_)


def _seconds(nanoseconds: Any) -> NDArray[numpy.float64]:
    """Null is NaN."""
    return numpy.asarray(nanoseconds.to_numpy(zero_copy_only=False), dtype=numpy.float64) / NANOSECONDS
