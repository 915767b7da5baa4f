"""Where texts part, in NumPy, against the same in plain Python."""

import itertools

import numpy
import pyarrow
from hypothesis import given
from hypothesis import strategies as st

from assay_evidence.flips.texts import (
    Slices,
    characters_before,
    first_mismatch,
    tokens_before,
    words_before,
)

# Few characters, so that texts share prefixes; of one to four bytes, some with the same first bytes.
TEXTS = st.text(alphabet="ab \n\u00e9\u00e8\u20ac\u20ad\U0001f600\U0001f601", max_size=90)
PAIRS = st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=8)


def common(first: str, second: str) -> int:
    return next(
        (place for place, (one, other) in enumerate(zip(first, second, strict=False)) if one != other),
        min(len(first), len(second)),
    )


def slices(texts: list[str]) -> Slices:
    return Slices.of_texts(pyarrow.array(texts, pyarrow.large_string()))


def common_items(first: list[str], second: list[str]) -> int:
    return sum(
        1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, second, strict=False))
    )


def shared_words(first: str, second: str) -> int:
    """Words that end before the texts part; white space of another length parts them as well."""
    at = common(first, second)
    found = len(first[:at].split())
    ends_in_word = at > 0 and not first[at - 1].isspace()
    ended = all(text[at : at + 1].strip() == "" for text in (first, second))
    return found - (ends_in_word and not ended)


@given(PAIRS)
def test_characters_and_words(found: list[tuple[str, str, str]]) -> None:
    first = [prefix + one for prefix, one, _ in found]
    second = [prefix + other for prefix, _, other in found]
    byte = first_mismatch(slices(first), slices(second))
    expected = [common(one.encode(), other.encode()) for one, other in zip(first, second, strict=True)]  # type: ignore[arg-type]
    assert byte.tolist() == expected
    character = characters_before(slices(first), byte)
    assert character.tolist() == [common(one, other) for one, other in zip(first, second, strict=True)]
    differing = [place for place, (one, other) in enumerate(zip(first, second, strict=True)) if one != other]
    shared = words_before(slices(first), slices(second), byte)
    for place in differing:
        assert shared[place] == shared_words(first[place], second[place]), (first[place], second[place])


def tokens_of(text: str, lengths: list[int]) -> list[str]:
    ends = [0, *itertools.accumulate(lengths)]
    return [text[begin:end] for begin, end in itertools.pairwise(ends)]


def cut(text: str, sizes: list[int]) -> list[int]:
    """Lengths of tokens that make up the text."""
    lengths, left = [], len(text)
    for size in itertools.cycle(sizes):
        if left <= 0:
            return lengths
        lengths.append(min(size, left))
        left -= size
    return lengths


@given(
    PAIRS,
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
    st.lists(st.integers(1, 5), min_size=1, max_size=4),
)
def test_tokens(found: list[tuple[str, str, str]], sizes: list[int], others: list[int]) -> None:
    first = [prefix + one for prefix, one, _ in found]
    second = [prefix + other for prefix, _, other in found]
    lengths = [cut(text, sizes) for text in first], [cut(text, others) for text in second]
    tokens = [Slices.of_lists(pyarrow.array(one, pyarrow.large_list(pyarrow.uint32()))) for one in lengths]
    characters = numpy.array([common(one, other) for one, other in zip(first, second, strict=True)])
    shared = tokens_before(tokens[0], tokens[1], characters)
    for place, (one, other) in enumerate(zip(first, second, strict=True)):
        expected = common_items(tokens_of(one, lengths[0][place]), tokens_of(other, lengths[1][place]))
        assert shared[place] == expected


def test_long_texts_that_part_late() -> None:
    base = "word " * 2000
    texts = [base + "x", base, base + "tail"], [base + "y", base + "z", base + "tail"]
    byte = first_mismatch(slices(texts[0]), slices(texts[1]))
    assert byte.tolist() == [len(base), len(base), len(base) + 4]


def test_slices_of_a_part_of_an_array() -> None:
    lists = pyarrow.array([[1, 2], [3], [], [4, 5]], pyarrow.large_list(pyarrow.uint32())).slice(1, 3)
    part = Slices.of_lists(lists)
    found = [
        part.values[start : start + length].tolist()
        for start, length in zip(part.start, part.length, strict=True)
    ]
    assert found == [[3], [], [4, 5]]
