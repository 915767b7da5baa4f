"""Numbers and texts in reports, Markdown for pull requests, and cells of spreadsheets."""

import csv
import io
import re
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from metrics_svc.reports import wording
from metrics_svc.reports.markdown import text
from metrics_svc.reports.tables import csv_lines, guarded


@pytest.mark.parametrize(
    ("value", "digits", "shown"),
    [
        (0.0, 3, "0"),
        (1843.2, 3, "1,843"),
        (0.0999999, 3, "0.100"),
        (-0.113, 3, "−0.113"),
        (12.345, 3, "12.3"),
        (1e12, 3, "1.00e+12"),
        (None, 3, "–"),
        (float("nan"), 3, "–"),
        (float("inf"), 3, "∞"),
    ],
)
def test_numbers_have_sensible_digits(value: float | None, digits: int, shown: str) -> None:
    assert wording.number(value, digits=digits) == shown


def spaced(text: str) -> str:
    """With plain spaces before units."""
    return text.replace(wording.UNIT_SPACE, " ")


def test_times_are_shown_in_the_unit_that_suits_them() -> None:
    assert spaced(wording.measured(0.00071, "s")) == "710 µs"
    assert spaced(wording.measured(0.0412, "s")) == "41.2 ms"
    assert spaced(wording.measured(4.2, "s")) == "4.20 s"
    assert spaced(wording.measured_interval((0.0009, 0.0013), "s")) == "0.900 to 1.30 ms"
    assert spaced(wording.measured_difference(0.0126, "s")) == "+12.6 ms"
    assert spaced(wording.measured_difference(-3.0, "W")) == "−3.00 W"


def test_shares_near_the_ends_are_not_rounded_to_them() -> None:
    assert [spaced(wording.share(value)) for value in (0.0, 0.0002, 0.5, 0.9996, 1.0)] == [
        "0.0 %",
        "0.02 %",
        "50.0 %",
        "99.96 %",
        "100.0 %",
    ]


def test_scores_of_right_and_wrong_are_percent_and_their_differences_points() -> None:
    compared: Any = SimpleNamespace(kind="binary", n=1319)
    score = wording.Score(compared)
    assert spaced(score.value(0.61486)) == "61.49 %"
    assert spaced(score.difference(-0.0068)) == "−0.68 points"
    assert spaced(score.difference(0.00001)) == "0.00 points"
    assert score.interval((-0.0176, 0.004)) == "−1.76 to +0.40"
    assert spaced(score.width(0.02)) == "2 points"
    few: Any = SimpleNamespace(kind="binary", n=100)
    assert spaced(wording.Score(few).value(0.61)) == "61.0 %"


def test_scores_in_another_unit_have_the_digits_of_their_error() -> None:
    compared: Any = SimpleNamespace(kind="continuous", n=500, stderr=0.021, baseline=8.4, candidate=8.5)
    score = wording.Score(compared)
    assert spaced(score.value(8.41234)) == "8.412"
    assert spaced(score.difference(0.0123)) == "+0.012"
    exact: Any = SimpleNamespace(kind="continuous", n=500, stderr=None, baseline=0.0, candidate=0.0)
    assert wording.Score(exact).value(0.0) == "0.000"


def test_a_difference_is_marked_by_words() -> None:
    left, right = wording.excerpts("so 9 * 2 = 18 eggs", "so 9 * 2 = 16 eggs")
    assert [segment.text for segment in left.segments if segment.changed] == ["18"]
    assert [segment.text for segment in right.segments if segment.changed] == ["16"]
    assert "".join(segment.text for segment in right.segments) == "so 9 * 2 = 16 eggs"
    assert (left.note, right.note) == (None, None)


def test_texts_of_very_many_words_are_marked_from_the_first_difference_on() -> None:
    left, right = wording.excerpts("a " * 700 + "b", "a " * 700 + "c c")
    assert [segment.text for segment in left.segments if segment.changed] == ["b"]
    assert [segment.text for segment in right.segments if segment.changed] == ["c c"]


@pytest.mark.parametrize(
    ("left", "right", "place"),
    [("", "", 0), ("abc", "abc", 3), ("abc", "abd", 2), ("abc", "ab", 2), ("x", "y", 0)],
)
def test_first_difference(left: str, right: str, place: int) -> None:
    assert wording.first_difference(left, right) == place


@pytest.mark.parametrize(
    "character", ["\u202e", "\u2066", "\u200b", "\x00", "\x1b", "\x85", "\ufeff", "\ud800"]
)
def test_nothing_invisible_stays(character: str) -> None:
    shown = wording.visible(f"a{character}b")
    assert shown == f"a⟨U+{ord(character):04X}⟩b"


def test_lines_and_letters_of_any_script_stay() -> None:
    assert wording.visible("a\tb\r\nc\u05d0\u0939\u093f🎉") == "a\tb\nc\u05d0\u0939\u093f🎉"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a|b", "a\\|b"),
        ("<img src=x>", "&lt;img src=x&gt;"),
        ("two\nlines", "two lines"),
        ("- list", "\\- list"),
        ("1. list", "1\\. list"),
        ("![x](y)", "!\\[x\\](y)"),
        ("*b* _i_ `c` ~s~ $m$", "\\*b\\* \\_i\\_ \\`c\\` \\~s\\~ \\$m\\$"),
        ("https://evil.example www.evil.example", "https:\\//evil.example www\\.evil.example"),
        ("@someone fixes #12", "@\u200bsomeone fixes #\u200b12"),
        ("gsm8k.exact-match", "gsm8k.exact-match"),
    ],
)
def test_markdown_takes_no_text_for_markup(value: str, shown: str) -> None:
    assert text(value) == shown


@pytest.mark.parametrize(
    "cell",
    ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", " =1+1", "-", '=HYPERLINK("x")', "+-3"],
)
def test_cells_that_a_spreadsheet_would_compute_get_an_apostrophe(cell: str) -> None:
    assert guarded(cell) == f"'{cell}"


@pytest.mark.parametrize("cell", ["-1.5", "+3", "-1e-9", "-.5", "a=b", "", "'x", "1+1", "#### 18", "x\n=1"])
def test_numbers_and_harmless_texts_stay(cell: str) -> None:
    assert guarded(cell) == cell


def test_csv_reads_back_with_exact_numbers() -> None:
    rows: list[list[Any]] = [["a,b", 'say "x"', "line\nbreak"], [0.1 + 0.2, 3, None], ["\ud800é", True, -0.5]]
    read = list(csv.reader(io.StringIO(csv_lines(rows), newline="")))
    assert read == [
        ["a,b", 'say "x"', "line\nbreak"],
        [repr(0.1 + 0.2), "3", ""],
        ["?é", "True", "-0.5"],
    ]
    assert not re.search(r"(?<!\r)\n(?!break)", csv_lines(rows))


def test_the_service_starts_without_the_plotting_library() -> None:
    """It takes longer to import than the rest; the first report waits for it."""
    code = "import sys, metrics_svc.wiring; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
