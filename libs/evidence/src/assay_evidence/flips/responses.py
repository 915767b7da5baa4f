"""What changed in the responses of pairs, whether or not their scores did."""

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

TRUNCATED = "length"
"""Finish reason of a response that ran into its token limit."""

_PAIRS_AT_ONCE = 16_384
"""Pairs whose texts are searched in one step; bounds memory."""


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
    first = baseline.column("response", pairing.baseline)
    second = candidate.column("response", pairing.candidate)
    unequal = pyarrow.compute.not_equal(first, second)
    compared = unequal.is_valid().to_numpy(zero_copy_only=False)
    differs = unequal.fill_null(False).to_numpy(zero_copy_only=False)
    where = numpy.flatnonzero(differs)
    lengths = (
        baseline.column("token_text_lengths", pairing.baseline[where]),
        candidate.column("token_text_lengths", pairing.candidate[where]),
    )
    by_engine = bool(len(where)) and not any(one.null_count for one in lengths)
    character, token = (numpy.full(len(pairing), -1, dtype=numpy.int64) for _ in range(2))
    for begin in range(0, len(where), _PAIRS_AT_ONCE):
        here = where[begin : begin + _PAIRS_AT_ONCE]
        rows = pyarrow.array(here)
        texts = Slices.of_texts(first.take(rows)), Slices.of_texts(second.take(rows))
        byte = first_mismatch(*texts)
        character[here] = characters_before(texts[0], byte)
        if by_engine:
            tokens = [Slices.of_lists(one.slice(begin, len(here))) for one in lengths]
            token[here] = tokens_before(tokens[0], tokens[1], character[here])
        else:
            token[here] = words_before(texts[0], texts[1], byte)
    return ResponseChanges(
        compared=compared,
        differs=differs,
        first_character=character,
        first_token=token,
        token_basis="engine" if by_engine else "word",
        blank=_is_blank(first) | _is_blank(second),
        baseline_truncated=_is_truncated(baseline, pairing.baseline),
        candidate_truncated=_is_truncated(candidate, pairing.candidate),
    )


def _is_blank(texts: pyarrow.Array) -> NDArray[numpy.bool_]:
    trimmed = pyarrow.compute.utf8_trim_whitespace(texts)
    blank: NDArray[numpy.bool_] = (
        pyarrow.compute.equal(trimmed, "").fill_null(True).to_numpy(zero_copy_only=False)
    )
    return blank


def _is_truncated(run: RunEvidence, at: NDArray[numpy.int64]) -> NDArray[numpy.bool_]:
    reasons = pyarrow.compute.equal(run.column("finish_reason", at), TRUNCATED)
    truncated: NDArray[numpy.bool_] = reasons.fill_null(False).to_numpy(zero_copy_only=False)
    return truncated
