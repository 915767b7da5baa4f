"""The closed menu of filters for re-scoring: each reads text in linear time, whatever the text."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from assay_harness.spec import FilterFunction

NOT_FOUND = "[invalid]"
"""What a filter gives where it finds nothing; lm-eval's own word for it, equal to no expected output."""

_NUMBER = re.compile(r"(?<![\w.])-?(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|(?<![\w.])-?\.\d+")
_OPENING = re.compile(r"<(think|thinking|reasoning)>", re.IGNORECASE)
_CLOSING = re.compile(r"</(?:think|thinking|reasoning)>", re.IGNORECASE)
_STATED_LETTER = re.compile(
    r"\b(?:answer|choice|option)(?:\s+is)?\s{0,3}:?[\s*]{0,4}\(?([A-J])\b(?!['’])", re.IGNORECASE
)
_BRACKETED_LETTER = re.compile(r"\(([A-J])\)", re.IGNORECASE)
_LEADING_LETTER = re.compile(r"[\s*]{0,8}([A-Ja-j])(?=[.):*,]|[ \t]{0,8}(?:\n|$))")
_LONE_LETTER = re.compile(r"(?<![\w'’])([B-HJ])(?![\w'’])")


def apply_text_step(function: FilterFunction, text: Any) -> Any:
    """Apply one step to one text; raises TypeError for what a task's own filter made something else of."""
    if function is FilterFunction.NONE:
        return text
    if not isinstance(text, str):
        raise TypeError(f"{function.value!r} reads text; the step before it gave a {type(text).__name__}")
    return _STEPS[function](text)


def reduce_repeats(texts: Sequence[Any]) -> Any:
    """Return the most frequent of the repeats, the earliest of equals."""
    return Counter(texts).most_common(1)[0][0]


def strip_thinking(text: str) -> str:
    """Drop a model's reasoning: all up to its last closing tag, or from an opening tag never closed."""
    closings = list(_CLOSING.finditer(text))
    rest = text[closings[-1].end() :] if closings else text
    opening = _OPENING.search(rest)
    return (rest[: opening.start()] if opening else rest).strip()


def numbers(text: str) -> list[str]:
    """Return the numbers in a text without currency signs and digit grouping, in order."""
    return [found.replace(",", "") for found in _NUMBER.findall(text)]


def choice_letter(text: str) -> str:
    """Return the letter A to J that a text chooses, in upper case.

    First the last one that is stated ("the answer is (B)"), then one in brackets, then one that opens the
    text before a mark or a line's end, then a capital that stands alone (but "A" and "I", which are words).
    """
    stated = _STATED_LETTER.findall(text)
    if stated:
        return str(stated[-1]).upper()
    for pattern in (_BRACKETED_LETTER, _LEADING_LETTER, _LONE_LETTER):
        found = pattern.match(text) if pattern is _LEADING_LETTER else pattern.search(text)
        if found:
            return found.group(1).upper()
    return NOT_FOUND


def _line(text: str, position: int) -> str:
    """Return a line that holds something, counted among those that do."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[position] if lines else ""


_STEPS: dict[FilterFunction, Callable[[str], str]] = {
    FilterFunction.STRIP_THINKING: strip_thinking,
    FilterFunction.STRIP_WHITESPACE: str.strip,
    FilterFunction.FIRST_LINE: lambda text: _line(text, 0),
    FilterFunction.LAST_LINE: lambda text: _line(text, -1),
    FilterFunction.FIRST_NUMBER: lambda text: next(iter(numbers(text)), NOT_FOUND),
    FilterFunction.LAST_NUMBER: lambda text: (numbers(text) or [NOT_FOUND])[-1],
    FilterFunction.CHOICE_LETTER: choice_letter,
    FilterFunction.LOWERCASE: str.lower,
}
