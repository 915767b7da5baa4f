"""The HTML report: what it shows, and that nothing of the data becomes part of the page."""

import json
import re
from collections import Counter
from html.parser import HTMLParser
from typing import Any

import numpy
import pytest

from assay_evidence.decision import Judgement, Reason, Verdict
from assay_evidence.policy import Policy, QualityRule, RuntimeRule
from assay_evidence.report import (
    CandidateReport,
    ComparedRun,
    ComparisonSettings,
    Coverage,
    EnergyComparison,
    Finding,
    FlipAnalysis,
    FlipClass,
    FlipCounts,
    MarginTest,
    NoiseFloor,
    PlanDifference,
    PowerProvenance,
    QualityComparison,
    RuntimeComparison,
    Severity,
    WeakRule,
    WorkloadParity,
    WorkloadSide,
)
from metrics_svc.reports.latencies import Distribution, RunLatencies
from metrics_svc.reports.markdown import comparison_markdown, decision_markdown
from metrics_svc.reports.material import (
    CandidateMaterial,
    ComparisonMaterial,
    DecisionMaterial,
    Example,
    ExampleSide,
)
from metrics_svc.reports.page import comparison_page, decision_page

HOSTILE = "<script>alert(1)</script>&\"'\u202e\x00\x1b[31m\ud800{{ 7 * 7 }}]]><!--"
"""Markup, quotes, a turned direction, control characters, half a character, a template's syntax."""
NAME = HOSTILE.replace("\ud800", "")
"""The same as far as a model of pydantic takes it."""


def side(name: str, **more: Any) -> ComparedRun:
    return ComparedRun(
        run_id=f"run_{name}",
        run_name=f"{name} run",
        task="gsm8k",
        artifact_id=f"art_{name}",
        artifact_name=name,
        backend="gpu" if name.startswith("base") else "rngd",
        canonical=True,
        samples_scored=1319,
        samples_failed=0,
        **more,
    )


def quality(metric: str, *, difference: float, binary: bool = True, **more: Any) -> QualityComparison:
    half = 0.0066 if binary else 0.02
    test = MarginTest(
        margin=0.02,
        alpha=0.05,
        non_inferiority_p=0.021 if difference > -0.009 else 0.31,
        equivalence_p=0.03,
        non_inferior=difference > -0.009,
        equivalent=difference > -0.007,
        inferior=difference < -0.05,
        method="Bonett-Price",
    )
    values: dict[str, Any] = {
        "metric": metric,
        "kind": "binary" if binary else "continuous",
        "higher_is_better": True,
        "n": 1319,
        "baseline": 0.6148,
        "candidate": 0.6148 + difference,
        "baseline_run": 0.6148,
        "baseline_run_stderr": 0.0134,
        "candidate_run": 0.6148 + difference,
        "candidate_run_stderr": 0.0134,
        "difference": difference,
        "stderr": half,
        "interval_90": (difference - 1.64 * half, difference + 1.64 * half),
        "interval_95": (difference - 1.96 * half, difference + 1.96 * half),
        "interval_method": "Bonett-Price",
        "changed": 79,
        "changed_rate": 0.06,
        "changed_rate_upper": 0.072,
        "flips": FlipCounts(gained=35, lost=44, both_right=770, both_wrong=470) if binary else None,
        "mcnemar_p": 0.37 if binary else None,
        "mcnemar_p_holm": 0.74 if binary else None,
        "difference_p": 0.36,
        "difference_p_holm": 0.72,
        "minimal_detectable_difference": 0.0167,
        "chance": 0.0,
        "margin_test": test,
        "weak_rule": WeakRule(stderr=0.0134, within_stderr=True),
    }
    return QualityComparison(**values | more)


def runtime(metric: str, unit: str, baseline: float, candidate: float) -> RuntimeComparison:
    ratio = candidate / baseline
    return RuntimeComparison(
        metric=metric,
        unit=unit,
        higher_is_better=unit in ("1/s", "tokens/s"),
        baseline=baseline,
        candidate=candidate,
        difference=candidate - baseline,
        difference_interval_95=((candidate - baseline) * 0.9, (candidate - baseline) * 1.1),
        ratio=ratio,
        ratio_interval_95=(ratio * 0.97, ratio * 1.03),
        ratio_interval_90=(ratio * 0.975, ratio * 1.025),
        interval_method="block bootstrap",
        at_least=metric.endswith("P99"),
    )


def work(**more: Any) -> WorkloadSide:
    values: dict[str, Any] = {
        "requests": 1319,
        "prompt_tokens": 1_190_412,
        "completion_tokens": 168_133,
        "output_tokens_mean": 127.5,
        "output_tokens_p50": 119.0,
        "output_tokens_p90": 214.0,
        "truncated_share": 0.012,
        "stop_reasons": {"stop": 0.988, "length": 0.012},
        "error_share": 0.0,
        "retries": 3,
        "concurrency": 16,
    }
    return WorkloadSide(**values | more)


def candidate_report(**more: Any) -> CandidateReport:
    values: dict[str, Any] = {
        "candidate": side("llama-3.1-8b-rngd-fp8"),
        "valid": True,
        "findings": [
            Finding(
                code="engine-differs",
                severity=Severity.WARNING,
                message="The engines differ: vllm 0.19.1 against furiosa-llm 2026.2.",
            ),
        ],
        "coverage": Coverage(
            paired=1319,
            baseline_total=1319,
            candidate_total=1319,
            fraction=1.0,
            baseline_fraction=1.0,
            candidate_fraction=1.0,
            missing_in_candidate=0,
            missing_in_baseline=0,
            failed_in_baseline=0,
            failed_in_candidate=0,
            prompt_differs=0,
            target_differs=0,
            floor=0.99,
        ),
        "plan_differences": [
            PlanDifference(path="artifact.id", baseline="art_a", candidate="art_b", expected=True),
            PlanDifference(path="options.concurrency", baseline=16, candidate=8, expected=True),
        ],
        "quality": [
            quality("gsm8k.exact_match,strict-match", difference=-0.0068),
            quality("gsm8k.exact_match,flexible-extract", difference=-0.0121),
            quality("gsm8k.token_f1,none", difference=0.013, binary=False),
        ],
        "flips": [
            FlipAnalysis(
                metric="gsm8k.exact_match,strict-match",
                gained_by_class={FlipClass.NUMERIC_ANSWER: 30, FlipClass.FORMAT_ONLY: 5},
                lost_by_class={
                    FlipClass.NUMERIC_ANSWER: 31,
                    FlipClass.FORMAT_ONLY: 9,
                    FlipClass.TRUNCATED: 4,
                },
                unstable_under_aa=21,
                compared_responses=1319,
                identical_responses=702,
                differ_at_first_token=12,
                token_basis="word",
                first_difference_char_p50=211.0,
                first_difference_token_p50=38.0,
            )
        ],
        "noise": [
            NoiseFloor(
                metric="gsm8k.exact_match,strict-match",
                run_id="run_aa",
                n=1319,
                churn_aa=0.031,
                churn_ab=0.06,
                excess=0.029,
                excess_interval_95=(0.013, 0.045),
                excess_p=0.0004,
                difference_aa=0.0008,
                above_noise=True,
            )
        ],
        "runtime": [
            runtime("ttftP50", "s", 0.0412, 0.0538),
            runtime("ttftP99", "s", 0.119, 0.204),
            runtime("itlP50", "s", 0.00071, 0.0009),
            runtime("tps", "tokens/s", 1843.2, 1502.8),
            runtime("joulesPerToken", "J", 0.231, 0.118),
        ],
        "energy": EnergyComparison(
            baseline=PowerProvenance(
                grade="A",
                reasons=["energy counter of the device over the whole window"],
                sensors=["nvml"],
                scope="device",
                joules=38_839.0,
                window_s=91.2,
                covered_s=91.2,
                readings=2,
            ),
            candidate=PowerProvenance(
                grade="C",
                reasons=["readings cover 71 % of the window"],
                sensors=["furiosa-smi"],
                scope="card",
                joules=19_880.0,
                window_s=111.9,
                covered_s=79.4,
                readings=80,
            ),
            comparable=False,
            note="Grade A against grade C: one side misses 29 % of its window.",
        ),
        "workload": WorkloadParity(
            baseline=work(),
            candidate=work(completion_tokens=171_991, output_tokens_mean=130.4),
            prompts_equal=True,
            output_length_ratio=1.023,
            output_length_ratio_interval_95=(1.009, 1.037),
            comparable=True,
            findings=[],
        ),
    }
    return CandidateReport(**values | more)


def latencies(seed: int, scale: float) -> RunLatencies:
    draw = numpy.random.default_rng(seed)

    def of(middle: float, count: int) -> Distribution:
        seconds = numpy.sort(draw.lognormal(numpy.log(middle * scale), 0.4, count))
        return Distribution(n=count, seconds=seconds, shares=numpy.arange(1, count + 1) / count)

    return RunLatencies(ttft=of(0.04, 500), itl=of(0.0008, 3000), latency=of(1.2, 500))


def example(flip: str = "lost", flip_class: str = "numeric_answer", **more: Any) -> Example:
    before = "She sells 16 - 3 - 4 = 9 eggs a day.\nShe makes 9 * 2 = $18 every day.\n#### 18"
    after = "She sells 16 - 3 - 4 = 9 eggs a day.\nShe makes 9 * 2 = $16 every day.\n#### 16"
    values: dict[str, Any] = {
        "metric": "gsm8k.exact_match,strict-match",
        "flip": flip,
        "flip_class": flip_class,
        "doc_hash": "0f343b0931126a20f133d67c2b018a3b",
        "prompt": "Question: Janet's ducks lay 16 eggs per day. How much does she make every day?\nAnswer:",
        "target": "Janet sells 16 - 3 - 4 = <<16-3-4=9>>9 duck eggs a day.\n#### 18",
        "unstable_under_aa": False,
        "baseline": ExampleSide(index=0, value=1.0, response=before, filtered={"strict-match": "18"}),
        "candidate": ExampleSide(index=0, value=0.0, response=after, filtered={"strict-match": "16"}),
    }
    return Example(**values | more)


def comparison(*candidates: CandidateMaterial) -> ComparisonMaterial:
    return ComparisonMaterial(
        id="cmp_01",
        created_at="2026-11-23T10:11:12.131Z",
        created_by="ci",
        settings=ComparisonSettings(),
        baseline=side("base-llama-3.1-8b-bf16"),
        noise_floor_run=side("base-again"),
        candidates=candidates or (full_candidate(),),
        baseline_latencies=latencies(1, 1.0),
    )


def full_candidate(**more: Any) -> CandidateMaterial:
    return CandidateMaterial(
        report=candidate_report(**more),
        examples=[
            example(),
            example(flip="gained"),
            example(flip_class="format_only"),
            example(flip_class="truncated", unstable_under_aa=True),
        ],
        latencies=latencies(2, 1.3),
    )


def policy(**more: Any) -> Policy:
    values: dict[str, Any] = {
        "name": "default",
        "description": "Not worse by two points.",
        "quality": [
            QualityRule(metric="*", margin=0.02),
            QualityRule(metric="gsm8k.*", role="advisory", margin=0.05, margin_kind="relative", order=2),
        ],
        "runtime": [RuntimeRule(metric="ttftP99", role="supporting", max_ratio=1.5)],
        "id": "pol_1",
        "version": 3,
        "digest": "c" * 64,
        "created_at": "2026-11-23T10:00:00Z",
        "created_by": "ci",
    }
    return Policy(**values | more)


def decision(verdict: Verdict = Verdict.INCONCLUSIVE, **more: Any) -> DecisionMaterial:
    values: dict[str, Any] = {
        "id": "dec_01",
        "created_at": "2026-11-23T10:11:13Z",
        "created_by": "ci",
        "judgement": Judgement(
            verdict=verdict,
            valid=True,
            summary="flexible-extract is not shown to be within 2 points; 2,310 pairs would settle it.",
            reasons=[
                Reason(
                    code="not-shown",
                    effect="blocks",
                    message="The 90 % interval of flexible-extract reaches −2.29 points, beyond the margin.",
                    metric="gsm8k.exact_match,flexible-extract",
                    samples_needed=2310,
                ),
                Reason(
                    code="non-inferior",
                    effect="supports",
                    message="strict-match is not worse by 2 points (p = 0.021).",
                    metric="gsm8k.exact_match,strict-match",
                ),
                Reason(code="energy-unlike", effect="noted", message="Energy grades differ."),
            ],
            samples_needed=2310,
            early_stop=True,
        ),
        "policy": policy(),
        "bundle_digest": "d" * 64,
        "comparison": comparison(),
    }
    return DecisionMaterial(**values | more)


class Page(HTMLParser):
    """The elements of a page, how they nest, and its texts."""

    VOID = frozenset({"meta", "br", "wbr"})

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str | None]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", " ".join(self.texts))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes += [(tag, name, value) for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if not self._open or self._open[-1] != "style":
            self.texts.append(data)


def assert_self_contained(html: str) -> Page:
    """No script, nothing from elsewhere, nothing invisible."""
    page = Page(html)
    assert not {"script", "link", "iframe", "object", "embed", "img", "form", "base", "a"} & set(
        page.elements
    )
    for _, name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("href", "xlink:href", "src"):
            assert value is not None
            assert value.startswith("#")
    assert not re.search(r"(?i)https?:|url\((?!#)|@import", html)
    invisible = {ord(one) for one in html if ord(one) < 32 or 0x7F <= ord(one) < 0xA0} - {10}
    assert not invisible
    assert not set(html) & set("\u202e\u200f\u2066\ud800")
    html.encode()
    return page


def test_a_decision_leads_with_the_verdict_and_its_reasons() -> None:
    page = assert_self_contained(decision_page(decision()))
    text = page.text
    order = [
        "INCONCLUSIVE",
        "2,310 pairs",
        "Reasons",
        "not-shown",
        "Policy",
        "Quality",
        " Runtime ",
        "grade A",
    ]
    places = [text.index(word) for word in order]
    assert places == sorted(places)
    for shown in ("version 3", "at most 1.5 times the baseline", "d" * 64, "ended early"):
        assert shown in text


@pytest.mark.parametrize("verdict", list(Verdict))
def test_every_verdict_has_its_own_colour(verdict: Verdict) -> None:
    html = decision_page(decision(verdict))
    tone = {"ACCEPT": "good", "REJECT": "bad", "INCONCLUSIVE": "open"}[verdict]
    assert f'class="card verdict {tone}"' in html


def test_a_comparison_shows_numbers_with_units_and_the_weak_rule_as_weak() -> None:
    page = assert_self_contained(comparison_page(comparison()))
    text = page.text
    for shown in (
        "61.48 %",
        "−0.68 points",
        "margin 2 points",
        "+0.013",  # of no right and wrong, in its own unit
        "weak rule difference within the baseline's stderr (1.34 points): yes",
        "proves nothing",
        "44 / 35",
        "41.2 ms",
        "900 µs",
        "at least",
        "1,843 tokens/s",
        "grade A",
        "grade C",
        "one side misses 29 %",
        "38,839 J",
        "702 of 1,319 pairs have equal responses",
        "above the noise",
        "100.0 %",
    ):
        assert shown in text, shown
    assert page.elements["svg"] == 5
    assert page.elements["mark"] >= 4


def test_plots_have_no_ids_that_clash_and_follow_the_scheme() -> None:
    html = comparison_page(comparison(full_candidate(), full_candidate()))
    page = assert_self_contained(html)
    assert page.elements["svg"] == 10
    svgs = re.findall(r"<svg.*?</svg>", html, flags=re.DOTALL)
    assert not any(
        re.search(r"#[0-9a-f]{6}\b(?!\w)", re.sub(r'(#|")[mp][0-9a-f]{10}', "", svg)) for svg in svgs
    )
    ids = [value for _, name, value in page.attributes if name == "id"]
    shapes = dict(re.findall(r'id="([mp][0-9a-f]{10})"([^>]*)>', html))
    for one in set(ids):
        if str(one) in shapes:
            drawn = re.findall(rf'id="{one}"([^>]*)>', html)
            assert len(set(drawn)) == 1, "an id names two different shapes"


def test_the_same_comparison_gives_the_same_page() -> None:
    assert comparison_page(comparison()) == comparison_page(comparison())


def test_an_invalid_comparison_says_so_first() -> None:
    finding = Finding(
        code="coverage-below-floor", severity=Severity.INVALID, message="Only 5.0 % of the items are paired."
    )
    page = assert_self_contained(
        comparison_page(comparison(full_candidate(valid=False, findings=[finding], quality=[], flips=[])))
    )
    text = page.text
    assert text.index("INVALID") < text.index("Nothing may be concluded")
    assert "Only 5.0 % of the items are paired." in text
    assert "No metric has a value on both sides" in text


def test_hostile_text_stays_text() -> None:
    """In every field that comes from users, models or datasets."""
    report = candidate_report(
        candidate=side("x").model_copy(
            update={name: NAME for name in ("run_id", "run_name", "artifact_id", "artifact_name", "backend")}
        ),
        findings=[Finding(code=NAME, severity=Severity.WARNING, message=NAME, subject=NAME)],
        quality=[quality(f"$\\frac{NAME}$,{NAME}", difference=-0.001, interval_method=NAME)],
        plan_differences=[PlanDifference(path=NAME, baseline={NAME: NAME}, candidate=[NAME], expected=False)],
        runtime=[runtime(NAME, "s", 1, 2).model_copy(update={"note": NAME, "unit": NAME})],
        workload=WorkloadParity(
            baseline=work(stop_reasons={NAME: 1.0}),
            candidate=work(),
            prompts_equal=False,
            output_length_ratio=None,
            output_length_ratio_interval_95=None,
            comparable=False,
            findings=[Finding(code="x", severity=Severity.NOT_COMPARABLE, message=NAME)],
        ),
    )
    bad = example(
        metric=HOSTILE,
        doc_hash=HOSTILE,
        prompt=HOSTILE,
        target=HOSTILE,
        baseline=ExampleSide(index=0, value=1.0, response=HOSTILE, filtered={HOSTILE: HOSTILE}),
        candidate=ExampleSide(index=0, value=float("nan"), response=f"x {HOSTILE}", filtered={HOSTILE: None}),
    )
    material = CandidateMaterial(report=report, examples=[bad], latencies=latencies(3, 1.0))
    safe = CandidateMaterial(
        report=candidate_report(
            quality=[quality("m,f", difference=-0.001)], plan_differences=report.plan_differences
        ),
        examples=[example()],
        latencies=latencies(3, 1.0),
    )
    made = decision(
        comparison=comparison(material),
        judgement=Judgement(
            verdict=Verdict.REJECT,
            valid=False,
            summary=NAME,
            reasons=[Reason(code=NAME, effect="rejects", message=NAME, metric=NAME)],
            samples_needed=None,
            early_stop=False,
        ),
        policy=policy(description=NAME, quality=[QualityRule(metric=NAME, margin=0.01)]),
    )
    html = decision_page(made)
    page = assert_self_contained(html)
    assert "⟨U+202E⟩" in page.text
    assert "⟨U+0000⟩" in page.text
    assert "{{ 7 * 7 }}" in page.text
    assert "<script>alert(1)</script>" in page.text  # as text, which the parser has read back
    plain = assert_self_contained(comparison_page(comparison(safe)))
    assert set(page.elements) <= set(plain.elements) | {"br", "wbr"}


def test_a_response_of_a_megabyte_is_cut_around_the_difference() -> None:
    long = "word " * 200_000
    other = long[:500_000] + "OTHER " + long[500_000:]
    html = comparison_page(
        comparison(
            CandidateMaterial(
                report=candidate_report(),
                examples=[
                    example(
                        baseline=ExampleSide(index=0, value=1.0, response=long),
                        candidate=ExampleSide(index=0, value=0.0, response=other),
                        prompt=long,
                        target=long,
                    )
                ],
            )
        )
    )
    page = assert_self_contained(html)
    assert len(html) < 200_000
    assert "of 1,000,000" in page.text
    assert "of 1,000,006" in page.text
    assert "OTHER" in page.text


def test_a_missing_and_an_empty_response_are_told_apart() -> None:
    material = CandidateMaterial(
        report=candidate_report(),
        examples=[
            example(
                baseline=ExampleSide(index=0, value=1.0, response=None),
                candidate=ExampleSide(index=0, value=0.0, response=""),
            )
        ],
    )
    text = Page(comparison_page(comparison(material))).text
    assert "no response" in text
    assert " empty " in text
    json.dumps(text)


def test_markdown_leads_with_the_verdict_and_fits_into_a_comment() -> None:
    text = decision_markdown(decision())
    assert text.splitlines()[0].startswith("## ⚠️ INCONCLUSIVE: llama-3.1-8b-rngd-fp8 in place of base-")
    assert "| **blocks** | The 90 % interval of flexible-extract" in text
    assert "It ignores the pairing and proves nothing" in text
    assert text.count("<details>") == text.count("</details>") == 4
    assert "≥ 119 ms" in text
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.endswith("|")


def test_markdown_of_hostile_and_endless_evidence_stays_small_and_harmless() -> None:
    many = [quality(f"{NAME}{number}|x,f", difference=-0.001) for number in range(2000)]
    findings = [Finding(code="x", severity=Severity.WARNING, message=NAME * 500) for _ in range(500)]
    candidates = [
        CandidateMaterial(report=candidate_report(quality=many, findings=findings)) for _ in range(20)
    ]
    text = comparison_markdown(comparison(*candidates))
    assert len(text.encode()) < 60_000
    assert "<script" not in text
    assert "parts are left out" in text
    assert set(re.findall(r"<\w+", text)) <= {"<details", "<summary", "<sub"}
    columns = {len(re.findall(r"(?<!\\)\|", line)) for line in text.splitlines() if "⟨U+202E⟩" in line[:200]}
    assert columns <= {0, 8}
    assert not set(text) & set("\u202e\x00\x1b")


def test_a_group_of_many_tasks_keeps_the_page_readable() -> None:
    """What the run is of stays in sight; the rest is there, folded."""
    names = [f"mmlu_{number}.acc,none" for number in range(57)]
    guards = [
        Finding(code="floor", severity=Severity.WARNING, message=f"{name} is at its floor.") for name in names
    ]
    flips = candidate_report().flips[0]
    report = candidate_report(
        quality=[
            quality(name, difference=-0.001, guards=[guard])
            for name, guard in zip(names, guards, strict=True)
        ],
        flips=[flips.model_copy(update={"metric": name}) for name in names],
    )
    html = comparison_page(comparison(CandidateMaterial(report=report)))
    page = assert_self_contained(html)
    for name in names:
        assert re.sub(r"\s", "", name) in re.sub(r"\s", "", page.text)
    unfolded = re.sub(r"<details>.*?</details>", "", html, flags=re.DOTALL)
    assert unfolded.count("weak rule") == 12
    assert unfolded.count("is at its floor.") == 11  # beside the finding of the comparison
    assert unfolded.count("Kind of change") == 3
    assert html.count("weak rule") == 57
    assert html.count("is at its floor.") == 57
    assert html.count("Kind of change") == 57
