"""Rows for spreadsheets and programs: CSV that no spreadsheet takes for a formula."""

import csv
import io
import re
from collections.abc import Sequence

Cell = str | int | float | bool | None

_FORMULA = re.compile(r"[=+\-@\t\r\n]")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
BYTE_ORDER_MARK = "\ufeff"
"""Spreadsheets take a file without it for one in the code page of the machine."""


def csv_lines(rows: Sequence[Sequence[Cell]]) -> str:
    """Rows as CSV (RFC 4180, CRLF). Numbers are exact; nothing that a spreadsheet would compute stays so."""
    buffer = io.StringIO()
    csv.writer(buffer).writerows([[guarded(cell) for cell in row] for row in rows])
    return buffer.getvalue()


def guarded(cell: Cell) -> str:
    """A cell's text; with an apostrophe in front where a spreadsheet would take it for a formula.

    Plain numbers such as ``-1.5`` are none. Half characters, which no encoding has, are replaced.
    """
    if cell is None:
        return ""
    if not isinstance(cell, str):
        return repr(cell) if isinstance(cell, float) else str(cell)
    text = cell.encode("utf-8", errors="replace").decode() if not cell.isascii() else cell
    # Spreadsheets skip blanks in front of a formula.
    if _FORMULA.match(text) or _FORMULA.match(text.lstrip()[:1]):
        return text if _NUMBER.fullmatch(text) else f"'{text}"
    return text
