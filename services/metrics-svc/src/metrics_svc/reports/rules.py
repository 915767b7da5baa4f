"""Rules of a policy in words."""

from assay_evidence.policy import QualityRule, RuntimeRule
from metrics_svc.reports.wording import plain


def quality_rule(rule: QualityRule) -> str:
    """What a quality rule wants."""
    margin = (
        f"{plain(rule.margin * 100)} % of the baseline"
        if rule.margin_kind == "relative"
        else plain(rule.margin)
    )
    wanted = "not worse by" if rule.test == "non_inferiority" else "different by less than"
    order = f", step {rule.order} of the sequence" if rule.order is not None else ""
    direction = f", {rule.direction} is better" if rule.direction else ""
    return f"{wanted} {margin}{direction}{order}"


def runtime_rule(rule: RuntimeRule) -> str:
    """What a runtime rule wants."""
    bounds = (
        (rule.max_ratio, "at most {} times the baseline"),
        (rule.min_ratio, "at least {} times the baseline"),
        (rule.max_value, "at most {}"),
        (rule.min_value, "at least {}"),
    )
    return "; ".join(text.format(plain(value)) for value, text in bounds if value is not None)
