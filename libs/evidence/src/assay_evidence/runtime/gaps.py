"""The spread rule: from the arrival of tokens to the gaps between them.

k tokens that came together after a gap g count as k gaps of g / k each. That is what a reader of the stream
knows: k tokens took g, and nothing says when in g each was ready. The gaps of a request add up to the time
from its first stamp to its last, so means are not biased, and no gap is 0. A gap made by spreading is
flagged, because percentiles of such gaps are smoother than those of the tokens.

Of the tokens that came with a request's first one nothing is known: they were made before the first stamp, in
a time that also holds the queue and the prompt. Counting them as gaps of 0 would make the engine look faster
than it is, and sharing out the time to the first token would count that time twice. They are left out of the
gaps and counted as unknown.

An engine that sends several tokens at once (speculative decoding, batched output) and a reader too slow to
keep chunks apart leave the same trace. The number of reads with several tokens and the adapter's calibration
tell which it was.
"""

from dataclasses import dataclass

import numpy
import pyarrow

from assay_evidence.runtime.timeline import FloatArray, IntArray

MICROSECONDS = 1e6
TOLD_SPREAD = 0.005
"""Share of gaps made by spreading above which a reader is told of it."""
UNLIKE_SPREAD = 0.05
"""Difference of these shares above which percentiles of the gaps of two runs are not compared."""
# Larger than any offset: stamps of one request lie above all those of the request before.
_APART = 1 << 33


@dataclass(frozen=True, slots=True)
class TokenGaps:
    """Gaps between the tokens of some requests, in the order in which the tokens came.

    Attributes:
        before_us: (groups,) microseconds from one arrival to the next within a request, above 0.
        tokens: (groups,) tokens that came with the later arrival: gaps that the time before it counts as.
        unknown: tokens that came with the first one of their request, which have no gap.
    """

    before_us: IntArray
    tokens: IntArray
    unknown: int

    @property
    def n(self) -> int:
        """Gaps."""
        return int(self.tokens.sum())

    @property
    def spread(self) -> int:
        """Gaps that are shares of a longer one, because their tokens came together."""
        return int(self.tokens[self.tokens > 1].sum())

    @property
    def merged(self) -> int:
        """Tokens without an arrival of their own: of a group all but one, of the first group too."""
        return self.n - len(self.tokens) + self.unknown

    @property
    def seconds(self) -> FloatArray:
        """(groups,) length of each of the ``tokens`` gaps."""
        each: FloatArray = self.before_us / self.tokens / MICROSECONDS
        return each


def token_gaps(offsets_us: IntArray, lengths: IntArray) -> TokenGaps:
    """Apply the spread rule.

    Args:
        offsets_us: arrivals of the tokens of all requests, one request after the other, microseconds after
            the request was sent. Tokens that came together have the same value; one that is below an earlier
            one of its request counts as come together with that.
        lengths: (requests,) tokens of each; they add up to ``len(offsets_us)``.
    """
    if not len(offsets_us):
        return TokenGaps(numpy.zeros(0, numpy.int64), numpy.zeros(0, numpy.int64), 0)
    request = numpy.repeat(numpy.arange(len(lengths), dtype=numpy.int64), lengths)
    reached = numpy.maximum.accumulate(offsets_us.astype(numpy.int64) + request * _APART)
    starts = numpy.flatnonzero(numpy.append(True, numpy.diff(reached) > 0))
    sizes = numpy.diff(numpy.append(starts, len(reached)))
    is_first = numpy.append(True, numpy.diff(request[starts]) > 0)
    before = numpy.diff(reached[starts], prepend=0)
    return TokenGaps(
        before_us=before[~is_first], tokens=sizes[~is_first], unknown=int((sizes[is_first] - 1).sum())
    )


def gaps_of_lists(offsets: pyarrow.Array) -> TokenGaps:
    """The same for a list array (``tables.REQUEST_COLUMNS.token_offsets_us``), one list for each request."""
    values = offsets.flatten().to_numpy(zero_copy_only=False).astype(numpy.int64)
    lengths = offsets.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(numpy.int64)
    return token_gaps(values, lengths)
