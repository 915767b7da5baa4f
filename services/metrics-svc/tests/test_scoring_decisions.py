"""What events do to a scoring, and what failed samples count as."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from assay_harness.results import DocumentScore
from metrics_svc.domain.plans import FailurePolicy
from metrics_svc.domain.samples import RequestRecord, SampleRecord, ScoredSample, pack, read_records, unpack
from metrics_svc.domain.scoring import (
    FailedBy,
    Occurrence,
    after_block,
    after_end,
    after_responses,
    has_work,
    new_scoring,
)
from metrics_svc.domain.values import complete_scores
from metrics_svc.errors import Unscorable

START = datetime(2026, 5, 1, tzinfo=UTC)


def at(seconds: float, name: str | None = None) -> Occurrence:
    return Occurrence(id=name or f"event-{seconds}", time=START + timedelta(seconds=seconds))


def scoring(**fields: Any) -> dict[str, Any]:
    return {**new_scoring("run_1"), **fields}


def test_blocks_count_up_and_never_down() -> None:
    assert after_block(scoring(), block=4, when=at(1)) == {"known_blocks": 5}
    assert after_block(scoring(known_blocks=5), block=3, when=at(2)) is None
    assert after_block(scoring(known_blocks=5), block=4, when=at(2)) is None


def test_the_end_of_the_log_may_be_told_before_its_blocks() -> None:
    fields = after_responses(scoring(), blocks=3, samples=130, when=at(1))
    assert fields is not None
    assert (fields["known_blocks"], fields["final_blocks"], fields["expected_samples"]) == (3, 3, 130)
    done = scoring(**fields)
    assert after_block(done, block=2, when=at(0)) is None
    assert has_work({**done, "scored_blocks": 3}, now=1.0)


def test_the_same_event_twice_changes_nothing() -> None:
    done = scoring(**(after_responses(scoring(), blocks=3, samples=130, when=at(1, "e")) or {}))
    assert after_responses(done, blocks=3, samples=130, when=at(1, "e")) is None
    ended = scoring(**(after_end(scoring(), code="c", reason="r", when=at(1, "f")) or {}))
    assert after_end(ended, code="c", reason="r", when=at(1, "f")) is None


def test_an_overtaken_end_does_not_stop_a_resumed_run() -> None:
    resumed = scoring(**(after_responses(scoring(), blocks=3, samples=130, when=at(10)) or {}))
    assert after_end(resumed, code="run-failed", reason="r", when=at(5)) is None


def test_a_cancelled_run_stops_and_a_resumed_one_goes_on() -> None:
    cancelled = scoring(**(after_end(scoring(known_blocks=2), code="c", reason="r", when=at(5)) or {}))
    assert (cancelled["state"], cancelled["active"]) == ("failed", False)
    late = after_block(cancelled, block=2, when=at(4))
    assert late == {"known_blocks": 3}  # appended before the end, told after it
    resumed = after_block(cancelled, block=2, when=at(6))
    assert resumed is not None
    assert (resumed["state"], resumed["active"], resumed["error"]) == ("scoring", True, None)


def test_a_failed_scoring_waits_for_the_end_of_the_log_and_keeps_its_reason() -> None:
    error = {"code": "task-changed", "message": "m"}
    failed = scoring(state="failed", active=False, failed_by=FailedBy.SCORING.value, error=error)
    assert after_block(failed, block=7, when=at(3)) == {"known_blocks": 8}
    run_failed = after_end(failed, code="run-failed", reason="r", when=at(4))
    assert run_failed is not None
    assert "error" not in run_failed
    again = after_responses(failed, blocks=8, samples=500, when=at(5))
    assert again is not None
    assert again["active"]


def test_final_is_final() -> None:
    final = scoring(state="final", active=False)
    assert after_block(final, block=9, when=at(1)) is None
    assert after_responses(final, blocks=9, samples=9, when=at(1)) is None
    assert after_end(final, code="c", reason="r", when=at(1)) is None


def test_work_waits_for_its_time() -> None:
    assert not has_work(scoring(), now=10.0)
    assert has_work(scoring(known_blocks=1), now=10.0)
    assert not has_work(scoring(known_blocks=1, retry_at=11.0), now=10.0)
    assert not has_work(scoring(known_blocks=1, active=False), now=10.0)
    assert not has_work(scoring(known_blocks=1, scored_blocks=1), now=10.0)


def score(index: int, value: Any, *, numpy_type: str = "", task: str = "sums") -> DocumentScore:
    key = "acc,none"
    types = {key: numpy_type} if numpy_type else {}
    return DocumentScore(index=index, values={key: value}, number_types=types, filtered={}, task=task)


def complete(values: dict[int, Any], failed: set[int], policy: FailurePolicy, **directions: bool) -> Any:
    scores = {index: score(index, value) for index, value in values.items()}
    missing = dict.fromkeys(failed, "sums")
    return complete_scores(scores, missing, policy=policy, higher_is_better=directions)


def test_failed_samples_by_policy() -> None:
    zero = complete({0: 1.0, 3: 1.0}, {2, 1}, FailurePolicy.SCORE_ZERO, acc=True)
    assert [(one.index, one.values["acc,none"]) for one in zero.scores] == [
        (0, 1.0),
        (1, 0.0),
        (2, 0.0),
        (3, 1.0),
    ]
    left_out = complete({0: 1.0, 3: 1.0}, {2, 1}, FailurePolicy.EXCLUDE, acc=True)
    assert [one.index for one in left_out.scores] == [0, 3]
    with pytest.raises(Unscorable, match="2 samples failed"):
        complete({0: 1.0}, {2, 1}, FailurePolicy.FAIL, acc=True)
    assert len(complete({0: 1.0}, set(), FailurePolicy.FAIL, acc=True).scores) == 1


def test_zeros_keep_the_number_type_of_the_metric() -> None:
    scores = {0: score(0, 0.5, numpy_type="float64")}
    made = complete_scores(
        scores, {1: "sums"}, policy=FailurePolicy.SCORE_ZERO, higher_is_better={"acc": True}
    )
    assert made.scores[1].number_types == {"acc,none": "float64"}


def test_no_zero_where_it_would_be_meaningless_or_a_reward() -> None:
    with pytest.raises(Unscorable, match="not a number"):
        complete({0: {"tuple": ["a", "b"]}}, {1}, FailurePolicy.SCORE_ZERO, acc=True)
    with pytest.raises(Unscorable, match="lower is better"):
        complete({0: 0.3}, {1}, FailurePolicy.SCORE_ZERO, acc=False)
    assert len(complete({0: 0.3}, {1}, FailurePolicy.EXCLUDE, acc=False).scores) == 1


def test_a_failed_sample_of_a_group_counts_for_its_own_task() -> None:
    scores = {0: score(0, 1.0, task="first"), 2: score(2, 1.0, task="second", numpy_type="float64")}
    made = complete_scores(
        scores, {1: "first", 3: "second"}, policy=FailurePolicy.SCORE_ZERO, higher_is_better={"acc": True}
    )
    assert [(one.task, one.values["acc,none"]) for one in made.scores] == [
        ("first", 1.0),
        ("first", 0.0),
        ("second", 1.0),
        ("second", 0.0),
    ]
    assert [one.number_types for one in made.scores] == [{}, {}] + 2 * [{"acc,none": "float64"}]
    names = ["both.acc,none", "first.acc,none", "second.acc,none"]
    assert made.sample_metrics("both", reported={"both.acc,none": 0.5}) == names
    assert made.sample_metrics("both", reported={}) == names[1:], "a tag has no metric of its own"
    with pytest.raises(Unscorable, match="task 'third'"):
        complete_scores(scores, {4: "third"}, policy=FailurePolicy.SCORE_ZERO, higher_is_better={})


def test_nothing_scored_is_no_result() -> None:
    with pytest.raises(Unscorable, match="none of the 2 samples"):
        complete({}, {0, 1}, FailurePolicy.SCORE_ZERO)


def record(**fields: Any) -> dict[str, Any]:
    made = {
        "index": 0,
        "doc_hash": "d",
        "prompt_hash": "p",
        "target_hash": "t",
        "target": "x",
        "status": "ok",
        "requests": [{"index": 0, "kind": "generate", "prompt": "p", "response": "r"}],
    }
    return {**made, **fields}


def test_a_malformed_sample_names_its_field() -> None:
    with pytest.raises(Unscorable, match=r"samples\.1\.requests\.0\.kind"):
        read_records([record(), record(requests=[{"index": 0, "kind": "sing", "prompt": ""}])])


def test_an_unanswered_request_of_an_unfailed_sample_is_refused() -> None:
    (sample,) = read_records([record(requests=[{"index": 0, "kind": "generate", "prompt": "p"}])])
    with pytest.raises(Unscorable, match="has no response"):
        sample.answers()


def test_answers_go_by_request_and_repeat() -> None:
    requests = [
        {"index": index, "repeat": repeat, "kind": "generate", "prompt": "p", "response": f"{index}{repeat}"}
        for index, repeat in ((1, 0), (0, 1), (1, 1), (0, 0))
    ]
    (sample,) = read_records([record(requests=requests)])
    assert sample.answers() == ["00", "01", "10", "11"]


def test_packed_samples_come_back_bit_by_bit() -> None:
    values: dict[str, Any] = {
        "a.b,none": 0.1 + 0.2,
        "count,none": 1,
        "corpus,none": {"tuple": [1, -5e-324]},
        "odd,none": {"float": "nan"},
    }
    request = RequestRecord(
        index=0, kind="loglikelihood", prompt="€\u2028", log_probability=float("-inf"), is_greedy=False
    )
    sample = SampleRecord.model_validate(record(requests=[request.model_dump()]))
    stored = [
        ScoredSample(
            record=sample,
            score=DocumentScore(index=0, values=values, number_types={}, filtered={"none": [["a", 1.5]]}),
        ),
        ScoredSample(record=sample, score=None),
    ]
    found = unpack(pack(stored))
    assert found == stored
    assert found[0].score is not None
    assert [type(value) for value in found[0].score.values.values()] == [float, int, dict, dict]
