"""What travels over HTTP."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from assay_chassis.web import PageModel
from dataset_svc.domain.datasets import DatasetStatus
from dataset_svc.domain.ingests import IngestState
from dataset_svc.domain.snapshots import NAME_PATTERN, SnapshotRole

Name = Annotated[str, Field(pattern=NAME_PATTERN)]


class _Model(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class NewDataset(BaseModel):
    """A dataset to register."""

    model_config = ConfigDict(extra="forbid")

    name: Name = Field(examples=["capital-questions"])
    version: Name = "main"
    description: str = Field(default="", max_length=2000)


class ColumnModel(_Model):
    """One column of a snapshot."""

    name: str
    type: str = Field(
        description="string, int64, double, bool, list<...>, struct<name: ...>, ClassLabel(2)..."
    )
    nulls: int = Field(description="rows without a value")
    examples: list[str | int | float | bool] = Field(description="up to three different values")


class SourceModel(_Model):
    """The uploaded file."""

    kind: Literal["jsonl"]
    filename: str
    sha256: str = Field(description="of the file as it was sent")
    bytes: int = Field(description="of the file as it was sent")
    compression: Literal["none", "gzip", "zstd"] = "none"


class HubOriginModel(_Model):
    """A split of a repository on the Hugging Face Hub."""

    kind: Literal["huggingface"]
    repo_id: str
    subset: str | None
    split: str
    requested_revision: str
    commit: str = Field(description="what the revision stood for")


class SnapshotModel(_Model):
    """Immutable rows of a dataset."""

    id: str
    dataset_id: str
    dataset_name: str
    digest: str = Field(description="sha256 of the canonical Parquet file")
    rows: int
    bytes: int = Field(description="size of the canonical Parquet file")
    split: str
    columns: list[ColumnModel]
    source: SourceModel | HubOriginModel = Field(discriminator="kind")
    role: SnapshotRole = Field(description="fewshot: examples that go with another snapshot; never current")
    fewshot_snapshot_id: str | None = Field(description="the snapshot that came with it for examples")
    created_at: datetime


class IngestSummaryModel(_Model):
    """The import that was started last."""

    id: str
    state: IngestState
    created_at: datetime
    finished_at: datetime | None


class DatasetModel(_Model):
    """A named entry of the registry."""

    id: str
    name: str
    version: str
    description: str
    status: DatasetStatus
    current_snapshot: SnapshotModel | None
    latest_ingest: IngestSummaryModel | None
    created_at: datetime


class DatasetPage(PageModel, _Model):
    """Datasets, newest first."""

    items: list[DatasetModel]


class SnapshotPage(PageModel, _Model):
    """Snapshots, newest first."""

    items: list[SnapshotModel]


class RowModel(BaseModel):
    """One row; ``index`` counts from 0."""

    index: int
    row: dict[str, Any]


class RowPageModel(BaseModel):
    """Some rows of a snapshot, in the order of the upload."""

    items: list[RowModel]
    total: int
