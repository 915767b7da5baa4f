"""What a comparison needs to know of a run beside its samples."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

FailurePolicyName = Literal["score_zero", "exclude", "fail"]


class EarlyStop(BaseModel):
    """How a run with a sequential stopping rule went; see ``statistics.sequential``.

    Attributes:
        baseline_run_id: the run that it was judged against while it ran.
        metric: the metric that was watched.
        margin: largest tolerated loss of that metric, in its unit.
        alpha: one-sided error over all looks together.
        order_seed: seed of the order in which the documents were evaluated.
        planned_samples: documents of the whole run.
        looks: numbers of documents after which a look was planned, ascending; the last: ``planned_samples``.
        stopped_at_look: position in ``looks``, from 0, at which the run ended; ``None`` where it went on to
            the end without stopping early (the last look then counts).
        outcome: why it ended.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    baseline_run_id: str
    metric: str
    margin: float
    alpha: float
    order_seed: int
    planned_samples: int
    looks: list[int]
    stopped_at_look: int | None
    outcome: Literal["proven", "hopeless", "completed"]


class RunFacts(BaseModel):
    """A final run, or a final scored view of one, without its samples. Plain JSON; part of the bundle.

    Attributes:
        run_id: the run.
        scoring_id: the scored view, where the run's own scoring is not meant.
        scoring: how that view scores; ``None`` where it is as the task says.
        run_name: for people.
        artifact: ``id``, ``name``, ``model``, ``backend``, ``sha256`` and what else the plan says of it.
        task: what was run; of a group, the group.
        plan: the whole effective plan, as eval-svc froze it.
        quality: lm-eval's numbers, by ``<task>.<metric>,<filter>`` and ``<task>.<metric>_stderr,<filter>``.
        higher_is_better: direction by metric, where it is known.
        sample_metrics: metrics with a value per sample, the run's own task (or group) first.
        failure_policy: what failed samples count as in ``quality``.
        canonical: whether the numbers may be set beside published ones of the task.
        samples_expected: documents that the run was to evaluate; of one that stopped early, did evaluate.
        runtime: runtime metrics by name; ``None`` is "not measured".
        runtime_details: what stands behind them (metrics-svc's ``RuntimeDetails``).
        telemetry: what was measured on each serving instance, as eval-svc recorded it.
        early_stop: where a sequential stopping rule was used.
        versions: of the libraries and services that made the numbers.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    schema_version: Literal[1] = 1
    run_id: str
    scoring_id: str | None = None
    scoring: JsonValue = None
    run_name: str
    artifact: dict[str, JsonValue]
    dataset_id: str
    dataset_name: str
    snapshot_digest: str
    method_id: str
    method_name: str
    method_version: int
    recipe_hash: str
    task: str
    plan_hash: str
    plan: dict[str, JsonValue]
    quality: dict[str, float | None]
    higher_is_better: dict[str, bool]
    sample_metrics: list[str]
    failure_policy: FailurePolicyName
    canonical: bool | None = None
    samples_scored: int
    samples_failed: int
    samples_expected: int
    runtime: dict[str, float | None] = {}
    runtime_details: dict[str, JsonValue] | None = None
    telemetry: list[dict[str, JsonValue]] = []
    early_stop: EarlyStop | None = None
    versions: dict[str, str] = {}
    finished_at: str | None = None

    @property
    def view_id(self) -> str:
        """The scored view, which of a run's own scoring is the run."""
        return self.scoring_id or self.run_id

    @property
    def backend(self) -> str:
        """Backend of the artifact."""
        return str(self.artifact.get("backend"))
