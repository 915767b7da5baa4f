"""Policies: margins and bounds that say when a candidate may replace the baseline."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")]
Role = Literal["critical", "supporting", "advisory"]


class _Rule(BaseModel):
    """Refuses unknown fields, so that a misspelt bound is an error and not a hole."""

    model_config = ConfigDict(extra="forbid", frozen=True)


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


class RuntimeRule(_Rule):
    """A bound on a runtime metric: of the candidate over the baseline, or of the candidate alone.

    Exactly one of the four bounds is given. With an interval, the bound must hold over the whole 90 %
    interval (one-sided 95 %); of absolute bounds and of metrics without an interval, the point value counts.

    Attributes:
        metric: a name of ``RuntimeComparison.metric``.
        max_ratio, min_ratio: of candidate / baseline.
        max_value, min_value: of the candidate, in the metric's unit.
    """

    metric: str = Field(min_length=1, max_length=100)
    role: Role = "critical"
    max_ratio: float | None = Field(default=None, gt=0)
    min_ratio: float | None = Field(default=None, gt=0)
    max_value: float | None = None
    min_value: float | None = None


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
        max_margin: rules with an absolute margin above this are refused unless ``allow_wide_margin``.
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


class Policy(PolicySpec):
    """A stored version of a policy; ``digest`` is the sha256 of its canonical JSON without these fields."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    id: str
    version: int
    digest: str
    created_at: str
    created_by: str
