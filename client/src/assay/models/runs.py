"""Runs, their plans, samples and metrics."""

from typing import Any

from pydantic import Field

from assay.models.documents import Document, NamedDocument
from assay.models.methods import Deviation
from assay.models.planning import PlannedPower

TERMINAL_STATES = frozenset({"Succeeded", "Failed", "Cancelled"})
"""States that a run does not leave by itself."""
OVER_SCORING_STATES = frozenset({"final", "failed"})
"""States that the scoring of a finished run does not leave by itself."""


class EarlyStopPlan(Document):
    """Against which run a run is judged while it runs, and after how many documents."""

    baseline_run_id: str
    metric: str
    margin: float
    alpha: float | None = None
    planned_samples: int = 0
    looks: list[int] = Field(default_factory=list)


class StoppedEarly(Document):
    """Why a run ended before all its rows were evaluated: ``outcome`` is ``proven`` or ``hopeless``."""

    look: int = 0
    samples: int = 0
    outcome: str = ""


class Plan(Document):
    """Everything that decides a run's numbers, frozen before it starts.

    ``power`` says what this many samples can show; it is no part of what is frozen.
    """

    plan_hash: str
    canonical: bool = True
    notes: list[str] = Field(default_factory=list)
    deviations: list[Deviation] = Field(default_factory=list)
    members: list[dict[str, Any]] | None = None
    fewshot_source: str = "none"
    dataset: dict[str, Any]
    fewshot: dict[str, Any] | None = None
    method: dict[str, Any]
    artifact: dict[str, Any]
    task: dict[str, Any]
    options: dict[str, Any] = Field(default_factory=dict)
    early_stop: EarlyStopPlan | None = None
    power: PlannedPower | None = None


class Progress(Document):
    """Samples of a run; failed ones are among the done ones."""

    samples_total: int = 0
    samples_done: int = 0
    samples_failed: int = 0


class RunError(Document):
    """Why a run failed."""

    code: str
    message: str


class Run(NamedDocument):
    """An evaluation run.

    ``serving`` are its serving instances in order, ``ledger`` what they have cost together: seconds of each
    phase, accelerator-seconds and idle energy; ``None`` in it is not known.
    """

    state: str
    plan: Plan
    progress: Progress = Field(default_factory=Progress)
    error: RunError | None = None
    quality: dict[str, float | None] | None = None
    runtime: dict[str, float | None] | None = None
    power: PlannedPower | None = None
    stopped_early: StoppedEarly | None = None
    serving: list[dict[str, Any]] = Field(default_factory=list)
    ledger: dict[str, Any] | None = None
    attempts: int = 0
    created_at: str
    started_at: str | None = None
    finished_at: str | None = None

    @property
    def is_over(self) -> bool:
        """Whether the run has ended, well or not."""
        return self.state in TERMINAL_STATES


class Sample(Document):
    """One evaluated document: what was asked, what came back, when."""

    index: int
    status: str
    target: str = ""
    error: dict[str, Any] | None = None
    requests: list[dict[str, Any]] = Field(default_factory=list)


class QualityMetrics(Document):
    """Quality of a run's responses; ``state`` is ``scoring`` (so far), ``final`` or ``failed``.

    ``quality`` has lm-eval's keys and numbers; ``None`` does not apply. ``sample_metrics`` have a value per
    sample; samples can be asked for by them. ``canonical`` is whether the numbers may be set beside
    published ones of the task, ``deviations`` say why not.
    """

    run_id: str
    state: str
    canonical: bool | None = None
    deviations: list[Deviation] = Field(default_factory=list)
    samples_scored: int = 0
    samples_failed: int = 0
    failure_policy: str | None = None
    quality: dict[str, float | None] = Field(default_factory=dict)
    higher_is_better: dict[str, bool] = Field(default_factory=dict)
    sample_metrics: list[str] = Field(default_factory=list)
    error: dict[str, Any] | None = None


class RunMetrics(QualityMetrics):
    """The metrics of a run.

    ``runtime`` has seconds, tokens per second, watts and tokens per joule; ``None`` was not measured or does
    not apply.
    """

    runtime: dict[str, float | None] = Field(default_factory=dict)
    runtime_details: dict[str, Any] | None = None


class ScoredView(QualityMetrics):
    """The samples of a finished run, scored another way; nothing was asked again."""

    id: str
    name: str = ""
    scoring: dict[str, Any] = Field(default_factory=dict)
    created_at: str = ""

    @property
    def is_over(self) -> bool:
        """Whether its numbers are there, or will not be."""
        return self.state in OVER_SCORING_STATES


class ScoredSample(Document):
    """A sample with its value of every metric."""

    index: int
    status: str = "ok"
    prompt: str | None = None
    target: str | None = None
    response: str | None = None
    values: dict[str, Any] = Field(default_factory=dict)
    filtered: dict[str, Any] = Field(default_factory=dict)
