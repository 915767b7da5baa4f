"""How numbers, times and states are written, the same on every screen."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

NOTHING = "–"
"""What stands where there is no value."""

_SI_BYTES = ("B", "kB", "MB", "GB", "TB")


def count(value: float | None) -> str:
    """A whole number with thin groups of three: 12,345."""
    return NOTHING if value is None else f"{value:,.0f}"


def number(value: float | None, digits: int = 4) -> str:
    """A number with so many significant digits, without an exponent where it is readable."""
    if value is None:
        return NOTHING
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e7:
        return f"{value:.{digits - 1}e}"
    decimals = max(0, digits - 1 - _exponent(value, digits))
    return f"{value:,.{decimals}f}"


def score(value: float | None) -> str:
    """A metric between 0 and 1, as lm-eval prints it."""
    return NOTHING if value is None else f"{value:.4f}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share as a percentage."""
    return NOTHING if value is None else f"{100 * value:.{digits}f} %"


def points(value: float | None) -> str:
    """A difference of two shares, in percentage points with its sign."""
    if value is None:
        return NOTHING
    rounded = round(100 * value, 1)
    return f"{rounded:+.1f} pp".replace("-", "−") if rounded else "0.0 pp"


def signed(value: float | None, digits: int = 4) -> str:
    """A difference with its sign."""
    if value is None:
        return NOTHING
    return f"{'+' if value > 0 else ''}{number(value, digits)}".replace("-", "−")


def seconds(value: float | None) -> str:
    """A length of time in the unit that reads best: 287 µs, 12.3 ms, 1.25 s, 3 min 20 s, 2 h 5 min."""
    if value is None:
        return NOTHING
    # The bounds are where three digits round up to the next unit.
    if 0 < abs(value) < 0.9995e-3:
        return f"{number(value * 1e6, 3)} µs"
    if abs(value) < 0.9995:
        return f"{number(value * 1000, 3)} ms"
    if abs(value) < 59.95:
        return f"{number(value, 3)} s"
    sign = "-" if value < 0 else ""
    minutes, rest = divmod(round(abs(value)), 60)
    if minutes < 60:
        return f"{sign}{minutes} min {rest} s" if rest else f"{sign}{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{sign}{hours} h {minutes} min" if minutes else f"{sign}{hours} h"


def size(value: float | None) -> str:
    """Bytes in decimal units."""
    if value is None:
        return NOTHING
    left = float(value)
    for unit in _SI_BYTES:
        if abs(left) < 999.5 or unit == _SI_BYTES[-1]:
            return f"{left:.0f} {unit}" if unit == "B" else f"{number(left, 3)} {unit}"
        left /= 1000
    raise AssertionError("the last unit takes everything")


def moment(value: str | datetime | None) -> str:
    """A time stamp in UTC, to the minute; scripts show it in the reader's own zone."""
    found = _datetime(value)
    return NOTHING if found is None else found.strftime("%Y-%m-%d %H:%M UTC")


def iso(value: str | datetime | None) -> str:
    """A time stamp for machines, as ``<time datetime=...>`` has it."""
    found = _datetime(value)
    return "" if found is None else found.isoformat()


def short(value: str | None, length: int = 12) -> str:
    """The beginning of a digest or a commit; its whole belongs into a title."""
    return NOTHING if not value else value[:length]


def run_name(name: str) -> str:
    """A run's name in a table: one that nobody named has its identifier for a name, shown by its ends."""
    return f"{name[:4]}…{name[-8:]}" if _IDENTIFIER_OF_RUN.fullmatch(name) else name


_IDENTIFIER_OF_RUN = re.compile(r"run_[0-9a-z]{26}")


def state_colour(state: str) -> str:
    """The colour class of a state, beside which its name always stands."""
    return _COLOUR_OF_STATE.get(state.lower(), "secondary")


_COLOUR_OF_STATE = {
    **dict.fromkeys(("ready", "succeeded", "final", "accept", "valid"), "success"),
    **dict.fromkeys(("failed", "reject", "invalid"), "danger"),
    **dict.fromkeys(("cancelled", "empty", "refused"), "secondary"),
    **dict.fromkeys(("inconclusive", "provisional", "cancelling"), "warning"),
}
_COLOUR_OF_STATE.update(
    dict.fromkeys(
        ("pending", "queued", "running", "importing", "provisioning", "evaluating", "scoring"), "info"
    )
)


def _exponent(value: float, digits: int) -> int:
    """The power of ten of the first digit, once the number is rounded: 9.9996 is written as 10.00."""
    return int(f"{value:.{digits - 1}e}".partition("e")[2])


def _datetime(value: str | datetime | None) -> datetime | None:
    if value is None or value == "":
        return None
    found = datetime.fromisoformat(value) if isinstance(value, str) else value
    return found.astimezone(UTC)


FILTERS: Mapping[str, Callable[..., Any]] = {
    function.__name__: function
    for function in (
        *(
            count,
            number,
            score,
            percent,
            points,
            signed,
            seconds,
            size,
            moment,
            iso,
            short,
            run_name,
            state_colour,
        ),
    )
}
