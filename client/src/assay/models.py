"""Documents of the API as typed objects.

Only the fields that the client reads are named. Whatever else the platform sends is kept, so that a newer
platform loses nothing on its way through an older client: ``model.document()`` is the JSON that came.
"""

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

TERMINAL_STATES = frozenset({"Succeeded", "Failed", "Cancelled"})
"""States that a run does not leave by itself."""


class Document(BaseModel):
    """A JSON object of the API."""

    model_config = ConfigDict(extra="allow", frozen=True)

    def document(self) -> dict[str, Any]:
        """The JSON object as the platform sent it."""
        return self.model_dump(mode="json", exclude_unset=True)


class Fault(Document):
    """One thing that is wrong; see ``AssayError.faults``. Lines and columns count from 1, rows from 0."""

    message: str
    field: str | None = None
    line: int | None = None
    column: int | None = None
    row: int | None = None


class Problem(Document):
    """An error of the platform (RFC 9457 problem details)."""

    title: str = "Error"
    status: int | None = None
    detail: str | None = None
    request_id: str | None = None
    errors: list[Fault] = Field(default_factory=list)


class Column(Document):
    """A column of a snapshot."""

    name: str
    type: str
    nulls: int = 0
    examples: list[Any] = Field(default_factory=list)


class Snapshot(Document):
    """Immutable rows; ``digest`` is the sha256 of the canonical Parquet file, ``bytes`` its size."""

    id: str
    dataset_id: str
    digest: str
    rows: int
    bytes: int
    split: str
    columns: list[Column] = Field(default_factory=list)
    source: dict[str, Any] = Field(default_factory=dict)
    created_at: str


class Dataset(Document):
    """An entry of the dataset registry."""

    id: str
    name: str
    version: str
    description: str = ""
    status: str
    current_snapshot: Snapshot | None = None
    created_at: str


class Row(Document):
    """A row of a snapshot; ``index`` counts from 0."""

    index: int
    row: dict[str, Any]


class TemplateParameter(Document):
    """What a method of a template must or may say."""

    name: str
    required: bool = False
    default: Any = None
    description: str = ""


class Template(Document):
    """A kind of method."""

    name: str
    title: str
    description: str = ""
    parameters: list[TemplateParameter] = Field(default_factory=list)


class Task(Document):
    """A task of lm-eval's index; ``refusal`` says why the platform does not run it."""

    name: str
    output_type: str | None = None
    columns: list[str] | None = None
    needs_log_probabilities: bool = False
    refusal: str | None = None


class Method(Document):
    """An evaluation method in its newest version."""

    id: str
    name: str
    version: int
    description: str = ""
    recipe: dict[str, Any]
    recipe_hash: str = ""
    created_at: str


class RenderedRow(Document):
    """A row as the method would ask it."""

    index: int = 0
    row: Any = None
    prompt: str
    target: str
    requests: list[dict[str, Any]] = Field(default_factory=list)


class Backend(Document):
    """A serving adapter as it describes itself."""

    backend: str
    address: str = ""
    healthy: bool
    unhealthy_reason: str | None = None
    engine: str | None = None
    engine_version: str | None = None


class Artifact(Document):
    """A model for one backend."""

    id: str
    name: str
    model: str
    backend: str
    uri: str
    format: str = ""
    serving_parameters: dict[str, str] = Field(default_factory=dict)
    description: str = ""
    created_at: str


class Plan(Document):
    """Everything that decides a run's numbers, frozen before it starts."""

    plan_hash: str
    canonical: bool = True
    notes: list[str] = Field(default_factory=list)
    fewshot_source: str = "none"
    dataset: dict[str, Any]
    fewshot: dict[str, Any] | None = None
    method: dict[str, Any]
    artifact: dict[str, Any]
    task: dict[str, Any]
    options: dict[str, Any] = Field(default_factory=dict)


class Progress(Document):
    """Samples of a run; failed ones are among the done ones."""

    samples_total: int = 0
    samples_done: int = 0
    samples_failed: int = 0


class RunError(Document):
    """Why a run failed."""

    code: str
    message: str


class Run(Document):
    """An evaluation run."""

    id: str
    name: str
    state: str
    plan: Plan
    progress: Progress = Field(default_factory=Progress)
    error: RunError | None = None
    quality: dict[str, float | None] | None = None
    runtime: dict[str, float | None] | None = None
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


class RunMetrics(Document):
    """The metrics of a run; ``state`` is ``scoring`` (so far), ``final`` or ``failed``.

    ``sample_metrics`` have a value per sample; samples can be asked for by them.
    ``quality`` has lm-eval's keys and numbers, ``runtime`` seconds, tokens per second, watts and tokens per
    joule; ``None`` was not measured or does not apply.
    """

    run_id: str
    state: str
    samples_scored: int = 0
    samples_failed: int = 0
    failure_policy: str | None = None
    quality: dict[str, float | None] = Field(default_factory=dict)
    higher_is_better: dict[str, bool] = Field(default_factory=dict)
    sample_metrics: list[str] = Field(default_factory=list)
    runtime: dict[str, float | None] = Field(default_factory=dict)
    runtime_details: dict[str, Any] | None = None
    error: dict[str, Any] | None = None


class ScoredSample(Document):
    """A sample with its value of every metric."""

    index: int
    status: str = "ok"
    prompt: str | None = None
    target: str | None = None
    response: str | None = None
    values: dict[str, Any] = Field(default_factory=dict)
    filtered: dict[str, Any] = Field(default_factory=dict)


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


Item = TypeVar("Item", bound=Document)


class Page(Document, Generic[Item]):
    """A part of a list, newest first; ``next_cursor`` asks for the next part."""

    items: list[Item]
    next_cursor: str | None = None
