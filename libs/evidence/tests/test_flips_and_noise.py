"""Flips by class, where responses part, the noise floor, and the table of pairs."""

from pathlib import Path

import numpy
import pytest

from assay_evidence.comparison import ComparisonOutcome, Flip, compare, select_pairs
from assay_evidence.flips.analysis import number_in
from assay_evidence.report import ComparisonSettings, FlipAnalysis, FlipClass, Severity
from assay_evidence.tables import VALUE_PREFIX
from assay_evidence.testing import (
    ACCURACY,
    FLEXIBLE,
    STRICT,
    Changes,
    SyntheticRun,
    Task,
    synthetic_run,
)

SETTINGS = ComparisonSettings(bootstrap_resamples=200)
METRIC = f"synthetic.{STRICT}"


def outcome(
    directory: Path,
    candidate: SyntheticRun,
    baseline: SyntheticRun | None = None,
    *,
    second: SyntheticRun | None = None,
) -> ComparisonOutcome:
    first = baseline or synthetic_run(run_id="base")
    return compare(
        first.evidence(directory),
        [candidate.evidence(directory)],
        settings=SETTINGS,
        noise_floor=second and second.evidence(directory),
    )


def flips(found: ComparisonOutcome, metric: str = METRIC) -> FlipAnalysis:
    return next(one for one in found.report.candidates[0].flips if one.metric == metric)


def lose(text: str | None, **columns: object) -> SyntheticRun:
    """A run in which the first right sample of the base gets another answer, wrong by every filter."""
    run = synthetic_run(run_id="built")
    place = right_place()
    for name, value in {
        "response": text,
        VALUE_PREFIX + STRICT: 0.0,
        VALUE_PREFIX + FLEXIBLE: 0.0,
        **columns,
    }.items():
        changed = run.column(name)
        changed[place] = value
        run = run.with_column(name, changed)
    return run.counted()


def right_place() -> int:
    return synthetic_run().column(VALUE_PREFIX + STRICT).index(1.0)


@pytest.mark.parametrize(
    ("candidate", "expected"),
    [
        (lose(None, failed=True, **{VALUE_PREFIX + STRICT: None}), FlipClass.ERROR),
        (lose("  \n"), FlipClass.EMPTY),
        (lose("so then #### 12", finish_reason="length"), FlipClass.TRUNCATED),
        (lose("so then #### 12", **{"filtered:strict-match": "$1,312."}), FlipClass.NUMERIC_ANSWER),
        (lose("so then is 12", **{"filtered:strict-match": "[invalid]"}), FlipClass.OTHER),
        (lose("so then is 12", **{VALUE_PREFIX + FLEXIBLE: 1.0}), FlipClass.FORMAT_ONLY),
    ],
    ids=lambda value: value.value if isinstance(value, FlipClass) else "",
)
def test_why_an_item_flipped(tmp_path: Path, candidate: SyntheticRun, expected: FlipClass) -> None:
    found = outcome(tmp_path, candidate)
    assert flips(found).lost_by_class == {expected: 1}
    assert flips(found).gained_by_class == {}
    pairs = select_pairs(found.pairs[0], metric=METRIC, task="synthetic", flip=Flip.LOST)
    assert pairs.column("flip_class").to_pylist() == [expected.value]
    assert pairs.column("candidate_index").to_pylist() == [right_place()]


def test_truncation_of_the_side_that_is_right_is_no_reason(tmp_path: Path) -> None:
    base = synthetic_run(run_id="base")
    reasons = base.column("finish_reason")
    reasons[right_place()] = "length"
    candidate = lose("so then #### 12", **{"filtered:strict-match": "12"})
    found = outcome(tmp_path, candidate, base.with_column("finish_reason", reasons))
    assert flips(found).lost_by_class == {FlipClass.NUMERIC_ANSWER: 1}


def test_filters_that_agree_on_wrong_make_no_format_only(tmp_path: Path) -> None:
    """Strict agrees that both are wrong: the flexible flip is a change of the answer."""
    run, base = synthetic_run(run_id="built"), synthetic_run(run_id="base")
    place = next(
        place
        for place, (strict, flexible) in enumerate(
            zip(base.column(VALUE_PREFIX + STRICT), base.column(VALUE_PREFIX + FLEXIBLE), strict=True)
        )
        if flexible == 1.0 and strict == 0.0
    )
    for name, value in ((VALUE_PREFIX + FLEXIBLE, 0.0), ("filtered:flexible-extract", "77")):
        column = run.column(name)
        column[place] = value
        run = run.with_column(name, column)
    found = outcome(tmp_path, run.counted(), base)
    assert flips(found, f"synthetic.{FLEXIBLE}").lost_by_class == {FlipClass.NUMERIC_ANSWER: 1}


def test_classes_of_many(tmp_path: Path) -> None:
    changes = Changes(gained=7, lost=20, truncated=5, format_only=6, reworded=30, failed=0)
    found = outcome(tmp_path, synthetic_run(run_id="built", changes=changes, seed=2))
    strict = flips(found)
    assert strict.gained_by_class == {FlipClass.NUMERIC_ANSWER: 7}
    assert strict.lost_by_class == {
        FlipClass.TRUNCATED: 5,
        FlipClass.NUMERIC_ANSWER: 15,
        FlipClass.FORMAT_ONLY: 6,
    }
    assert strict.compared_responses == 500
    assert strict.compared_responses - strict.identical_responses <= 63


def test_another_choice(tmp_path: Path) -> None:
    tasks = (Task(choices=4),)
    candidate = synthetic_run(run_id="built", tasks=tasks, changes=Changes(gained=4, lost=9), seed=2)
    found = flips(
        outcome(tmp_path, candidate, synthetic_run(run_id="base", tasks=tasks)), f"synthetic.{ACCURACY}"
    )
    assert found.gained_by_class == {FlipClass.CHOICE_CHANGED: 4}
    assert found.lost_by_class == {FlipClass.CHOICE_CHANGED: 9}
    assert found.token_basis == "word"


def test_where_responses_part(tmp_path: Path) -> None:
    base, built = (synthetic_run(run_id=name) for name in ("base", "built"))
    texts = {0: ("one two three", "one two four"), 1: ("alpha", "beta"), 2: ("same", "same")}
    for name, side in (("base", 0), ("built", 1)):
        run = base if name == "base" else built
        column, lengths = run.column("response"), run.column("token_text_lengths")
        for place, both in texts.items():
            column[place], lengths[place] = both[side], [len(both[side])]
        lengths[0] = [4, 4, len(texts[0][side]) - 8]
        run = run.with_column("response", column).with_column("token_text_lengths", lengths)
        base, built = (run, built) if name == "base" else (base, run)
    found = outcome(tmp_path, built, base)
    one = flips(found)
    assert (one.compared_responses, one.identical_responses) == (500, 498)
    assert (one.differ_at_first_token, one.token_basis) == (1, "engine")
    assert one.first_difference_char_p50 == (8 + 0) / 2
    assert one.first_difference_token_p50 == (2 + 0) / 2
    pairs = found.pairs[0]
    assert pairs.column("first_character").to_pylist()[:3] == [8, 0, None]
    assert pairs.column("first_token").to_pylist()[:3] == [2, 0, None]
    without = base.with_column("token_text_lengths", [None] * 500)
    assert flips(outcome(tmp_path / "words", built, without)).token_basis == "word"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("$1,250.", 1250.0),
        (" 42 ", 42.0),
        ("-3.5", -3.5),
        ("[invalid]", None),
        ("", None),
        (None, None),
        ("nan", None),
    ],
)
def test_a_number_as_people_write_it(text: str | None, number: float | None) -> None:
    assert number_in(text) == number


def test_churn_beyond_that_of_the_baseline_itself(tmp_path: Path) -> None:
    second = synthetic_run(run_id="again", artifact="base", changes=Changes(gained=5, lost=5), seed=7)
    candidate = synthetic_run(run_id="built", changes=Changes(gained=20, lost=30), seed=8)
    found = outcome(tmp_path, candidate, second=second)
    assert found.report.noise_floor_run is not None
    assert found.report.noise_floor_run.run_id == "again"
    noise = next(one for one in found.report.candidates[0].noise if one.metric == METRIC)
    columns = {
        name: numpy.array(run.column(VALUE_PREFIX + STRICT))
        for name, run in (("a", synthetic_run()), ("a2", second), ("b", candidate))
    }
    assert noise.n == 500
    assert noise.churn_aa == (columns["a"] != columns["a2"]).mean() == 0.02
    assert noise.churn_ab == (columns["a"] != columns["b"]).mean() == 0.1
    assert noise.excess == pytest.approx(0.08)
    assert noise.difference_aa == pytest.approx((columns["a2"] - columns["a"]).mean())
    assert noise.above_noise
    both = int(((columns["a"] != columns["a2"]) & (columns["a"] != columns["b"])).sum())
    assert flips(found).unstable_under_aa == both


def test_churn_like_that_of_the_baseline_itself(tmp_path: Path) -> None:
    second = synthetic_run(run_id="again", artifact="base", changes=Changes(gained=10, lost=10), seed=7)
    candidate = synthetic_run(run_id="built", changes=Changes(gained=10, lost=10), seed=8)
    noise = outcome(tmp_path, candidate, second=second).report.candidates[0].noise
    assert [one.above_noise for one in noise] == [False, False, False]


@pytest.mark.parametrize(
    ("second", "code"),
    [
        (synthetic_run(run_id="other"), "noise-floor-other-artifact"),
        (synthetic_run(run_id="base"), "noise-floor-same-run"),
        (
            synthetic_run(run_id="again", artifact="base").with_plan({"task.max_gen_toks": 9}),
            "noise-floor-other-plan",
        ),
        (
            synthetic_run(run_id="again", artifact="base").with_facts(scoring={"filters": []}),
            "noise-floor-other-plan",
        ),
        (synthetic_run(run_id="npu", artifact="base", backend="rngd"), "noise-floor-other-artifact"),
    ],
)
def test_a_run_that_is_no_second_run_of_the_baseline(tmp_path: Path, second: SyntheticRun, code: str) -> None:
    candidate = synthetic_run(run_id="built", changes=Changes(lost=3))
    report = outcome(tmp_path, candidate, second=second).report.candidates[0]
    assert report.noise == []
    assert report.flips[0].unstable_under_aa is None
    assert [(one.code, one.severity) for one in report.findings] == [(code, Severity.NOT_COMPARABLE)]


def test_a_noise_floor_of_few_items_is_told(tmp_path: Path) -> None:
    second = synthetic_run(run_id="again", artifact="base").take(range(100)).counted()
    report = outcome(tmp_path, synthetic_run(run_id="built"), second=second).report.candidates[0]
    assert {one.n for one in report.noise} == {100}
    assert {one.code for one in report.findings} == {"noise-floor-partial"}


def test_the_table_of_pairs_agrees_with_the_report(tmp_path: Path) -> None:
    tasks = (Task(name="g_a", choices=4, documents=120), Task(name="g_b", choices=4, documents=80))
    runs = [
        synthetic_run(run_id=name, tasks=tasks, group="g", changes=changes, seed=5)
        for name, changes in (("base", Changes()), ("built", Changes(gained=3, lost=8)))
    ]
    found = outcome(tmp_path, runs[1].take(numpy.random.default_rng(3).permutation(200)), runs[0])
    assert found.pairs[0].num_rows == 200
    for one in found.report.candidates[0].quality:
        pairs = select_pairs(found.pairs[0], metric=one.metric, task="g")
        assert pairs.num_rows == one.n
        assert sum(pairs.column("changed").to_pylist()) == one.changed
        for flip in Flip:
            part = select_pairs(found.pairs[0], metric=one.metric, task="g", flip=flip)
            assert one.flips is not None
            assert part.num_rows == getattr(one.flips, flip.value)
            assert set(part.column("flip").to_pylist()) == {flip.value}
    rows = found.pairs[0].to_pylist()
    assert all(row["baseline_index"] == row["candidate_index"] for row in rows), "the same documents"
    assert all(row["baseline_block"] * 64 + row["baseline_position"] == row["baseline_index"] for row in rows)
    member = select_pairs(
        found.pairs[0], metric=f"g_b.{ACCURACY}", task="g", flip_class=FlipClass.CHOICE_CHANGED
    )
    assert set(member.column("task").to_pylist()) == {"g_b"}
    assert member.num_rows == 11
    with pytest.raises(KeyError, match="no metric"):
        select_pairs(found.pairs[0], metric="g.f1,none", task="g")


def test_a_metric_of_no_right_and_wrong_has_no_flips(tmp_path: Path) -> None:
    found = outcome(tmp_path, synthetic_run(run_id="built", changes=Changes(lost=4)))
    pairs = select_pairs(found.pairs[0], metric="synthetic.f1,none", task="synthetic")
    assert pairs.column("flip").null_count == pairs.num_rows == 500
    assert sum(pairs.column("changed").to_pylist()) == 4
