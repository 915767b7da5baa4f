"""Writes the tables of a scored view, block by block."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path

import pyarrow
import pyarrow.parquet

from assay_evidence.tables.columns import (
    FILTERED_PREFIX,
    HASHES,
    REQUEST_COLUMNS,
    SAMPLE_COLUMNS,
    VALUE_PREFIX,
    MalformedTables,
    file_digest,
)

ROWS_PER_GROUP = 8192
_DICTIONARY = ["task", "kind", "instance", "finish_reason"]
"""String columns with few values; the others are not worth a dictionary."""
_SPLIT = "token_offsets_us.list.element"
"""Numbers of which the upper bytes hardly change; it is smaller and faster to read with bytes set apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRow:
    """One request of a sample; the fields are ``REQUEST_COLUMNS`` without the sample's index."""

    kind: str
    instance: str | None = None
    answered: bool = True
    reused: bool = False
    retries: int = 0
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    sent_ns: int | None = None
    first_token_ns: int | None = None
    done_ns: int | None = None
    exact_token_times: bool = False
    token_offsets_us: Sequence[int] | None = None
    schedule_delay_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleRow:
    """One scored document: ``SAMPLE_COLUMNS``, its values, what filters made of it, its requests.

    Attributes:
        doc_hash, prompt_hash, target_hash: sha256, 64 hexadecimal digits.
        values: by harness key such as ``exact_match,strict-match``; none where the sample failed.
        filtered: by filter; lists as JSON text.
        requests: in the order in which the task asks them.
    """

    index: int
    task: str
    doc_hash: str
    prompt_hash: str
    target_hash: str
    block: int
    position: int
    failed: bool = False
    target: str = ""
    response: str | None = None
    token_text_lengths: Sequence[int] | None = None
    finish_reason: str | None = None
    choices: int = 0
    values: Mapping[str, float] = field(default_factory=dict)
    filtered: Mapping[str, str | None] = field(default_factory=dict)
    requests: Sequence[RequestRow] = ()


@dataclass(frozen=True, slots=True)
class TableFiles:
    """The two tables of a scored view as files, and the sha256 of each in hexadecimal digits."""

    samples: Path
    requests: Path
    samples_sha256: str
    requests_sha256: str


class EvidenceWriter:
    """Writes the tables of one scored view block by block; holds one row group of each in memory.

    The files are ``samples.parquet`` and ``requests.parquet`` in ``directory``, complete after ``close``.
    """

    def __init__(self, directory: Path) -> None:
        self._samples = _GrowingTable(directory / "samples.parquet")
        self._requests = _GrowingTable(directory / "requests.parquet")

    def add(self, rows: Sequence[SampleRow]) -> None:
        """Append scored samples.

        Raises:
            MalformedTables: a hash is not 64 hexadecimal digits, or a number does not fit its column.
        """
        if not rows:
            return
        self._samples.add(_samples_table(rows))
        requests = [(row.index, request) for row in rows for request in row.requests]
        if requests:
            self._requests.add(requests_table(requests))

    def close(self) -> TableFiles:
        """Finish both files and hash them."""
        return TableFiles(
            samples=self._samples.path,
            requests=self._requests.path,
            samples_sha256=self._samples.close(SAMPLE_COLUMNS),
            requests_sha256=self._requests.close(REQUEST_COLUMNS),
        )


class _GrowingTable:
    """A Parquet file whose columns need not be known beforehand: a new one starts another part.

    Parts of different columns (the tasks of a group have different metrics) are joined by ``close``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._parts: list[Path] = []
        self._writer: pyarrow.parquet.ParquetWriter | None = None
        self._schema: pyarrow.Schema | None = None
        self._waiting: list[pyarrow.Table] = []
        self._rows = 0

    def add(self, table: pyarrow.Table) -> None:
        if self._schema is not None and table.schema != self._schema:
            missing = [name for name in self._schema.names if name not in table.schema.names]
            if len(table.schema) + len(missing) > len(self._schema):  # it has columns of its own
                self._flush()
            else:
                table = _fitted(table, self._schema)
        self._schema = table.schema
        self._waiting.append(table)
        self._rows += len(table)
        if self._rows >= ROWS_PER_GROUP:
            self._write()

    def _write(self) -> None:
        if not self._waiting:
            return
        if self._writer is None:
            self._parts.append(self.path.with_suffix(f".part{len(self._parts)}"))
            self._writer = open_table(self._parts[-1], self._waiting[0].schema)
        self._writer.write_table(pyarrow.concat_tables(self._waiting), row_group_size=ROWS_PER_GROUP)
        self._waiting, self._rows = [], 0

    def _flush(self) -> None:
        self._write()
        if self._writer is not None:
            self._writer.close()
        self._writer, self._schema = None, None

    def close(self, columns: pyarrow.Schema) -> str:
        """Join the parts under all their columns; returns the file's sha256."""
        self._flush()
        if len(self._parts) == 1:
            self._parts[0].replace(self.path)
        else:
            self._join(columns)
        return file_digest(self.path)

    def _join(self, columns: pyarrow.Schema) -> None:
        found = [pyarrow.parquet.read_schema(part) for part in self._parts]
        extra = {one.name: one for schema in found for one in schema if one.name not in columns.names}
        schema = pyarrow.schema([*columns, *(extra[name] for name in sorted(extra))])
        with open_table(self.path, schema) as writer:
            for part in self._parts:
                with pyarrow.parquet.ParquetFile(part) as file:
                    for batch in file.iter_batches(ROWS_PER_GROUP):
                        writer.write_table(_fitted(pyarrow.Table.from_batches([batch]), schema))
                part.unlink()


def open_table(path: Path, schema: pyarrow.Schema) -> pyarrow.parquet.ParquetWriter:
    """A Parquet file to write, encoded as tables of evidence are."""
    return pyarrow.parquet.ParquetWriter(
        path,
        schema,
        compression="zstd",
        use_dictionary=[name for name in schema.names if name in _DICTIONARY],
        column_encoding={_SPLIT: "BYTE_STREAM_SPLIT"} if "token_offsets_us" in schema.names else None,
    )


def _fitted(table: pyarrow.Table, schema: pyarrow.Schema) -> pyarrow.Table:
    """The table under all columns of ``schema``; those that it lacks are null."""
    known = set(table.schema.names)
    return pyarrow.Table.from_arrays(
        [
            table.column(one.name) if one.name in known else pyarrow.nulls(len(table), one.type)
            for one in schema
        ],
        schema=schema,
    )


def _samples_table(rows: Sequence[SampleRow]) -> pyarrow.Table:
    columns = {name: [getattr(row, name) for row in rows] for name in SAMPLE_COLUMNS.names}
    for name in HASHES:
        columns[name] = [_digest(row, name) for row in rows]
    extra: list[tuple[str, pyarrow.DataType, list[object]]] = []
    for key in sorted({key for row in rows for key in row.values}):
        extra.append((VALUE_PREFIX + key, pyarrow.float64(), [row.values.get(key) for row in rows]))
    for name in sorted({name for row in rows for name in row.filtered}):
        extra.append((FILTERED_PREFIX + name, pyarrow.string(), [row.filtered.get(name) for row in rows]))
    schema = pyarrow.schema([*SAMPLE_COLUMNS, *(pyarrow.field(name, kind) for name, kind, _ in extra)])
    return _from_lists([*columns.values(), *(values for *_, values in extra)], schema, table="samples")


def _digest(row: SampleRow, name: str) -> bytes:
    try:
        digest = bytes.fromhex(getattr(row, name))
    except ValueError:
        digest = b""
    if len(digest) != 32:
        raise MalformedTables(f"samples.{name} of document {row.index} is not 64 hexadecimal digits")
    return digest


def requests_table(requests: Iterable[tuple[int, RequestRow]]) -> pyarrow.Table:
    """Requests, each with the index of its sample, as a table of ``REQUEST_COLUMNS``.

    Raises:
        MalformedTables: a number does not fit its column.
    """
    rows = list(requests)
    columns: list[list[object]] = [[index for index, _ in rows]]
    columns += [[getattr(row, one.name) for _, row in rows] for one in fields(RequestRow)]
    return _from_lists(columns, REQUEST_COLUMNS, table="requests")


def _from_lists(columns: Sequence[list[object]], schema: pyarrow.Schema, *, table: str) -> pyarrow.Table:
    arrays = []
    for values, column in zip(columns, schema, strict=True):
        try:
            arrays.append(pyarrow.array(values, column.type))
        except (pyarrow.ArrowInvalid, pyarrow.ArrowTypeError, OverflowError) as error:
            raise MalformedTables(f"{table}.{column.name}: {error}") from error
    return pyarrow.Table.from_arrays(arrays, schema=schema)
