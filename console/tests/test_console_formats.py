"""How numbers, times and states are written."""

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay_console import formats

HUGE = 1e300  # a percentage of more is no number any more
finite = st.floats(min_value=-HUGE, max_value=HUGE)
numbers = finite | st.integers(min_value=-(10**30), max_value=10**30)
OF_NUMBERS = (
    formats.count,
    formats.number,
    formats.score,
    formats.percent,
    formats.points,
    formats.signed,
    formats.seconds,
    formats.size,
)
_UNIT_S = {"µs": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_UNIT_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}


def _seconds_of(text: str) -> float:
    """What ``seconds`` wrote, read back."""
    parts = re.findall(r"(-?[\d.,e+-]+) (µs|ms|min|s|h)", text)
    assert parts, text
    return math.fsum(float(number.replace(",", "")) * _UNIT_S[unit] for number, unit in parts)


def _bytes_of(text: str) -> float:
    number, unit = text.split(" ")
    return float(number.replace(",", "")) * _UNIT_BYTES[unit]


@pytest.mark.parametrize("write", OF_NUMBERS, ids=lambda function: function.__name__)
@given(value=numbers)
def test_every_finite_number_can_be_written(write: Callable[..., str], value: float) -> None:
    text = write(value)
    assert text
    assert text.strip() == text
    assert "nan" not in text
    assert "inf" not in text


@pytest.mark.parametrize("write", OF_NUMBERS, ids=lambda function: function.__name__)
def test_nothing_is_a_dash_and_never_a_zero(write: Callable[..., str]) -> None:
    assert write(None) == formats.NOTHING


@given(value=finite.filter(lambda value: 1e-300 < abs(value) < 1e300))
def test_a_number_keeps_its_four_digits(value: float) -> None:
    written = float(formats.number(value).replace(",", ""))
    assert written == pytest.approx(value, rel=0.6e-3)


@given(value=st.floats(min_value=1e-6, max_value=1e8))
def test_a_length_of_time_reads_back_as_itself(value: float) -> None:
    # From a minute on whole seconds are written, and from an hour on whole minutes.
    allowed = max(0.6e-2 * value, 0.51 if value >= 59 else 0, 60.0 if value >= 3599 else 0)
    assert abs(_seconds_of(formats.seconds(value)) - value) <= allowed


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 ms"),
        (0.0123, "12.3 ms"),
        (0.9994, "999 ms"),
        (0.9999, "1.00 s"),
        (1, "1.00 s"),
        (1.25, "1.25 s"),
        (59.94, "59.9 s"),
        (59.99, "1 min"),
        (60, "1 min"),
        (200, "3 min 20 s"),
        (3599.4, "59 min 59 s"),
        (3599.9, "1 h"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
        (-90, "-1 min 30 s"),
    ],
)
def test_lengths_of_time_at_the_boundaries_of_units(value: float, text: str) -> None:
    assert formats.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1.00 kB"),
        (1000, "1.00 kB"),
        (999_499, "999 kB"),
        (999_600, "1.00 MB"),
        (1_000_000, "1.00 MB"),
        (1_530_000_000, "1.53 GB"),
        (5 * 10**15, "5,000 TB"),
    ],
)
def test_sizes_at_the_boundaries_of_units(value: float, text: str) -> None:
    assert formats.size(value) == text


@given(value=st.integers(min_value=0, max_value=10**18))
def test_a_size_reads_back_as_itself(value: int) -> None:
    assert _bytes_of(formats.size(value)) == pytest.approx(value, rel=0.6e-2)


@given(value=finite.filter(lambda value: abs(value) < 1e15))
def test_a_difference_shows_its_direction(value: float) -> None:
    text = formats.signed(value)
    assert text.startswith("+") == (value > 0)
    assert text.startswith("−") == (value < 0)
    assert "-" not in formats.points(value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (formats.count(12345), "12,345"),
        (formats.number(0.12345678), "0.1235"),
        (formats.number(1234.5678), "1,235"),
        (formats.number(9.99996), "10.00"),
        (formats.number(-0.5), "-0.5000"),
        (formats.number(1e-7), "1.000e-07"),
        (formats.score(2 / 3), "0.6667"),
        (formats.percent(0.123), "12.3 %"),
        (formats.points(-0.0213), "−2.1 pp"),
        (formats.points(0.0213), "+2.1 pp"),
        (formats.points(0), "0.0 pp"),
        (formats.points(-0.00001), "0.0 pp"),
        (formats.signed(-1.5), "−1.500"),
        (formats.signed(0), "0"),
        (formats.short("0123456789abcdef"), "0123456789ab"),
        (formats.short(""), formats.NOTHING),
    ],
)
def test_written_as_people_expect_it(text: str, expected: str) -> None:
    assert text == expected


def test_points_in_time_are_in_utc() -> None:
    assert formats.moment("2026-01-31T23:30:00-02:00") == "2026-02-01 01:30 UTC"
    assert formats.iso(datetime(2026, 1, 31, tzinfo=UTC)) == "2026-01-31T00:00:00+00:00"
    assert formats.moment(None) == formats.moment("") == formats.NOTHING
    assert formats.iso(None) == ""


@pytest.mark.parametrize(
    ("state", "colour"),
    [("Succeeded", "success"), ("Failed", "danger"), ("Running", "info"), ("INCONCLUSIVE", "warning")],
)
def test_states_have_colours_whatever_their_case(state: str, colour: str) -> None:
    assert formats.state_colour(state) == colour


def test_an_unknown_state_has_a_colour_too() -> None:
    assert formats.state_colour("of a later version") == "secondary"
