"""The canonical Parquet file of a snapshot: the same rows give the same bytes.

The bytes depend on the rows, their types and the order of their columns, and on the version of the Parquet
library; not on white space, line ends or escapes of the upload, nor on how the rows came in batches.
"""

import hashlib
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

_GROUP_ROWS = 65_536
_GROUP_BYTES = 8 << 20
_NUMBER_BYTES = 8
_OFFSET_BYTES = 4


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What names a file: its sha256, hexadecimal, and its size."""

    digest: str
    bytes: int


class CanonicalWriter:
    """Writes a canonical file, compressing beside the caller. Use it as a context manager.

    Memory is bounded by two row groups. A group ends with the row that brings it to 8 MiB or 65,536 rows, so
    where it ends depends on the values alone.

    Args:
        target: empty, open for writing bytes. It is whole when the block was left without an error.
        schema: columns and types; its metadata are kept in the file.
    """

    def __init__(self, target: BinaryIO, schema: pa.Schema) -> None:
        self.schema = schema
        self._target = _Hashing(target)
        # The Arrow schema is not embedded: the Parquet types say all there is, and the file is plainer.
        # Dictionaries and statistics cost a tenth of the time, and no reader of these files uses them. zstd
        # would halve the file for twice the time to write it.
        self._writer = pq.ParquetWriter(
            pa.PythonFile(self._target, mode="w"),
            schema,
            version="2.6",
            compression="snappy",
            use_dictionary=False,
            write_statistics=False,
            store_schema=False,
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="parquet")
        self._writing: Future[None] | None = None
        self._group: list[pa.RecordBatch] = []
        self._rows = 0
        self._bytes = 0

    def written(self) -> FileFacts:
        """Digest and size of the whole file; call it after the block."""
        return FileFacts(digest=self._target.sha256.hexdigest(), bytes=self._target.size)

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows.

        Args:
            batch: its columns are among the schema's, and their values fit its types.

        Raises:
            OSError: the file cannot be written.
        """
        batch = conform(batch, self.schema)
        weights = np.cumsum(_weights_of_rows(batch))
        start = 0
        while start < batch.num_rows:
            before = int(weights[start - 1]) if start else 0
            by_bytes = int(np.searchsorted(weights, before + _GROUP_BYTES - self._bytes)) + 1
            end = min(by_bytes, start + _GROUP_ROWS - self._rows, batch.num_rows)
            self._group.append(batch.slice(start, end - start))
            self._rows += end - start
            self._bytes += int(weights[end - 1]) - before
            if self._bytes >= _GROUP_BYTES or self._rows == _GROUP_ROWS:
                self._end_group()
            start = end

    def _end_group(self) -> None:
        # Pages end where chunks of the table do, so the chunks of a batch must not be left.
        table = pa.Table.from_batches(self._group, self.schema).combine_chunks()
        self._group, self._rows, self._bytes = [], 0, 0
        if self._writing is not None:
            self._writing.result()
        self._writing = self._thread.submit(self._writer.write_table, table, table.num_rows)

    def __enter__(self) -> "CanonicalWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is not None:
            self._abandon()
            return
        try:
            if self._group:
                self._end_group()
            if self._writing is not None:
                self._writing.result()
            if self.schema.metadata:  # the schema itself is not embedded
                self._writer.add_key_value_metadata(dict(self.schema.metadata))
            self._writer.close()
        except BaseException:
            self._abandon()
            raise
        self._thread.shutdown()

    def _abandon(self) -> None:
        self._thread.shutdown()
        # The writer writes the end of the file when it is collected, if not now.
        self._target.is_wanted = False
        with suppress(OSError, pa.ArrowException):
            self._writer.close()


class _Hashing:
    """A file that is written from its start to its end, with the digest of what was written."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sha256 = hashlib.sha256()
        self.size = 0
        self.closed = False
        self.is_wanted = True

    def write(self, data: bytes) -> int:
        if not self.is_wanted:
            return len(data)
        self.sha256.update(data)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()

    def close(self) -> None:
        # The file stays open for its owner.
        self._file.flush()


def conform(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The rows with the columns of ``schema``: those that are missing are null.

    Types may differ where ``schema`` has more fields or wider numbers, or where there are no values.
    """
    if batch.schema == schema:
        return batch
    missing = [name for name in batch.schema.names if name not in schema.names]
    assert not missing, missing
    arrays = [
        conform_array(batch.column(field.name), field.type)
        if field.name in batch.schema.names
        else pa.nulls(batch.num_rows, field.type)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def conform_array(array: pa.Array, kind: pa.DataType) -> pa.Array:
    """The values in type ``kind``; see ``conform``."""
    if array.type == kind:
        return array
    if array.null_count == len(array):
        return pa.nulls(len(array), kind)
    if pa.types.is_struct(kind):
        present = [field.name for field in array.type]
        children = [
            conform_array(array.field(field.name), field.type)
            if field.name in present
            else pa.nulls(len(array), field.type)
            for field in kind
        ]
        return pa.StructArray.from_arrays(children, fields=list(kind), mask=array.is_null())
    if pa.types.is_list(kind):
        items = conform_array(array.values, kind.value_type)
        # Nulls are put back by the mask; a sliced array's offsets begin at its first element.
        return pa.ListArray.from_arrays(
            pa.array(array.offsets.to_numpy()), items, type=kind, mask=array.is_null()
        )
    return array.cast(kind)


def _weights_of_rows(batch: pa.RecordBatch) -> npt.NDArray[np.int64]:
    """About how many bytes each row takes. The same for the same values, however they came to be."""
    positions = np.arange(batch.num_rows + 1, dtype=np.int64)
    total = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        total += _weights(column, positions)
    return total


def _weights(array: pa.Array, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Bytes of the values between each two neighbouring positions in ``array``."""
    kind = array.type
    counts = positions[1:] - positions[:-1]
    if pa.types.is_struct(kind):
        total = np.zeros(len(counts), np.int64)
        for place in range(kind.num_fields):
            total += _weights(array.field(place), positions)
        return total
    if pa.types.is_list(kind):
        inner = array.offsets.to_numpy()[positions].astype(np.int64)
        return _weights(array.values, inner) + _OFFSET_BYTES * counts
    if (pa.types.is_string(kind) or pa.types.is_binary(kind)) and len(array):
        offsets = np.frombuffer(array.buffers()[1], np.int32)[array.offset :][positions].astype(np.int64)
        return offsets[1:] - offsets[:-1] + _OFFSET_BYTES * counts
    return _NUMBER_BYTES * counts


def read_batches(file: Path | BinaryIO, *, rows: int = 1024) -> Iterator[pa.RecordBatch]:
    """All rows of a file, about ``rows`` at a time. Memory is bounded by a row group."""
    with pq.ParquetFile(file) as parquet:
        yield from parquet.iter_batches(batch_size=rows, use_threads=False)


def read_rows(path: Path, *, offset: int, limit: int) -> list[dict[str, Any]]:
    """Rows ``offset`` to ``offset + limit``, fewer at the end. Reads only the row groups they lie in."""
    found: list[dict[str, Any]] = []
    with pq.ParquetFile(path) as file:
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            if offset < count and len(found) < limit:
                found += file.read_row_group(group).slice(offset, limit - len(found)).to_pylist()
            offset = max(offset - count, 0)
    return found
