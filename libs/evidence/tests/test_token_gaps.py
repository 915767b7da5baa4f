"""The spread rule: tokens that came together share the time before them."""

from fractions import Fraction
from itertools import groupby, pairwise

import numpy
import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay_evidence.runtime.gaps import TokenGaps, gaps_of_lists, token_gaps

STAMPS = st.lists(st.integers(0, 60), max_size=12).map(sorted)
REQUESTS = st.lists(STAMPS, max_size=8)


def apply(requests: list[list[int]]) -> TokenGaps:
    lengths = numpy.array([len(one) for one in requests], dtype=numpy.int64)
    return token_gaps(numpy.array([at for one in requests for at in one], dtype=numpy.int64), lengths)


def by_hand(stamps: list[int]) -> list[Fraction]:
    groups = [(at, len(list(same))) for at, same in groupby(stamps)]
    return [
        Fraction(late - early, tokens)
        for (early, _), (late, tokens) in pairwise(groups)
        for _ in range(tokens)
    ]


def exact(gaps: TokenGaps) -> list[Fraction]:
    return [
        Fraction(int(before), int(tokens))
        for before, tokens in zip(gaps.before_us, gaps.tokens, strict=True)
        for _ in range(tokens)
    ]


@given(REQUESTS)
def test_every_gap_is_as_by_hand(requests: list[list[int]]) -> None:
    found = apply(requests)
    assert exact(found) == [gap for one in requests for gap in by_hand(one)]
    assert found.n == len(exact(found))
    assert all(gap > 0 for gap in exact(found))
    assert numpy.repeat(found.seconds, found.tokens) == pytest.approx(
        [float(gap) / 1e6 for gap in exact(found)]
    )


@given(REQUESTS)
def test_gaps_add_up_to_the_time_from_the_first_stamp_to_the_last(requests: list[list[int]]) -> None:
    found = apply(requests)
    assert sum(exact(found)) == sum(one[-1] - one[0] for one in requests if one)


@given(REQUESTS)
def test_every_token_is_a_gap_or_the_first_or_unknown(requests: list[list[int]]) -> None:
    found = apply(requests)
    tokens = sum(len(one) for one in requests)
    assert found.n + found.unknown + sum(1 for one in requests if one) == tokens
    assert found.merged == sum(late == early for one in requests for early, late in pairwise(one))
    assert found.unknown == sum(one.count(one[0]) - 1 for one in requests if one)
    assert found.spread == sum(
        tokens
        for one in requests
        for at, same in groupby(one)
        if (tokens := len(list(same))) > 1 and at > one[0]
    )


@given(REQUESTS, st.randoms(use_true_random=False))
def test_the_order_of_the_requests_does_not_matter(requests: list[list[int]], random: object) -> None:
    shuffled = list(requests)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = apply(requests), apply(shuffled)
    assert sorted(exact(first)) == sorted(exact(second))
    assert (first.spread, first.merged, first.unknown) == (second.spread, second.merged, second.unknown)


@given(REQUESTS)
def test_gaps_of_several_requests_are_those_of_each(requests: list[list[int]]) -> None:
    apart = [apply([one]) for one in requests]
    assert exact(apply(requests)) == [gap for one in apart for gap in exact(one)]


def test_an_example() -> None:
    # Two tokens at once at first, then one after 30, then three after 60.
    found = apply([[100, 100, 130, 190, 190, 190]])
    assert exact(found) == [30, 20, 20, 20]
    assert (found.unknown, found.spread, found.merged) == (1, 3, 3)


def test_a_stamp_below_an_earlier_one_came_together_with_it() -> None:
    assert exact(apply([[50, 80, 70, 90], [10, 20]])) == [15, 15, 10, 10]


def test_the_largest_stamps_there_are() -> None:
    largest = (1 << 32) - 1
    assert exact(apply([[0, largest], [0, largest], [largest]])) == [largest, largest]


def test_lists_of_a_table_with_missing_and_empty_ones() -> None:
    lists = pyarrow.array([[1, 3], None, [], [5], [7, 7, 11]], pyarrow.large_list(pyarrow.uint32()))
    assert exact(gaps_of_lists(lists)) == [2, 4]
    assert exact(gaps_of_lists(lists.slice(1, 4))) == [4]
    assert gaps_of_lists(lists.slice(0, 0)).n == 0
