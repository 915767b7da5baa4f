"""Cutting a file into pieces of whole lines, in constant memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dataset_svc.jsonl import Limits

Buffer = bytes | memoryview

_LINE_END = b"\n"
_LF = ord(_LINE_END)


class Readable(Protocol):
    """What is read: a file, or a decompressor over one."""

    def readinto(self, buffer: memoryview, /) -> int:
        """Fill the buffer from its start; the number of bytes, 0 at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines. The last one may lack its end: at the end of the file, or where it is too long.

    Attributes:
        first_line: number of its first line, counted from 1.
        data: the lines. Of a line longer than the limit only the beginning is kept, which still is too long.
    """

    first_line: int
    data: Buffer

    def pieces(self, size: int) -> Iterator["Block"]:
        """The same lines in blocks of about ``size`` bytes."""
        data = bytes(self.data)
        start, line = 0, self.first_line
        while start < len(data):
            end = data.find(_LINE_END, min(start + size, len(data)) - 1) + 1 or len(data)
            piece = Block(line, data[start:end])
            yield piece
            line += _line_ends(piece.data)
            start = end


def read_blocks(file: Readable, limits: Limits, *, size: int) -> Iterator[Block]:
    """The whole file in blocks of about ``size`` bytes, at most ``size`` and the longest line.

    The blocks share their memory: one is valid until the next is asked for.

    Args:
        file: at its start.
        limits: ``line_bytes`` is used.
        size: bytes that are read at once.
    """
    longest = limits.line_bytes + 2  # the line's end may be CRLF
    memory = bytearray(longest + size)
    view = memoryview(memory)
    line, filled = 1, 0
    while count := file.readinto(view[filled : filled + size]):
        end = memory.rfind(_LINE_END, filled, filled + count) + 1
        filled += count
        if end:
            yield Block(line, view[:end])
            line += _line_ends(view[:end])
            filled -= end
            view[:filled] = view[end : end + filled]
        if filled > longest:
            yield Block(line, view[:longest])
            filled, found = _skip_line(file, memory, size)
            line += found
    if filled:
        yield Block(line, view[:filled])


def _skip_line(file: Readable, memory: bytearray, size: int) -> tuple[int, int]:
    """Read to the end of the present line; what follows is put at the start of the memory.

    Returns:
        How many bytes follow, and whether there was an end (1 or 0).
    """
    view = memoryview(memory)
    while count := file.readinto(view[:size]):
        end = memory.find(_LINE_END, 0, count) + 1
        if end:
            view[: count - end] = view[end:count]
            return count - end, 1
    return 0, 0


def _line_ends(data: Buffer) -> int:
    # Several times faster than bytes.count.
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == _LF))
