"""Reads the tables of a scored view: numbers at once, texts and requests when asked."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy
import pyarrow
import pyarrow.compute
import pyarrow.parquet
from numpy.typing import NDArray

from assay_evidence.facts import RunFacts
from assay_evidence.tables.columns import (
    FILTERED_PREFIX,
    HASHES,
    REQUEST_COLUMNS,
    SAMPLE_COLUMNS,
    VALUE_PREFIX,
    MalformedTables,
    file_digest,
)


@dataclass(frozen=True, slots=True, eq=False)
class SampleValues:
    """Numbers of one metric, one per sample; ``values`` is 0 where ``present`` is false."""

    values: NDArray[numpy.float64]
    present: NDArray[numpy.bool_]


@dataclass(frozen=True, slots=True, eq=False)
class RunEvidence:
    """The samples of a final view, by ascending index; texts and requests are read when asked.

    Attributes:
        rows: row of each sample in the file.
        tasks: names of the tasks that the samples are of; ``task`` is each sample's position in it.
        doc_hash, prompt_hash, target_hash: each digest as four words, shape ``(n, 4)``.
        block, position: where the whole sample lies in the scored log.
        choices: given continuations to choose from; 0 where the answer is generated.
        values: by harness key, with the run's failure policy applied.
        filters: whose results ``filtered`` gives.
        digests: sha256 of the files, hexadecimal, by ``samples`` and ``requests``.
        kept: columns of requests that were read, in the order of the file.
    """

    facts: RunFacts
    samples: Path
    requests_path: Path
    rows: NDArray[numpy.int64]
    index: NDArray[numpy.int64]
    tasks: tuple[str, ...]
    task: NDArray[numpy.int32]
    doc_hash: NDArray[numpy.uint64]
    prompt_hash: NDArray[numpy.uint64]
    target_hash: NDArray[numpy.uint64]
    block: NDArray[numpy.int32]
    position: NDArray[numpy.int32]
    failed: NDArray[numpy.bool_]
    choices: NDArray[numpy.int32]
    values: Mapping[str, SampleValues]
    filters: tuple[str, ...]
    digests: Mapping[str, str]
    kept: dict[str, pyarrow.ChunkedArray]

    def __len__(self) -> int:
        return len(self.index)

    def column(self, name: str, at: NDArray[numpy.int64] | None = None) -> pyarrow.Array:
        """A column such as ``response``, read from the file: of the samples at ``at``, or of all."""
        return combined(self.columns([name], at).column(0))

    def columns(self, names: Sequence[str], at: NDArray[numpy.int64] | None = None) -> pyarrow.Table:
        """Several columns, read together; in pieces as they were stored where ``at`` is all in order."""
        rows = self.rows if at is None else self.rows[at]
        read = pyarrow.parquet.read_table(self.samples, columns=list(names))
        table = pyarrow.table({name: _wide(read.column(name)) for name in names})
        if len(rows) == len(table) and _is_ascending(rows):
            return table
        places = pyarrow.array(rows)
        return pyarrow.table({name: combined(table.column(name)).take(places) for name in names})

    def filtered(self, name: str, at: NDArray[numpy.int64] | None = None) -> pyarrow.Array:
        """What filter ``name`` made of the responses; texts, null where a sample has none."""
        return self.column(FILTERED_PREFIX + name, at)

    def requests(self, columns: Sequence[str]) -> pyarrow.Table:
        """Columns of the requests of these samples, by ascending index, then in the order of the file."""
        table = self._request_columns(list(dict.fromkeys(["index", *columns])))
        index = table.column("index").to_numpy()
        if len(index) and not _is_ascending(index):
            order = numpy.argsort(index, kind="stable")
            table, index = table.take(pyarrow.array(order)), index[order]
        known = numpy.isin(index, self.index)
        return table if known.all() else table.filter(pyarrow.array(known))

    def _request_columns(self, names: list[str]) -> pyarrow.Table:
        """Columns in the order of the file; small ones are kept, because parts of a report share them."""
        missing = [name for name in names if name not in self.kept]
        columns = dict(self.kept)
        if missing:
            read = pyarrow.parquet.read_table(self.requests_path, columns=missing)
            columns |= {name: read.column(name) for name in missing}
        for name in missing:
            if not pyarrow.types.is_list(columns[name].type):
                self.kept[name] = columns[name]
        return pyarrow.table({name: columns[name] for name in names})

    def metric_parts(self, metric: str) -> tuple[str, str] | None:
        """Task and harness key of ``<task>.<metric>,<filter>``; ``None`` where no sample has such values."""
        for task in sorted({*self.tasks, self.facts.task}, key=len, reverse=True):
            key = metric.removeprefix(f"{task}.")
            if key != metric and key in self.values:
                return task, key
        return None

    def metric(self, metric: str) -> SampleValues | None:
        """The values of ``<task>.<metric>,<filter>``: of a group, each sample has that of its own task."""
        parts = self.metric_parts(metric)
        if parts is None:
            return None
        task, key = parts
        found = self.values[key]
        if task not in self.tasks:
            return found
        of_task = found.present & (self.task == self.tasks.index(task))
        return SampleValues(numpy.where(of_task, found.values, 0.0), of_task)

    def selected(self, keep: NDArray[numpy.bool_]) -> "RunEvidence":
        """The same run with some of its samples."""
        values = {key: SampleValues(one.values[keep], one.present[keep]) for key, one in self.values.items()}
        arrays = ("rows", "index", "task", *HASHES, "block", "position", "failed", "choices")
        return replace(self, values=values, **{name: getattr(self, name)[keep] for name in arrays})


def read_run(facts: RunFacts, samples: Path, requests: Path) -> RunEvidence:
    """Read the tables of a scored view.

    Raises:
        MalformedTables: a file is no Parquet file, or a column is missing, has another type or has nulls.
    """
    kept = [one.name for one in SAMPLE_COLUMNS if pyarrow.types.is_primitive(one.type)]
    kept += [*HASHES, "task"]
    try:
        schema = pyarrow.parquet.read_schema(samples)
        _check(schema, SAMPLE_COLUMNS, table="samples")
        _check(pyarrow.parquet.read_schema(requests), REQUEST_COLUMNS, table="requests")
        values = [name for name in schema.names if name.startswith(VALUE_PREFIX)]
        table = pyarrow.parquet.read_table(samples, columns=[*kept, *values], read_dictionary=["task"])
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise MalformedTables(f"the tables of {facts.view_id} cannot be read: {error}") from error
    for name in kept:
        if table.column(name).null_count:
            raise MalformedTables(f"samples.{name} has nulls")
    index, block, position = (table.column(name).to_numpy() for name in ("index", "block", "position"))
    rows = numpy.lexsort((position, block, index))
    names = table.column("task").unify_dictionaries().combine_chunks()
    tasks, codes = _tasks(names)
    failed = table.column("failed").to_numpy()[rows]
    evidence = RunEvidence(
        facts=facts,
        samples=samples,
        requests_path=requests,
        rows=rows,
        index=index[rows],
        tasks=tasks,
        task=codes[rows],
        doc_hash=_words(table.column("doc_hash"))[rows],
        prompt_hash=_words(table.column("prompt_hash"))[rows],
        target_hash=_words(table.column("target_hash"))[rows],
        block=block[rows],
        position=position[rows],
        failed=failed,
        choices=table.column("choices").to_numpy()[rows],
        values={},
        filters=tuple(
            name.removeprefix(FILTERED_PREFIX) for name in schema.names if name.startswith(FILTERED_PREFIX)
        ),
        digests={"samples": file_digest(samples), "requests": file_digest(requests)},
        kept={},
    )
    found = {
        name.removeprefix(VALUE_PREFIX): _values(table.column(name), rows, failed=failed) for name in values
    }
    return replace(evidence, values=_with_policy(found, evidence))


def _check(found: pyarrow.Schema, wanted: pyarrow.Schema, *, table: str) -> None:
    for column in wanted:
        position = found.get_field_index(column.name)
        if position < 0:
            raise MalformedTables(f"{table} has no column {column.name!r}")
        if found.field(position).type != column.type:
            raise MalformedTables(f"{table}.{column.name} is {found.field(position).type}, not {column.type}")


def combined(column: pyarrow.ChunkedArray) -> pyarrow.Array:
    """One array."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _wide(column: pyarrow.ChunkedArray) -> pyarrow.ChunkedArray:
    """With 64-bit offsets, so that texts of more than 2 GiB in all fit."""
    if pyarrow.types.is_string(column.type):
        return column.cast(pyarrow.large_string())
    if pyarrow.types.is_list(column.type):
        return column.cast(pyarrow.large_list(column.type.value_type))
    return column


def _is_ascending(values: NDArray[numpy.int64]) -> bool:
    return bool((values[1:] >= values[:-1]).all())


def _words(column: pyarrow.ChunkedArray) -> NDArray[numpy.uint64]:
    """Digests of 32 bytes as four words each."""
    chunks = [
        numpy.frombuffer(chunk.buffers()[1], dtype=numpy.uint64)[
            4 * chunk.offset : 4 * (chunk.offset + len(chunk))
        ]
        for chunk in column.chunks
    ]
    words = numpy.concatenate(chunks) if chunks else numpy.empty(0, numpy.uint64)
    return words.reshape(-1, 4)


def _tasks(column: pyarrow.Array) -> tuple[tuple[str, ...], NDArray[numpy.int32]]:
    """Names in alphabetical order, and the position of each sample's."""
    names = column.dictionary.to_pylist()
    ordered = sorted(set(names))
    places = numpy.array([ordered.index(name) for name in names], dtype=numpy.int32)
    codes = column.indices.to_numpy(zero_copy_only=False)
    return tuple(ordered), places[codes] if len(places) else numpy.empty(0, numpy.int32)


def _values(
    column: pyarrow.ChunkedArray, rows: NDArray[numpy.int64], *, failed: NDArray[numpy.bool_]
) -> SampleValues:
    present = pyarrow.compute.is_valid(column).to_numpy()[rows] & ~failed
    numbers = column.fill_null(0.0).to_numpy()[rows]
    return SampleValues(numpy.where(present, numbers, 0.0), present)


def _with_policy(values: Mapping[str, SampleValues], run: RunEvidence) -> dict[str, SampleValues]:
    """Where failed samples are scored 0, they have every metric of their task."""
    if run.facts.failure_policy != "score_zero" or not run.failed.any():
        return dict(values)
    metrics = set(run.facts.sample_metrics)
    counted: dict[str, SampleValues] = {}
    for key, one in values.items():
        having = [code for code, task in enumerate(run.tasks) if f"{task}.{key}" in metrics]
        zero = run.failed & numpy.isin(run.task, having)
        counted[key] = SampleValues(one.values, one.present | zero)
    return counted
