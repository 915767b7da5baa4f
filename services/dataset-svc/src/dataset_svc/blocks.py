"""Cutting a file into pieces of whole lines, in constant memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from dataset_svc.jsonl import Limits

_LINE_END = b"\n"
_LF = ord(_LINE_END)


class Readable(Protocol):
    """What is read: a file, or a decompressor over one."""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes; empty at the end."""
        ...


@dataclass(frozen=True, slots=True)
class Block:
    """Whole lines. The last one may lack its end: at the end of the file, or where it is too long.

    Attributes:
        first_line: number of its first line, counted from 1.
        data: the lines. Of a line longer than the limit only the beginning is kept, which still is too long.
    """

    first_line: int
    data: bytes

    def pieces(self, size: int) -> Iterator["Block"]:
        """The same lines in blocks of about ``size`` bytes."""
        start, line = 0, self.first_line
        while start < len(self.data):
            end = self.data.find(_LINE_END, min(start + size, len(self.data)) - 1) + 1 or len(self.data)
            piece = Block(line, self.data[start:end])
            yield piece
            line += _line_ends(piece.data)
            start = end


def read_blocks(file: Readable, limits: Limits, *, size: int) -> Iterator[Block]:
    """The whole file in blocks of about ``size`` bytes, at most ``size`` and the longest line.

    Args:
        file: at its start.
        limits: ``line_bytes`` is used.
        size: bytes that are read at once.
    """
    longest = limits.line_bytes + 2  # the line's end may be CRLF
    line = 1
    rest = b""
    while chunk := file.read(size):
        end = chunk.rfind(_LINE_END) + 1
        if end:
            block = Block(line, b"".join((rest, memoryview(chunk)[:end])))
            rest = chunk[end:]
            yield block
            line += _line_ends(block.data)
        else:
            rest += chunk
        if len(rest) > longest:
            yield Block(line, rest[:longest])
            rest, found = _after_line(file, size)
            line += found
    if rest:
        yield Block(line, rest)


def _after_line(file: Readable, size: int) -> tuple[bytes, int]:
    """What was read behind the end of the present line, and whether there was one (1 or 0)."""
    while chunk := file.read(size):
        _, end, rest = chunk.partition(_LINE_END)
        if end:
            return rest, 1
    return b"", 0


def _line_ends(data: bytes) -> int:
    # Several times faster than bytes.count.
    return int(np.count_nonzero(np.frombuffer(data, np.uint8) == _LF))
