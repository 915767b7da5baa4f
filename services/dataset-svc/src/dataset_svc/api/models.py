"""What travels over HTTP."""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from assay_chassis.web import PageModel
from dataset_svc.domain.datasets import DatasetStatus
from dataset_svc.domain.snapshots import NAME_PATTERN

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
    type: str = Field(description="string, int64, double, bool, list<...> or struct<name: ...>")
    nulls: int = Field(description="rows without a value")
    examples: list[str | int | float | bool] = Field(description="up to three different values")


class SourceModel(_Model):
    """The uploaded file."""

    kind: str
    filename: str
    sha256: str = Field(description="of the file as it was sent")
    bytes: int = Field(description="of the file as it was sent")
    compression: Literal["none", "gzip", "zstd"] = "none"


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
    source: SourceModel
    created_at: datetime


class DatasetModel(_Model):
    """A named entry of the registry."""

    id: str
    name: str
    version: str
    description: str
    status: DatasetStatus
    current_snapshot: SnapshotModel | None
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
