"""Two runs compared item by item."""

from typing import Any

from pydantic import Field

from assay.models.documents import Document


class Coverage(Document):
    """How many items of two runs belong together; ``fraction`` is between 0 and 1."""

    paired: int
    baseline_only: int = 0
    candidate_only: int = 0
    fraction: float | None = None


class Flips(Document):
    """Items by who answers them rightly, baseline and candidate."""

    gained: int
    lost: int
    both_right: int
    both_wrong: int


class QualityComparison(Document):
    """A quality metric of two runs; ``stderr`` is that of the paired difference, candidate - baseline."""

    metric: str
    higher_is_better: bool | None = True
    baseline: float | None
    candidate: float | None
    difference: float | None = None
    stderr: float | None = None
    confidence_interval: list[float | None] | None = None
    n: int = 0
    kind: str = "continuous"
    flips: Flips | None = None
    mcnemar_p: float | None = None
    weak_rule: dict[str, Any] | None = None


class RuntimeComparison(Document):
    """A runtime metric of two runs; ``ratio`` is candidate / baseline."""

    metric: str
    baseline: float | None
    candidate: float | None
    ratio: float | None = None
    higher_is_better: bool | None = None
    note: str | None = None


class Comparison(Document):
    """Two runs compared item by item."""

    id: str
    baseline: dict[str, Any]
    candidate: dict[str, Any]
    coverage: Coverage
    warnings: list[Any] = Field(default_factory=list)
    quality: list[QualityComparison] = Field(default_factory=list)
    runtime: list[RuntimeComparison] = Field(default_factory=list)
    created_at: str


class ComparisonItem(Document):
    """One item of a comparison, answered by both runs."""

    doc_hash: str
    baseline: dict[str, Any]
    candidate: dict[str, Any]
    prompt: str | None = None
    target: str | None = None
