"""What differs between two snapshots."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class RowChange(StrEnum):
    """How a row differs."""

    ADDED = "added"
    REMOVED = "removed"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class TypeChange:
    """A column of both snapshots that has another type."""

    name: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class ColumnChanges:
    """What differs in the columns."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    retyped: tuple[TypeChange, ...]


@dataclass(frozen=True, slots=True)
class RowDifference:
    """One row that differs; ``before`` is missing of what was added, ``after`` of what was removed.

    Rows are counted from 0.
    """

    change: RowChange
    index_before: int | None
    index_after: int | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class DiffPage:
    """Counts of the whole difference, and some of its rows.

    Attributes:
        added: rows only in the newer snapshot.
        removed: rows only in the older one.
        changed: rows of the same key with other values; 0 without a key.
        unchanged: rows in both.
        columns: what differs in the columns.
        items: a page of the rows that differ.
        total: rows that the pages have together.
    """

    added: int
    removed: int
    changed: int
    unchanged: int
    columns: ColumnChanges
    items: list[RowDifference]
    total: int
