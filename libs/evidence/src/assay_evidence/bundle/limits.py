"""Refuses tables that would fill the memory: a small Parquet file can stand for any number of equal texts."""

from pathlib import Path
from typing import Final

import pyarrow
import pyarrow.compute
import pyarrow.parquet

from assay_evidence.bundle.archive import BundleError

MOST_VALUES: Final = 1_000_000_000
"""Of a table, lists counted by their elements; eight bytes each."""

MOST_TEXT_BYTES: Final = 8 << 30

_ROWS_AT_ONCE: Final = 16_384


def check_size(table: Path) -> None:
    """Look at a table without unfolding it.

    Raises:
        BundleError: it would be larger in memory than any run of ours.
        pyarrow.ArrowException, OSError: it is no Parquet file.
    """
    texts = [
        column.name
        for column in pyarrow.parquet.read_schema(table)
        if pyarrow.types.is_string(column.type) or pyarrow.types.is_large_string(column.type)
    ]
    # Equal texts stay one text in dictionaries.
    with pyarrow.parquet.ParquetFile(table, read_dictionary=texts) as file:
        metadata = file.metadata
        values = sum(
            metadata.row_group(group).column(column).num_values
            for group in range(metadata.num_row_groups)
            for column in range(metadata.num_columns)
        )
        unfolded = 0
        is_too_large = max(values, metadata.num_rows) > MOST_VALUES
        if not is_too_large and texts:
            for batch in file.iter_batches(_ROWS_AT_ONCE, columns=texts):
                unfolded += sum(_text_bytes(column) for column in batch.columns)
                is_too_large = unfolded > MOST_TEXT_BYTES
                if is_too_large:
                    break
    if is_too_large:
        raise BundleError("too-large", f"{table.name} has more values or text than any run of Assay")


def _text_bytes(column: pyarrow.Array) -> int:
    """Bytes of the texts of a dictionary-encoded column, each as often as it is there."""
    lengths = pyarrow.compute.binary_length(column.dictionary).cast(pyarrow.int64())
    return pyarrow.compute.sum(lengths.take(column.indices)).as_py() or 0
