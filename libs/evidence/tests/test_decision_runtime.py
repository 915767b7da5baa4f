"""Verdicts from runtime rules: bounds, intervals, unlike work, power."""

import math
from typing import Any

import pytest

from assay_evidence.decision import Judgement, Verdict, judge
from assay_evidence.policy import PolicySpec
from assay_evidence.report import CandidateReport, Finding, RuntimeComparison, Severity
from assay_evidence.testing.reports import (
    candidate_report,
    energy_comparison,
    flipped,
    quality_comparison,
    runtime_comparison,
)


def policy(*runtime: dict[str, object], **fields: object) -> PolicySpec:
    rules = [{"metric": "*", "margin": 0.02}]
    return PolicySpec.model_validate({"name": "p", "quality": rules, "runtime": list(runtime), **fields})


def report(*runtime: RuntimeComparison, **changed: Any) -> CandidateReport:
    quality = quality_comparison(*flipped(right=600, wrong=400, lost=9, gained=9))
    return candidate_report([quality], runtime=list(runtime), **changed)


def about(found: Judgement, metric: str) -> list[tuple[str, str]]:
    return [(reason.code, reason.effect) for reason in found.reasons if reason.metric == metric]


SLOWER = {"metric": "ttftP50", "max_ratio": 1.1}


@pytest.mark.parametrize(
    ("ratio", "interval", "verdict", "code"),
    [
        (1.0, (0.95, 1.1), Verdict.ACCEPT, "within-bound"),
        (1.05, (0.95, 1.11), Verdict.INCONCLUSIVE, "bound-not-shown"),
        (1.2, (1.1001, 1.3), Verdict.REJECT, "beyond-bound"),
        (1.2, (1.05, 1.3), Verdict.INCONCLUSIVE, "bound-not-shown"),
        (1.0, None, Verdict.INCONCLUSIVE, "no-interval"),
        (2.0, None, Verdict.INCONCLUSIVE, "no-interval"),
        (1.0, (math.nan, math.nan), Verdict.INCONCLUSIVE, "no-interval"),
        (None, None, Verdict.INCONCLUSIVE, "not-measured"),
        (math.nan, (0.9, 1.0), Verdict.INCONCLUSIVE, "not-measured"),
    ],
)
def test_a_ratio_must_keep_its_bound_over_its_whole_interval(
    ratio: float | None, interval: tuple[float, float] | None, verdict: Verdict, code: str
) -> None:
    found = judge(report(runtime_comparison("ttftP50", ratio=ratio, interval=interval)), policy(SLOWER))
    assert found.verdict is verdict
    assert [code for code, _ in about(found, "ttftP50")] == [code]


def test_a_lower_bound_works_the_other_way_round() -> None:
    by = policy({"metric": "tps", "min_ratio": 1.5})
    for interval, verdict in (
        ((1.5, 2.0), Verdict.ACCEPT),
        ((1.4, 1.49), Verdict.REJECT),
        ((1.4, 1.6), Verdict.INCONCLUSIVE),
    ):
        found = judge(report(runtime_comparison("tps", ratio=sum(interval) / 2, interval=interval)), by)
        assert found.verdict is verdict


def test_a_stricter_alpha_takes_the_wider_interval() -> None:
    measured = runtime_comparison("ttftP50", ratio=1.0, interval=(0.9, 1.2), ratio_interval_90=(0.95, 1.05))
    assert judge(report(measured), policy(SLOWER)).verdict is Verdict.ACCEPT
    quality = quality_comparison(*flipped(right=600, wrong=400, lost=2, gained=9), alpha=0.025)
    strict = judge(candidate_report([quality], runtime=[measured]), policy(SLOWER, alpha=0.025))
    assert about(strict, "ttftP50") == [("bound-not-shown", "blocks")]


def test_what_would_settle_a_ratio_shrinks_with_the_distance_to_the_bound() -> None:
    def needed(ratio: float) -> int | None:
        measured = runtime_comparison("ttftP50", ratio=ratio, interval=(ratio / 1.1, ratio * 1.1))
        return judge(report(measured), policy(SLOWER)).samples_needed

    far, near = needed(1.02), needed(1.08)
    assert far is not None
    assert near is not None
    assert 1000 < far < near
    assert needed(1.1) is None


def test_an_absolute_bound_is_judged_by_the_point_value() -> None:
    by = policy({"metric": "latencyP99", "max_value": 2.0})
    assert judge(report(runtime_comparison("latencyP99", ratio=2.0)), by).verdict is Verdict.ACCEPT
    assert judge(report(runtime_comparison("latencyP99", ratio=2.01)), by).verdict is Verdict.REJECT


def test_a_p99_of_few_requests_is_only_known_to_be_at_least_that() -> None:
    absolute = policy({"metric": "latencyP99", "max_value": 2.0})
    below = judge(report(runtime_comparison("latencyP99", ratio=1.0, at_least=True)), absolute)
    assert about(below, "latencyP99") == [("too-few-requests", "blocks")]
    assert below.samples_needed == 299
    above = judge(report(runtime_comparison("latencyP99", ratio=3.0, at_least=True)), absolute)
    assert above.verdict is Verdict.REJECT
    ratio = policy({"metric": "latencyP99", "max_ratio": 2.0})
    measured = runtime_comparison("latencyP99", ratio=1.0, interval=(0.9, 1.1), at_least=True)
    assert judge(report(measured), ratio).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(("metric", "needed"), [("ttftP90", 29), ("itlP95", 59), ("latencyP99", 299)])
def test_every_percentile_says_how_many_observations_bound_it(metric: str, needed: int) -> None:
    measured = runtime_comparison(metric, ratio=1.0, interval=(0.9, 1.1), at_least=True)
    judged = judge(report(measured), policy({"metric": metric, "max_ratio": 2.0}))
    assert judged.samples_needed == needed
    (reason,) = [one for one in judged.reasons if one.metric == metric]
    assert f"below {needed} requests a {metric[-2:]}th percentile" in reason.message


@pytest.mark.parametrize(
    ("role", "verdict"),
    [
        ("critical", Verdict.REJECT),
        ("supporting", Verdict.INCONCLUSIVE),
        ("advisory", Verdict.ACCEPT),
    ],
)
def test_the_role_says_what_a_broken_bound_means(role: str, verdict: Verdict) -> None:
    measured = runtime_comparison("ttftP50", ratio=2.0, interval=(1.9, 2.1))
    assert judge(report(measured), policy(SLOWER | {"role": role})).verdict is verdict


@pytest.mark.parametrize("role", ["supporting", "advisory"])
def test_only_a_critical_rule_must_be_measured(role: str) -> None:
    assert judge(report(), policy(SLOWER | {"role": role})).verdict is Verdict.ACCEPT
    assert judge(report(), policy(SLOWER)).verdict is Verdict.INCONCLUSIVE


def unlike_work(made: CandidateReport) -> CandidateReport:
    finding = Finding(
        code="output-length-differs",
        severity=Severity.NOT_COMPARABLE,
        message="outputs are 40 % longer",
        subject="workload",
    )
    workload = made.workload.model_copy(update={"comparable": False, "findings": [finding]})
    return made.model_copy(update={"workload": workload})


def test_the_runtime_of_unlike_work_neither_accepts_nor_rejects() -> None:
    for interval in ((0.9, 1.0), (1.9, 2.1)):
        measured = runtime_comparison("ttftP50", ratio=sum(interval) / 2, interval=interval)
        made = unlike_work(report(measured))
        found = judge(made, policy(SLOWER))
        assert found.verdict is Verdict.INCONCLUSIVE
        assert about(found, "ttftP50") == [("not-judged-unlike-work", "blocks")]
        (banner,) = [reason for reason in found.reasons if reason.code == "unlike-work"]
        assert "outputs are 40 % longer" in banner.message


def test_unlike_work_does_not_matter_without_a_critical_runtime_rule() -> None:
    made = unlike_work(report(runtime_comparison("ttftP50", ratio=1.0, interval=(0.9, 1.0))))
    assert judge(made, policy()).verdict is Verdict.ACCEPT
    assert judge(made, policy(SLOWER | {"role": "supporting"})).verdict is Verdict.ACCEPT
    assert judge(made, policy(SLOWER, require_equal_work=False)).verdict is Verdict.ACCEPT


SAVING = {"metric": "joulesPerToken", "max_ratio": 0.8}


@pytest.mark.parametrize(
    ("grades", "comparable", "least", "code"),
    [
        ("AA", True, "B", "within-bound"),
        ("BB", True, "B", "within-bound"),
        ("CC", True, "C", "within-bound"),
        ("AC", True, "B", "power-grade"),
        ("CA", True, "B", "power-grade"),
        ("DD", True, "C", "power-grade"),
        ("BB", True, "A", "power-grade"),
        ("AB", False, "B", "power-not-comparable"),
    ],
)
def test_energy_is_judged_only_from_power_of_the_wanted_grade(
    grades: str, comparable: bool, least: str, code: str
) -> None:
    made = report(
        runtime_comparison("joulesPerToken", ratio=0.5, interval=(0.45, 0.55)),
        energy=energy_comparison(grades=grades, comparable=comparable),
    )
    found = judge(made, policy(SAVING, min_power_grade=least))
    assert [code for code, _ in about(found, "joulesPerToken")] == [code]
    assert found.verdict is (Verdict.ACCEPT if code == "within-bound" else Verdict.INCONCLUSIVE)


def test_an_absolute_energy_bound_needs_the_candidates_power_only() -> None:
    made = report(
        runtime_comparison("joulesPerToken", ratio=0.5),
        energy=energy_comparison(grades="DA", comparable=False),
    )
    by = policy({"metric": "joulesPerToken", "max_value": 0.6})
    assert judge(made, by).verdict is Verdict.ACCEPT


def test_an_energy_ratio_without_an_interval_counts_as_it_is() -> None:
    made = report(
        runtime_comparison("joulesPerToken", ratio=0.5),
        energy=energy_comparison(grades="AA", comparable=True),
    )
    found = judge(made, policy(SAVING))
    assert found.verdict is Verdict.ACCEPT
    assert any(
        "no interval" in reason.message for reason in found.reasons if reason.metric == "joulesPerToken"
    )
