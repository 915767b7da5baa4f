"""Named entries of the registry."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from dataset_svc.domain.snapshots import Snapshot


class DatasetStatus(StrEnum):
    """Whether a dataset can be evaluated on."""

    EMPTY = "Empty"
    READY = "Ready"


@dataclass(frozen=True, slots=True)
class Dataset:
    """A named entry of the registry; ``current_snapshot`` is ``None`` until data was added."""

    id: str
    name: str
    version: str
    description: str
    created_at: datetime
    current_snapshot: Snapshot | None = None

    @property
    def status(self) -> DatasetStatus:
        """Ready once it has data."""
        return DatasetStatus.EMPTY if self.current_snapshot is None else DatasetStatus.READY


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of datasets, newest first; ``next_cursor`` is ``None`` on the last one."""

    items: list[Dataset]
    next_cursor: str | None
