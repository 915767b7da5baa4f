"""What metrics-svc says."""

from typing import ClassVar, Literal

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
    """Candidates were compared with a baseline item by item; ``candidate_run_id`` is the first of them."""

    SUBJECT: ClassVar[str] = "assay.metrics.comparison.created.v1"

    comparison_id: str
    baseline_run_id: str
    candidate_run_id: str
    paired_items: int = Field(ge=0, description="of the first candidate")
    candidate_run_ids: list[str] | None = Field(default=None, description="all of them; null: only the one")
    valid: bool | None = Field(
        default=None, description="whether anything may be concluded for every candidate; null: not told"
    )

    def aggregate_id(self) -> str:
        """The comparison."""
        return self.comparison_id


class PolicyCreated(Event):
    """A version of a policy was stored; it never changes."""

    SUBJECT: ClassVar[str] = "assay.metrics.policy.created.v1"

    policy_id: str
    name: str
    version: int = Field(ge=1)
    digest: str = Field(description="sha256 of the policy's canonical JSON")

    def aggregate_id(self) -> str:
        """The version of the policy."""
        return self.policy_id


class DecisionMade(Event):
    """A candidate was judged by a policy; the decision is kept for good."""

    SUBJECT: ClassVar[str] = "assay.metrics.decision.made.v1"

    decision_id: str
    verdict: Literal["ACCEPT", "REJECT", "INCONCLUSIVE"]
    valid: bool = Field(description="whether the evidence may be judged at all; else INCONCLUSIVE")
    summary: str
    baseline_run_id: str
    candidate_run_id: str
    policy_name: str
    policy_version: int = Field(ge=1)
    policy_digest: str
    comparison_id: str
    bundle_digest: str = Field(description="sha256 of what the evidence bundle states")
    samples_needed: int | None = Field(description="pairs in all that would settle it; null: not known")

    def aggregate_id(self) -> str:
        """The decision."""
        return self.decision_id


class RunSettled(Event):
    """A look of a run that may stop early decided: further samples of it are not needed."""

    SUBJECT: ClassVar[str] = "assay.metrics.run.settled.v1"

    run_id: str
    baseline_run_id: str
    metric: str
    look: int = Field(ge=0, description="position among the planned looks, from 0")
    samples: int = Field(ge=1, description="documents that the look judged")
    outcome: Literal["proven", "hopeless"]

    def aggregate_id(self) -> str:
        """The run."""
        return self.run_id
