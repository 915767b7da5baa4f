"""Numbers, times and tables as text."""

import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from rich import box
from rich.table import Table
from rich.text import Text

MISSING = "-"
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


STATE_STYLES = {
    "Succeeded": "green",
    "Failed": "red",
    "Cancelled": "yellow",
    "Running": "cyan",
    "Scoring": "cyan",
    "Provisioning": "cyan",
    "Ready": "green",
    "Empty": "yellow",
    "Ingesting": "cyan",
    "final": "green",
    "failed": "red",
    "scoring": "cyan",
}


class Heading(NamedTuple):
    """A column of a table: numbers stand to the right in one line, wide text is folded, nothing is cut."""

    title: str
    number: bool = False
    style: str = ""


def clean(text: str) -> str:
    """``text`` without control characters: what a model or a file says must not steer the terminal."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text.replace("\r\n", "\n"))


def table(headings: Sequence[Heading], rows: Iterable[Sequence[str | Text]], *, title: str = "") -> Table:
    """A table; its cells are shown as they are, without rich's markup."""
    grid = Table(
        title=Text(title) if title else None, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD
    )
    for heading in headings:
        grid.add_column(
            Text(heading.title),
            justify="right" if heading.number else "left",
            style=heading.style,
            overflow="fold",
            no_wrap=heading.number,
        )
    for row in rows:
        grid.add_row(*(Text(clean(cell)) if isinstance(cell, str) else cell for cell in row))
    return grid


def fields(pairs: Iterable[tuple[str, str | Text]], *, title: str = "") -> Table:
    """Names and values, one pair a line."""
    grid = Table(
        title=Text(title) if title else None,
        title_justify="left",
        title_style="bold",
        box=None,
        show_header=False,
        padding=(0, 2, 0, 0),
    )
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in pairs:
        grid.add_row(Text(name), Text(clean(value)) if isinstance(value, str) else value)
    return grid


def compact(value: Any) -> str:
    """A JSON value on one line; text without quotes."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def visible(value: Any) -> str:
    """A JSON value; text with outer white space, or none at all, is quoted so that it can be seen."""
    return value if isinstance(value, str) and value.strip() == value != "" else json.dumps(value)


def one_line(value: Any, *, width: int = 80) -> str:
    """A JSON value on one line of at most ``width`` characters, line ends shown as a sign."""
    text = compact(value).replace("\n", "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}")
    return text if len(text) <= width else text[: width - 1] + "\N{HORIZONTAL ELLIPSIS}"


def score(value: float | None) -> str:
    """A quality number."""
    return MISSING if value is None else f"{value:.4f}"


def signed(value: float | None) -> str:
    """A difference of quality numbers, with its sign."""
    return MISSING if value is None else f"{value:+.4f}"


def span(interval: tuple[float, float] | None) -> str:
    """An interval of differences."""
    return MISSING if interval is None else f"{signed(interval[0])} .. {signed(interval[1])}"


def share(value: float | None) -> str:
    """A rate between 0 and 1 in per cent."""
    return MISSING if value is None else f"{100 * value:.1f} %"


def seconds(value: float | None) -> str:
    """A time in the unit that suits it."""
    if value is None:
        return MISSING
    if value < 0.001:
        return f"{value * 1e6:.0f} \N{MICRO SIGN}s"
    return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"


def probability(value: float | None) -> str:
    """A p value."""
    if value is None:
        return MISSING
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def size(count: int) -> str:
    """A number of bytes."""
    amount = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if amount < 1024 or unit == "GiB":
            break
        amount /= 1024
    return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"


def counted(count: int, noun: str) -> str:
    """A number of things: ``1 row``, ``2 rows``."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def moment(timestamp: str | None) -> str:
    """An RFC 3339 time to the second."""
    if timestamp is None:
        return MISSING
    return re.sub(r"(\d\d:\d\d:\d\d)\.\d+", r"\1", timestamp).replace("T", " ")


def state(name: str) -> Text:
    """A state in its colour."""
    return Text(name, style=STATE_STYLES.get(name, ""))


def last_line(text: str | None) -> str:
    """The last line with text: what an item of a prompt with examples is about."""
    lines = (text or "").strip().splitlines()
    return lines[-1] if lines else ""
