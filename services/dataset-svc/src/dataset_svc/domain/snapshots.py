"""Immutable rows of a dataset."""

from dataclasses import dataclass
from datetime import UTC, datetime

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


@dataclass(frozen=True, slots=True)
class Source:
    """The uploaded file. ``sha256`` and ``bytes`` are those of the file as it was sent."""

    kind: str
    filename: str
    sha256: str
    bytes: int
    compression: str = "none"


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
    """

    digest: str
    rows: int
    bytes: int
    columns: tuple[Column, ...]
    split: str
    source: Source


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Immutable rows of a dataset. Ids of one dataset's snapshots sort in the order they became current."""

    id: str
    dataset_id: str
    dataset_name: str
    digest: str
    rows: int
    bytes: int
    split: str
    columns: tuple[Column, ...]
    source: Source
    created_at: datetime

    def has(self, content: SnapshotContent) -> bool:
        """Whether uploading ``content`` over this snapshot would change nothing."""
        return (self.digest, self.split) == (content.digest, content.split)


@dataclass(frozen=True, slots=True)
class SnapshotListing:
    """A page of snapshots, newest first; ``next_cursor`` is ``None`` on the last one."""

    items: list[Snapshot]
    next_cursor: str | None
