"""What holds of every judgement, for scores and policies of all kinds."""

from typing import Any

import numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay_evidence.decision import Judgement, Verdict, judge
from assay_evidence.policy import PolicySpec
from assay_evidence.report import CandidateReport, QualityComparison
from assay_evidence.testing.reports import candidate_report, flipped, quality_comparison, runtime_comparison

METRICS = [f"synthetic.m{number},none" for number in range(3)]
PROFILE = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)

ratios = st.floats(0.5, 2.0)


@st.composite
def binary_scores(draw: st.DrawFn) -> tuple[Any, Any]:
    right, wrong = draw(st.integers(0, 400)), draw(st.integers(0, 400))
    if right + wrong < 2:
        right = 2
    lost, gained = draw(st.integers(0, min(right, 60))), draw(st.integers(0, min(wrong, 60)))
    return flipped(right=right, wrong=wrong, lost=lost, gained=gained)


@st.composite
def continuous_scores(draw: st.DrawFn) -> tuple[Any, Any]:
    random = numpy.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    scale = draw(st.sampled_from([1e-6, 0.1, 1.0, 100.0]))
    first = random.normal(draw(st.floats(-1, 1)), 1.0, draw(st.integers(2, 400))) * scale
    shift = draw(st.floats(-0.1, 0.1)) * scale
    noise = draw(st.sampled_from([0.0, 0.01, 0.5])) * scale
    return first, first + shift + random.normal(0.0, 1.0, len(first)) * noise


@st.composite
def policies(draw: st.DrawFn) -> PolicySpec:
    rules: list[dict[str, object]] = [
        {
            "metric": metric,
            "role": draw(st.sampled_from(["critical", "supporting", "advisory"])),
            "test": draw(st.sampled_from(["non_inferiority", "equivalence"])),
            "margin": draw(st.sampled_from([0.005, 0.02, 0.05])),
            "order": draw(st.sampled_from([None, 1, 2])),
        }
        for metric in draw(st.lists(st.sampled_from(METRICS), unique=True, max_size=3))
    ]
    rules.append({"metric": "*", "margin": draw(st.sampled_from([0.01, 0.02, 0.05]))})
    runtime = [{"metric": "ttftP50", "max_ratio": 1.2}] if draw(st.booleans()) else []
    return PolicySpec.model_validate(
        {"name": "p", "quality": rules, "runtime": runtime, "min_samples": draw(st.sampled_from([10, 100]))}
    )


@st.composite
def cases(draw: st.DrawFn) -> tuple[CandidateReport, PolicySpec]:
    policy = draw(policies())
    quality: list[QualityComparison] = []
    for metric in METRICS[: draw(st.integers(1, 3))]:
        first, second = draw(st.one_of(binary_scores(), continuous_scores()))
        rule = next((rule for rule in policy.quality if rule.matches(metric, task="synthetic")), None)
        assert rule is not None
        quality.append(
            quality_comparison(
                first, second, metric=metric, margin=rule.margin, higher_is_better=draw(st.booleans())
            )
        )
    ratio = draw(ratios)
    width = draw(st.floats(1.0, 1.5))
    runtime = runtime_comparison("ttftP50", ratio=ratio, interval=(ratio / width, ratio * width))
    items = max(one.n for one in quality)
    return candidate_report(quality, items=items, runtime=[runtime]), policy


def against(found: Judgement) -> list[str]:
    return [reason.code for reason in found.reasons if reason.effect in ("blocks", "rejects")]


@PROFILE
@given(cases())
def test_a_verdict_follows_from_its_reasons(case: tuple[CandidateReport, PolicySpec]) -> None:
    found = judge(*case)
    effects = {reason.effect for reason in found.reasons}
    assert (found.verdict is Verdict.ACCEPT) == (not against(found))
    assert (found.verdict is Verdict.REJECT) == ("rejects" in effects)
    assert found.samples_needed is None or found.samples_needed > 0
    assert found == judge(*case)
    assert found == Judgement.model_validate_json(found.model_dump_json())


@PROFILE
@given(cases())
def test_an_accept_means_that_everything_critical_was_shown(
    case: tuple[CandidateReport, PolicySpec],
) -> None:
    report, policy = case
    if judge(report, policy).verdict is not Verdict.ACCEPT:
        return
    for one in report.quality:
        rule = next(rule for rule in policy.quality if rule.matches(one.metric, task="synthetic"))
        test = one.margin_test
        assert test is not None
        if rule.role == "critical":
            assert test.equivalent if rule.test == "equivalence" else test.non_inferior
            assert one.n >= policy.min_samples
            assert one.interval_90 is not None
            worst = one.interval_90[0] if one.higher_is_better else -one.interval_90[1]
            assert worst >= -test.margin * (1 + 1e-9)


@PROFILE
@given(cases(), st.sampled_from(["coverage", "validity", "metric", "failures", "test"]))
def test_without_its_evidence_nothing_is_accepted(
    case: tuple[CandidateReport, PolicySpec], what: str
) -> None:
    report, policy = case
    worse = report.model_copy(deep=True)
    match what:
        case "coverage":
            worse.coverage.paired = worse.coverage.paired // 2
        case "validity":
            worse.valid = False
        case "metric":
            worse.quality = []
        case "failures":
            worse.coverage.failed_in_candidate = worse.coverage.candidate_total
        case _:
            for one in worse.quality:
                one.margin_test = None
    assert judge(worse, policy).verdict is not Verdict.ACCEPT
