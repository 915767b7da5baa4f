"""Work that a service hands to its own workers. Not facts, and not for other teams."""

from typing import ClassVar

from assay_contracts.envelope import Event


class RunRequested(Event):
    """A queued run waits for a worker. Losing or repeating this message costs time, never a run."""

    SUBJECT: ClassVar[str] = "assay.work.run"

    run_id: str

    def aggregate_id(self) -> str:
        """The run."""
        return self.run_id


class IngestRequested(Event):
    """A queued ingest waits for a worker. Losing or repeating this message costs time, never an ingest."""

    SUBJECT: ClassVar[str] = "assay.work.ingest"

    ingest_id: str

    def aggregate_id(self) -> str:
        """The ingest."""
        return self.ingest_id
