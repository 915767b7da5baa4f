"""Immutable rows of a dataset."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

Example = str | int | float | bool
"""A value shown to a person: long text is cut, lists and objects are JSON text."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""What a dataset's name, its version and a split look like."""


def now() -> datetime:
    """The time to the millisecond, which is what the store keeps: what is read is what was answered."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a snapshot.

    Attributes:
        name: its name.
        type: ``string``, ``int64``, ``double``, ``bool``, ``list<...>`` or ``struct<name: ...>``.
        nulls: rows that have no value or ``null``.
        examples: up to three different values, in the order of the rows.
    """

    name: str
    type: str
    nulls: int
    examples: tuple[Example, ...]


class SnapshotRole(StrEnum):
    """What rows are for. Those for few-shot examples are never current: an evaluation snapshot names them."""

    EVALUATION = "evaluation"
    FEWSHOT = "fewshot"


@dataclass(frozen=True, slots=True)
class Source:
    """The uploaded file. ``sha256`` and ``bytes`` are those of the file as it was sent."""

    kind: str
    filename: str
    sha256: str
    bytes: int
    compression: str = "none"

    @property
    def place(self) -> tuple[str | None, ...]:
        """Where rows are the same rows. Those of two files are, whatever the files are called."""
        return (self.kind,)


@dataclass(frozen=True, slots=True)
class HubOrigin:
    """A split of a repository on the Hugging Face Hub, at a commit; ``subset`` as it was asked for."""

    repo_id: str
    subset: str | None
    split: str
    requested_revision: str
    commit: str
    kind: str = "huggingface"

    @property
    def place(self) -> tuple[str | None, ...]:
        """Where rows are the same rows. Those of a later commit are, if nothing has changed in them."""
        return (self.kind, self.repo_id, self.subset, self.split)


@dataclass(frozen=True, slots=True)
class SnapshotContent:
    """What an upload was made into.

    Attributes:
        digest: sha256 of the canonical Parquet file, hexadecimal.
        rows: rows, at least 1.
        bytes: size of the canonical Parquet file.
        columns: in the order in which the upload names them first.
        split: the split that the rows are (``test``, ``train``).
        source: where they came from.
        role: what they are for.
    """

    digest: str
    rows: int
    bytes: int
    columns: tuple[Column, ...]
    split: str
    source: Source | HubOrigin
    role: SnapshotRole = SnapshotRole.EVALUATION


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Immutable rows of a dataset. Ids of one dataset's snapshots sort in the order they became current.

    ``fewshot_snapshot_id`` names the rows that few-shot examples are drawn from, where they came together.
    """

    id: str
    dataset_id: str
    dataset_name: str
    digest: str
    rows: int
    bytes: int
    split: str
    columns: tuple[Column, ...]
    source: Source | HubOrigin
    created_at: datetime
    role: SnapshotRole = SnapshotRole.EVALUATION
    fewshot_snapshot_id: str | None = None

    def has(self, content: SnapshotContent) -> bool:
        """Whether putting ``content`` in place of this snapshot would change nothing."""
        return (self.digest, self.split, self.source.place) == (
            content.digest,
            content.split,
            content.source.place,
        )


@dataclass(frozen=True, slots=True)
class SnapshotListing:
    """A page of snapshots, newest first; ``next_cursor`` is ``None`` on the last one."""

    items: list[Snapshot]
    next_cursor: str | None
