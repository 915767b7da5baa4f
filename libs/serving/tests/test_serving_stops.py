from hypothesis import given
from hypothesis import strategies as st

from assay_serving.stops import cut_at_earliest_stop


def test_the_earliest_of_several_wins_and_the_longer_of_two_that_begin_together() -> None:
    assert cut_at_earliest_stop("one\n\ntwo", ("two", "\n", "\n\n")) == ("one", "\n\n")


def test_without_a_match_the_text_stays_whole() -> None:
    assert cut_at_earliest_stop("one", ("two",)) == ("one", "")
    assert cut_at_earliest_stop("one", ()) == ("one", "")


@given(st.text("ab\n", max_size=12), st.lists(st.text("ab\n", min_size=1, max_size=3), max_size=4))
def test_nothing_of_a_stop_string_remains(text: str, stops: list[str]) -> None:
    cut = cut_at_earliest_stop(text, stops)
    assert not any(stop in cut.text for stop in stops)
    assert text.startswith(cut.text + cut.match)
    assert bool(cut.match) == any(stop in text for stop in stops)
