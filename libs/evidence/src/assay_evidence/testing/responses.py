"""Texts of synthetic responses, what filters make of them, and the lengths of their tokens."""

from dataclasses import dataclass
from typing import Any

import numpy
import pyarrow
from numpy.typing import NDArray

_WORDS = (
    "so then the first part has more than seven apples and each of them costs two coins which leaves a rest "
    "that we divide by three before the second half is added to what was left over from yesterday "
)


@dataclass(frozen=True, slots=True, eq=False)
class Responses:
    """What the texts must say; arrays have one entry per document.

    Attributes:
        right: the answer is the target's; ``strict``: and is put in the form that the strict filter wants.
        changed: the text departs from that of an unchanged run somewhere.
        targets: right answers.
        tokens: tokens of a generated response.
        chars: about so long is a generated response.
        choices: given continuations; 0 where answers are generated.
    """

    right: NDArray[numpy.bool_]
    strict: NDArray[numpy.bool_]
    changed: NDArray[numpy.bool_]
    failed: NDArray[numpy.bool_]
    targets: NDArray[numpy.int64]
    tokens: int
    chars: int
    choices: int


def generated_texts(
    wanted: Responses, *, content: numpy.random.Generator, random: numpy.random.Generator
) -> dict[str, Any]:
    """Columns ``response``, ``token_text_lengths`` and one per filter."""
    if wanted.choices:
        return _choices(wanted)
    n, reach = len(wanted.right), max(wanted.chars - 20, 8)
    source = _WORDS * (2 * reach // len(_WORDS) + 3)
    begins = content.integers(0, len(_WORDS), n)
    cuts, others = random.integers(0, reach, n), random.integers(0, len(_WORDS), n)
    texts: list[str | None] = []
    strict: list[str | None] = []
    flexible: list[str | None] = []
    for number in range(n):
        if wanted.failed[number]:
            for column in (texts, strict, flexible):
                column.append(None)
            continue
        begin, cut = begins[number], cuts[number] if wanted.changed[number] else reach
        text = source[begin : begin + cut]
        if cut < reach:
            text += "|" + source[others[number] : others[number] + reach - cut]
        answer = str(wanted.targets[number] + (0 if wanted.right[number] else 1))
        texts.append(
            f"{text} {'####' if wanted.strict[number] or not wanted.right[number] else 'is'} {answer}"
        )
        flexible.append(answer)
        strict.append(answer if wanted.strict[number] or not wanted.right[number] else "[invalid]")
    return {
        "response": texts,
        "token_text_lengths": _token_lengths(texts, wanted.tokens),
        "flexible-extract": flexible,
        "strict-match": strict,
    }


def _choices(wanted: Responses) -> dict[str, Any]:
    best = [
        f" choice {(target + (not right)) % wanted.choices}"
        for target, right in zip(wanted.targets.tolist(), wanted.right.tolist(), strict=True)
    ]
    texts = [None if failed else text for text, failed in zip(best, wanted.failed.tolist(), strict=True)]
    return {"response": texts, "token_text_lengths": [None] * len(texts), "none": texts}


def _token_lengths(texts: list[str | None], tokens: int) -> pyarrow.Array:
    """Each text cut into about ``tokens`` tokens of equal length; a null list where there is no text."""
    lengths = numpy.array([len(text or "") for text in texts], dtype=numpy.int64)
    each = numpy.maximum(lengths // tokens, 1)
    counts = numpy.where(lengths > 0, -(-lengths // each), 0)
    offsets = numpy.concatenate([[0], numpy.cumsum(counts)])
    flat = numpy.repeat(each, counts)
    has = counts > 0
    flat[offsets[1:][has] - 1] = (lengths - (counts - 1) * each)[has]
    missing = numpy.array([text is None for text in texts], dtype=bool)
    return pyarrow.ListArray.from_arrays(
        pyarrow.array(offsets.astype(numpy.int32), mask=numpy.append(missing, False)),
        pyarrow.array(flat.astype(numpy.uint32)),
    )
