"""Hashes of rows, so that rows can be compared in little memory: 8 bytes a row.

The hash is BLAKE2b of 64 bits over an encoding in which different values differ: every value is its kind, its
length and its bytes. Among ten million different rows two hashes are the same by chance in one of 300,000
cases.
"""

import json
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Hashes = npt.NDArray[np.uint64]

_HEADER_BYTES = 9
_SLICE_ROWS = 4096


def hashes_of(batch: pa.RecordBatch, names: Sequence[str]) -> Hashes:
    """One hash for each row, over the columns ``names`` in that order; those that are missing are null."""
    found = [np.empty(0, np.uint64)]
    for start in range(0, batch.num_rows, _SLICE_ROWS):
        part = batch.slice(start, _SLICE_ROWS)
        columns = [
            part.column(name) if name in part.schema.names else pa.nulls(part.num_rows) for name in names
        ]
        rows = pc.binary_join_element_wise(*(_encoded(column) for column in columns), b"")
        digests = b"".join(blake2b(row, digest_size=8).digest() for row in _elements(rows))
        found.append(np.frombuffer(digests, np.uint64))
    return np.concatenate(found)


def _elements(array: pa.Array) -> Iterator[memoryview]:
    offsets = _offsets(array).tolist()
    data = memoryview(array.buffers()[2] or b"")
    return (data[start:end] for start, end in pairwise(offsets))


def _encoded(array: pa.Array) -> pa.Array:
    """Each value as bytes that say where they end; ``null`` is the same in every type."""
    kind, payload = _payload(array)
    payload = payload.fill_null(b"")
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    headers = np.zeros((len(array), _HEADER_BYTES), np.uint8)
    headers[:, 0] = np.where(valid, ord(kind), 0)
    lengths = pc.binary_length(payload).to_numpy(zero_copy_only=False).astype(np.int64)
    headers[:, 1:] = lengths.view(np.uint8).reshape(-1, 8)
    return pc.binary_join_element_wise(_fixed(headers.tobytes(), _HEADER_BYTES), payload, b"")


def _payload(array: pa.Array) -> tuple[bytes, pa.Array]:
    """The kind of the values, and their bytes; those of null do not matter."""
    kind = array.type
    if pa.types.is_null(kind):
        return b"0", pa.nulls(len(array), pa.binary())
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return b"t", array.cast(pa.binary())
    if pa.types.is_boolean(kind):
        return b"b", array.cast(pa.string()).cast(pa.binary())
    if pa.types.is_integer(kind) and kind != pa.uint64():
        return b"i", _numbers(array, pa.int64())
    if pa.types.is_floating(kind):
        return b"f", _numbers(array, pa.float64())
    if pa.types.is_list(kind):
        items = _encoded(array.values)
        # The items of a list lie side by side already.
        offsets = _offsets(items)[array.offsets.to_numpy()]
        data = [None, pa.py_buffer(offsets.astype(np.int32)), items.buffers()[2]]
        return b"l", _without_nulls(pa.Array.from_buffers(pa.binary(), len(array), data), array)
    if pa.types.is_struct(kind) and kind.num_fields:
        fields = [_encoded(array.field(place)) for place in range(kind.num_fields)]
        return b"o", _without_nulls(pc.binary_join_element_wise(*fields, b""), array)
    texts = [json.dumps(value, default=str, sort_keys=True).encode() for value in array.to_pylist()]
    return b"j", _without_nulls(pa.array(texts, pa.binary()), array)


def _without_nulls(payload: pa.Array, array: pa.Array) -> pa.Array:
    return pc.if_else(array.is_valid(), payload, pa.scalar(b"", pa.binary()))


def _numbers(array: pa.Array, kind: pa.DataType) -> pa.Array:
    values = array.cast(kind).fill_null(0).to_numpy(zero_copy_only=False)
    return _without_nulls(_fixed(values.tobytes(), 8), array)


def _fixed(data: bytes, size: int) -> pa.Array:
    count = len(data) // size
    offsets = np.arange(count + 1, dtype=np.int32) * size
    return pa.Array.from_buffers(pa.binary(), count, [None, pa.py_buffer(offsets), pa.py_buffer(data)])


def _offsets(array: pa.Array) -> npt.NDArray[Any]:
    if len(array) == 0:
        return np.zeros(1, np.int32)
    return np.frombuffer(array.buffers()[1], np.int32)[array.offset : array.offset + len(array) + 1]
