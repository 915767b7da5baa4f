"""Guesses which column holds what: by name, then by type. Each guess says why, and none is ever final."""

import re
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from method_svc.domain.snapshots import PRINTABLE, Column, ColumnShape


class GuessBasis(StrEnum):
    """What a guess rests on, the surest first."""

    SAME_NAME = "same-name"
    SIMILAR_NAME = "similar-name"
    USUAL_NAME = "usual-name"
    TYPE = "type"
    SOURCE = "source"
    CONVENTION = "convention"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Guess:
    """A value for a field of a form, or for a column that a task reads.

    ``field`` is the field's dotted path, or the column's name; ``value`` is ``None`` where nothing fits.
    """

    field: str
    value: str | None
    basis: GuessBasis
    reason: str


class _Finding(NamedTuple):
    """A guess before it is known what for."""

    value: str | None
    basis: GuessBasis
    reason: str


@dataclass(frozen=True, slots=True)
class _Role:
    """Names that people give to columns which hold the same thing, the most usual first."""

    meaning: str
    names: tuple[str, ...]
    shapes: tuple[ColumnShape, ...]


_INPUT = _Role(
    "the input",
    (
        "input",
        "question",
        "prompt",
        "query",
        "instruction",
        "problem",
        "text",
        "sentence",
        "request",
        "goal",
    ),
    PRINTABLE,
)
_EXPECTED = _Role(
    "the expected answer",
    (
        "expected_output",
        "expected",
        "answer",
        "target",
        "label",
        "output",
        "response",
        "reference",
        "gold",
        "solution",
        "completion",
        "correct_answer",
        "answer_key",
        "ideal",
    ),
    PRINTABLE,
)
_CHOICES = _Role(
    "the answers to choose from",
    ("choices", "options", "endings", "candidates", "alternatives"),
    (ColumnShape.LIST, ColumnShape.NESTED),
)
_PASSAGE = _Role(
    "the text that a question is about",
    ("context", "passage", "article", "document", "paragraph", "story", "premise"),
    PRINTABLE,
)
_ROLES = (_INPUT, _EXPECTED, _CHOICES, _PASSAGE)


def guess_question_and_answer(columns: Sequence[Column], *, rows: int) -> list[Guess]:
    """The columns with the input and the expected output of questions and answers, in this order.

    ``rows`` is how many rows there are: a column with gaps is guessed, and the reason says so.
    """
    candidates = printable_first(columns)
    fields = {"recipe.input_field": _INPUT, "recipe.expected_output_field": _EXPECTED}
    by_name = {field: _of_role(role, candidates) for field, role in fields.items()}
    taken = {finding.value for finding in by_name.values() if finding is not None}
    guesses = []
    for field, finding in by_name.items():
        chosen = finding or _first_of_type(candidates, taken=taken)
        taken.add(chosen.value)
        guesses.append(_guess(field, chosen, columns, rows=rows))
    return guesses


def guess_mapping(wanted: Iterable[str], columns: Sequence[Column], *, rows: int) -> list[Guess]:
    """For each column that a task reads, the column of the rows that holds it."""
    remaining = {column.name: column for column in columns}
    findings: dict[str, _Finding] = {}
    wanted = list(dict.fromkeys(wanted))
    for find in (_same_name, _similar_name, _same_role):
        for name in wanted:
            finding = None if name in findings else find(name, list(remaining.values()))
            if finding is not None and finding.value is not None:
                findings[name] = finding
                remaining.pop(finding.value)
    left = [name for name in wanted if name not in findings]
    if len(left) == 1 and len(remaining) == 1:
        [only] = remaining
        findings[left.pop()] = _Finding(only, GuessBasis.TYPE, "it is the only column that is left")
    for name in left:
        reason = f"no column looks like {name!r}; choose one, or choose another task"
        findings[name] = _Finding(None, GuessBasis.NONE, reason)
    return [_guess(name, findings[name], columns, rows=rows) for name in wanted]


def printable_first(columns: Iterable[Column]) -> list[Column]:
    """The columns that can stand in a prompt: text first, then numbers, then flags; each in file order."""
    usable = [column for column in columns if column.shape in PRINTABLE]
    return sorted(usable, key=lambda column: PRINTABLE.index(column.shape))


def _of_role(role: _Role, columns: Sequence[Column]) -> _Finding | None:
    for name in role.names:
        for column in columns:
            if _folded(column.name) == _folded(name):
                reason = f"a column called {column.name!r} usually holds {role.meaning}"
                return _Finding(column.name, GuessBasis.USUAL_NAME, reason)
    for name in role.names:
        for column in columns:
            if name in re.split(r"[^a-z0-9]+", column.name.lower()):
                reason = f"the name {column.name!r} holds {name!r}, which usually is {role.meaning}"
                return _Finding(column.name, GuessBasis.SIMILAR_NAME, reason)
    return None


def _first_of_type(columns: Sequence[Column], *, taken: Collection[str | None]) -> _Finding:
    for column in columns:
        if column.name not in taken:
            holds = "text" if column.shape is ColumnShape.TEXT else f"a {column.shape}"
            reason = (
                f"no column has a usual name for this; {column.name!r} is the first left that holds {holds}"
            )
            return _Finding(column.name, GuessBasis.TYPE, reason)
    return _Finding(None, GuessBasis.NONE, "no column is left that could stand in a prompt")


def _same_name(wanted: str, columns: Sequence[Column]) -> _Finding | None:
    if any(column.name == wanted for column in columns):
        return _Finding(wanted, GuessBasis.SAME_NAME, "the rows have a column of this name")
    return None


def _similar_name(wanted: str, columns: Sequence[Column]) -> _Finding | None:
    for column in columns:
        if _folded(column.name) == _folded(wanted):
            reason = "the names differ only in case, separators or a plural"
            return _Finding(column.name, GuessBasis.SIMILAR_NAME, reason)
    return None


def _same_role(wanted: str, columns: Sequence[Column]) -> _Finding | None:
    role = next((role for role in _ROLES if _folded(wanted) in map(_folded, role.names)), None)
    for name in role.names if role else ():
        for column in columns:
            if role and _folded(column.name) == _folded(name) and column.shape in role.shapes:
                reason = f"{wanted!r} and {column.name!r} are both usual names for {role.meaning}"
                return _Finding(column.name, GuessBasis.USUAL_NAME, reason)
    return None


def _guess(field: str, finding: _Finding, columns: Sequence[Column], *, rows: int) -> Guess:
    nulls = next((column.nulls for column in columns if column.name == finding.value), 0)
    gaps = f"; {nulls} of {rows} rows have no value there" if nulls else ""
    return Guess(field, finding.value, finding.basis, finding.reason + gaps)


def _folded(name: str) -> str:
    """The name without case, separators and a plural s."""
    return re.sub(r"[^a-z0-9]+", "", name.lower()).removesuffix("s")
