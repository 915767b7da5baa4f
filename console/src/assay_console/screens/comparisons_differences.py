"""What differs between two texts, word by word."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

SHOWN_CHARACTERS = 8_000
"""Of a text, so many characters are shown."""
COMPARED_WORDS = 500
"""So many words of each text are compared, after those with which both begin."""

_WORDS = re.compile(r"\S+\s*|\s+")


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text, and whether the other text lacks it."""

    text: str
    differs: bool


@dataclass(frozen=True, slots=True)
class TextDifference:
    """Two texts in pieces.

    Attributes:
        before, after: the pieces of both, in order; nothing where there is no text.
        is_equal: whether the texts are the same.
        is_white_space: whether they are the same but for white space.
        is_cut: whether more of them is there than is shown.
        is_partial: whether words from some place on were not compared.
    """

    before: Sequence[Piece]
    after: Sequence[Piece]
    is_equal: bool
    is_white_space: bool
    is_cut: bool
    is_partial: bool


def text_difference(before: str, after: str) -> TextDifference:
    """Compare two texts; what is longer than the bounds above is cut, so that the time is bounded."""
    cut_before, cut_after = before[:SHOWN_CHARACTERS], after[:SHOWN_CHARACTERS]
    first, second = _WORDS.findall(cut_before), _WORDS.findall(cut_after)
    alike = _common_beginning(first, second)
    end = alike + COMPARED_WORDS
    before_pieces, after_pieces = [_plain(first[:alike])], [_plain(second[:alike])]
    # White space alone is no difference of words.
    matcher = SequenceMatcher(
        None, [word.strip() for word in first[alike:end]], [word.strip() for word in second[alike:end]]
    )
    for tag, low, high, other_low, other_high in matcher.get_opcodes():
        differs = tag != "equal"
        before_pieces.append(Piece("".join(first[alike + low : alike + high]), differs))
        after_pieces.append(Piece("".join(second[alike + other_low : alike + other_high]), differs))
    before_pieces.append(_plain(first[end:]))
    after_pieces.append(_plain(second[end:]))
    return TextDifference(
        before=[piece for piece in before_pieces if piece.text],
        after=[piece for piece in after_pieces if piece.text],
        is_equal=before == after,
        is_white_space=before != after and before.split() == after.split(),
        is_cut=max(len(before), len(after)) > SHOWN_CHARACTERS,
        is_partial=max(len(first), len(second)) > end,
    )


def shown(text: str) -> str:
    """The beginning of a text that may be long."""
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}…"


def _common_beginning(first: Sequence[str], second: Sequence[str]) -> int:
    for place, (one, other) in enumerate(zip(first, second, strict=False)):
        if one.strip() != other.strip():
            return place
    return min(len(first), len(second))


def _plain(words: Sequence[str]) -> Piece:
    return Piece("".join(words), differs=False)
