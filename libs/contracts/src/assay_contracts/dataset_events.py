"""What dataset-svc says."""

from typing import ClassVar, Literal

from pydantic import Field

from assay_contracts.envelope import Event


class DatasetCreated(Event):
    """A dataset was registered; it has no data yet."""

    SUBJECT: ClassVar[str] = "assay.dataset.dataset.created.v1"

    dataset_id: str
    name: str
    version: str

    def aggregate_id(self) -> str:
        """The dataset."""
        return self.dataset_id


class SnapshotReady(Event):
    """A dataset has a new current snapshot: immutable rows under a content digest."""

    SUBJECT: ClassVar[str] = "assay.dataset.snapshot.ready.v1"

    dataset_id: str
    dataset_name: str
    snapshot_id: str
    digest: str = Field(description="sha256 of the canonical Parquet file, hexadecimal")
    rows: int = Field(ge=1)
    columns: dict[str, str] = Field(description="column name to type name")
    split: str
    role: Literal["evaluation", "fewshot"] = Field(
        default="evaluation",
        description="fewshot: examples that go with an evaluation snapshot; never current",
    )
    fewshot_snapshot_id: str | None = Field(
        default=None, description="the snapshot with the examples that were ingested together with this one"
    )
    source_kind: Literal["jsonl", "huggingface"] | None = None

    def aggregate_id(self) -> str:
        """The dataset."""
        return self.dataset_id


class IngestFailed(Event):
    """An ingest ended without a snapshot; the dataset keeps what it had."""

    SUBJECT: ClassVar[str] = "assay.dataset.ingest.failed.v1"

    ingest_id: str
    dataset_id: str
    code: str = Field(description="stable for programs, for example unknown-split")
    message: str

    def aggregate_id(self) -> str:
        """The dataset."""
        return self.dataset_id


class IngestCancelled(Event):
    """An ingest was cancelled; the dataset keeps what it had."""

    SUBJECT: ClassVar[str] = "assay.dataset.ingest.cancelled.v1"

    ingest_id: str
    dataset_id: str
    cancelled_by: str

    def aggregate_id(self) -> str:
        """The dataset."""
        return self.dataset_id


class DatasetDeleted(Event):
    """A dataset and all its snapshots are gone; its name may be taken again."""

    SUBJECT: ClassVar[str] = "assay.dataset.dataset.deleted.v1"

    dataset_id: str
    name: str
    version: str

    def aggregate_id(self) -> str:
        """The dataset."""
        return self.dataset_id


class SnapshotDeleted(Event):
    """A snapshot is gone."""

    SUBJECT: ClassVar[str] = "assay.dataset.snapshot.deleted.v1"

    dataset_id: str
    snapshot_id: str
    digest: str = Field(description="sha256 of the canonical Parquet file, hexadecimal")

    def aggregate_id(self) -> str:
        """The dataset."""
        return self.dataset_id
