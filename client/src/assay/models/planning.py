"""What a number of samples can show, and metrics over time."""

from typing import Any

from pydantic import Field

from assay.models.documents import Document


class NeededSamples(Document):
    """Samples needed to show that a candidate loses less than ``margin``."""

    margin: float
    samples: int | None = None


class PlannedPower(Document):
    """What a run of ``samples`` documents can show, at an assumed churn (share of changed answers)."""

    samples: int | None = None
    assumed_churn: float | None = None
    detectable_difference: float | None = None
    needed: list[NeededSamples] = Field(default_factory=list)
    note: str = ""


class PowerPlan(Document):
    """The same for any number; ``churn_source``: ``given``, ``observed`` (``observed_in``) or ``assumed``."""

    churn: float
    churn_source: str = ""
    observed_in: str | None = None
    samples: int | None = None
    detectable_difference: float | None = None
    needed: list[NeededSamples] = Field(default_factory=list)
    alpha: float | None = None
    power: float | None = None
    note: str = ""


class TrendPoint(Document):
    """A metric of one finished run of a method."""

    run_id: str
    run_name: str = ""
    artifact: dict[str, Any] = Field(default_factory=dict)
    method_version: int | None = None
    snapshot_digest: str = ""
    canonical: bool | None = None
    finished_at: str | None = None
    metric: str | None = None
    value: float | None = None
    stderr: float | None = None
    runtime: dict[str, float | None] = Field(default_factory=dict)
