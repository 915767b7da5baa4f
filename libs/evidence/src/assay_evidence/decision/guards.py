"""What keeps one metric from being judged, or from being accepted, beside its test."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from assay_evidence.decision.wording import amount, percent
from assay_evidence.policy import PolicySpec, QualityRule
from assay_evidence.report import CandidateReport, MarginTest, QualityComparison, Severity
from assay_evidence.statistics.power import zero_flips_needed


@dataclass(frozen=True, slots=True)
class Hold:
    """One thing that keeps a metric from being shown.

    Attributes:
        code, message: of the reason.
        is_untestable: whether the test itself means nothing, so that no failure is proven either.
        samples_needed: where more samples lift it.
    """

    code: str
    message: str
    is_untestable: bool = False
    samples_needed: int | None = None


def holds(
    quality: QualityComparison, rule: QualityRule, *, report: CandidateReport, policy: PolicySpec
) -> list[Hold]:
    """What speaks against trusting ``quality``, apart from the outcome of its test."""
    found = list(_untestable(quality, rule, policy))
    if not found:
        assert quality.margin_test is not None  # else it were untestable
        found += _too_few(quality, report=report, policy=policy)
        found += _no_change(quality, quality.margin_test)
    found += _reported(quality, report)
    return list({hold.code: hold for hold in reversed(found)}.values())[::-1]


def _untestable(quality: QualityComparison, rule: QualityRule, policy: PolicySpec) -> Iterator[Hold]:
    numbers = [quality.baseline, quality.candidate, quality.difference]
    if quality.n <= 0 or not all(math.isfinite(number) for number in numbers):
        yield Hold("not-a-number", "has pairs without a number; score the runs again", is_untestable=True)
    elif quality.higher_is_better is None:
        yield Hold(
            "direction-unknown",
            "cannot be tested: it is not the mean of values per sample, or nobody says whether higher is "
            "better; give the rule's direction, or name this metric in an advisory rule before",
            is_untestable=True,
        )
    elif quality.margin_test is None or not _usable(quality.margin_test):
        yield Hold("untestable", "has no test at the policy's margin", is_untestable=True)
    elif not _is_asked_for(quality, quality.margin_test, rule, policy):
        yield Hold(
            "tested-otherwise",
            "was not tested with this policy's margin, direction and alpha; compare under the policy",
            is_untestable=True,
        )


def _usable(test: MarginTest) -> bool:
    """Whether there is a test, and its answers do not contradict each other."""
    p_values = (test.non_inferiority_p, test.equivalence_p)
    is_tested = test.margin > 0 and all(p is not None and 0 <= p <= 1 for p in p_values)
    return is_tested and not (test.inferior and (test.non_inferior or test.equivalent))


def _is_asked_for(
    quality: QualityComparison, test: MarginTest, rule: QualityRule, policy: PolicySpec
) -> bool:
    """Whether the test in the report is the one of the policy; a sequential one has a smaller alpha."""
    if rule.direction is not None and quality.higher_is_better is not (rule.direction == "higher"):
        return False
    if test.kind != rule.margin_kind or test.alpha > policy.alpha * (1 + 1e-9):
        return False
    given = test.relative_margin if test.kind == "relative" else test.margin
    return given is not None and math.isclose(given, rule.margin, rel_tol=1e-9)


def _reported(quality: QualityComparison, report: CandidateReport) -> Iterator[Hold]:
    """What the comparison says against this metric: floor, ceiling, values that are no numbers.

    Every guard of a metric holds it, also one that is only a warning to the reader of a comparison.
    """
    about = [
        finding
        for finding in report.findings
        if finding.subject == quality.metric and finding.severity is not Severity.WARNING
    ]
    for finding in (*quality.guards, *about):
        if finding.severity is not Severity.INFO:
            yield Hold(
                finding.code,
                finding.message.removeprefix(f"{quality.metric}: "),
                is_untestable=finding.severity is Severity.INVALID,
            )


def _too_few(quality: QualityComparison, *, report: CandidateReport, policy: PolicySpec) -> Iterator[Hold]:
    if quality.n < policy.min_samples:
        yield Hold(
            "too-few-samples",
            f"has {quality.n} pairs, the policy accepts nothing below {policy.min_samples}",
            samples_needed=policy.min_samples,
        )
    total = max(report.coverage.baseline_total, report.coverage.candidate_total)
    is_of_whole_run = quality.metric.startswith(f"{report.candidate.task}.")
    if is_of_whole_run and quality.n < policy.coverage_floor * total:
        yield Hold(
            "metric-coverage-below-floor",
            f"has a value on both sides for {quality.n} of {total} items ({percent(quality.n / total)}), the "
            f"policy wants {percent(policy.coverage_floor)}",
        )


def _no_change(quality: QualityComparison, test: MarginTest) -> Iterator[Hold]:
    if quality.changed:
        return
    needed = zero_flips_needed(margin=test.margin, alpha=test.alpha)
    if quality.n < needed:
        upper = -math.expm1(math.log(test.alpha) / quality.n)
        yield Hold(
            "no-change-in-few-pairs",
            f"differs in none of {quality.n} pairs, but by its exact bound up to {percent(upper)} of all "
            f"items may differ, more than the margin of {amount(quality, test.margin)}",
            samples_needed=needed,
        )
