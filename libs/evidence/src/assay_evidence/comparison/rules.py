"""By which margin, level and direction each metric is judged."""

from assay_evidence.policy import PolicySpec, rule_for
from assay_evidence.quality import CEILING, MIN_SAMPLES, MetricRule, is_mean
from assay_evidence.report import ComparisonSettings
from assay_evidence.tables import RunEvidence


def rule_of(
    metric: str,
    *,
    baseline: RunEvidence,
    candidate: RunEvidence,
    settings: ComparisonSettings,
    policy: PolicySpec | None,
    alpha: float,
) -> MetricRule:
    """The policy's rule for ``metric``; the settings where no policy judges or none of its rules matches.

    Args:
        baseline, candidate: with all their samples.
        alpha: one-sided level of this candidate's tests.
    """
    rule = rule_for(policy, metric, task=baseline.facts.task) if policy else None
    directions = [run.facts.higher_is_better.get(metric) for run in (baseline, candidate)]
    known = directions[0] if directions[0] == directions[1] else None
    if rule is not None and rule.direction is not None:
        known = rule.direction == "higher"
    if known is not None and not (is_mean(baseline, metric) and is_mean(candidate, metric)):
        known = None
    return MetricRule(
        margin=rule.margin if rule else settings.margin,
        relative=rule is not None and rule.margin_kind == "relative",
        alpha=alpha,
        power=policy.power if policy else settings.power,
        higher_is_better=known,
        ceiling=policy.ceiling if policy else CEILING,
        min_samples=policy.min_samples if policy else MIN_SAMPLES,
    )
