"""Rows of numbers that have a name: a table where it fits, else a name and its numbers below it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

from assay.rendering.text import MISSING, Heading, clean, table

_UNBOUNDED = 10_000
_SEPARATOR = "   "
_INDENT = "    "


@dataclass(frozen=True, slots=True)
class Measures:
    """Rows under headings; the first cell of a row is its name.

    Names of metrics are long. Where the table would have to fold its cells, every row is written as its name
    and, below, its numbers each with its heading; cells that say nothing are left out then.
    """

    headings: Sequence[Heading]
    rows: Sequence[Sequence[str | Text]]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        grid = table(self.headings, self.rows)
        unbounded = options.update(width=_UNBOUNDED)
        if Measurement.get(console, unbounded, grid).maximum <= options.max_width:
            yield grid
            return
        yield Text(f"\n  {self.headings[0].title}", style="bold")
        for row in self.rows:
            name, *cells = row
            yield Text("  ").append_text(_text(name))
            yield from self._lines(cells, width=options.max_width)

    def _lines(self, cells: Sequence[str | Text], *, width: int) -> Iterator[Text]:
        """The cells with their headings, as many on a line as fit."""
        line = Text(_INDENT)
        for heading, cell in zip(self.headings[1:], cells, strict=True):
            shown = _text(cell)
            if shown.plain in ("", MISSING):
                continue
            part = Text(f"{heading.title} ", style="dim").append_text(shown)
            if len(line) > len(_INDENT) and len(line) + len(_SEPARATOR) + len(part) > width:
                yield line
                line = Text(_INDENT)
            if len(line) > len(_INDENT):
                line.append(_SEPARATOR)
            line.append_text(part)
        if len(line) > len(_INDENT):
            yield line


def _text(cell: str | Text) -> Text:
    return Text(clean(cell)) if isinstance(cell, str) else cell.copy()
