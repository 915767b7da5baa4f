"""Jobs that bring rows of the Hugging Face Hub into a dataset."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class IngestState(StrEnum):
    """How far a job is."""

    QUEUED = "Queued"
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    CANCELLED = "Cancelled"


ACTIVE = frozenset({IngestState.QUEUED, IngestState.RUNNING})
"""States in which a job needs a worker."""


class Phase(StrEnum):
    """What a running job does."""

    RESOLVING = "resolving"
    DOWNLOADING = "downloading"
    CONVERTING = "converting"
    STORING = "storing"


@dataclass(frozen=True, slots=True)
class HubSource:
    """What is to be read.

    Attributes:
        repo_id: ``owner/name`` on the Hub.
        subset: configuration of the data; the only or default one if ``None``.
        split: split to evaluate on.
        revision: branch, tag or commit.
        fewshot_split: split of the same subset for few-shot examples, if there is to be one.
    """

    repo_id: str
    subset: str | None
    split: str
    revision: str
    fewshot_split: str | None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far the present phase is; a total of ``None`` is not known. Bytes are those of the Hub's files."""

    phase: Phase = Phase.RESOLVING
    rows: int = 0
    rows_total: int | None = None
    bytes: int = 0
    bytes_total: int | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a job failed; ``code`` is stable for programs, ``hints`` say what may be done."""

    code: str
    message: str
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ingest:
    """A job.

    Attributes:
        id: its id.
        dataset_id: the dataset that gets the rows.
        state: how far it is.
        source: what it reads.
        commit: what the revision was resolved to, once; later attempts read the same.
        progress: how far the present attempt is.
        error: why it failed.
        snapshot_id: the snapshot that it made, or found current with the same content.
        created_at, started_at, finished_at: when.
    """

    id: str
    dataset_id: str
    state: IngestState
    source: HubSource
    created_at: datetime
    commit: str | None = None
    progress: Progress = Progress()
    error: Failure | None = None
    snapshot_id: str | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None

    @property
    def is_over(self) -> bool:
        """Whether nothing happens any more."""
        return self.state not in ACTIVE


@dataclass(frozen=True, slots=True)
class IngestListing:
    """A page of jobs, newest first; ``next_cursor`` is ``None`` on the last one."""

    items: list[Ingest]
    next_cursor: str | None
