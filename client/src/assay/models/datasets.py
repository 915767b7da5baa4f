"""Datasets, snapshots, ingests."""

from typing import Any

from pydantic import Field

from assay.models.documents import Document, NamedDocument

OVER_INGEST_STATES = frozenset({"Succeeded", "Failed", "Cancelled"})
"""States that an ingest does not leave."""


class Column(Document):
    """A column of a snapshot."""

    name: str
    type: str
    nulls: int = 0
    examples: list[Any] = Field(default_factory=list)


class Snapshot(Document):
    """Immutable rows; ``digest`` is the sha256 of the canonical Parquet file, ``bytes`` its size.

    ``role`` is ``evaluation`` or ``fewshot``; ``fewshot_snapshot_id`` names the rows that few-shot examples
    are drawn from, where they were ingested together.
    """

    id: str
    dataset_id: str
    digest: str
    rows: int
    bytes: int
    split: str
    columns: list[Column] = Field(default_factory=list)
    source: dict[str, Any] = Field(default_factory=dict)
    role: str = "evaluation"
    fewshot_snapshot_id: str | None = None
    created_at: str


class IngestProgress(Document):
    """How far an ingest is; a total of ``None`` is not known."""

    phase: str = ""
    rows: int = 0
    rows_total: int | None = None
    bytes: int = 0
    bytes_total: int | None = None


class IngestError(Document):
    """Why an ingest failed, and what may be done about it."""

    code: str
    message: str
    hints: list[str] | None = None

    @property
    def advice(self) -> list[str]:
        """The hints that the message does not hold already."""
        return [hint for hint in self.hints or () if hint not in self.message]


class Ingest(Document):
    """The job that brings data of the Hugging Face Hub into a dataset.

    ``source`` has the ``commit`` that the revision was resolved to, once that is known.
    """

    id: str
    dataset_id: str
    state: str
    source: dict[str, Any] = Field(default_factory=dict)
    progress: IngestProgress = Field(default_factory=IngestProgress)
    error: IngestError | None = None
    snapshot_id: str | None = None
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
        return self.state in OVER_INGEST_STATES


class Dataset(NamedDocument):
    """An entry of the dataset registry."""

    version: str
    description: str = ""
    status: str
    current_snapshot: Snapshot | None = None
    latest_ingest: dict[str, Any] | None = None
    created_at: str


class Quantiles(Document):
    """Lengths of texts in characters, or of lists in items."""

    minimum: int
    median: int
    p95: int
    maximum: int


class ColumnStatistics(Document):
    """A column in numbers; what does not apply to its type, or is too much to count, is ``None``."""

    name: str
    type: str = ""
    nulls: int = 0
    distinct: int | None = None
    lengths: Quantiles | None = None
    minimum: float | None = None
    maximum: float | None = None


class SnapshotStatistics(Document):
    """The rows of a snapshot in numbers; ``duplicate_rows`` are the same as an earlier one."""

    rows: int
    bytes: int = 0
    duplicate_rows: int = 0
    columns: list[ColumnStatistics] = Field(default_factory=list)


class TypeChange(Document):
    """A column that has another type than before."""

    name: str
    before: str
    after: str


class ColumnChanges(Document):
    """How the columns of two snapshots differ."""

    added: list[str] = Field(default_factory=list)
    removed: list[str] = Field(default_factory=list)
    retyped: list[TypeChange] = Field(default_factory=list)


class RowDifference(Document):
    """A row that was ``added``, ``removed`` or ``changed``; indices count from 0."""

    change: str
    index_before: int | None = None
    index_after: int | None = None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None


class SnapshotDifference(Document):
    """How two snapshots differ: counts, and some of the rows, of ``total`` that differ."""

    added: int = 0
    removed: int = 0
    changed: int = 0
    unchanged: int = 0
    columns: ColumnChanges = Field(default_factory=ColumnChanges)
    items: list[RowDifference] = Field(default_factory=list)
    total: int = 0


class Row(Document):
    """A row of a snapshot; ``index`` counts from 0."""

    index: int
    row: dict[str, Any]
