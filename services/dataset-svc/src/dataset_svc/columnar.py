"""Parsing blocks of JSON Lines in C++, for blocks about which there is no doubt.

``pyarrow.json`` is fast and not strict: it takes ``NaN``, it spreads one row over several lines, it reads
``-0`` and whole numbers beyond 53 bits into doubles without a word, and data that begin with ``null`` end
the process. So a block is parsed here only with the types that were seen so far, and a result is given only
if it is what ``jsonl`` would have given. In every other case the answer is ``None``, which says nothing about
the block: the exact parser judges it.

Why a result is exact:

- Valid UTF-8, and no line longer than the limit, are checked on the bytes.
- Each line that is not blank begins with ``{`` and ends with ``}``, and there are as many rows as such lines.
  An object that is open at the end of a line would have to go on with ``{`` after ``}``, which is a syntax
  error, so every line completes at least one object, and by the count exactly one.
- Keys are unique, escaped surrogates are paired, control characters are escaped, and the syntax is strict
  JSON but for ``NaN``, ``Infinity`` and ``Inf``: the parser refuses the rest. Those three, overflows, and
  whole numbers in a column of doubles that a double cannot hold are seen in the values. So a block with
  doubles of 2^53 and more always takes the exact way.
- A key or a kind of value that was not seen before is refused by the parser, since it gets the explicit
  types seen so far. So names, nesting and the number of columns are judged by the exact parser alone.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pj

from dataset_svc.jsonl import Limits

_BLANK = b" \t\r"
_LF, _CR, _OPEN, _CLOSE = b"\n\r{}"
_EXACT_IN_DOUBLE = 2**53
# The parser takes no more rows at once.
_MOST_LINES = 99_999
_PARSE_BYTES = 1 << 20
_NEGATIVE_ZERO = -(2**63)  # its bits, read as a whole number


def parse_columns(data: bytes | memoryview, schema: pa.Schema, limits: Limits) -> list[pa.RecordBatch] | None:
    """The rows of whole lines, or ``None`` if there is any doubt.

    Args:
        data: lines that end with LF or CRLF; the last one may lack its end.
        schema: the columns that may occur and their types; ``null`` where no value was seen yet.
        limits: ``line_bytes`` is used.
    """
    if not schema.names or not _is_utf8(data):
        return None
    lines = _object_lines(data, limits)
    if lines is None or not lines.count:
        return None
    try:
        table = pj.read_json(
            pa.BufferReader(lines.data),
            read_options=pj.ReadOptions(use_threads=True, block_size=max(_PARSE_BYTES, lines.longest + 2)),
            parse_options=pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error"),
            memory_pool=pa.system_memory_pool(),
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, UnicodeDecodeError):
        return None
    if table.num_rows != lines.count or table.schema != schema:
        return None
    batches: list[pa.RecordBatch] = table.to_batches()
    return batches if all(_is_exact(column) for batch in batches for column in batch.columns) else None


@dataclass(frozen=True, slots=True)
class _Lines:
    """Lines that each begin with ``{`` and end with ``}``; ``longest`` is in bytes."""

    data: bytes | memoryview
    count: int
    longest: int


def _object_lines(data: bytes | memoryview, limits: Limits) -> _Lines | None:
    """The lines if each is as it should be; without blank ones and blanks around them if need be."""
    characters = np.frombuffer(data, np.uint8)
    starts, ends = _bounds(characters)
    longest = int((ends - starts).max())
    if len(starts) > _MOST_LINES or longest > limits.line_bytes:
        return None
    if _are_objects(characters, starts, ends):
        return _Lines(data, len(starts), longest)
    stripped = [line for line in (line.strip(_BLANK) for line in bytes(data).split(b"\n")) if line]
    if all(line[0] == _OPEN and line[-1] == _CLOSE for line in stripped):
        return _Lines(b"\n".join(stripped), len(stripped), longest)
    return None


def _bounds(characters: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where the lines start, and where their ends (LF, or the end of the data) are."""
    ends = np.flatnonzero(characters == _LF)
    if characters[-1] != _LF:
        ends = np.append(ends, len(characters))
    starts = np.concatenate(([0], ends[:-1] + 1))
    return starts, ends


def _are_objects(
    characters: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]
) -> bool:
    if not bool((characters[starts] == _OPEN).all()):
        return False
    last = characters[ends - 1]
    # A line that begins with an opening brace and ends with CR has at least two characters.
    last = np.where(last == _CR, characters[ends - 2], last)
    return bool((last == _CLOSE).all())


def _is_utf8(data: bytes | memoryview) -> bool:
    offsets = np.array([0, len(data)], np.int32)
    text = pa.StringArray.from_buffers(1, pa.py_buffer(offsets), pa.py_buffer(data))
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _is_exact(array: pa.Array) -> bool:
    """Whether every number in the array surely is what the line says."""
    kind = array.type
    if pa.types.is_list(kind):
        return _is_exact(array.flatten())
    if pa.types.is_struct(kind):
        return all(_is_exact(child) for child in array.flatten())
    if not pa.types.is_float64(kind) or array.null_count == len(array):
        return True
    values = array.drop_null().to_numpy(zero_copy_only=False)
    # A comparison with NaN is false.
    small = bool((np.abs(values) < _EXACT_IN_DOUBLE).all())
    return small and not bool((values.view(np.int64) == _NEGATIVE_ZERO).any())


def has_inexact_integer(array: pa.Array) -> bool:
    """Whether an array of ``int64`` has a number that a double would change."""
    low, high = pc.min_max(array).as_py().values()
    return low is not None and (low < -_EXACT_IN_DOUBLE or high > _EXACT_IN_DOUBLE)
