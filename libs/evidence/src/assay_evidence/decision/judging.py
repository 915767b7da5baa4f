"""The verdict: what the reasons add up to.

ACCEPT needs every critical rule shown. That is an intersection-union test: each rule at alpha keeps the error
of the whole at alpha, so nothing is corrected. REJECT needs one critical rule proven to fail; of several
critical rules each may be wrong with alpha.
"""

from typing import Final

from assay_evidence.decision.evidence import invalidity, remarks, restrictions
from assay_evidence.decision.quality import quality_reasons
from assay_evidence.decision.runtime import runtime_reasons
from assay_evidence.decision.verdict import Judgement, Reason, Verdict
from assay_evidence.decision.wording import percent
from assay_evidence.policy import PolicySpec, rule_for
from assay_evidence.report import CandidateReport

_FIRST: Final = {
    Verdict.ACCEPT: ("supports", "noted"),
    Verdict.REJECT: ("rejects", "blocks", "supports", "noted"),
    Verdict.INCONCLUSIVE: ("blocks", "supports", "noted"),
}


def judge(report: CandidateReport, policy: PolicySpec) -> Judgement:
    """Whether the candidate of ``report`` may replace its baseline under ``policy``.

    Evidence that is invalid, incomplete or cannot be tested is never accepted: everything that is critical
    must be there, and must be shown. The report should come from a comparison under the same policy; rules
    that were tested with another margin or a larger alpha block.
    """
    if invalid := invalidity(report, policy):
        noted = remarks(report, beside={reason.code for reason in invalid})
        return _judgement(report, Verdict.INCONCLUSIVE, [*invalid, *noted], is_valid=False)
    reasons = [
        *restrictions(report, policy),
        *quality_reasons(report, policy),
        *_noise(report, policy),
        *runtime_reasons(report, policy),
        *remarks(report),
    ]
    # The last line of defence: whatever a policy and a report leave out, nothing is accepted for nothing.
    if not _settles(reasons) and not _shows_quality(reasons, report):
        reasons.append(
            Reason(
                code="nothing-shown",
                effect="blocks",
                message="no critical quality rule is shown, and without one there is nothing to accept",
            )
        )
    effects = {reason.effect for reason in reasons}
    if "rejects" in effects:
        verdict = Verdict.REJECT
    elif "blocks" in effects:
        verdict = Verdict.INCONCLUSIVE
    else:
        verdict = Verdict.ACCEPT
    return _judgement(report, verdict, reasons, is_valid=True)


def _settles(reasons: list[Reason]) -> bool:
    return any(reason.effect in ("blocks", "rejects") for reason in reasons)


def _shows_quality(reasons: list[Reason], report: CandidateReport) -> bool:
    metrics = {quality.metric for quality in report.quality}
    return any(
        reason.effect == "supports" and reason.metric in metrics and reason.details.get("role") == "critical"
        for reason in reasons
    )


def _noise(report: CandidateReport, policy: PolicySpec) -> list[Reason]:
    """How the churn compares with that of the baseline against itself, and where the policy misses that."""
    reasons = []
    if policy.require_noise_floor:
        measured = {noise.metric for noise in report.noise if noise.n >= policy.min_samples}
        missing = sorted(_critical_metrics(report, policy) - measured)
        if missing or not measured:
            reasons.append(
                Reason(
                    code="noise-floor-missing",
                    effect="blocks",
                    message=(
                        "the policy wants a second run of the baseline's artifact as noise floor, on at "
                        f"least {policy.min_samples} items; run it again and name that run"
                    ),
                    details={"metrics": list(missing)},
                )
            )
    return reasons + [
        Reason(
            code="churn-above-noise" if noise.above_noise else "churn-within-noise",
            effect="noted",
            message=(
                f"{noise.metric}: of {noise.n} items {percent(noise.churn_ab)} change against the candidate, "
                f"{percent(noise.churn_aa)} between two runs of the baseline"
            ),
            metric=noise.metric,
        )
        for noise in report.noise
    ]


def _critical_metrics(report: CandidateReport, policy: PolicySpec) -> set[str]:
    task = report.candidate.task
    ruled = ((quality.metric, rule_for(policy, quality.metric, task=task)) for quality in report.quality)
    return {metric for metric, rule in ruled if rule is not None and rule.role == "critical"}


def _judgement(
    report: CandidateReport, verdict: Verdict, reasons: list[Reason], *, is_valid: bool
) -> Judgement:
    order = _FIRST[verdict]
    ordered = sorted(reasons, key=lambda reason: order.index(reason.effect))
    needed = [
        reason.samples_needed for reason in ordered if reason.effect == "blocks" and reason.samples_needed
    ]
    samples_needed = max(needed, default=None) if verdict is Verdict.INCONCLUSIVE else None
    return Judgement(
        verdict=verdict,
        valid=is_valid,
        summary=_summary(verdict, ordered, samples_needed, is_valid=is_valid),
        reasons=ordered,
        samples_needed=samples_needed,
        early_stop=report.candidate.early_stop,
    )


def _summary(verdict: Verdict, ordered: list[Reason], samples_needed: int | None, *, is_valid: bool) -> str:
    first = ordered[0].message if ordered else "there is nothing to judge"
    if not is_valid:
        return f"The evidence cannot be judged: {first}."
    match verdict:
        case Verdict.ACCEPT:
            shown = sum(reason.effect == "supports" for reason in ordered)
            more = f" (and {shown - 1} more)" if shown > 1 else ""
            return f"The candidate may replace the baseline: {first}{more}."
        case Verdict.REJECT:
            return f"The candidate may not replace the baseline: {first}."
        case Verdict.INCONCLUSIVE:
            blocks = sum(reason.effect == "blocks" for reason in ordered)
            more = f" (and {blocks - 1} more reason{'s' if blocks > 2 else ''})" if blocks > 1 else ""
            return f"The evidence does not settle it: {first}{more}."
