"""The parts of a comparison of one candidate with its baseline.

Differences are candidate minus baseline, in the metric's own unit (0.02 is two points of an accuracy);
rates and shares lie between 0 and 1, times are in seconds, energy in joules, power in watts. A number that
is ``None`` is not known, or does not apply.
"""

from typing import Any

from pydantic import Field

from assay.models.documents import Document

Interval = tuple[float, float]


class Finding(Document):
    """One thing that a reader must know.

    ``severity`` is ``invalid`` (nothing may be concluded), ``not_comparable`` (a part may not be compared),
    ``warning`` or ``info``; ``subject`` is what it is about, ``None``: all.
    """

    code: str
    severity: str
    message: str
    subject: str | None = None
    details: dict[str, Any] = Field(default_factory=dict)


class ComparedRun(Document):
    """One side of a comparison: a run, or a scored view of one."""

    run_id: str
    scoring_id: str | None = None
    run_name: str = ""
    artifact_id: str = ""
    artifact_name: str = ""
    backend: str = ""
    task: str = ""
    canonical: bool | None = None
    samples_scored: int = 0
    samples_failed: int = 0
    early_stop: bool = False

    @property
    def view_id(self) -> str:
        """The scored view, which of a run's own scoring is the run."""
        return self.scoring_id or self.run_id


class Coverage(Document):
    """How many items two runs share; ``fraction`` is ``paired`` of the larger run."""

    paired: int
    baseline_total: int = 0
    candidate_total: int = 0
    fraction: float | None = None
    missing_in_candidate: int = 0
    missing_in_baseline: int = 0
    failed_in_baseline: int = 0
    failed_in_candidate: int = 0
    prompt_differs: int = 0
    target_differs: int = 0
    floor: float | None = None


class PlanDifference(Document):
    """Where the effective plans differ; ``expected`` of what must differ, or cannot bear on quality."""

    path: str
    baseline: Any = None
    candidate: Any = None
    expected: bool = False


class FlipCounts(Document):
    """Items of a metric of right and wrong, by what became of them."""

    gained: int
    lost: int
    both_right: int
    both_wrong: int


class WeakRule(Document):
    """The rule of thumb "difference within the baseline's stderr", with the words that call it weak."""

    label: str = ""
    stderr: float | None = None
    within_stderr: bool | None = None


class MarginTest(Document):
    """Non-inferiority and equivalence at a margin, how much worse the candidate may be.

    ``inferior`` is proven worse by more than the margin; neither that nor ``non_inferior``: not shown.
    """

    margin: float
    kind: str = "absolute"
    relative_margin: float | None = None
    alpha: float | None = None
    non_inferiority_p: float | None = None
    equivalence_p: float | None = None
    non_inferior: bool = False
    equivalent: bool = False
    inferior: bool = False
    method: str = ""


class QualityComparison(Document):
    """One quality metric over the paired items.

    ``baseline_run`` and ``candidate_run`` are the runs' own numbers over all their samples, with lm-eval's
    stderr; ``stderr`` and the intervals are those of the paired difference; ``changed_rate`` is the churn.
    """

    metric: str
    kind: str = "continuous"
    higher_is_better: bool | None = None
    n: int = 0
    clusters: int | None = None
    baseline: float | None
    candidate: float | None
    baseline_run: float | None = None
    baseline_run_stderr: float | None = None
    candidate_run: float | None = None
    candidate_run_stderr: float | None = None
    difference: float | None = None
    stderr: float | None = None
    interval_90: Interval | None = None
    interval_95: Interval | None = None
    interval_method: str = ""
    changed: int = 0
    changed_rate: float | None = None
    changed_rate_upper: float | None = None
    flips: FlipCounts | None = None
    mcnemar_p: float | None = None
    mcnemar_p_holm: float | None = None
    difference_p: float | None = None
    difference_p_holm: float | None = None
    minimal_detectable_difference: float | None = None
    chance: float | None = None
    margin_test: MarginTest | None = None
    weak_rule: WeakRule = Field(default_factory=WeakRule)
    guards: list[Finding] = Field(default_factory=list)


class FlipAnalysis(Document):
    """The items of one metric that flipped, by class, and how the responses of all pairs differ."""

    metric: str
    gained_by_class: dict[str, int] = Field(default_factory=dict)
    lost_by_class: dict[str, int] = Field(default_factory=dict)
    unstable_under_aa: int | None = None
    compared_responses: int = 0
    identical_responses: int = 0
    differ_at_first_token: int = 0
    token_basis: str = "word"
    first_difference_char_p50: float | None = None
    first_difference_token_p50: float | None = None


class NoiseFloor(Document):
    """Churn of candidate against baseline beside that of the baseline against itself (A/A)."""

    metric: str
    run_id: str = ""
    n: int = 0
    churn_aa: float | None = None
    churn_ab: float | None = None
    excess: float | None = None
    excess_interval_95: Interval | None = None
    excess_p: float | None = None
    difference_aa: float | None = None
    above_noise: bool = False


class RuntimeComparison(Document):
    """A runtime metric of two runs; ``ratio`` is candidate / baseline, ``note`` why something is missing."""

    metric: str
    unit: str = ""
    higher_is_better: bool | None = None
    baseline: float | None = None
    candidate: float | None = None
    difference: float | None = None
    difference_interval_95: Interval | None = None
    ratio: float | None = None
    ratio_interval_95: Interval | None = None
    ratio_interval_90: Interval | None = None
    interval_method: str = ""
    at_least: bool = False
    note: str | None = None


class SensorProvenance(Document):
    """What the power of one device of one serving instance was taken from.

    ``covered_s``: the part of the instance's ``window_s`` (time with requests in flight) that lies between
    readings. ``idle_watts_before``: before the engine was started; ``idle_watts``: with it, between requests.
    """

    instance_id: str
    sensor: str
    device_id: str
    scope: str
    method: str
    watts: float
    joules: float
    window_s: float
    covered_s: float
    readings: int
    interval_s: float | None = None
    largest_gap_s: float | None = None
    idle_watts_before: float | None = None
    idle_watts: float | None = None
    grade: str
    reason: str


class PowerProvenance(Document):
    """Where a run's power comes from; ``grade`` from A (a device's energy counter) to D (not measured).

    ``joules``: mean power times ``window_s``; ``measured_joules``: in ``covered_s``, which readings cover.
    """

    grade: str
    reasons: list[str] = Field(default_factory=list)
    sensors: list[str] = Field(default_factory=list)
    scope: str | None = None
    watts: float | None = None
    joules: float | None = None
    measured_joules: float | None = None
    window_s: float | None = None
    covered_s: float | None = None
    largest_gap_s: float | None = None
    readings: int = 0
    idle_watts: float | None = None
    idle_watts_before: float | None = None
    devices: list[SensorProvenance] = Field(default_factory=list)


class EnergyComparison(Document):
    """Provenance of both sides' power; of unlike ones ``comparable`` is false, and ``note`` says why."""

    baseline: PowerProvenance
    candidate: PowerProvenance
    comparable: bool = False
    note: str | None = None


class WorkloadSide(Document):
    """The work of one run over the paired items."""

    requests: int = 0
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    output_tokens_mean: float | None = None
    output_tokens_p50: float | None = None
    output_tokens_p90: float | None = None
    truncated_share: float | None = None
    stop_reasons: dict[str, float] = Field(default_factory=dict)
    error_share: float | None = None
    retries: int | None = None
    concurrency: int | None = None


class WorkloadParity(Document):
    """Whether both runs did the same work."""

    baseline: WorkloadSide
    candidate: WorkloadSide
    prompts_equal: bool | None = None
    output_length_ratio: float | None = None
    output_length_ratio_interval_95: Interval | None = None
    comparable: bool = False
    findings: list[Finding] = Field(default_factory=list)


class CandidateReport(Document):
    """One candidate against the baseline.

    Where ``valid`` is false, nothing may be concluded: ``findings`` say why, and the numbers are of the
    pairs that there are, for looking only.
    """

    candidate: ComparedRun
    valid: bool
    findings: list[Finding] = Field(default_factory=list)
    coverage: Coverage
    plan_differences: list[PlanDifference] = Field(default_factory=list)
    quality: list[QualityComparison] = Field(default_factory=list)
    flips: list[FlipAnalysis] = Field(default_factory=list)
    noise: list[NoiseFloor] = Field(default_factory=list)
    runtime: list[RuntimeComparison] = Field(default_factory=list)
    energy: EnergyComparison | None = None
    workload: WorkloadParity | None = None
