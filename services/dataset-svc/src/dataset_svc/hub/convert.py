"""From the files of a split to the canonical Parquet file, features kept, in bounded memory."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from datasets import Features, IterableDataset, load_dataset_builder
from datasets.table import table_cast

from dataset_svc.columns import ColumnSummaries
from dataset_svc.hub.failures import Refused
from dataset_svc.hub.features import as_stored, name_of, refuse_unusable, storage_schema
from dataset_svc.hub.protocol import HubColumn, HubPart, HubTask, Progress
from dataset_svc.hub.resolve import Resolution
from dataset_svc.parquet import CanonicalWriter

_BATCH_ROWS = 1000


def convert(
    resolution: Resolution,
    files: Sequence[Path],
    *,
    split: str,
    task: HubTask,
    name: str,
    report: Callable[[Progress], None],
) -> HubPart:
    """Write a split as ``name`` into the task's directory.

    Args:
        resolution: how to read the files.
        files: local copies, in order.
        split: the split that they are.
        task: directory and limits.
        name: name of the file.
        report: gets the progress.

    Raises:
        Refused: a column is not text, types do not fit together, there are no rows, or a limit is passed.
        OSError: the file cannot be written.
        Exception: what the libraries raise of files that they cannot read.
    """
    rows = _rows(resolution, files, split=split, directory=Path(task.directory))
    features = _features(rows, resolution, files)
    refuse_unusable(features, repo_id=resolution.repo_id)
    schema = storage_schema(features)
    summaries = ColumnSummaries()
    count = size = 0
    with (Path(task.directory) / name).open("wb") as target, CanonicalWriter(target, schema) as writer:
        for table in _tables(rows):
            count, size = count + table.num_rows, size + table.nbytes
            _refuse_too_much(count, size, task)
            for batch in table_cast(table, features.arrow_schema).combine_chunks().to_batches():
                columns = [as_stored(column) for column in batch.columns]
                stored = pa.RecordBatch.from_arrays(columns, schema=schema)
                summaries.observe(stored)
                writer.write(stored)
            total = resolution.rows.get(split)
            report(Progress(phase="converting", rows=count, rows_total=total, bytes=size))
        if count == 0:
            raise Refused("no-rows", f"split {split!r} of {resolution.repo_id} has no rows; choose another")
    facts = writer.written()
    return HubPart(
        file=name,
        split=split,
        digest=facts.digest,
        rows=count,
        bytes=facts.bytes,
        columns=[
            HubColumn(
                name=column.name,
                type=name_of(features[column.name]),
                nulls=column.nulls,
                examples=list(column.examples),
            )
            for column in summaries.columns(schema, rows=count)
        ],
    )


def _rows(resolution: Resolution, files: Sequence[Path], *, split: str, directory: Path) -> IterableDataset:
    """The local files through the library's own reader."""
    features = resolution.features
    options: dict[str, Any] = dict(resolution.options)
    if resolution.reader == "parquet":
        options["batch_size"] = _BATCH_ROWS
    builder = load_dataset_builder(
        resolution.reader,
        data_files={split: [str(path) for path in files]},
        features=None if features is None else Features.from_dict(features),
        cache_dir=str(directory / "scratch"),
        **options,
    )
    dataset = builder.as_streaming_dataset(split=split)
    assert isinstance(dataset, IterableDataset)
    return dataset


def _tables(rows: IterableDataset) -> Iterator[pa.Table]:
    yield from rows.with_format("arrow").iter(batch_size=_BATCH_ROWS)


def _features(rows: IterableDataset, resolution: Resolution, files: Sequence[Path]) -> Features:
    """The declared features, or what the rows of all files have in common: two passes, constant memory."""
    if rows.features is not None:
        return rows.features
    schema: pa.Schema | None = None
    for table in _tables(rows):
        try:
            schema = (
                table.schema
                if schema is None
                else pa.unify_schemas([schema, table.schema], promote_options="permissive")
            )
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            names = ", ".join(path.name for path in files[:5])
            raise Refused(
                "inconsistent-types", f"the rows of {names} do not have the same types: {error}"
            ) from error
    if schema is None:
        raise Refused("no-rows", f"the files of {resolution.repo_id} have no rows; choose another split")
    return Features.from_arrow_schema(schema)


def _refuse_too_much(rows: int, size: int, task: HubTask) -> None:
    if rows > task.max_rows:
        raise Refused(
            "too-many-rows",
            f"the split has more than {task.max_rows} rows (ASSAY_MAX_HUB_ROWS); choose a smaller one",
        )
    if size > task.max_bytes:
        raise Refused(
            "too-large",
            f"the rows have more than {task.max_bytes} bytes (ASSAY_MAX_HUB_BYTES); choose a smaller split",
        )
