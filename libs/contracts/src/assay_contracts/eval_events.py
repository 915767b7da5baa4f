"""What eval-svc says: artifacts, runs and their samples."""

from typing import ClassVar, Literal

from pydantic import Field

from assay_contracts.envelope import Event


class ArtifactRegistered(Event):
    """An artifact may now be evaluated."""

    SUBJECT: ClassVar[str] = "assay.eval.artifact.registered.v1"

    artifact_id: str
    name: str
    model: str
    backend: str

    def aggregate_id(self) -> str:
        """The artifact."""
        return self.artifact_id


class RunEvent(Event):
    """What every event about a run carries."""

    run_id: str
    artifact_id: str
    backend: str
    dataset_id: str
    snapshot_digest: str
    method_id: str
    method_version: int

    def aggregate_id(self) -> str:
        """The run."""
        return self.run_id


class RunQueued(RunEvent):
    """A run was accepted with a frozen plan."""

    SUBJECT: ClassVar[str] = "assay.eval.run.queued.v1"


class RunProvisioning(RunEvent):
    """A worker took the run and asked for a serving instance."""

    SUBJECT: ClassVar[str] = "assay.eval.run.provisioning.v1"


class RunStarted(RunEvent):
    """The serving instance answered; requests are being sent."""

    SUBJECT: ClassVar[str] = "assay.eval.run.started.v1"

    instance_id: str


class RunResponded(RunEvent):
    """Every wanted sample has its responses; scoring finishes next.

    The fields ``early_stop_...`` are those of a run that stopped early; null where all samples were wanted.
    """

    SUBJECT: ClassVar[str] = "assay.eval.run.responded.v1"

    blocks: int = Field(ge=1, description="blocks of the sample log, numbered from 0")
    samples: int = Field(ge=1)
    failed_samples: int = Field(ge=0)
    early_stop_look: int | None = Field(
        default=None, ge=0, description="which of the planned looks decided, from 0"
    )
    early_stop_samples: int | None = Field(
        default=None, ge=1, description="documents that this look judged; the log may have some more"
    )
    early_stop_outcome: Literal["proven", "hopeless"] | None = None


class RunSucceeded(RunEvent):
    """The run has its metrics."""

    SUBJECT: ClassVar[str] = "assay.eval.run.succeeded.v1"

    samples: int
    failed_samples: int
    quality: dict[str, float | None] = Field(description="lm-eval's metric keys to values; null is 'N/A'")
    runtime: dict[str, float | None] = Field(description="ttftP50, tps, ... ; null is 'not measured'")
    canonical: bool | None = Field(
        default=None,
        description="whether the numbers may be set beside published ones of the task; null: not known",
    )


class RunFailed(RunEvent):
    """The run ended without metrics."""

    SUBJECT: ClassVar[str] = "assay.eval.run.failed.v1"

    code: str
    reason: str


class RunCancelled(RunEvent):
    """Somebody cancelled the run."""

    SUBJECT: ClassVar[str] = "assay.eval.run.cancelled.v1"

    cancelled_by: str


class SamplesCompleted(Event):
    """A block of finished samples was appended to the run's sample log."""

    SUBJECT: ClassVar[str] = "assay.eval.samples.completed.v1"

    run_id: str
    block: int = Field(ge=0, description="number of the block in the sample log of the run, from 0")
    samples: int = Field(ge=1)
    failed_samples: int = Field(ge=0)

    def aggregate_id(self) -> str:
        """The run."""
        return self.run_id
