"""Quality of pairs: numbers against plain Python, directions, guards, corrections."""

import math
from pathlib import Path
from statistics import fmean, stdev

import numpy
import pytest

from assay_evidence.comparison import compare
from assay_evidence.policy import PolicySpec, QualityRule
from assay_evidence.report import CandidateReport, ComparisonSettings, QualityComparison, Severity
from assay_evidence.statistics.multiplicity import holm
from assay_evidence.tables import VALUE_PREFIX
from assay_evidence.testing import (
    ACCURACY,
    CONTINUOUS,
    FLEXIBLE,
    STRICT,
    Changes,
    SyntheticRun,
    Task,
    synthetic_run,
)

SETTINGS = ComparisonSettings(bootstrap_resamples=200)


def report(
    directory: Path,
    baseline: SyntheticRun,
    candidate: SyntheticRun,
    *,
    policy: PolicySpec | None = None,
    clusters: dict[int, str] | None = None,
) -> CandidateReport:
    runs = baseline.evidence(directory), candidate.evidence(directory)
    outcome = compare(runs[0], [runs[1]], settings=SETTINGS, policy=policy, clusters=clusters)
    return outcome.report.candidates[0]


def quality(found: CandidateReport, metric: str) -> QualityComparison:
    return next(one for one in found.quality if one.metric == metric)


def codes(one: QualityComparison) -> dict[str, Severity]:
    return {guard.code: guard.severity for guard in one.guards}


def with_values(run: SyntheticRun, key: str, values: list[float]) -> SyntheticRun:
    return run.with_column(VALUE_PREFIX + key, values).counted()


def pair(**changes: int) -> tuple[SyntheticRun, SyntheticRun]:
    return synthetic_run(run_id="base"), synthetic_run(run_id="built", changes=Changes(**changes), seed=2)


@pytest.mark.parametrize("key", [STRICT, FLEXIBLE, CONTINUOUS])
def test_numbers_are_those_of_plain_python(tmp_path: Path, key: str) -> None:
    baseline, candidate = pair(gained=9, lost=14, format_only=6)
    found = quality(report(tmp_path, baseline, candidate), f"synthetic.{key}")
    first, second = (run.column(VALUE_PREFIX + key) for run in (baseline, candidate))
    differences = [after - before for before, after in zip(first, second, strict=True)]
    assert found.n == 500
    assert found.baseline == pytest.approx(fmean(first))
    assert found.candidate == pytest.approx(fmean(second))
    assert found.difference == pytest.approx(fmean(differences))
    assert found.stderr == pytest.approx(stdev(differences) / math.sqrt(500))
    assert found.changed == sum(one != 0 for one in differences)
    assert found.changed_rate == found.changed / 500
    assert found.interval_95 is not None
    assert found.interval_90 is not None
    assert found.interval_95[0] < found.interval_90[0] < found.difference < found.interval_90[1]
    if key == CONTINUOUS:
        assert (found.kind, found.flips, found.mcnemar_p) == ("continuous", None, None)
        return
    assert found.flips is not None
    assert found.flips.gained == sum(one > 0 for one in differences)
    assert found.flips.lost == sum(one < 0 for one in differences)
    assert found.flips.both_right == sum(a == b == 1 for a, b in zip(first, second, strict=True))
    assert found.flips.both_wrong == sum(a == b == 0 for a, b in zip(first, second, strict=True))


def test_lower_may_be_better(tmp_path: Path) -> None:
    names = dict.fromkeys(synthetic_run().facts.sample_metrics, False)
    baseline, candidate = (run.with_facts(higher_is_better=names) for run in pair(gained=3, lost=8))
    found = quality(report(tmp_path, baseline, candidate), f"synthetic.{FLEXIBLE}")
    assert found.higher_is_better is False
    assert found.flips is not None
    assert (found.flips.gained, found.flips.lost) == (8, 3), "fewer errors are better"


def test_a_metric_that_is_no_mean_is_not_tested(tmp_path: Path) -> None:
    """As perplexity: per sample a log-likelihood, of which higher is better; over the run the reverse."""
    metric = f"synthetic.{CONTINUOUS}"
    baseline, candidate = pair(lost=5)
    reported = {**candidate.facts.quality, metric: 6.05}
    found = quality(report(tmp_path, baseline, candidate.with_facts(quality=reported)), metric)
    assert found.higher_is_better is None
    assert found.margin_test is None
    assert found.candidate_run == 6.05
    assert codes(found) == {"direction-unknown": Severity.WARNING}
    assert found.difference < 0


def test_runs_that_disagree_on_the_direction(tmp_path: Path) -> None:
    baseline, candidate = pair()
    turned = {**candidate.facts.higher_is_better, f"synthetic.{STRICT}": False}
    found = quality(
        report(tmp_path, baseline, candidate.with_facts(higher_is_better=turned)), f"synthetic.{STRICT}"
    )
    assert found.higher_is_better is None
    assert found.margin_test is None


def test_a_policy_gives_margin_level_and_direction(tmp_path: Path) -> None:
    policy = PolicySpec(
        name="p",
        alpha=0.01,
        quality=[
            QualityRule(metric=f"synthetic.{STRICT}", margin=0.05, margin_kind="relative"),
            QualityRule(metric=f"synthetic.{CONTINUOUS}", margin=0.03, direction="lower"),
        ],
    )
    found = report(tmp_path, *pair(gained=3, lost=4), policy=policy)
    strict, continuous, flexible = (
        quality(found, f"synthetic.{key}") for key in (STRICT, CONTINUOUS, FLEXIBLE)
    )
    assert strict.margin_test is not None
    assert (strict.margin_test.kind, strict.margin_test.relative_margin) == ("relative", 0.05)
    assert strict.margin_test.margin == pytest.approx(0.05 * strict.baseline)
    assert strict.margin_test.alpha == 0.01
    assert continuous.higher_is_better is False
    assert continuous.margin_test is not None
    assert continuous.margin_test.margin == 0.03
    assert flexible.margin_test is not None
    assert flexible.margin_test.margin == SETTINGS.margin, "no rule names it"


@pytest.mark.parametrize(("stderr", "within"), [(0.03, True), (0.01, False), (None, None)])
def test_the_weak_rule_is_shown_as_what_it_is(
    tmp_path: Path, stderr: float | None, within: bool | None
) -> None:
    baseline, candidate = pair(lost=10)
    numbers = {**baseline.facts.quality, "synthetic.exact_match_stderr,strict-match": stderr}
    rule = quality(
        report(tmp_path, baseline.with_facts(quality=numbers), candidate), f"synthetic.{STRICT}"
    ).weak_rule
    assert rule.within_stderr is within
    assert rule.label.startswith("weak rule")


def test_holm_corrects_the_runs_own_metrics_and_those_of_members_apart(tmp_path: Path) -> None:
    tasks = tuple(Task(name=f"g_{name}", choices=4, documents=200) for name in "abc")
    baseline = synthetic_run(run_id="base", tasks=tasks, group="g")
    candidate = synthetic_run(
        run_id="built", tasks=tasks, group="g", changes=Changes(gained=2, lost=11), seed=3
    )
    found = report(tmp_path, baseline, candidate)
    own, *members = found.quality
    assert own.metric == f"g.{ACCURACY}"
    assert [one.metric for one in members] == [f"g_{name}.{ACCURACY}" for name in "abc"]
    assert own.mcnemar_p_holm == own.mcnemar_p
    assert own.n == sum(one.n for one in members) == 600
    assert [one.mcnemar_p_holm for one in members] == holm([one.mcnemar_p for one in members])
    assert [one.difference_p_holm for one in members] == holm([one.difference_p for one in members])


def test_chance_is_that_of_the_choices(tmp_path: Path) -> None:
    tasks = (Task(name="g_a", choices=4, documents=300), Task(name="g_b", choices=2, documents=100))
    runs = [synthetic_run(run_id=name, tasks=tasks, group="g") for name in ("base", "built")]
    found = report(tmp_path, runs[0], runs[1])
    assert quality(found, f"g.{ACCURACY}").chance == pytest.approx((300 * 0.25 + 100 * 0.5) / 400)
    assert quality(found, f"g_b.{ACCURACY}").chance == 0.5
    generated = report(tmp_path / "generated", *pair())
    assert quality(generated, f"synthetic.{STRICT}").chance == 0.0


@pytest.mark.parametrize(
    ("accuracy", "choices", "code"),
    [(0.27, 4, "floor-effect"), (0.02, 0, "floor-effect"), (0.995, 4, "ceiling-effect"), (0.6, 4, None)],
)
def test_a_task_without_room_shows_nothing(
    tmp_path: Path, accuracy: float, choices: int, code: str | None
) -> None:
    tasks = (Task(accuracy=accuracy, choices=choices, documents=1000),)
    baseline = synthetic_run(run_id="base", tasks=tasks)
    candidate = synthetic_run(run_id="built", tasks=tasks, changes=Changes(gained=1, lost=1), seed=2)
    found = report(tmp_path, baseline, candidate).quality[0]
    assert [name for name in codes(found) if name.endswith("effect")] == ([code] if code else [])


def test_a_model_that_only_guesses_is_at_the_floor_also_where_lower_is_better(tmp_path: Path) -> None:
    tasks = (Task(accuracy=0.75, choices=4, documents=600),)
    names = {f"synthetic.{ACCURACY}": False}
    runs = [
        synthetic_run(run_id=name, tasks=tasks).with_facts(higher_is_better=names)
        for name in ("base", "built")
    ]
    found = report(tmp_path, runs[0], runs[1]).quality[0]
    assert found.chance == pytest.approx(0.75)
    assert codes(found)["floor-effect"] is Severity.NOT_COMPARABLE


def test_few_pairs_without_a_flip_show_nothing(tmp_path: Path) -> None:
    runs = [run.take(range(10)).counted() for run in pair()]
    found = quality(report(tmp_path, *runs), f"synthetic.{STRICT}")
    assert found.changed == 0
    assert found.margin_test is not None
    assert not found.margin_test.non_inferior
    assert {"too-few-samples", "no-change-in-few-pairs"} <= set(codes(found))
    many = synthetic_run(run_id="m", tasks=(Task(documents=400),))
    again = synthetic_run(run_id="n", tasks=(Task(documents=400),))
    enough = quality(report(tmp_path / "many", many, again), f"synthetic.{STRICT}")
    assert enough.changed == 0
    assert codes(enough) == {}
    assert enough.minimal_detectable_difference is not None
    assert 0 < enough.minimal_detectable_difference < 0.02


def test_a_continuous_metric_without_spread(tmp_path: Path) -> None:
    runs = [with_values(run, CONTINUOUS, [0.5] * 500) for run in pair()]
    found = quality(report(tmp_path, *runs), f"synthetic.{CONTINUOUS}")
    assert codes(found)["constant-metric"] is Severity.WARNING
    spread = quality(report(tmp_path / "spread", *pair()), f"synthetic.{CONTINUOUS}")
    assert spread.changed == 0
    assert codes(spread) == {}


def test_clusters_widen_the_standard_error(tmp_path: Path) -> None:
    baseline, candidate = pair()
    key, first = CONTINUOUS, baseline.column(VALUE_PREFIX + CONTINUOUS)
    shifts = numpy.random.default_rng(1).normal(0, 0.1, 50).repeat(10)
    candidate = with_values(candidate, key, (numpy.array(first) + shifts).tolist())
    labels = {index: f"passage {index // 10}" for index in range(500)}
    alone = quality(report(tmp_path / "a", baseline, candidate), f"synthetic.{key}")
    found = report(tmp_path / "b", baseline, candidate, clusters=labels)
    together = quality(found, f"synthetic.{key}")
    assert together.clusters == 50
    assert together.stderr is not None
    assert alone.stderr is not None
    assert together.stderr == pytest.approx(float(numpy.std(shifts[::10], ddof=1)) / math.sqrt(50), rel=0.02)
    assert together.stderr > 2 * alone.stderr
    assert found.findings == []


def test_documents_without_a_cluster_are_told(tmp_path: Path) -> None:
    labels = {index: f"passage {index // 10}" for index in range(490)}
    found = report(tmp_path, *pair(lost=5), clusters=labels)
    assert [finding.code for finding in found.findings] == ["clusters-incomplete"]
    assert found.quality[0].clusters == 49 + 10
