"""Comparisons made of counts, for tests of what follows from them."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy
from numpy.typing import ArrayLike, NDArray

from assay_evidence.report import (
    CandidateReport,
    ComparedRun,
    Coverage,
    EnergyComparison,
    FlipCounts,
    MarginTest,
    PowerProvenance,
    QualityComparison,
    RuntimeComparison,
    WeakRule,
    WorkloadParity,
    WorkloadSide,
)
from assay_evidence.statistics.paired import is_binary, margin_test, mcnemar_exact, paired_difference

TASK = "synthetic"
METRIC = f"{TASK}.exact_match,strict-match"

Values = NDArray[numpy.float64]


def flipped(*, right: int, wrong: int, lost: int, gained: int) -> tuple[Values, Values]:
    """Scores of a baseline with ``right`` and ``wrong`` items, and of a candidate with flips of them."""
    baseline = numpy.repeat([1.0, 0.0], [right, wrong])
    candidate = baseline.copy()
    candidate[:lost] = 0.0
    candidate[right : right + gained] = 1.0
    return baseline, candidate


def quality_comparison(
    baseline: ArrayLike,
    candidate: ArrayLike,
    *,
    metric: str = METRIC,
    margin: float = 0.02,
    alpha: float = 0.05,
    higher_is_better: bool = True,
    is_relative: bool = False,
    chance: float | None = 0.0,
) -> QualityComparison:
    """One metric whose paired values are given, as a comparison would report it."""
    first, second = numpy.asarray(baseline, numpy.float64), numpy.asarray(candidate, numpy.float64)
    found = paired_difference(first, second)
    test = margin_test(
        first, second, margin=margin, alpha=alpha, higher_is_better=higher_is_better, relative=is_relative
    )
    kind = "binary" if is_binary(first) and is_binary(second) else "continuous"
    flips = None
    if kind == "binary":
        flips = FlipCounts(
            gained=int(((first == 0) & (second == 1)).sum()),
            lost=int(((first == 1) & (second == 0)).sum()),
            both_right=int(((first == 1) & (second == 1)).sum()),
            both_wrong=int(((first == 0) & (second == 0)).sum()),
        )
    stderr = float(first.std(ddof=1) / numpy.sqrt(len(first))) if len(first) > 1 else None
    return QualityComparison(
        metric=metric,
        kind=kind,
        higher_is_better=higher_is_better,
        n=found.n,
        baseline=found.baseline,
        candidate=found.candidate,
        baseline_run=found.baseline,
        baseline_run_stderr=stderr,
        candidate_run=found.candidate,
        candidate_run_stderr=stderr,
        difference=found.difference,
        stderr=found.stderr,
        interval_90=found.interval_90,
        interval_95=found.interval_95,
        interval_method=found.interval_method,
        changed=found.changed,
        changed_rate=found.changed / found.n,
        changed_rate_upper=found.changed_rate_upper,
        flips=flips,
        mcnemar_p=mcnemar_exact(flips.gained, flips.lost) if flips else None,
        mcnemar_p_holm=None,
        difference_p=found.difference_p,
        difference_p_holm=None,
        minimal_detectable_difference=None,
        chance=chance,
        margin_test=MarginTest(**asdict(test)),
        weak_rule=WeakRule(stderr=stderr, within_stderr=None),
    )


def runtime_comparison(
    metric: str, *, ratio: float | None, interval: tuple[float, float] | None = None, **changed: Any
) -> RuntimeComparison:
    """A runtime metric whose baseline is 1; ``interval`` of the ratio counts at both levels."""
    values: dict[str, Any] = {
        "metric": metric,
        "unit": "s",
        "higher_is_better": False,
        "baseline": 1.0,
        "candidate": ratio,
        "difference": None if ratio is None else ratio - 1,
        "difference_interval_95": None,
        "ratio": ratio,
        "ratio_interval_95": interval,
        "ratio_interval_90": interval,
        "interval_method": "bootstrap" if interval else "none: too few requests",
    }
    return RuntimeComparison(**values | changed)


def energy_comparison(*, grades: str = "AA", comparable: bool = True) -> EnergyComparison:
    """Power of the two given grades, baseline first."""
    sides = [
        PowerProvenance(
            grade=grade,
            reasons=[f"it is of grade {grade}"],
            sensors=[],
            scope=None,
            joules=None,
            window_s=None,
            covered_s=None,
            readings=0,
        )
        for grade in grades
    ]
    return EnergyComparison(baseline=sides[0], candidate=sides[1], comparable=comparable, note=None)


def candidate_report(
    quality: Sequence[QualityComparison], *, items: int | None = None, **changed: Any
) -> CandidateReport:
    """A valid report of ``quality`` over ``items`` pairs (of the first metric, if not given)."""
    total = items if items is not None else (quality[0].n if quality else 0)
    side = WorkloadSide(
        requests=total,
        prompt_tokens=total,
        completion_tokens=total,
        output_tokens_mean=1.0,
        output_tokens_p50=1.0,
        output_tokens_p90=1.0,
        truncated_share=0.0,
        stop_reasons={"stop": 1.0},
        error_share=0.0,
        retries=0,
        concurrency=1,
    )
    values: dict[str, Any] = {
        "candidate": ComparedRun(
            run_id="run_b",
            run_name="b",
            task=TASK,
            artifact_id="art_b",
            artifact_name="b",
            backend="rngd",
            samples_scored=total,
            samples_failed=0,
        ),
        "valid": True,
        "findings": [],
        "coverage": Coverage(
            paired=total,
            baseline_total=total,
            candidate_total=total,
            fraction=1.0 if total else 0.0,
            baseline_fraction=1.0 if total else 0.0,
            candidate_fraction=1.0 if total else 0.0,
            missing_in_candidate=0,
            missing_in_baseline=0,
            failed_in_baseline=0,
            failed_in_candidate=0,
            prompt_differs=0,
            target_differs=0,
            floor=0.99,
        ),
        "plan_differences": [],
        "quality": list(quality),
        "flips": [],
        "noise": [],
        "runtime": [],
        "energy": energy_comparison(grades="DD", comparable=False),
        "workload": WorkloadParity(
            baseline=side,
            candidate=side,
            prompts_equal=True,
            output_length_ratio=1.0,
            output_length_ratio_interval_95=None,
            comparable=True,
            findings=[],
        ),
    }
    return CandidateReport(**values | changed)
