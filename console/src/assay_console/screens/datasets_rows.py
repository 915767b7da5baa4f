"""Rows of datasets as text that fits on a page."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.models import Column, Row, RowDifference

LONGEST_CELL = 300
"""Characters of a value in a table; a row's own page has the whole."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A value as text; ``is_cut`` where there is more of it, ``is_null`` where there is none."""

    text: str
    is_cut: bool = False
    is_null: bool = False


@dataclass(frozen=True, slots=True)
class ShownRow:
    """A row, whose cells are in the order of the columns; ``index`` counts from 0."""

    index: int
    cells: Sequence[Cell]


@dataclass(frozen=True, slots=True)
class RowWindow:
    """The rows from ``offset`` on, of ``total``; the offsets before and after are None at the ends.

    ``columns`` are in the order of the cells.
    """

    columns: Sequence[Column]
    rows: Sequence[ShownRow]
    offset: int
    total: int
    previous_offset: int | None
    next_offset: int | None


@dataclass(frozen=True, slots=True)
class ShownField:
    """A field of a row that differs: None on the side where the row is not."""

    name: str
    before: Cell | None
    after: Cell | None


@dataclass(frozen=True, slots=True)
class ShownDifference:
    """A row that differs, and how."""

    change: str
    index_before: int | None
    index_after: int | None
    fields: Sequence[ShownField]


def window(
    rows: Sequence[Row], *, columns: Sequence[Column], offset: int, limit: int, total: int
) -> RowWindow:
    """One page of rows, with the way to the ones before and after."""
    return RowWindow(
        columns=columns,
        rows=[ShownRow(row.index, [cell(row.row.get(column.name)) for column in columns]) for row in rows],
        offset=offset,
        total=total,
        previous_offset=max(0, min(offset, total) - limit) if offset else None,
        next_offset=offset + limit if offset + limit < total else None,
    )


def shown_difference(item: RowDifference) -> ShownDifference:
    """What to show of a row that differs: of a changed row only the fields that are not the same."""
    before, after = item.before, item.after
    names = list({**(before or {}), **(after or {})})
    if before is not None and after is not None:
        names = [name for name in names if before.get(name) != after.get(name)]
    fields = [ShownField(name, _side(before, name), _side(after, name)) for name in names]
    return ShownDifference(item.change, item.index_before, item.index_after, fields)


def cell(value: Any, *, longest: int = LONGEST_CELL) -> Cell:
    """A value as text, cut where it is longer than a table can show."""
    if value is None:
        return Cell("null", is_null=True)
    text = whole(value)
    return Cell(text[:longest], is_cut=len(text) > longest)


def whole(value: Any) -> str:
    """A value as text: text as it is, everything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, indent=None)


def _side(row: Mapping[str, Any] | None, name: str) -> Cell | None:
    return None if row is None else cell(row.get(name))
