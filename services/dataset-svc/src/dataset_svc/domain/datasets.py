"""Named entries of the registry."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dataset_svc.domain.ingests import Ingest
from dataset_svc.domain.snapshots import Snapshot


class DatasetStatus(StrEnum):
    """Whether a dataset can be evaluated on."""

    EMPTY = "Empty"
    INGESTING = "Ingesting"
    READY = "Ready"


@dataclass(frozen=True, slots=True)
class Dataset:
    """A named entry of the registry.

    Attributes:
        id, name, version, description, created_at: as it was registered.
        current_snapshot: its data; ``None`` until some was added.
        latest_ingest_id: the job that was started last.
        latest_ingest: that job, where it was looked up.
    """

    id: str
    name: str
    version: str
    description: str
    created_at: datetime
    current_snapshot: Snapshot | None = None
    latest_ingest_id: str | None = None
    latest_ingest: Ingest | None = None

    @property
    def status(self) -> DatasetStatus:
        """Ready once it has data; Ingesting while the first data are on their way."""
        if self.current_snapshot is not None:
            return DatasetStatus.READY
        is_active = self.latest_ingest is not None and not self.latest_ingest.is_over
        return DatasetStatus.INGESTING if is_active else DatasetStatus.EMPTY


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of datasets, newest first; ``next_cursor`` is ``None`` on the last one."""

    items: list[Dataset]
    next_cursor: str | None
