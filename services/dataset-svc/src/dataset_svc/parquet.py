"""The canonical Parquet file of a snapshot: the same rows give the same bytes.

The bytes depend on the rows, their types and the order of their columns, and on the version of the Parquet
library; not on white space, line ends or escapes of the upload.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from dataset_svc.jsonl import Row

_BATCH_ROWS = 64
_GROUP_ROWS = 8192
_GROUP_BYTES = 32 << 20


def write_rows(rows: Iterable[Row], schema: pa.Schema, target: BinaryIO) -> None:
    """Write a canonical file.

    Memory is bounded by one row group. Where a group ends depends on the values alone, never on how the
    upload was written.

    Args:
        rows: they fit ``schema``; a missing key is null.
        schema: columns and types.
        target: open for writing bytes.
    """
    # The Arrow schema is not embedded: the Parquet types say all there is, and the file is plainer.
    with pq.ParquetWriter(
        target,
        schema,
        version="2.6",
        compression="zstd",
        compression_level=3,
        use_dictionary=True,
        write_statistics=True,
        store_schema=False,
    ) as writer:
        for table in _row_groups(rows, schema):
            writer.write_table(table, row_group_size=table.num_rows)


def _row_groups(rows: Iterable[Row], schema: pa.Schema) -> Iterator[pa.Table]:
    pending: list[pa.RecordBatch] = []
    size = 0
    iterator = iter(rows)
    while rows_of_batch := list(islice(iterator, _BATCH_ROWS)):
        batch = pa.RecordBatch.from_pylist(rows_of_batch, schema=schema)
        pending.append(batch)
        size += batch.nbytes
        if size >= _GROUP_BYTES or len(pending) * _BATCH_ROWS >= _GROUP_ROWS:
            yield pa.Table.from_batches(pending, schema)
            pending, size = [], 0
    if pending:
        yield pa.Table.from_batches(pending, schema)


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
