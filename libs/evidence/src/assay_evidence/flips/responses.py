"""What changed in the responses of pairs, whether or not their scores did."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy
import pyarrow
import pyarrow.compute
from numpy.typing import NDArray

from assay_evidence.flips.texts import (
    Slices,
    characters_before,
    first_mismatch,
    tokens_before,
    words_before,
)
from assay_evidence.pairing import Pairing
from assay_evidence.tables import RunEvidence
from assay_evidence.tables.reader import combined
from assay_evidence.tables.writer import ROWS_PER_GROUP

TRUNCATED = "length"
"""Finish reason of a response that ran into its token limit."""

_PAIRS_AT_ONCE = ROWS_PER_GROUP
"""Pairs whose texts are searched in one step; bounds memory, and nothing is copied of runs in order."""


@dataclass(frozen=True, slots=True, eq=False)
class ResponseChanges:
    """Of all pairs.

    Attributes:
        compared: both sides have a response.
        differs: the two responses differ.
        first_character, first_token: where they part, from 0; -1 where they do not differ.
        token_basis: what counts as a token: the engine's own where it tells them for all that differ.
        blank: one side's response has no text.
        baseline_truncated, candidate_truncated: the response ran into the token limit.
    """

    compared: NDArray[numpy.bool_]
    differs: NDArray[numpy.bool_]
    first_character: NDArray[numpy.int64]
    first_token: NDArray[numpy.int64]
    token_basis: Literal["engine", "word"]
    blank: NDArray[numpy.bool_]
    baseline_truncated: NDArray[numpy.bool_]
    candidate_truncated: NDArray[numpy.bool_]


def response_changes(baseline: RunEvidence, candidate: RunEvidence, pairing: Pairing) -> ResponseChanges:
    """Compare the responses of all pairs."""
    n = len(pairing)
    sides = ((baseline, pairing.baseline), (candidate, pairing.candidate))
    read = [run.columns(["response", "token_text_lengths", "finish_reason"], at) for run, at in sides]
    texts, lengths, reasons = ([one.column(place) for one in read] for place in range(3))
    compared, differs, blank = (numpy.zeros(n, dtype=bool) for _ in range(3))
    byte, character, token = (numpy.full(n, -1, dtype=numpy.int64) for _ in range(3))
    for part in _parts(n):
        first, second = (combined(one[part]) for one in texts)
        unequal = pyarrow.compute.not_equal(first, second)
        compared[part] = unequal.is_valid().to_numpy(zero_copy_only=False)
        differs[part] = unequal.fill_null(False).to_numpy(zero_copy_only=False)
        blank[part] = _is_blank(first) | _is_blank(second)
        where = numpy.flatnonzero(differs[part])
        slices = [Slices.of_texts(one).at(where) for one in (first, second)]
        byte[part][where] = first_mismatch(slices[0], slices[1])
        character[part][where] = characters_before(slices[0], byte[part][where])
    by_engine = bool(differs.any()) and not any((differs & _is_null(one)).any() for one in lengths)
    for part in _parts(n):
        where = numpy.flatnonzero(differs[part])
        if by_engine:
            tokens = [Slices.of_lists(combined(one[part])).at(where) for one in lengths]
            token[part][where] = tokens_before(tokens[0], tokens[1], character[part][where])
        else:
            slices = [Slices.of_texts(combined(one[part])).at(where) for one in texts]
            token[part][where] = words_before(slices[0], slices[1], byte[part][where])
    return ResponseChanges(
        compared=compared,
        differs=differs,
        first_character=character,
        first_token=token,
        token_basis="engine" if by_engine else "word",
        blank=blank,
        baseline_truncated=_is_truncated(reasons[0]),
        candidate_truncated=_is_truncated(reasons[1]),
    )


def _parts(n: int) -> Iterator[slice]:
    for begin in range(0, n, _PAIRS_AT_ONCE):
        yield slice(begin, min(begin + _PAIRS_AT_ONCE, n))


def _is_null(column: pyarrow.ChunkedArray) -> NDArray[numpy.bool_]:
    missing: NDArray[numpy.bool_] = column.is_null().to_numpy()
    return missing


def _is_blank(texts: pyarrow.Array) -> NDArray[numpy.bool_]:
    trimmed = pyarrow.compute.utf8_trim_whitespace(texts)
    blank: NDArray[numpy.bool_] = (
        pyarrow.compute.equal(trimmed, "").fill_null(True).to_numpy(zero_copy_only=False)
    )
    return blank


def _is_truncated(reasons: pyarrow.ChunkedArray) -> NDArray[numpy.bool_]:
    truncated: NDArray[numpy.bool_] = pyarrow.compute.equal(reasons, TRUNCATED).fill_null(False).to_numpy()
    return truncated
