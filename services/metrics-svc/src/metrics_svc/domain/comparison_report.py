"""What a comparison of two runs says: plain values, as they are stored and shown."""

from typing import Literal

from pydantic import BaseModel, field_validator

WEAK_RULE = "weak rule: difference within the baseline's stderr; it ignores the pairing and proves nothing"
PAIRED_BY = "task,doc_hash,prompt_hash,target_hash"


class ComparedRun(BaseModel):
    """One side of a comparison."""

    run_id: str
    run_name: str
    artifact_id: str
    artifact_name: str
    backend: str
    canonical: bool | None = None
    samples_scored: int
    samples_failed: int


class Coverage(BaseModel):
    """How many items the two runs share. ``fraction`` is of the larger run."""

    paired: int
    baseline_only: int
    candidate_only: int
    fraction: float
    pairing: str = PAIRED_BY


class Flips(BaseModel):
    """Items by what became of them."""

    gained: int
    lost: int
    both_right: int
    both_wrong: int


class WeakRule(BaseModel):
    """The rule of thumb that compares a difference with one run's stderr. ``None`` where there is none."""

    label: str = WEAK_RULE
    stderr: float | None
    within_stderr: bool | None


class QualityComparison(BaseModel):
    """One quality metric over the paired items.

    Attributes:
        baseline, candidate: means over the paired items.
        baseline_run, candidate_run: the runs' own numbers, over all their samples.
        difference: candidate minus baseline.
        stderr: of the paired difference.
        confidence_interval: 95 %, of the difference; see ``interval_method``.
        n: pairs with a value on both sides.
        changed: pairs whose values differ; ``changed_rate_upper`` bounds their rate (one-sided, 95 %, exact).
        higher_is_better: ``None`` where the metric is not the mean of its per-sample values, so that their
            direction is not known.
        mcnemar_p: exact and two-sided; ``None`` unless every value is 0 or 1, like ``flips``.
    """

    metric: str
    higher_is_better: bool | None
    kind: Literal["binary", "continuous"]
    n: int
    baseline: float
    candidate: float
    baseline_run: float | None
    candidate_run: float | None
    difference: float
    stderr: float | None
    confidence_interval: tuple[float, float] | None
    interval_method: str
    changed: int
    changed_rate_upper: float
    flips: Flips | None
    mcnemar_p: float | None
    weak_rule: WeakRule


class RuntimeComparison(BaseModel):
    """One runtime metric. ``ratio`` is candidate / baseline; ``None``, with a note, where one is missing."""

    metric: str
    higher_is_better: bool
    baseline: float | None
    candidate: float | None
    ratio: float | None
    note: str | None = None


class ComparisonReport(BaseModel):
    """The result, without the items."""

    baseline: ComparedRun
    candidate: ComparedRun
    coverage: Coverage
    warnings: list[str]
    quality: list[QualityComparison]
    runtime: list[RuntimeComparison]


class PairedItem(BaseModel):
    """Where the two sides of a pair lie, and their values by number of the comparison's metric.

    Most items of a group have a value for one of its many tasks only.
    """

    doc_hash: str
    baseline_block: int
    baseline_position: int
    baseline_values: dict[int, float]
    candidate_block: int
    candidate_position: int
    candidate_values: dict[int, float]

    @field_validator("baseline_values", "candidate_values", mode="before")
    @classmethod
    def _from_list(cls, values: object) -> object:
        """Take the form in which they were once stored: a value or nothing for every metric."""
        if not isinstance(values, list):
            return values
        return {number: value for number, value in enumerate(values) if value is not None}
