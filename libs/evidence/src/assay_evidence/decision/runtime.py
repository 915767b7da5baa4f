"""Runtime rules: bounds on latency, throughput and energy."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from assay_evidence.decision.effects import Outcome, effect_of
from assay_evidence.decision.evidence import RUNTIME_SUBJECTS
from assay_evidence.decision.samples import to_settle_ratio
from assay_evidence.decision.verdict import Reason
from assay_evidence.policy import PolicySpec, RuntimeRule
from assay_evidence.report import CandidateReport, EnergyComparison, Interval, RuntimeComparison, Severity
from assay_evidence.runtime_metrics import ENERGY_METRICS, RUNTIME_METRICS
from assay_evidence.statistics.quantiles import bounded_from


@dataclass(frozen=True, slots=True)
class _Outcome:
    outcome: Outcome
    code: str
    message: str
    samples_needed: int | None = None


def runtime_reasons(report: CandidateReport, policy: PolicySpec) -> list[Reason]:
    """Judge every runtime rule. Ratios over unlike work are not judged where the policy wants equal work."""
    reasons: list[Reason] = []
    is_unlike = False
    if any(rule.role == "critical" for rule in policy.runtime):
        unlike = list(_unlike_work(report))
        is_unlike = bool(unlike) and policy.require_equal_work
        effect: Literal["blocks", "noted"] = "blocks" if policy.require_equal_work else "noted"
        reasons += [reason.model_copy(update={"effect": effect}) for reason in unlike]
    by_metric = {runtime.metric: runtime for runtime in report.runtime}
    for rule in policy.runtime:
        name, bound = rule.bound
        if is_unlike and name.endswith("ratio"):
            judged = _Outcome(
                Outcome.HELD,
                "not-judged-unlike-work",
                "is not judged, because the work of the two runs differs",
            )
        else:
            judged = _judge(rule, by_metric.get(rule.metric), report=report, policy=policy)
        reasons.append(
            Reason(
                code=judged.code,
                effect=effect_of(rule.role, judged.outcome),
                message=f"{rule.metric} {judged.message}",
                metric=rule.metric,
                samples_needed=judged.samples_needed,
                details={"role": rule.role, "bound": name, "value": bound},
            )
        )
    return reasons


def _unlike_work(report: CandidateReport) -> Iterator[Reason]:
    findings = [
        *report.workload.findings,
        *(finding for finding in report.findings if finding.subject in RUNTIME_SUBJECTS - {"energy"}),
    ]
    unlike = [finding for finding in findings if finding.severity is Severity.NOT_COMPARABLE]
    if unlike or not report.workload.comparable:
        told = "; ".join(dict.fromkeys(finding.message for finding in unlike))
        yield Reason(
            code="unlike-work",
            effect="blocks",
            message=(
                "the two runs did not do the same work, so their runtime is not compared"
                + (f": {told}" if told else "")
            ),
            details={"findings": sorted({finding.code for finding in unlike})},
        )


def _judge(
    rule: RuntimeRule, runtime: RuntimeComparison | None, *, report: CandidateReport, policy: PolicySpec
) -> _Outcome:
    name, _ = rule.bound
    is_ratio = name.endswith("ratio")
    value = None if runtime is None else (runtime.ratio if is_ratio else runtime.candidate)
    if runtime is None or value is None or not math.isfinite(value):
        note = runtime.note if runtime and runtime.note else "the runs have no value of it"
        return _Outcome(
            Outcome.HELD,
            "not-measured",
            f"cannot be judged: {note}; more samples do not help, a measurement does",
        )
    if rule.metric in ENERGY_METRICS and (
        problem := _power_problem(report.energy, policy, is_ratio=is_ratio)
    ):
        return problem
    if is_ratio:
        return _judge_ratio(rule, runtime, value, n=report.coverage.paired, policy=policy)
    return _judge_value(rule, runtime, value)


def _power_problem(energy: EnergyComparison, policy: PolicySpec, *, is_ratio: bool) -> _Outcome | None:
    sides = {"candidate": energy.candidate, **({"baseline": energy.baseline} if is_ratio else {})}
    for side, provenance in sides.items():
        if provenance.grade > policy.min_power_grade:  # A is the best
            why = "; ".join(provenance.reasons) or "no reason given"
            return _Outcome(
                Outcome.HELD,
                "power-grade",
                f"cannot be judged: the power of the {side} has grade {provenance.grade} ({why}), the policy "
                f"wants {policy.min_power_grade} or better; measure it with a better sensor",
            )
    if is_ratio and not energy.comparable:
        return _Outcome(
            Outcome.HELD,
            "power-not-comparable",
            f"cannot be judged: {energy.note or 'the power of the two runs was not measured alike'}",
        )
    return None


def _judge_ratio(
    rule: RuntimeRule, runtime: RuntimeComparison, ratio: float, *, n: int, policy: PolicySpec
) -> _Outcome:
    _, bound = rule.bound
    interval = runtime.ratio_interval_90 if policy.alpha >= 0.05 else runtime.ratio_interval_95
    level = "90 %" if policy.alpha >= 0.05 else "95 %"
    if runtime.at_least:
        return _Outcome(
            Outcome.HELD,
            "too-few-requests",
            f"cannot be judged: {_too_few(rule.metric)} has no upper bound",
            _bounded_from(rule.metric),
        )
    if interval is None:
        if rule.metric not in ENERGY_METRICS:
            return _Outcome(
                Outcome.HELD,
                "no-interval",
                f"cannot be judged: there is no interval ({runtime.interval_method})",
            )
        interval, level = (ratio, ratio), "no"
    if not all(math.isfinite(end) for end in interval):
        return _Outcome(Outcome.HELD, "no-interval", "cannot be judged: its interval is not a number")
    told = f"ratio {ratio:.4g} ({level} interval {interval[0]:.4g} to {interval[1]:.4g}), {_told(rule)}"
    if _holds(rule, interval):
        return _Outcome(Outcome.SHOWN, "within-bound", f"keeps its bound: {told}")
    if _breaks(rule, interval):
        return _Outcome(Outcome.FAILED, "beyond-bound", f"breaks its bound: {told}")
    needed = to_settle_ratio(n=n, ratio=ratio, interval=interval, bound=bound, power=policy.power)
    advice = (
        f"{needed} pairs would settle it" if needed else "it is too near the bound for more samples to help"
    )
    return _Outcome(
        Outcome.OPEN, "bound-not-shown", f"is not shown to keep its bound: {told}; {advice}", needed
    )


def _judge_value(rule: RuntimeRule, runtime: RuntimeComparison, value: float) -> _Outcome:
    told = f"{value:.4g} {runtime.unit}, {_told(rule)}"
    if _breaks(rule, (value, value)):
        return _Outcome(Outcome.FAILED, "beyond-bound", f"breaks its bound: {told}")
    if runtime.at_least and rule.max_value is not None:
        return _Outcome(
            Outcome.HELD,
            "too-few-requests",
            f"cannot be judged: {told}, but {_too_few(rule.metric)} is only known to be at least this",
            _bounded_from(rule.metric),
        )
    return _Outcome(Outcome.SHOWN, "within-bound", f"keeps its bound: {told}")


def _bounded_from(metric: str) -> int:
    """Observations from which on a percentile is bounded from above."""
    return bounded_from(RUNTIME_METRICS[metric].share or 0.99)


def _too_few(metric: str) -> str:
    share = RUNTIME_METRICS[metric].share or 0.99
    return f"below {_bounded_from(metric)} requests a {100 * share:.0f}th percentile"


def _told(rule: RuntimeRule) -> str:
    name, bound = rule.bound
    return f"{name} {bound:g}"


def _holds(rule: RuntimeRule, interval: Interval) -> bool:
    name, bound = rule.bound
    return interval[1] <= bound if name.startswith("max") else interval[0] >= bound


def _breaks(rule: RuntimeRule, interval: Interval) -> bool:
    name, bound = rule.bound
    return interval[0] > bound if name.startswith("max") else interval[1] < bound
