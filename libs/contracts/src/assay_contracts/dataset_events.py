"""What dataset-svc says."""

from typing import ClassVar

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

    def aggregate_id(self) -> str:
        """The dataset."""
        return self.dataset_id
