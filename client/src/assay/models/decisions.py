"""Policies and decisions."""

from typing import Any

from pydantic import Field

from assay.models.documents import Document, NamedDocument
from assay.models.evidence import ComparedRun


class QualityRule(Document):
    """What must hold for the quality metrics that ``metric`` names."""

    metric: str
    role: str = "critical"
    test: str = "non_inferiority"
    margin: float
    margin_kind: str = "absolute"
    direction: str | None = None
    order: int | None = None


class RuntimeRule(Document):
    """A bound on a runtime metric: of the candidate over the baseline, or of the candidate alone."""

    metric: str
    role: str = "critical"
    max_ratio: float | None = None
    min_ratio: float | None = None
    max_value: float | None = None
    min_value: float | None = None


class Policy(NamedDocument):
    """One version of a policy: what must be shown before a candidate may replace the baseline."""

    version: int
    digest: str = ""
    description: str = ""
    alpha: float | None = None
    power: float | None = None
    quality: list[QualityRule] = Field(default_factory=list)
    runtime: list[RuntimeRule] = Field(default_factory=list)
    coverage_floor: float | None = None
    min_samples: int | None = None
    max_failed_share: float | None = None
    allow_wide_margin: bool = False
    ceiling: float | None = None
    require_equal_work: bool | None = None
    require_noise_floor: bool = False
    allowed_plan_differences: list[str] = Field(default_factory=list)
    min_power_grade: str | None = None
    created_at: str = ""
    created_by: str = ""


class Reason(Document):
    """One thing that bore on a verdict.

    ``effect``: ``supports`` an ACCEPT, ``blocks`` it, ``rejects``, or is only ``noted``. ``samples_needed``:
    pairs in all that would settle it; ``None`` where more samples do not help.
    """

    code: str
    effect: str
    message: str
    metric: str | None = None
    samples_needed: int | None = None
    details: dict[str, Any] = Field(default_factory=dict)


class PolicyReference(Document):
    """The version of a policy that judged."""

    id: str = ""
    name: str
    version: int
    digest: str = ""

    @property
    def label(self) -> str:
        """``name@version``."""
        return f"{self.name}@{self.version}"


class Decision(Document):
    """A comparison judged by a policy: ``verdict`` is ACCEPT, REJECT or INCONCLUSIVE.

    Where ``valid`` is false the evidence could not be judged at all, and the verdict is INCONCLUSIVE.
    """

    id: str
    verdict: str
    valid: bool
    summary: str = ""
    reasons: list[Reason] = Field(default_factory=list)
    samples_needed: int | None = None
    early_stop: bool = False
    policy: PolicyReference
    baseline: ComparedRun
    candidate: ComparedRun
    comparison_id: str = ""
    bundle_digest: str = ""
    created_at: str = ""
