"""Quality rules: which are shown, which are proven to fail, and in which order they are tested."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from assay_evidence.decision.effects import Outcome, effect_of
from assay_evidence.decision.guards import Hold, holds
from assay_evidence.decision.samples import to_settle_quality
from assay_evidence.decision.verdict import Reason
from assay_evidence.decision.wording import amount, percent, probability, span
from assay_evidence.policy import PolicySpec, QualityRule, rule_for
from assay_evidence.report import CandidateReport, MarginTest, QualityComparison
from assay_evidence.statistics.multiplicity import holm


@dataclass(frozen=True, slots=True)
class _Assessment:
    """One metric under its rule. ``failure_p``: of "it is within the margin", for Holm."""

    quality: QualityComparison
    rule: QualityRule
    outcome: Outcome
    holds: tuple[Hold, ...]
    shown_p: float | None
    failure_p: float | None


def quality_reasons(report: CandidateReport, policy: PolicySpec) -> list[Reason]:
    """Judge every rule: a sequence by ``order``, critical rules at alpha each, supporting ones by Holm."""
    task = report.candidate.task
    ruled = [(quality, rule_for(policy, quality.metric, task=task)) for quality in report.quality]
    reasons = list(_unmatched(report, policy))
    is_open = True
    for order in sorted({rule.order for rule in policy.quality}, key=lambda order: order or 0):
        group = [(quality, rule) for quality, rule in ruled if rule is not None and rule.order == order]
        if order is not None and not is_open:
            reasons += [_not_tested(quality, rule) for quality, rule in group]
            continue
        assessed = _corrected(
            [_assess(quality, rule, report=report, policy=policy) for quality, rule in group]
        )
        reasons += [reason for one in assessed for reason in _reasons(one, policy)]
        if order is not None:
            is_open = all(one.outcome is Outcome.SHOWN for one in assessed if one.rule.role != "advisory")
            is_open &= _judge_something(
                [rule for rule in policy.quality if rule.order == order], [rule for _, rule in group]
            )
    if unjudged := [quality.metric for quality, rule in ruled if rule is None]:
        reasons.append(
            Reason(
                code="not-in-policy",
                effect="noted",
                message=f"{len(unjudged)} metrics are not named by the policy and were not judged",
                details={"metrics": list(unjudged)},
            )
        )
    return reasons


def _judge_something(rules: Sequence[QualityRule], used: Sequence[QualityRule]) -> bool:
    """Whether each of ``rules`` applied to a metric; a claim that was not tested has not passed."""
    return all(rule.role == "advisory" or any(one is rule for one in used) for rule in rules)


def _assess(
    quality: QualityComparison, rule: QualityRule, *, report: CandidateReport, policy: PolicySpec
) -> _Assessment:
    held = tuple(holds(quality, rule, report=report, policy=policy))
    test = quality.margin_test
    if test is None or any(hold.is_untestable for hold in held):
        return _Assessment(quality, rule, Outcome.HELD, held, None, None)
    if rule.test == "equivalence":
        shown_p, is_shown = test.equivalence_p, test.equivalent
    else:
        shown_p, is_shown = test.non_inferiority_p, test.non_inferior
    assert shown_p is not None
    assert test.non_inferiority_p is not None
    if _is_proven_to_fail(quality, test, rule):
        outcome = Outcome.FAILED
    elif held:
        outcome = Outcome.HELD
    else:
        outcome = Outcome.SHOWN if is_shown and shown_p <= test.alpha else Outcome.OPEN
    # The same statistic against the same margin from the other side.
    return _Assessment(quality, rule, outcome, held, shown_p, 1 - test.non_inferiority_p)


def _is_proven_to_fail(quality: QualityComparison, test: MarginTest, rule: QualityRule) -> bool:
    if test.inferior:
        return True
    if rule.test == "non_inferiority":
        return False
    # Equivalence fails upwards, too: the one-sided bound of the gain lies above the margin.
    interval = quality.interval_90 if test.alpha >= 0.05 else quality.interval_95
    if interval is None or test.alpha < 0.025:
        return False
    least_gain = interval[0] if quality.higher_is_better else -interval[1]
    return least_gain > test.margin


def _corrected(assessed: Sequence[_Assessment]) -> list[_Assessment]:
    """Supporting rules of one order are claims side by side: Holm over them, of either claim."""
    supporting = [one.rule.role == "supporting" for one in assessed]
    shown = holm([one.shown_p if is_one else None for one, is_one in zip(assessed, supporting, strict=True)])
    failed = holm(
        [one.failure_p if is_one else None for one, is_one in zip(assessed, supporting, strict=True)]
    )
    corrected = []
    for one, is_one, shown_p, failure_p in zip(assessed, supporting, shown, failed, strict=True):
        test = one.quality.margin_test
        if is_one and test is not None:
            is_lost = (one.outcome is Outcome.SHOWN and not _within(shown_p, test.alpha)) or (
                one.outcome is Outcome.FAILED and test.inferior and not _within(failure_p, test.alpha)
            )
            one = replace(one, outcome=Outcome.OPEN) if is_lost else one
        corrected.append(one)
    return corrected


def _within(p_value: float | None, alpha: float) -> bool:
    return p_value is not None and p_value <= alpha


def _reasons(one: _Assessment, policy: PolicySpec) -> Iterator[Reason]:
    """What is said of one metric: its outcome, or every guard that speaks against it."""
    if one.outcome is Outcome.HELD:
        for hold in one.holds:
            yield _reason(
                one.quality,
                one.rule,
                Outcome.HELD,
                hold.code,
                hold.message,
                samples=_lifted(hold, one, policy),
            )
        return
    test = one.quality.margin_test
    assert test is not None
    code, message = _outcome_words(one, test)
    samples = _to_settle(one, policy) if one.outcome is Outcome.OPEN else None
    if one.outcome is Outcome.OPEN:
        message += (
            f"; {samples} pairs would settle it with {percent(policy.power)} power"
            if samples
            else "; the loss is so near the margin that more samples are no help"
        )
    yield _reason(one.quality, one.rule, one.outcome, code, message, samples=samples)


def _outcome_words(one: _Assessment, test: MarginTest) -> tuple[str, str]:
    quality = one.quality
    p_value = one.failure_p if one.outcome is Outcome.FAILED and test.inferior else one.shown_p
    numbers = (
        f"difference {amount(quality, quality.difference)} (90 % interval "
        f"{span(quality, quality.interval_90)}, {quality.n} pairs, {quality.changed} changed), margin "
        f"{amount(quality, test.margin)}, p {probability(p_value)} at alpha {test.alpha:g}"
    )
    is_equivalence = one.rule.test == "equivalence"
    if one.outcome is Outcome.SHOWN:
        return (
            "equivalent" if is_equivalence else "non-inferior"
        ), f"is shown to be within the margin: {numbers}"
    if one.outcome is Outcome.FAILED:
        if is_equivalence and not test.inferior:
            return "not-equivalent", f"is shown to differ by more than the margin: {numbers}"
        return "inferior", f"is shown to be worse by more than the margin: {numbers}"
    return "not-shown", f"is not shown to be within the margin: {numbers}"


def _to_settle(one: _Assessment, policy: PolicySpec) -> int | None:
    test = one.quality.margin_test
    if test is None:
        return None
    loss = -one.quality.difference if one.quality.higher_is_better else one.quality.difference
    if one.rule.test == "equivalence":
        loss = abs(loss)  # a gain counts against it as well
    # Two one-sided tests must both succeed: each with half of what may go wrong.
    power = (1 + policy.power) / 2 if one.rule.test == "equivalence" else policy.power
    return to_settle_quality(one.quality, loss=loss, margin=test.margin, alpha=policy.alpha, power=power)


def _lifted(hold: Hold, one: _Assessment, policy: PolicySpec) -> int | None:
    """Samples that lift a hold and then are enough for the test, too."""
    if hold.samples_needed is None:
        return None
    test = one.quality.margin_test
    if test is not None and (test.equivalent if one.rule.test == "equivalence" else test.non_inferior):
        return hold.samples_needed
    return max(hold.samples_needed, _to_settle(one, policy) or 0)


def _not_tested(quality: QualityComparison, rule: QualityRule) -> Reason:
    message = f"is not tested: not every rule before order {rule.order} has passed"
    return _reason(quality, rule, Outcome.HELD, "not-tested", message, samples=None)


def _unmatched(report: CandidateReport, policy: PolicySpec) -> Iterator[Reason]:
    """Rules that judge nothing: a critical one blocks, because what it asks for is not shown."""
    task = report.candidate.task
    metrics = [quality.metric for quality in report.quality]
    for rule in policy.quality:
        named = [metric for metric in metrics if rule.matches(metric, task=task)]
        if not named:
            code = "metric-missing"
            message = (
                f"no compared metric is named {rule.metric!r} (task {task}); "
                f"compared: {', '.join(sorted(metrics)) or 'none'}"
            )
        elif rule.is_exact and rule_for(policy, rule.metric, task=task) is not rule:
            code, message = "rule-shadowed", f"{rule.metric} is taken by an earlier rule; put this one first"
        else:
            continue
        yield Reason(
            code=code,
            effect=effect_of(rule.role, Outcome.HELD),
            message=message,
            metric=rule.metric if rule.is_exact else None,
        )


def _reason(
    quality: QualityComparison,
    rule: QualityRule,
    outcome: Outcome,
    code: str,
    message: str,
    *,
    samples: int | None,
) -> Reason:
    test = quality.margin_test
    return Reason(
        code=code,
        effect=effect_of(rule.role, outcome),
        message=f"{quality.metric} {message}",
        metric=quality.metric,
        samples_needed=samples,
        details={
            "role": rule.role,
            "test": rule.test,
            "difference": quality.difference,
            "margin": test.margin if test else None,
            "n": quality.n,
            "changed": quality.changed,
        },
    )
