"""Numbers and texts as a reader sees them: units, sensible digits, nothing invisible."""

import difflib
import re
from collections.abc import Sequence
from typing import Literal, NamedTuple

from assay_evidence.report import Interval, QualityComparison

ABSENT = "–"
MINUS = "−"
UNIT_SPACE = "\u00a0"
"""Between a number and its unit, so that no line ends there."""
LONGEST_NAME = 300
SHOWN_CHARACTERS = 1600
"""Of a response or a target; of a longer text, the part around the first difference."""
LEAD = 300
"""Characters shown before the first difference of a text that is cut."""
MOST_PIECES = 700
"""Words and spaces of a text in which single words are marked; of one with more, the rest from there on."""

_LINE_ENDS = re.compile(r"\r\n?")
# Control characters but tab and newline, characters that turn the direction of text or take no room, lone
# surrogates, and what is no character at all.
_INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff\U000e0000-\U000e007f]"
)


class Segment(NamedTuple):
    """Part of a text, and whether the other side does not have it."""

    text: str
    changed: bool


class Excerpt(NamedTuple):
    """What is shown of a text: its segments, and a note where something is left out."""

    segments: list[Segment]
    note: str | None


def visible(text: str) -> str:
    """The text with everything invisible or direction-changing spelled out as ``⟨U+202E⟩``."""
    return _INVISIBLE.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", _LINE_ENDS.sub("\n", text))


def name_of(text: object, *, longest: int = LONGEST_NAME) -> str:
    """A name in one line, cut where it is longer than any name should be."""
    shown = visible(str(text)).replace("\n", " ")
    return shown if len(shown) <= longest else f"{shown[: longest - 1]}…"


def excerpts(baseline: str | None, candidate: str | None) -> tuple[Excerpt, Excerpt]:
    """Two responses with their differences marked, each cut to what a reader looks at."""
    left, right = baseline or "", candidate or ""
    first = first_difference(left, right)
    start = max(0, first - LEAD) if max(len(left), len(right)) > SHOWN_CHARACTERS else 0
    shown_left, shown_right = left[start : start + SHOWN_CHARACTERS], right[start : start + SHOWN_CHARACTERS]
    marked_left, marked_right = _marked(shown_left, shown_right, first=first - start)
    return (
        Excerpt(marked_left, _note(baseline, start=start, shown=len(shown_left))),
        Excerpt(marked_right, _note(candidate, start=start, shown=len(shown_right))),
    )


def cut(text: str | None, *, from_end: bool = False) -> Excerpt:
    """A long text without its end, or without its beginning: the question of a prompt is last."""
    whole = text or ""
    start = max(0, len(whole) - SHOWN_CHARACTERS) if from_end else 0
    shown = whole[start : start + SHOWN_CHARACTERS]
    segments = [Segment(visible(shown), changed=False)] if shown else []
    return Excerpt(segments, _note(text, start=start, shown=len(shown)))


def last_line(text: str | None) -> str:
    """The last line of a prompt that says something: not one that only asks to go on, such as "Answer:"."""
    lines = [line.strip() for line in (text or "")[-SHOWN_CHARACTERS:].splitlines() if line.strip()]
    telling = [line for line in lines if len(line) > 12] or lines
    return telling[-1] if telling else ""


def first_difference(left: str, right: str) -> int:
    """Position of the first character that differs; the length of the shorter one where it is a prefix."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _note(text: str | None, *, start: int, shown: int) -> str | None:
    if text is None:
        return "no response"
    if not text:
        return "empty"
    if start == 0 and shown == len(text):
        return None
    where = f"characters {start + 1:,} to {start + shown:,}" if shown else "nothing"
    return f"{where} of {len(text):,}"


def _marked(left: str, right: str, *, first: int) -> tuple[list[Segment], list[Segment]]:
    """Mark words that differ; in texts of too many words, everything after the first difference."""
    words_left, words_right = re.findall(r"\s+|\S+", left), re.findall(r"\s+|\S+", right)
    if max(len(words_left), len(words_right)) > MOST_PIECES:
        return (
            _segments([(left[:first], False), (left[first:], True)]),
            _segments([(right[:first], False), (right[first:], True)]),
        )
    marked_left: list[tuple[str, bool]] = []
    marked_right: list[tuple[str, bool]] = []
    matcher = difflib.SequenceMatcher(a=words_left, b=words_right, autojunk=False)
    for kind, start, stop, start_right, stop_right in matcher.get_opcodes():
        changed = kind != "equal"
        marked_left.append(("".join(words_left[start:stop]), changed))
        marked_right.append(("".join(words_right[start_right:stop_right]), changed))
    return _segments(marked_left), _segments(marked_right)


def _segments(parts: Sequence[tuple[str, bool]]) -> list[Segment]:
    return [Segment(visible(text), changed) for text, changed in parts if text]


# Numbers.


def number(value: float | None, *, digits: int = 3, unit: str = "") -> str:
    """A number with so many significant digits, and its unit."""
    if value is None or value != value:
        return ABSENT
    text = _significant(abs(value), digits)
    return f"{MINUS if value < 0 and float(text.replace(',', '')) else ''}{text}{unit and UNIT_SPACE + unit}"


def _significant(value: float, digits: int) -> str:
    if value == 0:
        return "0"
    if value == float("inf"):
        return "∞"
    magnitude = len(f"{value:.{digits - 1}e}".partition("e")[2]) and int(
        f"{value:.{digits - 1}e}"[digits + 2 :]
    )
    if magnitude >= 9 or magnitude < -6:
        return f"{value:.{digits - 1}e}"
    return f"{value:,.{max(0, digits - 1 - magnitude)}f}"


def plain(value: float | None) -> str:
    """A number that somebody chose, such as a margin, or a median of whole numbers: without idle zeros."""
    return ABSENT if value is None or value != value else f"{value:,.6g}".replace("-", MINUS)


def count(value: int | None) -> str:
    """A whole number with separators."""
    return ABSENT if value is None else f"{value:,}"


def share(value: float | None) -> str:
    """A share between 0 and 1 as percent."""
    if value is None:
        return ABSENT
    percent = value * 100
    if 0 < percent < 0.1 or 99.9 < percent < 100:
        return f"{percent:.2f}{UNIT_SPACE}%"
    return f"{percent:.1f}{UNIT_SPACE}%"


def points(value: float | None) -> str:
    """A difference of shares in points, with its sign."""
    if value is None:
        return ABSENT
    text = f"{abs(value) * 100:.2f}"
    sign = "" if not float(text) else MINUS if value < 0 else "+"
    return f"{sign}{text}{UNIT_SPACE}points"


def points_interval(interval: Interval | None) -> str | None:
    """Its 95 % interval."""
    if interval is None:
        return None
    low, high = (points(end).removesuffix(f"{UNIT_SPACE}points") for end in interval)
    return f"95 %: {low} to {high}"


def probability(value: float | None) -> str:
    """A p-value with its relation, ``= 0.021`` or ``< 0.001``."""
    if value is None:
        return f"= {ABSENT}"
    return "< 0.001" if value < 0.001 else f"= {value:.3f}"


def measured(value: float | None, unit: str) -> str:
    """A measured value in a unit that suits its size; seconds become milliseconds or microseconds."""
    if value is not None and unit == "s" and abs(value) < 1:
        return number(value * 1e6, unit="µs") if abs(value) < 1e-3 else number(value * 1e3, unit="ms")
    return number(value, unit=_shown(unit))


def _shown(unit: str) -> str:
    """A unit as it stands behind a number."""
    return unit.removeprefix("1") if unit.startswith("1/") else unit


def measured_difference(value: float | None, unit: str) -> str:
    """A difference of measured values, with its sign."""
    return f"{'+' if value is not None and value > 0 else ''}{measured(value, unit)}"


def measured_interval(interval: Interval | None, unit: str) -> str:
    """An interval of such values; both ends in the unit that suits the larger one."""
    if interval is None:
        return ABSENT
    factor, shown = 1.0, _shown(unit)
    if unit == "s" and max(map(abs, interval)) < 1:
        factor, shown = (1e6, "µs") if max(map(abs, interval)) < 1e-3 else (1e3, "ms")
    low, high = (number(end * factor) for end in interval)
    return f"{low} to {high}{shown and UNIT_SPACE + shown}"


def ratio(value: float | None) -> str:
    """A ratio, ``1.08 ×``."""
    return number(value, unit="×")


class Score:
    """How the scores of one metric are shown: of right and wrong in percent, else in its own unit."""

    def __init__(self, compared: QualityComparison) -> None:
        self._percent = compared.kind == "binary"
        self._unit = f"{UNIT_SPACE}points" if self._percent else ""
        if self._percent:
            self._decimals = 1 if compared.n < 1000 else 2
        else:
            self._decimals = _decimals(compared)

    def value(self, value: float | None) -> str:
        """A score."""
        if value is None or value != value:
            return ABSENT
        return (
            f"{value * 100:.{self._decimals}f}{UNIT_SPACE}%"
            if self._percent
            else f"{value:,.{self._decimals}f}"
        )

    def run(self, value: float | None, stderr: float | None) -> str | None:
        """A run's own number over all its samples, with its standard error where it has one."""
        if value is None:
            return None
        return f"run {self.value(value)}{'' if stderr is None else f' ± {self.width(stderr)}'}"

    def difference(self, value: float | None) -> str:
        """A difference of two scores, with its sign."""
        if value is None or value != value:
            return ABSENT
        return f"{self._signed(value)}{self._unit}"

    def width(self, value: float | None) -> str:
        """A margin or an error: without sign."""
        if value is None or value != value:
            return ABSENT
        scaled = value * 100 if self._percent else value
        return f"{scaled:.3g}{self._unit}"

    def interval(self, interval: Interval | None) -> str:
        """An interval of a difference."""
        if interval is None:
            return ABSENT
        low, high = (self._signed(end) for end in interval)
        return f"{low} to {high}"

    def _signed(self, value: float) -> str:
        scaled = value * 100 if self._percent else value
        text = f"{abs(scaled):.{self._decimals}f}"
        if not float(text):
            return text
        return f"{MINUS if scaled < 0 else '+'}{text}"


def _decimals(compared: QualityComparison) -> int:
    """Two digits of the difference's standard error, else four of the score."""
    scale = compared.stderr or max(abs(compared.baseline), abs(compared.candidate)) / 100 or 0.01
    exponent = int(f"{scale:e}".partition("e")[2])
    return min(6, max(0, 1 - exponent))


Tone = Literal["good", "bad", "open", "plain"]


def margin_words(compared: QualityComparison) -> tuple[str, Tone]:
    """What the margin test of a metric says, and how it is coloured."""
    test = compared.margin_test
    if test is None:
        return "not tested: the direction is not known", "plain"
    if test.inferior:
        return "worse by more than the margin", "bad"
    if test.equivalent:
        return "equivalent", "good"
    if test.non_inferior:
        return "not worse", "good"
    return "not shown", "open"
