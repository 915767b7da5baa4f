"""The samples of a run, and the pairs of a comparison, as rows in the order of the documents.

The tables that they come from are in the order in which the samples were finished. They are spooled into
files that are mapped into memory, so that rows can be picked in any order while memory holds few of them.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet
from numpy.typing import NDArray

from assay_evidence.facts import RunFacts
from assay_evidence.tables import FILTERED_PREFIX, VALUE_PREFIX

ROWS_AT_ONCE = 1000
_HASHES = ("doc_hash", "prompt_hash", "target_hash")
_TEXTS = ("response", "finish_reason")

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class SampleFile:
    """A run's samples table and what is known of the run."""

    facts: RunFacts
    path: Path


class SampleRows:
    """Rows of a samples table by the index of their document.

    Args:
        file: the table.
        spool: where its columns are written in a form that can be mapped.
    """

    def __init__(self, file: SampleFile, spool: Path) -> None:
        self._facts = file.facts
        names = pyarrow.parquet.read_schema(file.path).names
        self.keys = [name.removeprefix(VALUE_PREFIX) for name in names if name.startswith(VALUE_PREFIX)]
        self.filters = [
            name.removeprefix(FILTERED_PREFIX) for name in names if name.startswith(FILTERED_PREFIX)
        ]
        _spool(file.path, spool, leave_out=("token_text_lengths", "block", "position"))
        reader = pyarrow.ipc.open_file(pyarrow.memory_map(str(spool)))
        self._batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        index = [batch.column("index").to_numpy() for batch in self._batches]
        flat = numpy.concatenate(index) if index else numpy.empty(0, dtype=numpy.int64)
        order = numpy.argsort(flat, kind="stable")
        self.index: NDArray[numpy.int64] = flat[order]
        self._place = order
        self._starts = numpy.cumsum([0, *(len(one) for one in index)])

    def read(self, wanted: Sequence[int]) -> list[Row]:
        """The rows of these documents, as ``sample_row`` makes them; each must be there."""
        places = self._place[numpy.searchsorted(self.index, numpy.asarray(wanted, dtype=numpy.int64))]
        owners = numpy.searchsorted(self._starts, places, side="right") - 1
        by_batch: dict[int, list[int]] = defaultdict(list)
        for position, owner in enumerate(owners.tolist()):
            by_batch[owner].append(position)
        rows: list[Row] = [{}] * len(wanted)
        for owner, positions in by_batch.items():
            inside = pyarrow.array(places[positions] - self._starts[owner])
            found = self._batches[owner].take(inside).to_pylist()
            for position, row in zip(positions, found, strict=True):
                rows[position] = self._row(row)
        return rows

    def _row(self, row: Row) -> Row:
        """Hashes as hexadecimal digits; a failed sample has the values that it counts with."""
        for name in _HASHES:
            row[name] = row[name].hex()
        if row["failed"] and self._facts.failure_policy == "score_zero":
            for key in self.keys:
                if f"{row['task']}.{key}" in self._facts.sample_metrics:
                    row[VALUE_PREFIX + key] = 0.0
        return row


def sample_schema(rows: SampleRows) -> pyarrow.Schema:
    """Columns of a run's samples."""
    fields = [
        pyarrow.field("index", pyarrow.int64()),
        pyarrow.field("task", pyarrow.string()),
        *(pyarrow.field(name, pyarrow.string()) for name in _HASHES),
        pyarrow.field("failed", pyarrow.bool_()),
        *(pyarrow.field(VALUE_PREFIX + key, pyarrow.float64()) for key in rows.keys),
        *(pyarrow.field(FILTERED_PREFIX + name, pyarrow.string()) for name in rows.filters),
        pyarrow.field("target", pyarrow.string()),
        *(pyarrow.field(name, pyarrow.string()) for name in _TEXTS),
    ]
    return pyarrow.schema(fields)


def sample_rows(rows: SampleRows) -> Iterator[list[Row]]:
    """A run's samples by ascending index, some at a time."""
    for start in range(0, len(rows.index), ROWS_AT_ONCE):
        yield rows.read(rows.index[start : start + ROWS_AT_ONCE].tolist())


@dataclass(frozen=True, slots=True)
class PairedRows:
    """The pairs of a comparison and the samples of both sides."""

    pairs: pyarrow.Table
    baseline: SampleRows
    candidate: SampleRows

    @property
    def keys(self) -> list[str]:
        """Metrics that both sides have."""
        return [key for key in self.baseline.keys if key in self.candidate.keys]

    @property
    def filters(self) -> list[str]:
        """Filters that both sides have."""
        return [name for name in self.baseline.filters if name in self.candidate.filters]

    @property
    def fates(self) -> list[str]:
        """Columns that say what became of an item by a metric."""
        return [name for name in self.pairs.schema.names if ":" in name]


def pair_schema(paired: PairedRows) -> pyarrow.Schema:
    """Columns of a comparison's items."""
    sides = ("baseline", "candidate")
    text, number = pyarrow.string(), pyarrow.float64()
    fields = [
        pyarrow.field("task", text),
        pyarrow.field("doc_hash", text),
        *(pyarrow.field(f"{side}_index", pyarrow.int64()) for side in sides),
        *(pyarrow.field(f"{side}_{VALUE_PREFIX}{key}", number) for key in paired.keys for side in sides),
        *(pyarrow.field(name, _fate_type(name)) for name in paired.fates),
        pyarrow.field("first_character", pyarrow.int32()),
        pyarrow.field("first_token", pyarrow.int32()),
        *(
            pyarrow.field(f"{side}_{FILTERED_PREFIX}{name}", text)
            for name in paired.filters
            for side in sides
        ),
        pyarrow.field("target", text),
        *(pyarrow.field(f"{side}_{name}", text) for name in _TEXTS for side in sides),
    ]
    return pyarrow.schema(fields)


def pair_rows(paired: PairedRows) -> Iterator[list[Row]]:
    """The pairs in the order of the baseline's documents, some at a time."""
    for start in range(0, len(paired.pairs), ROWS_AT_ONCE):
        part = paired.pairs.slice(start, ROWS_AT_ONCE).to_pylist()
        before = paired.baseline.read([row["baseline_index"] for row in part])
        after = paired.candidate.read([row["candidate_index"] for row in part])
        yield [
            {
                **pair,
                "doc_hash": left["doc_hash"],
                "target": left["target"],
                **{f"baseline_{name}": value for name, value in left.items() if name != "index"},
                **{f"candidate_{name}": value for name, value in right.items() if name != "index"},
            }
            for pair, left, right in zip(part, before, after, strict=True)
        ]


def write_parquet(path: Path, schema: pyarrow.Schema, parts: Iterator[list[Row]]) -> None:
    """Write rows as one Parquet file; columns that are not in the schema are left out."""
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for rows in parts:
            writer.write_batch(pyarrow.RecordBatch.from_pylist(rows, schema=schema))


def _fate_type(name: str) -> pyarrow.DataType:
    return pyarrow.bool_() if name.partition(":")[0] in ("changed", "unstable") else pyarrow.string()


def _spool(source: Path, target: Path, *, leave_out: Sequence[str]) -> None:
    with pyarrow.parquet.ParquetFile(source) as file:
        kept = [name for name in file.schema_arrow.names if name not in leave_out]
        schema = pyarrow.schema([file.schema_arrow.field(name) for name in kept])
        with pyarrow.OSFile(str(target), "wb") as sink, pyarrow.ipc.new_file(sink, schema) as writer:
            for batch in file.iter_batches(batch_size=ROWS_AT_ONCE, columns=kept):
                writer.write_batch(batch.select(kept))
