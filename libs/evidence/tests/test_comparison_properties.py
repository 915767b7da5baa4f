"""What must hold of any two runs: the order of rows does not matter, and sides can be exchanged."""

from dataclasses import replace
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay_evidence.comparison import ComparisonOutcome, compare
from assay_evidence.facts import EarlyStop
from assay_evidence.report import CandidateReport, ComparisonSettings, QualityComparison, Severity
from assay_evidence.statistics.sequential import evaluation_order, nominal_alphas
from assay_evidence.testing import (
    STRICT,
    Changes,
    Speed,
    SyntheticRun,
    Task,
    synthetic_run,
)

SETTINGS = ComparisonSettings(bootstrap_resamples=200)
METRIC = f"synthetic.{STRICT}"


def compared(directory: Path, first: SyntheticRun, second: SyntheticRun) -> ComparisonOutcome:
    return compare(first.evidence(directory / "a"), [second.evidence(directory / "b")], settings=SETTINGS)


def shuffled(run: SyntheticRun, seed: int) -> SyntheticRun:
    """Samples in another order, and their requests with them, as blocks of a log may come."""
    order = numpy.random.default_rng(seed).permutation(len(run.samples))
    index = run.requests.column("index").to_numpy()
    rank = numpy.argsort(order)
    return replace(
        run,
        samples=run.samples.take(order),
        requests=run.requests.take(numpy.argsort(rank[index], kind="stable")),
    )


@settings(deadline=None, max_examples=6)
@given(
    seeds=st.tuples(st.integers(0, 99), st.integers(0, 99)),
    changes=st.builds(
        Changes,
        gained=st.integers(0, 9),
        lost=st.integers(0, 9),
        format_only=st.integers(0, 5),
        reworded=st.integers(0, 20),
        failed=st.integers(0, 3),
    ),
)
def test_the_order_of_rows_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, seeds: tuple[int, int], changes: Changes
) -> None:
    directory = tmp_path_factory.mktemp("order")
    tasks = (Task(documents=150),)
    first = synthetic_run(run_id="base", tasks=tasks, speed=Speed(watts=90.0))
    second = synthetic_run(
        run_id="built", tasks=tasks, changes=changes, seed=seeds[0], speed=Speed(watts=60.0)
    )
    found = compared(directory / "x", first, second)
    again = compared(directory / "y", shuffled(first, seeds[0]), shuffled(second, seeds[1]))
    assert again.pairs[0].equals(found.pairs[0])
    assert without_digests(again) == without_digests(found)


def without_digests(found: ComparisonOutcome) -> dict[str, object]:
    report = found.report.model_dump()
    report["baseline"].pop("tables")
    for one in report["candidates"]:
        one["candidate"].pop("tables")
    return report


def mirrored(interval: tuple[float, float] | None) -> tuple[float, float] | None:
    return None if interval is None else (-interval[1], -interval[0])


def check_mirror(one: QualityComparison, other: QualityComparison) -> None:
    assert (one.n, one.changed, one.kind) == (other.n, other.changed, other.kind)
    assert (one.baseline, one.candidate) == (other.candidate, other.baseline)
    assert one.difference == pytest.approx(-other.difference)
    assert one.stderr == pytest.approx(other.stderr)
    assert mirrored(one.interval_95) == pytest.approx(other.interval_95)
    assert mirrored(one.interval_90) == pytest.approx(other.interval_90)
    assert (one.mcnemar_p, one.mcnemar_p_holm) == (other.mcnemar_p, other.mcnemar_p_holm)
    assert one.difference_p == pytest.approx(other.difference_p)
    if one.flips is not None:
        assert other.flips is not None
        assert (one.flips.gained, one.flips.both_wrong) == (other.flips.lost, other.flips.both_wrong)


@settings(deadline=None, max_examples=6)
@given(
    gained=st.integers(0, 12),
    lost=st.integers(0, 12),
    reworded=st.integers(0, 30),
    missing=st.integers(0, 40),
    seed=st.integers(0, 99),
)
def test_exchanged_sides_mirror_the_report(
    tmp_path_factory: pytest.TempPathFactory, gained: int, lost: int, reworded: int, missing: int, seed: int
) -> None:
    directory = tmp_path_factory.mktemp("sides")
    tasks = (Task(documents=200),)
    first = synthetic_run(run_id="base", tasks=tasks)
    second = synthetic_run(
        run_id="built",
        tasks=tasks,
        changes=Changes(gained=gained, lost=lost, reworded=reworded),
        seed=seed,
    )
    second = second.take(range(missing, 200)).counted()
    there = compared(directory / "x", first, second).report.candidates[0]
    back = compared(directory / "y", second, first).report.candidates[0]
    for one, other in zip(there.quality, back.quality, strict=True):
        check_mirror(one, other)
    for mine, theirs in zip(there.flips, back.flips, strict=True):
        assert mine.gained_by_class == theirs.lost_by_class
        assert mine.first_difference_char_p50 == theirs.first_difference_char_p50
        assert mine.first_difference_token_p50 == theirs.first_difference_token_p50
    assert there.coverage.missing_in_candidate == back.coverage.missing_in_baseline == missing
    assert there.coverage.fraction == back.coverage.fraction
    assert there.valid == back.valid == (missing <= 2)
    assert [one.code for one in there.findings] == [one.code for one in back.findings]


def stopped(run: SyntheticRun, rule: EarlyStop, *, beyond: int = 0) -> SyntheticRun:
    """The run as it would be, had it ended at the rule's look with ``beyond`` documents more in flight."""
    look = len(rule.looks) - 1 if rule.stopped_at_look is None else rule.stopped_at_look
    order = evaluation_order(rule.planned_samples, rule.order_seed)[: rule.looks[look] + beyond]
    return with_rule(run.take(order).counted(), rule)


def with_rule(run: SyntheticRun, rule: EarlyStop) -> SyntheticRun:
    return run.with_plan({"early_stop": rule.model_dump()}).with_facts(early_stop=rule)


def rule(**changed: object) -> EarlyStop:
    given: dict[str, object] = {
        "baseline_run_id": "base",
        "metric": METRIC,
        "margin": 0.02,
        "alpha": 0.05,
        "order_seed": 1,
        "planned_samples": 500,
        "looks": [100, 200, 300, 400, 500],
        "stopped_at_look": 2,
        "outcome": "proven",
    }
    return EarlyStop.model_validate({**given, **changed})


def ended_early(
    directory: Path, early: SyntheticRun, baseline: SyntheticRun | None = None
) -> CandidateReport:
    return compared(directory, baseline or synthetic_run(run_id="base"), early).report.candidates[0]


def test_a_run_that_stopped_early_is_compared_on_the_prefix_of_its_look(tmp_path: Path) -> None:
    whole = synthetic_run(run_id="built", changes=Changes(gained=5, lost=9), seed=2)
    found = ended_early(tmp_path, stopped(whole, rule(), beyond=3))
    assert found.valid
    assert (found.coverage.paired, found.coverage.baseline_total, found.coverage.candidate_total) == (
        300,
    ) * 3
    assert found.coverage.missing_in_candidate == 0
    assert {one.n for one in found.quality} == {300}
    prefix = set(evaluation_order(500, 1)[:300].tolist())
    columns = [run.column(f"value:{STRICT}") for run in (synthetic_run(), whole)]
    changed = sum(columns[0][place] != columns[1][place] for place in prefix)
    assert found.quality[0].changed == changed
    assert [(one.code, one.severity) for one in found.findings] == [("early-stop", Severity.INFO)]
    assert found.candidate.early_stop


@pytest.mark.parametrize(("look", "place"), [(0, 0), (2, 2), (None, 4)])
def test_tests_use_the_level_of_the_look(tmp_path: Path, look: int | None, place: int) -> None:
    one = rule(stopped_at_look=look, outcome="completed" if look is None else "proven")
    found = ended_early(tmp_path, stopped(synthetic_run(run_id="built"), one))
    assert found.quality[0].margin_test is not None
    assert found.quality[0].margin_test.alpha == nominal_alphas(one.looks, SETTINGS.alpha)[place]
    assert found.quality[0].margin_test.alpha < SETTINGS.alpha


def test_a_document_of_the_prefix_that_is_missing_is_missed(tmp_path: Path) -> None:
    early = stopped(synthetic_run(run_id="built"), rule())
    found = ended_early(tmp_path, early.take(range(20, 300)).counted())
    assert not found.valid
    assert found.coverage.missing_in_candidate == 20
    assert found.coverage.candidate_total == 300


@pytest.mark.parametrize(
    "changed",
    [
        {"looks": []},
        {"looks": [300, 100, 500]},
        {"looks": [100, 200]},
        {"stopped_at_look": 9},
        {"order_seed": -1},
    ],
)
def test_a_stopping_rule_that_makes_no_sense(tmp_path: Path, changed: dict[str, object]) -> None:
    found = ended_early(tmp_path, with_rule(synthetic_run(run_id="built"), rule(**changed)))
    assert not found.valid
    assert found.findings[0].code == "early-stop-unclear"


def test_looks_must_be_those_that_the_plan_froze(tmp_path: Path) -> None:
    early = stopped(synthetic_run(run_id="built"), rule())
    found = ended_early(
        tmp_path / "a", early.with_facts(early_stop=rule(looks=[100, 300, 500], stopped_at_look=1))
    )
    assert not found.valid
    assert "looks differ" in found.findings[0].message + found.findings[1].message
    assert not ended_early(tmp_path / "b", early.with_facts(early_stop=None)).valid


def test_a_baseline_that_stopped_early_is_told(tmp_path: Path) -> None:
    found = ended_early(
        tmp_path, synthetic_run(run_id="built"), stopped(synthetic_run(run_id="base"), rule())
    )
    assert found.valid
    assert found.coverage.paired == 300
    assert [one.code for one in found.findings] == ["early-stop-baseline"]
    assert found.quality[0].margin_test is not None
    assert found.quality[0].margin_test.alpha == SETTINGS.alpha


def test_several_candidates_are_compared_each_by_itself(tmp_path: Path) -> None:
    base = synthetic_run(run_id="base").evidence(tmp_path)
    others = [
        synthetic_run(run_id=f"built_{lost}", changes=Changes(lost=lost), seed=lost).evidence(tmp_path)
        for lost in (2, 8)
    ]
    outcome = compare(base, others, settings=SETTINGS)
    assert [one.candidate.run_id for one in outcome.report.candidates] == ["built_2", "built_8"]
    assert len(outcome.pairs) == 2
    alone = compare(base, others[1:], settings=SETTINGS)
    assert outcome.report.candidates[1] == alone.report.candidates[0]
