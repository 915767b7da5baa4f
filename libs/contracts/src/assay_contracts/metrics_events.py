"""What metrics-svc says."""

from typing import ClassVar

from pydantic import Field

from assay_contracts.envelope import Event


class RunScored(Event):
    """The metrics of a run are final."""

    SUBJECT: ClassVar[str] = "assay.metrics.run.scored.v1"

    run_id: str
    samples: int
    quality: dict[str, float | None] = Field(description="lm-eval's metric keys to values; null is 'N/A'")
    runtime: dict[str, float | None] = Field(description="ttftP50, tps, ... ; null is 'not measured'")
    canonical: bool | None = Field(
        default=None,
        description="whether the numbers may be set beside published ones of the task; null: not known",
    )

    def aggregate_id(self) -> str:
        """The run."""
        return self.run_id


class ScoringFailed(Event):
    """The responses of a run cannot be scored."""

    SUBJECT: ClassVar[str] = "assay.metrics.scoring.failed.v1"

    run_id: str
    code: str
    reason: str

    def aggregate_id(self) -> str:
        """The run."""
        return self.run_id


class ScoringCompleted(Event):
    """The responses of a finished run were scored in another way, as somebody had asked for."""

    SUBJECT: ClassVar[str] = "assay.metrics.scoring.completed.v1"

    scoring_id: str
    run_id: str
    name: str
    samples: int
    quality: dict[str, float | None] = Field(description="lm-eval's metric keys to values; null is 'N/A'")

    def aggregate_id(self) -> str:
        """The scored view."""
        return self.scoring_id


class ComparisonCreated(Event):
    """Two runs were compared item by item."""

    SUBJECT: ClassVar[str] = "assay.metrics.comparison.created.v1"

    comparison_id: str
    baseline_run_id: str
    candidate_run_id: str
    paired_items: int = Field(ge=0)

    def aggregate_id(self) -> str:
        """The comparison."""
        return self.comparison_id
