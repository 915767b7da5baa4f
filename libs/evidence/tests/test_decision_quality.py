"""Verdicts from quality rules: shown, proven to fail, open, held; roles, order and correction."""

import math
from typing import Any

import pytest

from assay_evidence.decision import Judgement, Reason, Verdict, judge
from assay_evidence.policy import DEFAULT_POLICY, PolicySpec
from assay_evidence.report import (
    CandidateReport,
    Finding,
    NoiseFloor,
    PlanDifference,
    QualityComparison,
    Severity,
)
from assay_evidence.statistics.power import samples_needed
from assay_evidence.testing.reports import METRIC, TASK, candidate_report, flipped, quality_comparison

OTHER = f"{TASK}.exact_match,flexible-extract"
RULE = {"metric": "*", "margin": 0.02}


def quality(lost: int, gained: int, *, right: int = 600, wrong: int = 400, **how: Any) -> QualityComparison:
    return quality_comparison(*flipped(right=right, wrong=wrong, lost=lost, gained=gained), **how)


def policy(*rules: dict[str, object], **fields: object) -> PolicySpec:
    return PolicySpec.model_validate({"name": "p", "quality": list(rules) or [RULE], **fields})


def judged(report: CandidateReport, by: PolicySpec = DEFAULT_POLICY) -> Judgement:
    """The judgement, in which the order of reasons follows from the verdict."""
    found = judge(report, by)
    effects = [reason.effect for reason in found.reasons]
    assert effects == sorted(effects, key=["rejects", "blocks", "supports", "noted"].index)
    assert found.samples_needed is None or found.verdict is Verdict.INCONCLUSIVE
    return found


def reason(found: Judgement, code: str) -> Reason:
    return next(one for one in found.reasons if one.code == code)


def codes(found: Judgement, effect: str) -> list[str]:
    return [one.code for one in found.reasons if one.effect == effect]


def test_a_candidate_as_good_as_the_baseline_is_accepted() -> None:
    found = judged(candidate_report([quality(12, 12)]))
    assert (found.verdict, found.valid, codes(found, "supports")) == (Verdict.ACCEPT, True, ["non-inferior"])
    message = found.reasons[0].message
    assert message.startswith(f"{METRIC} is shown to be within the margin: difference 0.00 points (90 %")
    assert "margin 2.00 points" in message
    assert found.summary.startswith("The candidate may replace the baseline: ")


def test_a_candidate_proven_worse_is_rejected() -> None:
    found = judged(candidate_report([quality(80, 5)]))
    assert (found.verdict, codes(found, "rejects")) == (Verdict.REJECT, ["inferior"])


def test_in_between_nothing_is_settled_and_the_samples_that_would_are_named() -> None:
    found = judged(candidate_report([quality(45, 35)]))
    assert found.verdict is Verdict.INCONCLUSIVE
    open_reason = reason(found, "not-shown")
    wanted = samples_needed(margin=0.02, churn=0.08, alpha=0.05, power=0.8, difference=-0.01)
    assert wanted > 1000
    assert open_reason.samples_needed == found.samples_needed == wanted
    assert f"{wanted} pairs would settle it with 80 % power" in open_reason.message


def test_a_loss_beyond_the_margin_is_settled_by_its_proof() -> None:
    found = judged(candidate_report([quality(50, 20)]))
    # (1.645 + 0.842)^2 * (0.07 - 0.03^2) / (0.03 - 0.02)^2
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.samples_needed == math.ceil(2.486475**2 * (0.07 - 0.03**2) / 0.01**2)


def test_no_number_of_samples_settles_a_loss_of_the_margin() -> None:
    found = judged(candidate_report([quality(40, 20)]))
    assert found.samples_needed is None
    assert "more samples are no help" in reason(found, "not-shown").message


@pytest.mark.parametrize(("n", "verdict"), [(148, Verdict.INCONCLUSIVE), (1000, Verdict.ACCEPT)])
def test_no_flip_is_judged_by_its_exact_bound(n: int, verdict: Verdict) -> None:
    found = judged(candidate_report([quality(0, 0, right=n // 2, wrong=n - n // 2)]))
    assert found.verdict is verdict
    if verdict is Verdict.INCONCLUSIVE:
        blocked = reason(found, "no-change-in-few-pairs")
        assert blocked.samples_needed == 149
        assert "differs in none of 148 pairs" in blocked.message


def test_below_the_least_number_of_samples_nothing_is_accepted_but_a_proof_of_failure_holds() -> None:
    by = policy(RULE | {"margin": 0.05}, min_samples=300)
    found = judged(candidate_report([quality(1, 1, right=150, wrong=100, margin=0.05)]), by)
    assert codes(found, "blocks") == ["too-few-samples"]
    assert found.samples_needed == 300
    worse = judged(candidate_report([quality(60, 0, right=150, wrong=100, margin=0.05)]), by)
    assert worse.verdict is Verdict.REJECT


def test_a_margin_relative_to_the_baseline_is_judged_as_such() -> None:
    by = policy(RULE | {"margin": 0.05, "margin_kind": "relative"})
    assert judged(candidate_report([quality(9, 9, margin=0.05, is_relative=True)]), by).verdict is (
        Verdict.ACCEPT
    )
    absolute = judged(candidate_report([quality(9, 9, margin=0.05)]), by)
    assert codes(absolute, "blocks") == ["tested-otherwise"]


@pytest.mark.parametrize("how", [{"margin": 0.03}, {"alpha": 0.1}, {"higher_is_better": False}])
def test_a_comparison_under_looser_settings_is_not_taken(how: dict[str, Any]) -> None:
    found = judged(candidate_report([quality(12, 12, **how)]), policy(RULE | {"direction": "higher"}))
    assert codes(found, "blocks") == ["tested-otherwise"]


def test_a_smaller_alpha_of_a_sequential_look_is_taken_and_the_stop_is_told() -> None:
    report = candidate_report([quality(4, 6, alpha=0.02)])
    report.candidate.early_stop = True
    found = judged(report)
    assert (found.verdict, found.early_stop) == (Verdict.ACCEPT, True)
    assert "early-stop-used" in codes(found, "noted")


def test_lower_is_better_turns_losses_around() -> None:
    kept = judged(candidate_report([quality(5, 80, right=400, wrong=600, higher_is_better=False)]))
    assert kept.verdict is Verdict.REJECT  # more of what should be rare
    assert judged(candidate_report([quality(80, 5, higher_is_better=False)])).verdict is Verdict.ACCEPT


def test_equivalence_rejects_a_gain_as_well() -> None:
    by = policy(RULE | {"test": "equivalence"})
    assert codes(judged(candidate_report([quality(9, 9)]), by), "supports") == ["equivalent"]
    gain = judged(candidate_report([quality(2, 60)]), by)
    assert (gain.verdict, codes(gain, "rejects")) == (Verdict.REJECT, ["not-equivalent"])
    assert judged(candidate_report([quality(2, 60)])).verdict is Verdict.ACCEPT


def test_one_of_several_critical_metrics_is_enough_to_hold_or_reject() -> None:
    good = quality(9, 9)
    assert judged(candidate_report([good, quality(9, 9, metric=OTHER)])).verdict is Verdict.ACCEPT
    assert judged(candidate_report([good, quality(80, 75, metric=OTHER)])).verdict is Verdict.INCONCLUSIVE
    assert judged(candidate_report([good, quality(80, 9, metric=OTHER)])).verdict is Verdict.REJECT


@pytest.mark.parametrize(
    ("role", "verdict", "effect"),
    [
        ("critical", Verdict.REJECT, "rejects"),
        ("supporting", Verdict.INCONCLUSIVE, "blocks"),
        ("advisory", Verdict.ACCEPT, "noted"),
    ],
)
def test_the_role_says_what_a_proven_failure_means(role: str, verdict: Verdict, effect: str) -> None:
    by = policy(RULE | {"metric": OTHER, "role": role}, RULE)
    found = judged(candidate_report([quality(9, 9), quality(80, 9, metric=OTHER)]), by)
    assert (found.verdict, reason(found, "inferior").effect) == (verdict, effect)


def test_supporting_rules_of_one_order_are_corrected_together() -> None:
    """A loss that is significant alone is not among twenty."""
    worse = quality(37, 5)
    assert worse.margin_test is not None
    assert worse.margin_test.inferior
    names = [f"{TASK}.m{number},none" for number in range(20)]
    rules = [RULE | {"metric": name, "role": "supporting"} for name in names]
    others = [quality(12, 12, metric=name) for name in names[1:]]
    alone = judged(
        candidate_report([quality(9, 9), worse.model_copy(update={"metric": names[0]})]),
        policy(rules[0], RULE),
    )
    assert codes(alone, "blocks") == ["inferior"]
    among = judged(
        candidate_report([quality(9, 9), worse.model_copy(update={"metric": names[0]}), *others]),
        policy(*rules, RULE),
    )
    assert among.verdict is Verdict.ACCEPT
    assert reason(among, "not-shown").metric == names[0]


def test_a_sequence_stops_at_the_first_rule_that_is_not_shown() -> None:
    by = policy(
        RULE | {"metric": METRIC, "order": 1},
        RULE | {"metric": OTHER, "order": 2},
    )
    good, open_, bad = quality(9, 9), quality(45, 35), quality(80, 9, metric=OTHER)
    assert judged(candidate_report([good, quality(9, 9, metric=OTHER)]), by).verdict is Verdict.ACCEPT
    stopped = judged(candidate_report([open_, bad]), by)
    assert (stopped.verdict, reason(stopped, "not-tested").metric) == (Verdict.INCONCLUSIVE, OTHER)
    assert judged(candidate_report([good, bad]), by).verdict is Verdict.REJECT


@pytest.mark.parametrize("role", ["supporting", "critical"])
def test_a_rule_that_judged_nothing_has_not_passed(role: str) -> None:
    by = policy(RULE | {"metric": "other.x,none", "order": 1, "role": role}, RULE | {"order": 2})
    found = judged(candidate_report([quality(9, 9)]), by)
    assert found.verdict is Verdict.INCONCLUSIVE
    assert reason(found, "not-tested").metric == METRIC


@pytest.mark.parametrize("name", ["synthetic.acc,none", "other.*"])
def test_a_critical_rule_without_its_metric_blocks(name: str) -> None:
    found = judged(candidate_report([quality(9, 9)]), policy(RULE | {"metric": name}, RULE))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert f"no compared metric is named '{name}'" in reason(found, "metric-missing").message


def test_the_metrics_of_another_task_are_not_the_tasks_own() -> None:
    found = judged(candidate_report([quality(9, 9, metric="member.acc,none")]))
    assert codes(found, "blocks") == ["metric-missing"]


def test_a_critical_rule_behind_one_that_takes_its_metric_blocks() -> None:
    found = judged(candidate_report([quality(9, 9)]), policy(RULE, RULE | {"metric": METRIC}))
    assert codes(found, "blocks") == ["rule-shadowed"]


def test_an_advisory_rule_alone_shows_nothing() -> None:
    by = policy(RULE | {"metric": METRIC, "role": "advisory"}, RULE)
    assert codes(judged(candidate_report([quality(9, 9)]), by), "blocks") == ["nothing-shown"]


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"higher_is_better": None}, "direction-unknown"),
        ({"margin_test": None}, "untestable"),
        ({"candidate": math.nan}, "not-a-number"),
        ({"difference": math.inf}, "not-a-number"),
        ({"n": 0}, "not-a-number"),
    ],
)
def test_what_cannot_be_tested_blocks_and_never_rejects(changed: dict[str, Any], code: str) -> None:
    for one in (quality(9, 9), quality(80, 9)):
        found = judged(candidate_report([one.model_copy(update=changed)], items=1000))
        assert found.verdict is Verdict.INCONCLUSIVE
        assert codes(found, "blocks") == [code]


def test_a_test_without_p_values_is_none() -> None:
    one = quality(9, 9)
    assert one.margin_test is not None
    for p in (None, math.nan):
        test = one.margin_test.model_copy(update={"non_inferiority_p": p})
        found = judged(candidate_report([one.model_copy(update={"margin_test": test})]))
        assert codes(found, "blocks") == ["untestable"]


def test_a_metric_on_part_of_the_items_only_is_not_accepted() -> None:
    found = judged(candidate_report([quality(9, 9)], items=1100))
    assert "metric-coverage-below-floor" in codes(found, "blocks")


def test_more_failures_than_the_policy_allows_are_no_evidence() -> None:
    for lost, within in ((5, Verdict.ACCEPT), (80, Verdict.REJECT)):
        report = candidate_report([quality(lost, 5)])
        report.coverage.failed_in_candidate = 10
        assert judged(report).verdict is within
        report.coverage.failed_in_candidate = 11
        beyond = judged(report)
        assert (beyond.verdict, beyond.valid) == (Verdict.INCONCLUSIVE, False)
        assert codes(beyond, "blocks") == ["failed-samples-candidate"]


@pytest.mark.parametrize(
    ("fraction", "paired"), [(0.98, 1000), (math.nan, 1000), (1.0, 980), (1.0, 0), (0.05, 50)]
)
def test_coverage_is_checked_against_the_policys_floor(fraction: float, paired: int) -> None:
    report = candidate_report([quality(9, 9)])
    report.coverage.fraction, report.coverage.paired = fraction, paired
    found = judged(report)
    assert (found.verdict, found.valid) == (Verdict.INCONCLUSIVE, False)


def test_invalid_evidence_is_not_judged_however_bad_the_candidate_looks() -> None:
    finding = Finding(code="task-differs", severity=Severity.INVALID, message="another task")
    found = judged(candidate_report([quality(300, 0)], valid=False, findings=[finding]))
    assert (found.verdict, found.valid, codes(found, "blocks")) == (
        Verdict.INCONCLUSIVE,
        False,
        ["task-differs"],
    )
    assert found.summary == "The evidence cannot be judged: another task."
    unsaid = judged(candidate_report([quality(9, 9)], valid=False))
    assert codes(unsaid, "blocks") == ["invalid-comparison"]


@pytest.mark.parametrize(("allowed", "valid"), [([], False), (["options.seeds.*"], True)])
def test_unlike_plans_are_invalid_unless_the_policy_allows_the_difference(
    allowed: list[str], valid: bool
) -> None:
    differences = [
        PlanDifference(path="options.seeds.fewshot", baseline=1, candidate=2, expected=False),
        PlanDifference(path="artifact.id", baseline=1, candidate=2, expected=True),
    ]
    report = candidate_report([quality(9, 9)], plan_differences=differences)
    found = judged(report, policy(allowed_plan_differences=allowed))
    assert found.valid is valid
    assert (found.verdict is Verdict.ACCEPT) is valid


@pytest.mark.parametrize("severity", [Severity.WARNING, Severity.NOT_COMPARABLE, Severity.INVALID])
def test_a_guard_of_the_comparison_holds_its_metric(severity: Severity) -> None:
    guard = Finding(code="odd", severity=severity, message=f"{METRIC}: is odd", subject=METRIC)
    held = quality(9, 9).model_copy(update={"guards": [guard]})
    found = judged(candidate_report([held]))
    assert codes(found, "blocks") == ["odd"]
    assert found.reasons[0].message == f"{METRIC} is odd"
    failed = quality(80, 9).model_copy(update={"guards": [guard]})
    rejected = judged(candidate_report([failed])).verdict is Verdict.REJECT
    assert rejected is (severity is not Severity.INVALID)
    advised = guard.model_copy(update={"severity": Severity.INFO})
    informed = quality(9, 9).model_copy(update={"guards": [advised]})
    assert judged(candidate_report([informed])).verdict is Verdict.ACCEPT


def test_a_required_noise_floor_must_be_there_for_every_critical_metric() -> None:
    by = policy(require_noise_floor=True)
    noise = NoiseFloor(
        metric=METRIC,
        run_id="r",
        n=1000,
        churn_aa=0.01,
        churn_ab=0.02,
        excess=0.01,
        excess_interval_95=None,
        excess_p=0.01,
        difference_aa=0.0,
        above_noise=True,
    )
    assert codes(judged(candidate_report([quality(9, 9)]), by), "blocks") == ["noise-floor-missing"]
    found = judged(candidate_report([quality(9, 9)], noise=[noise]), by)
    assert (found.verdict, codes(found, "noted")) == (Verdict.ACCEPT, ["churn-above-noise"])
    both = candidate_report([quality(9, 9), quality(9, 9, metric=OTHER)], noise=[noise])
    assert codes(judged(both, by), "blocks") == ["noise-floor-missing"]


def test_a_clustered_metric_is_planned_from_its_own_spread() -> None:
    one = quality(45, 35)
    assert one.stderr is not None
    wide = one.model_copy(update={"clusters": 50, "stderr": 2 * one.stderr})
    plain, clustered = (judged(candidate_report([metric])).samples_needed for metric in (one, wide))
    assert plain is not None
    assert clustered is not None
    assert 3.8 < clustered / plain < 4.2
