"""Datasets, snapshots and ingests as text."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from assay.models import (
    Dataset,
    Ingest,
    Row,
    RowDifference,
    Snapshot,
    SnapshotDifference,
    SnapshotStatistics,
)
from assay.rendering.text import (
    MISSING,
    Heading,
    clean,
    compact,
    counted,
    fields,
    moment,
    one_line,
    size,
    state,
    table,
)


def dataset_table(datasets: Iterable[Dataset]) -> Table:
    """Datasets, one a line."""
    rows = []
    for dataset in datasets:
        snapshot = dataset.current_snapshot
        rows.append(
            (
                dataset.name,
                dataset.version,
                state(dataset.status),
                MISSING if snapshot is None else str(snapshot.rows),
                MISSING if snapshot is None else snapshot.split,
                moment(dataset.created_at),
                dataset.id,
            )
        )
    headings = (
        Heading("dataset"),
        Heading("version"),
        Heading("status"),
        Heading("rows", number=True),
        Heading("split"),
        Heading("created (UTC)"),
        Heading("id", style="dim"),
    )
    return table(headings, rows)


def dataset_card(dataset: Dataset) -> RenderableType:
    """One dataset with its current snapshot."""
    lines: list[tuple[str, str | Text]] = [
        ("dataset", f"{dataset.name} ({dataset.version})"),
        ("id", dataset.id),
        ("status", state(dataset.status)),
        ("created", moment(dataset.created_at)),
    ]
    if dataset.description:
        lines.append(("description", dataset.description))
    if dataset.current_snapshot is None:
        job = dataset.latest_ingest or {}
        if job.get("state") in ("Queued", "Running"):
            hint = f"An import is under way: assay dataset ingest watch {job.get('id')}"
        else:
            hint = (
                f"No data yet. Add some with: assay dataset upload {dataset.name} FILE.jsonl, or "
                f"assay dataset import {dataset.name} REPOSITORY --split SPLIT"
            )
        return Group(fields(lines), Text(hint))
    return Group(fields(lines), snapshot_card(dataset.current_snapshot))


def snapshot_card(snapshot: Snapshot) -> RenderableType:
    """One snapshot with its columns."""
    lines = [
        ("snapshot", snapshot.id),
        ("rows", f"{snapshot.rows} in split {snapshot.split!r}, {size(snapshot.bytes)}"),
        ("digest", f"sha256:{snapshot.digest}"),
        ("from", origin(snapshot.source)),
    ]
    if snapshot.role != "evaluation":
        lines.append(("role", f"{snapshot.role}: examples for the rows of another snapshot"))
    if snapshot.fewshot_snapshot_id is not None:
        lines.append(("few-shot rows", snapshot.fewshot_snapshot_id))
    rows = [
        (
            column.name,
            column.type,
            str(column.nulls),
            one_line(", ".join(compact(example) for example in column.examples), width=70),
        )
        for column in snapshot.columns
    ]
    headings = (Heading("column"), Heading("type"), Heading("nulls", number=True), Heading("examples"))
    return Group(fields(lines), table(headings, rows))


def origin(source: Mapping[str, Any]) -> str:
    """Where rows come from, in words."""
    if source.get("kind") == "huggingface":
        subset = f", subset {source['subset']}" if source.get("subset") else ""
        revision = str(source.get("commit") or source.get("requested_revision") or source.get("revision"))
        return f"{source.get('repo_id')}{subset}, split {source.get('split')}, at {revision[:12]}"
    packed = source.get("compression")
    how = f" ({packed})" if packed and packed != "none" else ""
    return f"{source.get('filename', '?')}{how}, {size(int(source.get('bytes', 0)))}"


def snapshot_table(snapshots: Iterable[Snapshot]) -> Table:
    """Snapshots, one a line."""
    rows = (
        (
            moment(snapshot.created_at),
            str(snapshot.rows),
            snapshot.split,
            snapshot.role,
            size(snapshot.bytes),
            origin(snapshot.source),
            snapshot.digest[:12],
            snapshot.id,
        )
        for snapshot in snapshots
    )
    headings = (
        Heading("created (UTC)"),
        Heading("rows", number=True),
        Heading("split"),
        Heading("role"),
        Heading("size", number=True),
        Heading("from"),
        Heading("digest"),
        Heading("id", style="dim"),
    )
    return table(headings, rows)


def ingest_table(ingests: Iterable[Ingest]) -> Table:
    """Imports, one a line."""
    rows = (
        (
            moment(job.created_at),
            state(job.state),
            origin(job.source),
            _amount(job),
            job.error.message if job.error is not None else "",
            job.id,
        )
        for job in ingests
    )
    headings = (
        Heading("created (UTC)"),
        Heading("state"),
        Heading("from"),
        Heading("so far"),
        Heading("error"),
        Heading("id", style="dim"),
    )
    return table(headings, rows)


def ingest_card(job: Ingest) -> RenderableType:
    """One import."""
    lines: list[tuple[str, str | Text]] = [
        ("import", job.id),
        ("state", state(job.state)),
        ("from", origin(job.source)),
        ("so far", _amount(job)),
        ("created", moment(job.created_at)),
        ("started", moment(job.started_at)),
        ("finished", moment(job.finished_at)),
    ]
    if job.source.get("fewshot_split"):
        lines.insert(3, ("few-shot rows", f"split {job.source['fewshot_split']}"))
    if job.snapshot_id is not None:
        lines.append(("snapshot", job.snapshot_id))
    if job.error is not None:
        lines.append(("error", Text(clean(f"{job.error.code}: {job.error.message}"), style="red")))
        lines += [("try", hint) for hint in job.error.advice]
    return fields(lines)


def _amount(job: Ingest) -> str:
    progress = job.progress
    rows = f"{progress.rows}" if progress.rows_total is None else f"{progress.rows} of {progress.rows_total}"
    return f"{rows} rows, {size(progress.bytes)}"


def statistics_report(statistics: SnapshotStatistics) -> RenderableType:
    """The rows of a snapshot in numbers, and those of each column."""
    lines = [
        ("rows", f"{statistics.rows}, of which {statistics.duplicate_rows} repeat an earlier one"),
        ("size", f"{size(statistics.bytes)} as Parquet"),
    ]
    rows = []
    for column in statistics.columns:
        lengths = column.lengths
        measures = (
            (MISSING,) * 4
            if lengths is None
            else (lengths.minimum, lengths.median, lengths.p95, lengths.maximum)
        )
        rows.append(
            (
                column.name,
                column.type,
                str(column.nulls),
                MISSING if column.distinct is None else str(column.distinct),
                *(str(measure) for measure in measures),
                _number(column.minimum),
                _number(column.maximum),
            )
        )
    headings = (
        Heading("column"),
        Heading("type"),
        Heading("nulls", number=True),
        Heading("distinct", number=True),
        Heading("shortest", number=True),
        Heading("median", number=True),
        Heading("p95", number=True),
        Heading("longest", number=True),
        Heading("least", number=True),
        Heading("greatest", number=True),
    )
    caption = Text("Lengths: characters of texts, items of lists. Distinct values: up to 1000.", style="dim")
    return Group(fields(lines), table(headings, rows), caption)


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:g}"


def difference_report(difference: SnapshotDifference, *, old: str, new: str) -> RenderableType:
    """How two snapshots differ: rows and columns."""
    counts = (
        f"{difference.added} added, {difference.removed} removed, {difference.changed} changed, "
        f"{difference.unchanged} the same"
    )
    columns = difference.columns
    changes = [
        *(f"{name} added" for name in columns.added),
        *(f"{name} removed" for name in columns.removed),
        *(f"{change.name} from {change.before} to {change.after}" for change in columns.retyped),
    ]
    lines = [("from", old), ("to", new), ("rows", counts), ("columns", ", ".join(changes) or "the same")]
    if not difference.items:
        return fields(lines)
    rows = [_difference_row(item) for item in difference.items]
    headings = (
        Heading("row before", number=True, style="dim"),
        Heading("row after", number=True, style="dim"),
        Heading("change"),
        Heading("before"),
        Heading("after"),
    )
    shown = Text(f"{len(rows)} of {counted(difference.total, 'row')} that differ", style="dim")
    return Group(fields(lines), table(headings, rows), shown)


def _difference_row(item: RowDifference) -> tuple[str | Text, ...]:
    styles = {"added": "green", "removed": "red", "changed": "yellow"}
    before, after = item.before, item.after
    if before is not None and after is not None:
        # What stayed the same in a changed row is no news.
        names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        before, after = ({name: row.get(name) for name in names} for row in (before, after))
    return (
        MISSING if item.index_before is None else str(item.index_before),
        MISSING if item.index_after is None else str(item.index_after),
        Text(clean(item.change), style=styles.get(item.change, "")),
        "" if before is None else one_line(before, width=90),
        "" if after is None else one_line(after, width=90),
    )


def row_table(rows: Iterable[Row]) -> Table:
    """Rows of a dataset with the columns that they have."""
    shown = list(rows)
    names = list(dict.fromkeys(name for row in shown for name in row.row))
    headings = (Heading("#", number=True, style="dim"), *(Heading(name) for name in names))
    return table(
        headings, ((str(row.index), *(one_line(row.row.get(name)) for name in names)) for row in shown)
    )
