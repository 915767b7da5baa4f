"""What keeps evidence from being judged, whatever its numbers say."""

import math
import re
from collections.abc import Collection, Iterator

from assay_evidence.decision.verdict import Reason
from assay_evidence.decision.wording import percent
from assay_evidence.policy import PolicySpec, rule_for
from assay_evidence.report import CandidateReport, Coverage, Finding, PlanDifference, Severity

PLAN_DIFFERENCES_SHOWN = 5

RUNTIME_SUBJECTS = frozenset({"runtime", "energy", "workload"})
"""Subjects of findings that bear on runtime rules only."""

NOISE_SUBJECT = "noise"
"""Subject of findings that bear on the noise floor only."""


def invalidity(report: CandidateReport, policy: PolicySpec) -> list[Reason]:
    """Why nothing may be concluded; empty where the evidence may be judged.

    What the comparison found is taken over, and what the policy limits is checked again here: a comparison
    may have been made with looser settings.
    """
    reasons = [_from_finding(finding) for finding in report.findings if finding.severity is Severity.INVALID]
    reasons += _coverage(report.coverage, policy)
    reasons += _plans(report.plan_differences, policy)
    reasons += _failures(report.coverage, policy)
    if not report.valid and not reasons:
        reasons.append(
            _blocks("invalid-comparison", "the comparison is marked invalid; compare the runs again")
        )
    return list({reason.code: reason for reason in reversed(reasons)}.values())[::-1]


def restrictions(report: CandidateReport, policy: PolicySpec) -> list[Reason]:
    """What holds an ACCEPT back though the evidence is valid: findings about the whole, and those about a
    metric that is not compared at all though a critical rule names it."""
    judged = {quality.metric for quality in report.quality}
    reasons = []
    for finding in report.findings:
        metric = _metric_of(finding)
        if metric is not None:
            rule = rule_for(policy, metric, task=report.candidate.task)
            if metric not in judged and rule is not None and rule.role == "critical":
                reasons.append(_from_finding(finding))
        elif finding.severity is Severity.NOT_COMPARABLE and finding.subject not in RUNTIME_SUBJECTS | {
            NOISE_SUBJECT
        }:
            reasons.append(_from_finding(finding))
    return reasons


def remarks(report: CandidateReport, *, beside: Collection[str] = ()) -> list[Reason]:
    """What a reader of the verdict must know beside it, without the codes ``beside`` which it will be."""
    noted = [
        _from_finding(finding).model_copy(update={"effect": "noted"})
        for finding in report.findings
        if finding.code not in beside
        and (
            finding.severity is Severity.WARNING
            or (finding.severity is Severity.NOT_COMPARABLE and finding.subject == NOISE_SUBJECT)
        )
    ]
    if report.candidate.early_stop:
        noted.append(
            Reason(
                code="early-stop-used",
                effect="noted",
                message=(
                    "a sequential stopping rule ended the candidate's run; its tests use the level of the "
                    "look at which it ended, so that the error over all looks stays within the policy's alpha"
                ),
            )
        )
    return noted


def _coverage(coverage: Coverage, policy: PolicySpec) -> Iterator[Reason]:
    if coverage.paired <= 0:
        yield _blocks(
            "nothing-paired",
            f"no item of the two runs is the same ({coverage.baseline_total} in the baseline, "
            f"{coverage.candidate_total} in the candidate); run both on the same data with the same method",
        )
        return
    larger = max(coverage.baseline_total, coverage.candidate_total, coverage.paired)
    fraction = min(coverage.fraction, coverage.paired / larger)
    if not fraction >= policy.coverage_floor:  # so that NaN is below, too
        yield _blocks(
            "coverage-below-floor",
            f"{coverage.paired} of {larger} items are paired ({percent(fraction)}), the policy wants "
            f"{percent(policy.coverage_floor)}; run the missing items, or compare runs of the same data",
        )


def _plans(differences: list[PlanDifference], policy: PolicySpec) -> Iterator[Reason]:
    unlike = [
        difference.path
        for difference in differences
        if not difference.expected and not _allowed(difference.path, policy.allowed_plan_differences)
    ]
    if unlike:
        shown = ", ".join(unlike[:PLAN_DIFFERENCES_SHOWN])
        more = (
            f" and {len(unlike) - PLAN_DIFFERENCES_SHOWN} more"
            if len(unlike) > PLAN_DIFFERENCES_SHOWN
            else ""
        )
        yield Reason(
            code="plan-differs",
            effect="blocks",
            message=(
                f"the effective plans differ in {shown}{more}; run both with the same settings, or name what "
                "may differ in the policy's allowed_plan_differences"
            ),
            details={"paths": list(unlike)},
        )


def _allowed(path: str, patterns: list[str]) -> bool:
    return any(
        re.fullmatch(".*".join(re.escape(part) for part in pattern.split("*")), path) for pattern in patterns
    )


def _failures(coverage: Coverage, policy: PolicySpec) -> Iterator[Reason]:
    for side, failed, total in (
        ("baseline", coverage.failed_in_baseline, coverage.baseline_total),
        ("candidate", coverage.failed_in_candidate, coverage.candidate_total),
    ):
        share = failed / total if total else math.inf
        if share > policy.max_failed_share:
            yield Reason(
                code=f"failed-samples-{side}",
                effect="blocks",
                message=(
                    f"{failed} of {total} samples of the {side} have no response ({percent(share)}), the "
                    f"policy allows {percent(policy.max_failed_share)}; resume the run, or find out why"
                ),
                details={"failed": failed, "total": total},
            )


def _metric_of(finding: Finding) -> str | None:
    """The quality metric (``<task>.<metric>,<filter>``) that it is about."""
    metric = finding.details.get("metric", finding.subject)
    return metric if isinstance(metric, str) and "," in metric else None


def _from_finding(finding: Finding) -> Reason:
    return Reason(
        code=finding.code,
        effect="blocks",
        message=finding.message,
        metric=_metric_of(finding),
        details=finding.details,
    )


def _blocks(code: str, message: str) -> Reason:
    return Reason(code=code, effect="blocks", message=message)
