"""Rows for lm-eval: Parquet to an in-memory dataset, with columns renamed before any task sees them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from assay_harness.errors import RowFileProblem, UnmappedColumn

_ROWS_AT_ONCE = 1000


class PlainRows(datasets.Dataset):  # type: ignore[misc]
    """Rows whose columns hold one value each; iterating converts many at once, with the same result.

    lm-eval makes a list of all few-shot rows before a task can be asked anything.
    """

    def __iter__(self) -> Iterator[dict[str, Any]]:
        is_plain = all(
            type(feature) in (datasets.Value, datasets.ClassLabel) for feature in self.features.values()
        )
        if not is_plain or self._indices is not None or self._format_type is not None:
            yield from super().__iter__()
            return
        for batch in self.data.table.to_batches(max_chunksize=_ROWS_AT_ONCE):
            yield from batch.to_pylist()


class RowReader:
    """Reads files of rows, each file once: the tasks of a group may share one."""

    def __init__(self, column_mapping: Mapping[str, str]) -> None:
        self._column_mapping = column_mapping
        self._read: dict[Path, datasets.Dataset] = {}

    def read(self, path: Path) -> "datasets.Dataset":
        """Return all rows of a file, columns renamed; raises what `read_rows` raises."""
        if path not in self._read:
            self._read[path] = read_rows(path, column_mapping=self._column_mapping)
        return self._read[path]


def read_rows(path: Path, *, column_mapping: Mapping[str, str]) -> "datasets.Dataset":
    """Read all rows of a Parquet file; `column_mapping` maps a wanted name to a column of the file.

    Types come from the file's own schema and the features stored with it, never from inspection of values.
    A mapped column replaces a column of the wanted name. Raises `RowFileProblem`, or `UnmappedColumn` for a
    mapping from a column that the file lacks.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise RowFileProblem(file_name=path.name, problem=f"not readable as Parquet ({error})") from error
    if table.num_rows == 0:
        raise RowFileProblem(file_name=path.name, problem="it holds no rows")
    # An explicit fingerprint saves hashing the whole table; nothing is cached by it.
    dataset = PlainRows(table, fingerprint="assay-harness-rows")
    return _rename(dataset, column_mapping) if column_mapping else dataset


def _rename(dataset: "datasets.Dataset", column_mapping: Mapping[str, str]) -> "datasets.Dataset":
    """Rename on the Arrow table, keeping the position of each column and its feature."""
    available = dataset.column_names
    missing = [source for source in column_mapping.values() if source not in available]
    if missing:
        raise UnmappedColumn(columns=missing, available=available)
    wanted: dict[str, str] = {}
    for column in available:
        targets = [target for target, source in column_mapping.items() if source == column]
        if not targets and column not in column_mapping:
            targets = [column]
        wanted |= dict.fromkeys(targets, column)
    table = dataset.data.table
    renamed = pa.table([table.column(source) for source in wanted.values()], names=list(wanted))
    features = datasets.Features({target: dataset.features[source] for target, source in wanted.items()})
    return PlainRows(
        renamed, info=datasets.DatasetInfo(features=features), fingerprint="assay-harness-renamed-rows"
    )
