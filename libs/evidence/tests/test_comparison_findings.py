"""What a comparison finds wrong, each by a pair of runs made for it."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy
import pytest

from assay_evidence.comparison import compare
from assay_evidence.policy import PolicySpec, QualityRule
from assay_evidence.report import CandidateReport, ComparisonSettings, Finding, Severity
from assay_evidence.testing import CONTINUOUS, STRICT, Changes, SyntheticRun, Task, digest, synthetic_run

SETTINGS = ComparisonSettings(bootstrap_resamples=200)
METRIC = f"synthetic.{STRICT}"
Spoil = Callable[[SyntheticRun], SyntheticRun]


def report(
    directory: Path,
    candidate: SyntheticRun,
    baseline: SyntheticRun | None = None,
    *,
    policy: PolicySpec | None = None,
) -> CandidateReport:
    first = (baseline or synthetic_run(run_id="base")).evidence(directory)
    outcome = compare(first, [candidate.evidence(directory)], settings=SETTINGS, policy=policy)
    return outcome.report.candidates[0]


def candidate(**given: int) -> SyntheticRun:
    return synthetic_run(run_id="built", changes=Changes(**given), seed=2)


def by_code(found: CandidateReport) -> dict[str, Finding]:
    return {finding.code: finding for finding in found.findings}


def test_two_sound_runs_have_no_findings(tmp_path: Path) -> None:
    found = report(tmp_path, candidate(gained=4, lost=6, reworded=20))
    assert found.valid
    assert found.findings == []
    assert found.coverage.paired == found.coverage.baseline_total == 500
    assert found.coverage.fraction == 1.0
    assert all(difference.expected for difference in found.plan_differences)


def only(rows: range) -> Spoil:
    return lambda run: run.take(list(rows))


def other_documents(run: SyntheticRun) -> SyntheticRun:
    hashes = [bytes.fromhex(digest(f"other {place}")) for place in range(len(run.samples))]
    return run.with_column("doc_hash", hashes).with_column("prompt_hash", hashes)


def other_prompts(run: SyntheticRun) -> SyntheticRun:
    hashes = run.column("prompt_hash")
    return run.with_column("prompt_hash", [bytes.fromhex(digest("few-shot")), *hashes[1:]])


def other_targets(run: SyntheticRun) -> SyntheticRun:
    hashes = run.column("target_hash")
    return run.with_column("target_hash", [bytes.fromhex(digest("42")), *hashes[1:]])


def all_prompts_differ(run: SyntheticRun) -> SyntheticRun:
    hashes = [bytes.fromhex(digest(f"prompt {place}")) for place in range(len(run.samples))]
    changed = run.with_column("prompt_hash", hashes)
    return changed.with_plan({"task.num_fewshot": 0, "options.num_fewshot": 0})


def failed(count: int) -> Spoil:
    return lambda run: synthetic_run(run_id="built", changes=Changes(failed=count), seed=2)


def excluded(count: int) -> Spoil:
    def spoil(_: SyntheticRun) -> SyntheticRun:
        run = synthetic_run(run_id="built", changes=Changes(failed=count), seed=2)
        return run.with_facts(failure_policy="exclude").counted()

    return spoil


INVALID: list[tuple[Spoil, str, str]] = [
    (only(range(25)), "table-incomplete", "counted 500 scored and 0 failed samples, its table has 25 and 0"),
    (
        lambda run: only(range(25))(run).counted(),
        "coverage-below-floor",
        r"25 of 500 items are paired \(5.0%\)",
    ),
    (lambda run: run.take([]).counted(), "nothing-evaluated", "has 0 samples"),
    (failed(500), "nothing-evaluated", "500 samples, none of them with a response"),
    (failed(500), "failed-samples-candidate", "500 of 500"),
    (failed(30), "failed-samples-candidate", r"30 of 500 .* \(6.0%; at most 1.0% may be without\)"),
    (excluded(30), "coverage-below-floor", "30 failed and excluded in the candidate"),
    (other_documents, "no-shared-items", "no item of the two runs is the same"),
    (all_prompts_differ, "no-shared-items", "no item of the two runs"),
    (
        lambda run: run.with_facts(task="other"),
        "different-task",
        "ran task 'synthetic', the candidate 'other'",
    ),
    (lambda run: run.with_plan({"task.until": ["\n"]}), "generation-differs", r"task.until is \['\\n\\n'\]"),
    (
        lambda run: run.with_plan({"task.generation_kwargs": {"temperature": 0.7}}),
        "generation-differs",
        "task.generation_kwargs.",
    ),
    (lambda run: run.with_plan({"task.max_gen_toks": 64}), "generation-differs", "task.max_gen_toks is 256"),
    (lambda run: run.with_facts(plan={}), "plan-missing", "the candidate has no effective plan"),
    (
        lambda run: run.take([*range(500), *range(500)]).counted(),
        "repeated-documents",
        "500 rows of documents that it already has",
    ),
    (
        lambda run: run.with_facts(samples_expected=600),
        "coverage-below-floor",
        "100 not recorded in the candidate",
    ),
]


@pytest.mark.parametrize(("spoil", "code", "message"), INVALID)
def test_nothing_is_concluded(tmp_path: Path, spoil: Spoil, code: str, message: str) -> None:
    found = report(tmp_path, spoil(candidate()))
    assert not found.valid
    finding = by_code(found)[code]
    assert finding.severity is Severity.INVALID
    assert re.search(message, finding.message), finding.message
    assert found.findings[0].severity is Severity.INVALID, "the worst come first"


def test_what_is_missing_is_counted_with_its_reason(tmp_path: Path) -> None:
    spoiled = other_targets(candidate()).take(range(480))
    hashes = spoiled.column("prompt_hash")
    spoiled = spoiled.with_column("prompt_hash", [*hashes[:470], *[bytes(32)] * 10]).counted()
    found = report(tmp_path, spoiled)
    coverage = found.coverage
    assert (coverage.paired, coverage.prompt_differs, coverage.target_differs) == (469, 10, 1)
    assert (coverage.missing_in_candidate, coverage.missing_in_baseline) == (20, 0)
    assert coverage.baseline_fraction == pytest.approx(469 / 500)
    assert coverage.candidate_fraction == pytest.approx(469 / 480)
    message = by_code(found)["coverage-below-floor"].message
    assert "20 missing in the candidate, 10 with another prompt, 1 with another target" in message


def test_prompts_that_differ_are_explained_by_the_first_difference_of_the_plans(tmp_path: Path) -> None:
    found = by_code(report(tmp_path, all_prompts_differ(candidate())))
    assert found["prompts-differ"].message.endswith(
        "options.num_fewshot is 5 in the baseline and 0 in the candidate"
    )
    assert found["prompts-differ"].details["documents"] == 500
    unexplained = by_code(report(tmp_path, other_prompts(candidate())))["prompts-differ"]
    assert unexplained.severity is Severity.WARNING
    assert "the plans do not tell why" in unexplained.message


def test_one_other_target_of_many_is_a_warning(tmp_path: Path) -> None:
    found = report(tmp_path, other_targets(candidate()))
    assert found.valid
    assert by_code(found)["targets-differ"].severity is Severity.WARNING
    assert found.coverage.paired == 499


def test_few_failed_samples_are_a_warning_and_count_as_wrong(tmp_path: Path) -> None:
    found = report(tmp_path, candidate(failed=4))
    assert found.valid
    assert by_code(found)["failed-samples-candidate"].severity is Severity.WARNING
    assert found.coverage.paired == 500
    assert found.coverage.failed_in_candidate == 4
    assert found.quality[0].n == 500


def test_excluded_samples_are_no_pairs(tmp_path: Path) -> None:
    found = report(tmp_path, excluded(4)(candidate()))
    assert found.valid
    assert (found.coverage.paired, found.quality[0].n) == (496, 496)
    assert found.coverage.missing_in_candidate == 0


def test_a_baseline_may_be_what_is_wrong(tmp_path: Path) -> None:
    baseline = synthetic_run(run_id="base").take(range(100)).counted()
    found = report(tmp_path, candidate(), baseline)
    assert not found.valid
    assert by_code(found)["coverage-below-floor"].details["missing in the baseline"] == 400


@pytest.mark.parametrize(
    ("changed", "path"),
    [
        ({"options.limit": 500}, "options.limit"),
        ({"seeds.fewshot": 7}, "seeds.fewshot"),
        ({"task.library_versions": {"lm-eval": "0.5.0"}}, "task.library_versions.lm-eval"),
        ({"task.num_fewshot": 0}, "task.num_fewshot"),
        ({"options.apply_chat_template": True}, "options.apply_chat_template"),
    ],
)
def test_plans_that_differ_are_a_warning_though_prompts_are_equal(
    tmp_path: Path, changed: dict[str, object], path: str
) -> None:
    found = report(tmp_path, candidate().with_plan(changed))
    assert found.valid
    assert by_code(found)["plan-differs"].severity is Severity.WARNING
    assert path in by_code(found)["plan-differs"].message
    assert [one.path for one in found.plan_differences if not one.expected] == [path]


@pytest.mark.parametrize(
    "path",
    [
        "options.concurrency",
        "options.batch_size",
        "options.max_retries",
        "options.serving.cpus",
        "dataset.name",
        "dataset.snapshot_id",
        "dataset.source",
        "method.version",
        "harness.evaluation.snapshot_id",
        "artifact.revision",
        "notes",
    ],
)
def test_what_cannot_bear_on_quality_may_differ(tmp_path: Path, path: str) -> None:
    found = report(tmp_path, candidate().with_plan({path: 17}))
    assert [one.path for one in found.plan_differences if one.path == path and one.expected]
    assert "plan-differs" not in by_code(found)


def test_a_policy_may_allow_differences(tmp_path: Path) -> None:
    policy = PolicySpec(
        name="p",
        quality=[QualityRule(metric="*", margin=0.02)],
        allowed_plan_differences=["task.library_versions.*", "task.until*"],
    )
    spoiled = candidate().with_plan({"task.library_versions": {"lm-eval": "9"}, "task.until": ["a", "b"]})
    found = report(tmp_path, spoiled, policy=policy)
    assert found.valid
    assert all(one.expected for one in found.plan_differences)


def test_a_policy_sets_the_floors(tmp_path: Path) -> None:
    policy = PolicySpec(
        name="p", quality=[QualityRule(metric="*", margin=0.02)], coverage_floor=0.5, max_failed_share=0.1
    )
    assert report(tmp_path, candidate().take(range(300)).counted(), policy=policy).valid
    found = report(tmp_path, candidate(failed=30), policy=policy)
    assert found.valid
    assert found.coverage.floor == 0.5


def test_a_model_compared_with_itself(tmp_path: Path) -> None:
    same = synthetic_run(run_id="again", artifact="base", seed=3)
    assert by_code(report(tmp_path, same))["same-artifact"].severity is Severity.WARNING
    on_another = synthetic_run(run_id="npu", artifact="base", backend="rngd", seed=3)
    assert by_code(report(tmp_path, on_another))["same-weights"].severity is Severity.INFO


def test_other_snapshots_and_recipes_are_told(tmp_path: Path) -> None:
    spoiled = candidate().with_facts(snapshot_digest="f" * 64, recipe_hash="e" * 64)
    found = by_code(report(tmp_path, spoiled))
    assert found["snapshots-differ"].severity is Severity.WARNING
    assert found["recipes-differ"].severity is Severity.WARNING


def test_a_run_that_is_not_canonical_is_told(tmp_path: Path) -> None:
    spoiled = candidate().with_facts(canonical=False).with_plan({"notes": ["only 500 of 1319 rows"]})
    finding = by_code(report(tmp_path, spoiled))["not-canonical"]
    assert finding.severity is Severity.INFO
    assert "only 500 of 1319 rows" in finding.message


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_value_that_is_no_number_makes_its_metric_worthless(tmp_path: Path, bad: float) -> None:
    values = candidate().column(f"value:{CONTINUOUS}")
    found = report(tmp_path, candidate().with_column(f"value:{CONTINUOUS}", [bad, *values[1:]]))
    compared = {one.metric: one for one in found.quality}
    spoiled = compared[f"synthetic.{CONTINUOUS}"]
    assert spoiled.n == 499
    assert (spoiled.guards[0].code, spoiled.guards[0].severity) == ("not-a-number", Severity.INVALID)
    assert compared[METRIC].guards == []
    assert by_code(found)["not-a-number"].subject == f"synthetic.{CONTINUOUS}"


def test_a_metric_that_one_run_lacks_is_told(tmp_path: Path) -> None:
    names = [name for name in candidate().facts.sample_metrics if name != METRIC]
    found = report(tmp_path, candidate().with_facts(sample_metrics=names))
    assert METRIC not in [one.metric for one in found.quality]
    finding = by_code(found)["metric-not-paired"]
    assert finding.severity is Severity.NOT_COMPARABLE
    assert METRIC in finding.message


def test_items_that_repeat_are_one_cluster(tmp_path: Path) -> None:
    """The same forty questions ten times over are no four hundred."""

    def repeating(run: SyntheticRun) -> SyntheticRun:
        rows = numpy.tile(numpy.arange(40), 10)
        return run.take(rows).with_column("index", range(400)).counted()

    found = report(tmp_path, repeating(candidate(lost=30)), repeating(synthetic_run(run_id="base")))
    assert found.valid
    assert by_code(found)["repeated-items"].details["repeated"] == 360
    assert found.quality[0].clusters == 40
    single = report(tmp_path, candidate(lost=30).take(range(40)).counted(), synthetic_run(run_id="base"))
    assert found.quality[0].difference == pytest.approx(single.quality[0].difference)
    assert found.quality[0].stderr == pytest.approx(single.quality[0].stderr)


def test_a_group_whose_tasks_differ_in_plan(tmp_path: Path) -> None:
    tasks = (Task(name="g_a", choices=4), Task(name="g_b", choices=4))
    first = synthetic_run(run_id="base", tasks=tasks, group="g")
    second = synthetic_run(run_id="built", tasks=tasks, group="g", seed=4)
    members = [dict(member) for member in second.facts.plan["members"]]  # type: ignore[union-attr, arg-type]
    members[1]["generation_kwargs"] = {"temperature": 1.0}
    found = report(tmp_path, second.with_plan({"members": members}), first)
    assert by_code(found)["generation-differs"].details["paths"] == ["members.1.generation_kwargs"]
