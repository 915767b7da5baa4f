"""What a policy demands, in words."""

from dataclasses import dataclass

from assay.models import Policy, QualityRule, RuntimeRule
from assay_console.formats import count, percent

_EVERY = "*"
_ROLES = {
    "critical": "Must be shown for ACCEPT; proven to fail, it is a REJECT.",
    "supporting": "Holds an ACCEPT back where it is proven worse.",
    "advisory": "Only reported.",
}


@dataclass(frozen=True, slots=True)
class Gate:
    """A rule about a metric: what must hold, how much depends on it, and what else it says."""

    metric: str
    kind: str
    role: str
    demand: str
    details: str

    @property
    def weight(self) -> str:
        """What the role means for a verdict."""
        return _ROLES.get(self.role, "")


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of the evidence, whatever the metrics say."""

    name: str
    demand: str
    reason: str


def sentence(policy: Policy) -> str:
    """What must be shown, in one sentence: the critical rules."""
    critical = [rule for rule in gates(policy) if rule.role == "critical"]
    demands = [f"{rule.metric}: {rule.demand}" for rule in critical]
    text = "; ".join(demands) or "nothing has to be shown"
    return f"{text[:1].upper()}{text[1:]}."


def gates(policy: Policy) -> list[Gate]:
    """All rules in the order in which they apply, quality first."""
    quality = [
        Gate(
            metric="every metric of the run's own task" if rule.metric == _EVERY else rule.metric,
            kind="Quality",
            role=rule.role,
            demand=quality_demand(rule),
            details=_quality_details(rule),
        )
        for rule in policy.quality
    ]
    runtime = [
        Gate(
            metric=rule.metric,
            kind="Runtime",
            role=rule.role,
            demand=runtime_demand(rule),
            details=_held(rule),
        )
        for rule in policy.runtime
    ]
    return quality + runtime


def quality_demand(rule: QualityRule) -> str:
    """What must be shown of a metric: ``not worse by 0.02``."""
    margin = (
        f"{percent(rule.margin)} of the base's score"
        if rule.margin_kind == "relative"
        else f"{rule.margin:g}"
    )
    return f"equal within {margin}" if rule.test == "equivalence" else f"not worse by {margin}"


def runtime_demand(rule: RuntimeRule) -> str:
    """The bound of a runtime metric: ``at most 1.1 × the base``."""
    bounds = (
        ("at most", rule.max_ratio, " × the base"),
        ("at least", rule.min_ratio, " × the base"),
        ("at most", rule.max_value, ""),
        ("at least", rule.min_value, ""),
    )
    return " and ".join(f"{words} {value:g}{of}" for words, value, of in bounds if value is not None)


def conditions(policy: Policy) -> list[Condition]:
    """What the evidence itself must be like, and with which errors it is judged."""
    rows = [
        Condition("Paired samples", f"at least {count(policy.min_samples)}", "Fewer are never accepted."),
        Condition(
            "Coverage",
            f"at least {percent(policy.coverage_floor)}",
            "Share of the larger run's samples that must be paired.",
        ),
        Condition(
            "Failed samples",
            f"at most {percent(policy.max_failed_share)}",
            "On either side; more are never accepted.",
        ),
        Condition("One-sided error", f"{policy.alpha:g}" if policy.alpha else "–", "Of every test (alpha)."),
        Condition("Power", percent(policy.power, 0), "With which the number of needed samples is computed."),
        Condition(
            "Ceiling",
            f"{policy.ceiling:g}" if policy.ceiling else "–",
            "A base at or above this score leaves no room to see a loss.",
        ),
        Condition(
            "Equal work",
            "required" if policy.require_equal_work else "not required",
            "Unlike workloads hold an ACCEPT back where a critical runtime rule exists.",
        ),
        Condition(
            "Noise floor",
            "required" if policy.require_noise_floor else "not required",
            "A second run of the base (A/A), which shows what changes by itself.",
        ),
        Condition(
            "Power measurement",
            f"grade {policy.min_power_grade} or better",
            "For critical energy rules; worse grades prove nothing.",
        ),
        Condition(
            "Plans may differ in",
            ", ".join(policy.allowed_plan_differences) or "nothing",
            "Besides the artifact; anything else makes the evidence invalid.",
        ),
    ]
    if policy.allow_wide_margin:
        rows.append(Condition("Wide margins", "allowed", "Margins that tolerate a large loss were meant."))
    return rows


def _quality_details(rule: QualityRule) -> str:
    direction = f"{rule.direction} is better" if rule.direction else "direction as the task says"
    return direction if rule.order is None else f"{direction}; order {rule.order}"


def _held(rule: RuntimeRule) -> str:
    is_ratio = rule.max_ratio is not None or rule.min_ratio is not None
    return "over the whole 90 % interval" if is_ratio else "the candidate alone"
