"""Where texts part, for many pairs at once, on Arrow's buffers: no text becomes a Python string.

A text is a slice of one array of bytes (UTF-8), the lengths of its tokens a slice of one array of numbers.
"""

from dataclasses import dataclass

import numpy
import pyarrow
from numpy.typing import NDArray

Positions = NDArray[numpy.int64]

_FIRST_WINDOW = 32
_LARGEST_WINDOW = 512
_CELLS = 1 << 20
"""Largest number of elements that are compared in one step; bounds memory."""


@dataclass(frozen=True, slots=True, eq=False)
class Slices:
    """Slices of one array: ``values[start : start + length]``."""

    values: NDArray[numpy.uint8] | NDArray[numpy.uint32]
    start: Positions
    length: Positions

    @classmethod
    def of_texts(cls, texts: pyarrow.Array) -> "Slices":
        """The bytes of an array of ``large_string``; null is empty."""
        _, offsets, data = texts.buffers()
        bounds = numpy.frombuffer(offsets, dtype=numpy.int64)[texts.offset : texts.offset + len(texts) + 1]
        values = numpy.frombuffer(data, dtype=numpy.uint8) if data else numpy.empty(0, numpy.uint8)
        return cls(values[bounds[0] : bounds[-1]], bounds[:-1] - bounds[0], numpy.diff(bounds))

    @classmethod
    def of_lists(cls, lists: pyarrow.Array) -> "Slices":
        """The numbers of an array of ``large_list<uint32>``, none of them null; a null list is empty."""
        bounds = lists.offsets.to_numpy()  # of the slice, into the numbers of the whole array
        values = (
            lists.values.to_numpy()[bounds[0] : bounds[-1]] if len(bounds) else numpy.empty(0, numpy.uint32)
        )
        return cls(values, bounds[:-1] - bounds[0], numpy.diff(bounds))

    def at(self, places: Positions) -> "Slices":
        """Some of the slices."""
        return Slices(self.values, self.start[places], self.length[places])


def first_mismatch(first: Slices, second: Slices) -> Positions:
    """Position of the first unequal element of each pair; the shorter length where there is none."""
    shorter = numpy.minimum(first.length, second.length)
    found = shorter.copy()
    if not len(first.values) or not len(second.values):
        return found
    # Behind the last slice there must be room for a window; what differs there is behind an end, and cut off.
    room = numpy.zeros(_LARGEST_WINDOW, dtype=first.values.dtype)
    padded = numpy.concatenate([first.values, room]), numpy.concatenate([second.values, room])
    left, reached, window = numpy.flatnonzero(shorter), 0, _FIRST_WINDOW
    while len(left):
        views = [numpy.lib.stride_tricks.sliding_window_view(values, window) for values in padded]
        undecided = []
        step = max(1, _CELLS // window)
        for begin in range(0, len(left), step):
            rows = left[begin : begin + step]
            unequal = views[0][first.start[rows] + reached] != views[1][second.start[rows] + reached]
            where = unequal.argmax(axis=1)
            parted = unequal[numpy.arange(len(rows)), where]
            found[rows[parted]] = numpy.minimum(reached + where[parted], shorter[rows[parted]])
            undecided.append(rows[~parted & (shorter[rows] > reached + window)])
        left, reached = numpy.concatenate(undecided), reached + window
        window = min(2 * window, _LARGEST_WINDOW)
    return found


def characters_before(texts: Slices, at: Positions) -> Positions:
    """Number of whole characters in the first ``at`` bytes of each text."""
    values = texts.values
    if not len(values) or values.max() < 0x80:
        return at
    begins = (values & 0xC0) != 0x80
    count = _sums(begins, texts.start, at)
    # Two characters may begin with the same bytes: one that is cut by ``at`` is not whole.
    is_cut = (at < texts.length) & ~begins[numpy.minimum(texts.start + at, len(values) - 1)]
    whole: Positions = count - is_cut
    return whole


def words_before(first: Slices, second: Slices, at: Positions) -> Positions:
    """Number of words, separated by ASCII white space, that end before two texts part at byte ``at``."""
    blank = _is_blank(first.values)
    begins = ~blank
    begins[1:] &= blank[:-1]
    count = _sums(begins, first.start, at)
    # The first byte of a text follows the last one of the text before it, which may be no blank.
    opening = numpy.minimum(first.start, max(len(blank) - 1, 0))
    if len(blank):
        count += (at > 0) & ~blank[opening] & ~begins[opening]
    in_word = (at > 0) & ~_ends_word(first, at - 1)
    whole: Positions = count - (in_word & ~(_ends_word(first, at) & _ends_word(second, at)))
    return whole


def tokens_before(first: Slices, second: Slices, characters: Positions) -> Positions:
    """Number of tokens that two texts share; slices of token lengths, the texts part after ``characters``."""
    ended = numpy.minimum(_ended(first, characters), _ended(second, characters))
    return numpy.minimum(first_mismatch(first, second), ended)


def _ended(tokens: Slices, characters: Positions) -> Positions:
    """How many tokens of each text end within its first ``characters`` characters."""
    ends = numpy.concatenate([[0], numpy.cumsum(tokens.values, dtype=numpy.int64)])
    last = numpy.searchsorted(ends, ends[tokens.start] + characters, side="right") - 1
    ended: Positions = numpy.minimum(last - tokens.start, tokens.length)
    return ended


def _sums(flags: NDArray[numpy.bool_], start: Positions, length: Positions) -> Positions:
    """How many flags are set in each slice."""
    before = numpy.concatenate([[0], numpy.cumsum(flags, dtype=numpy.int64)])
    sums: Positions = before[start + length] - before[start]
    return sums


def _is_blank(values: NDArray[numpy.uint8] | NDArray[numpy.uint32]) -> NDArray[numpy.bool_]:
    blank: NDArray[numpy.bool_] = (values == 0x20) | ((values >= 0x09) & (values <= 0x0D))
    return blank


def _ends_word(texts: Slices, at: Positions) -> NDArray[numpy.bool_]:
    """Whether byte ``at`` of each text is white space, or behind its end."""
    inside = (at >= 0) & (at < texts.length)
    if not len(texts.values):
        return ~inside
    return ~inside | _is_blank(texts.values[numpy.where(inside, texts.start + at, 0)])
