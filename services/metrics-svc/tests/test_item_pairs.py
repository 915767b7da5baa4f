"""Items pair by content."""

import pytest

from metrics_svc.domain.pairing import ItemKey, Pair, pair_items


def key(document: str, prompt: str = "p", target: str = "t") -> ItemKey:
    return ItemKey(document, prompt, target)


def test_pairs_go_by_content_and_not_by_position() -> None:
    pairing = pair_items([key("a"), key("b"), key("c")], [key("c"), key("a"), key("d")])
    assert pairing.pairs == [Pair(0, 1), Pair(2, 0)]
    assert (pairing.baseline_only, pairing.candidate_only) == ([1], [2])
    assert pairing.fraction == pytest.approx(2 / 3)


def test_equal_items_pair_in_order_as_far_as_both_have_them() -> None:
    pairing = pair_items([key("a"), key("b"), key("a"), key("a")], [key("a"), key("a"), key("b")])
    assert pairing.pairs == [Pair(0, 0), Pair(1, 2), Pair(2, 1)]
    assert pairing.baseline_only == [3]
    assert pairing.fraction == 0.75


def test_another_prompt_or_target_is_another_item() -> None:
    pairing = pair_items([key("a"), key("b")], [key("a", prompt="other"), key("b", target="other")])
    assert not pairing.pairs
    assert pairing.same_document_only == 2
    assert pairing.fraction == 0.0


def test_nothing_pairs_with_nothing() -> None:
    assert pair_items([], []).fraction == 0.0
