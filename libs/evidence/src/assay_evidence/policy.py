"""Policies: margins and bounds that say when a candidate may replace the baseline."""

import difflib
import hashlib
import itertools
import json
import re
from collections.abc import Sequence
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from assay_evidence.runtime_metrics import JUDGED_METRICS, RUNTIME_METRICS

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Role = Literal["critical", "supporting", "advisory"]

WIDE_MARGIN: Final = 0.05
"""Margins above this, in points or as a share of the baseline's score, are refused unless asked for."""

_BOUNDS: Final = ("max_ratio", "min_ratio", "max_value", "min_value")


class _Rule(BaseModel):
    """Refuses unknown fields, so that a misspelt bound is an error and not a hole, and NaN as a bound."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class QualityRule(_Rule):
    """What must hold for the metrics that ``metric`` names.

    The first rule of a policy that matches a metric applies to it.

    Attributes:
        metric: ``*``: every metric of the run's own task (of a group, of the group, not of its members);
            else ``<task>.<metric>,<filter>``, where ``*`` stands for any text.
        role: ``critical`` must be shown for ACCEPT, and proven to fail for REJECT; ``supporting`` is tested
            and, where it is proven worse, holds an ACCEPT back; ``advisory`` is only reported.
        test: ``non_inferiority``: not worse by the margin; ``equivalence``: different by less than that.
        margin: how much worse the candidate may be, in the metric's unit, or a share of the baseline's score.
        direction: whether higher is better; the run's own knowledge where not given.
        order: of a gatekeeping sequence: a rule is tested only when all rules of a lower order have passed;
            rules without one, and of one order, are tested together.
    """

    metric: str = Field(min_length=1, max_length=300)
    role: Role = "critical"
    test: Literal["non_inferiority", "equivalence"] = "non_inferiority"
    margin: float = Field(gt=0, lt=1)
    margin_kind: Literal["absolute", "relative"] = "absolute"
    direction: Literal["higher", "lower"] | None = None
    order: int | None = Field(default=None, ge=1, le=100)

    def matches(self, metric: str, *, task: str) -> bool:
        """Whether this rule names ``metric`` of a run of ``task``."""
        if self.metric == "*":
            return metric.startswith(f"{task}.")
        return _named(self.metric, metric)

    @property
    def is_exact(self) -> bool:
        """Whether it names one metric and no pattern."""
        return "*" not in self.metric


class RuntimeRule(_Rule):
    """A bound on a runtime metric: of the candidate over the baseline, or of the candidate alone.

    Exactly one of the four bounds is given. A ratio must hold over its whole 90 % interval (one-sided 95 %);
    of absolute bounds, and of ratios of energy metrics without an interval, the point value counts.

    Attributes:
        metric: one of ``runtime_metrics.JUDGED_METRICS``.
        max_ratio, min_ratio: of candidate / baseline.
        max_value, min_value: of the candidate, in the metric's unit.
    """

    metric: str = Field(min_length=1, max_length=100)
    role: Role = "critical"
    max_ratio: float | None = Field(default=None, gt=0)
    min_ratio: float | None = Field(default=None, gt=0)
    max_value: float | None = None
    min_value: float | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        given = [name for name in _BOUNDS if getattr(self, name) is not None]
        if len(given) != 1:
            what = f"has {', '.join(given)}" if given else "has no bound"
            raise ValueError(f"rule for {self.metric!r} {what}; give exactly one of {', '.join(_BOUNDS)}")
        if self.metric not in JUDGED_METRICS:
            raise ValueError(_why_not_judged(self.metric))
        return self

    @property
    def bound(self) -> tuple[str, float]:
        """Name and value of the bound that is given."""
        return next((name, value) for name in _BOUNDS if (value := getattr(self, name)) is not None)


class PolicySpec(_Rule):
    """What a caller writes; a stored policy adds an id and a version, and never changes.

    Attributes:
        alpha: one-sided error of every test.
        power: with which the planner says how many samples are needed.
        quality: at least one rule, one of them critical.
        runtime: bounds; none by default.
        coverage_floor: share of the larger run that must be paired.
        min_samples: pairs below which nothing is accepted.
        max_failed_share: share of failed samples, on either side, above which nothing is accepted.
        allow_wide_margin: rules with a margin above ``WIDE_MARGIN`` are refused without it.
        ceiling: baseline scores at or above this leave no room to see a loss.
        require_equal_work: a workload that is not comparable holds an ACCEPT back when a critical runtime
            rule exists.
        require_noise_floor: an A/A run must be named.
        allowed_plan_differences: paths, with ``*``, that may differ beside the artifact.
        min_power_grade: worst power grade with which a critical energy rule is judged.
    """

    name: Name
    description: str = Field(default="", max_length=10_000)
    alpha: float = Field(default=0.05, gt=0, le=0.2)
    power: float = Field(default=0.8, gt=0.5, lt=1)
    quality: list[QualityRule] = Field(min_length=1, max_length=200)
    runtime: list[RuntimeRule] = Field(default=[], max_length=50)
    coverage_floor: float = Field(default=0.99, ge=0.5, le=1)
    min_samples: int = Field(default=100, ge=10)
    max_failed_share: float = Field(default=0.01, ge=0, le=0.2)
    allow_wide_margin: bool = False
    ceiling: float = Field(default=0.98, gt=0.5, le=1)
    require_equal_work: bool = True
    require_noise_floor: bool = False
    allowed_plan_differences: list[str] = Field(default=[], max_length=100)
    min_power_grade: Literal["A", "B", "C"] = "B"

    @model_validator(mode="after")
    def _check(self) -> Self:
        _check_roles(self.quality)
        if not self.allow_wide_margin:
            _check_margins(self.quality)
        _check_reach(self.quality)
        _check_bounds(self.runtime)
        return self


class Policy(PolicySpec):
    """A stored version of a policy; ``digest`` is the sha256 of its canonical JSON without these fields."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    version: int
    digest: str
    created_at: str
    created_by: str


def _why_not_judged(metric: str) -> str:
    known = ", ".join(JUDGED_METRICS)
    if metric in RUNTIME_METRICS:
        return f"runtime metric {metric!r} is reported and cannot be bounded; those that can: {known}"
    near = difflib.get_close_matches(metric, JUDGED_METRICS, n=3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ";"
    return f"unknown runtime metric {metric!r}{hint} one of {known}"


def rule_for(policy: PolicySpec, metric: str, *, task: str) -> QualityRule | None:
    """The rule that applies to ``metric`` (``<task>.<metric>,<filter>``) of a run of ``task``: the first
    that names it; ``None`` where none does."""
    return next((rule for rule in policy.quality if rule.matches(metric, task=task)), None)


def digest_of(spec: PolicySpec) -> str:
    """sha256 (hex) of the canonical JSON of what the caller wrote, defaults filled in: names sorted, no
    spaces, without what a stored version adds."""
    content = spec.model_dump(mode="json", include=set(PolicySpec.model_fields))
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _named(pattern: str, metric: str) -> bool:
    """Whether ``metric`` is ``pattern``, in which ``*`` stands for any text and nothing else is special."""
    parts = (re.escape(part) for part in pattern.split("*"))
    return re.fullmatch(".*".join(parts), metric, flags=re.DOTALL) is not None


def _check_roles(rules: Sequence[QualityRule]) -> None:
    if not any(rule.role == "critical" for rule in rules):
        raise ValueError(
            "no quality rule is critical, so nothing would have to be shown; "
            "give at least one rule the role 'critical'"
        )


def _check_margins(rules: Sequence[QualityRule]) -> None:
    for position, rule in enumerate(rules):
        if rule.margin > WIDE_MARGIN:
            unit = "% of the baseline's score" if rule.margin_kind == "relative" else "points"
            raise ValueError(
                f"quality[{position}] ({rule.metric}): margin {rule.margin:g} allows a loss of "
                f"{100 * rule.margin:g} {unit}; above {WIDE_MARGIN:g} the policy must say "
                "allow_wide_margin: true"
            )


def _check_reach(rules: Sequence[QualityRule]) -> None:
    """Refuse rules that can never apply, because an earlier one takes every metric that they name."""
    for (first, earlier), (second, later) in itertools.combinations(enumerate(rules), 2):
        # "*" means the metrics of a task that is not known yet; what it takes is checked when judging.
        is_taken = earlier.metric == later.metric or (
            earlier.metric != "*" and later.metric != "*" and _named(earlier.metric, later.metric)
        )
        if is_taken:
            raise ValueError(
                f"quality[{second}] ({later.metric}) can never apply: quality[{first}] ({earlier.metric}) "
                "names the same metrics and comes first; remove one, or put the narrower one first"
            )


def _check_bounds(rules: Sequence[RuntimeRule]) -> None:
    """Refuse a bound given twice, and bounds that no candidate can keep."""
    bounds: dict[tuple[str, str], float] = {}
    for position, rule in enumerate(rules):
        name, value = rule.bound
        if (rule.metric, name) in bounds:
            raise ValueError(f"runtime[{position}]: {name} of {rule.metric} is given twice; keep one")
        bounds[rule.metric, name] = value
    for (metric, name), lowest in bounds.items():
        highest = bounds.get((metric, name.replace("min_", "max_")))
        if name.startswith("min_") and highest is not None and lowest > highest:
            raise ValueError(
                f"runtime rules of {metric} contradict each other: {name} {lowest:g} is above "
                f"{name.replace('min_', 'max_')} {highest:g}, so no candidate can pass"
            )


DEFAULT_POLICY: Final = PolicySpec(
    name="default",
    description=(
        "Every metric of the run's own task may be at most two points worse, shown at one-sided 95 %, on at "
        "least 100 pairs that cover 99 % of both runs. Runtime and energy are reported and not judged."
    ),
    quality=[QualityRule(metric="*", role="critical", test="non_inferiority", margin=0.02)],
)
"""The policy that is there from the start; docs/decisions.md has the reason for every number."""
