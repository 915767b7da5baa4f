"""What a comparison says: plain values, as they are stored, shown and put into the bundle.

Conventions. Differences are candidate minus baseline, in the metric's own unit (0.02 is two points of an
accuracy). ``interval_90`` and ``interval_95`` are two-sided; the lower end of the 90 % interval is the
one-sided 95 % bound. Rates and shares lie between 0 and 1. Times are in seconds, energy in joules,
power in watts.
"""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, Field, JsonValue

WEAK_RULE = "weak rule: difference within the baseline's stderr; it ignores the pairing and proves nothing"
PAIRED_BY = "task,doc_hash,prompt_hash,target_hash"

Interval = tuple[float, float]


class Severity(StrEnum):
    """What a finding means for the comparison."""

    INVALID = "invalid"  # the two runs do not answer the same question; nothing may be concluded
    NOT_COMPARABLE = "not_comparable"  # a part (runtime, energy, one metric) may not be compared
    WARNING = "warning"
    INFO = "info"


class Finding(BaseModel):
    """One thing that a reader must know.

    Attributes:
        code: short name, stable for programs, such as ``coverage-below-floor``.
        severity: what it means.
        message: one sentence for people, with the numbers.
        subject: what it is about: a metric, ``runtime``, ``energy``, ``workload``, ``plan``; ``None``: all.
        details: the numbers, for programs.
    """

    code: str
    severity: Severity
    message: str
    subject: str | None = None
    details: dict[str, JsonValue] = {}


class ComparisonSettings(BaseModel):
    """How runs are compared. All of it is stored with the report, which is a function of it and the evidence.

    Attributes:
        margin: for non-inferiority and equivalence, in the metric's unit; the policy's where a policy judges.
        alpha: one-sided error.
        power: for what could have been shown.
        coverage_floor: share of the larger run that must be paired.
        cluster_column: column of the dataset whose equal values form a cluster; standard errors are then
            clustered.
        bootstrap_resamples: of runtime metrics.
        seed: of the bootstrap.
    """

    margin: float = Field(default=0.02, gt=0, lt=1)
    alpha: float = Field(default=0.05, gt=0, lt=0.5)
    power: float = Field(default=0.8, gt=0.5, lt=1)
    coverage_floor: float = Field(default=0.99, ge=0, le=1)
    cluster_column: str | None = Field(default=None, min_length=1, max_length=200)
    bootstrap_resamples: int = Field(default=2000, ge=200, le=20_000)
    seed: int = Field(default=20_260_101, ge=0, lt=2**32)


class ComparedRun(BaseModel):
    """One side of a comparison.

    ``task`` is what was run (of a group, the group); ``tables``: sha256 of its samples and requests tables.
    """

    run_id: str
    scoring_id: str | None = None
    run_name: str
    task: str
    artifact_id: str
    artifact_name: str
    backend: str
    canonical: bool | None = None
    samples_scored: int
    samples_failed: int
    early_stop: bool = False
    tables: dict[str, str] = {}


class Coverage(BaseModel):
    """How many items the two runs share.

    Attributes:
        paired: pairs with a usable value on both sides.
        baseline_total, candidate_total: items that each run was to evaluate.
        fraction: ``paired`` of the larger total.
        baseline_fraction, candidate_fraction: ``paired`` of each total.
        missing_in_candidate, missing_in_baseline: items that only the other one has.
        failed_in_baseline, failed_in_candidate: samples without a response.
        prompt_differs: documents in both runs whose prompt differs, so that they are not paired.
        target_differs: the same for the expected answer.
    """

    paired: int
    baseline_total: int
    candidate_total: int
    fraction: float
    baseline_fraction: float
    candidate_fraction: float
    missing_in_candidate: int
    missing_in_baseline: int
    failed_in_baseline: int
    failed_in_candidate: int
    prompt_differs: int
    target_differs: int
    floor: float
    pairing: str = PAIRED_BY


class PlanDifference(BaseModel):
    """Where the effective plans differ: ``path`` such as ``options.num_fewshot``.

    ``expected`` is true of what must differ (the artifact) and of what cannot bear on quality (concurrency).
    """

    path: str
    baseline: JsonValue
    candidate: JsonValue
    expected: bool


class FlipCounts(BaseModel):
    """Items by what became of them, of a metric of right and wrong."""

    gained: int
    lost: int
    both_right: int
    both_wrong: int


class WeakRule(BaseModel):
    """The walkthrough's rule of thumb: the difference against one run's stderr. ``None``: there is none."""

    label: str = WEAK_RULE
    stderr: float | None
    within_stderr: bool | None


class MarginTest(BaseModel):
    """Non-inferiority and equivalence at a margin.

    Attributes:
        margin: absolute, in the metric's unit, positive; how much worse the candidate may be.
        kind: how the margin was given; of a relative one, ``relative_margin`` is the share.
        non_inferiority_p: one-sided p of "the candidate is worse by the margin or more".
        equivalence_p: the larger of the two one-sided p-values (TOST).
        non_inferior, equivalent, inferior: at ``alpha``; ``inferior``: worse by more than the margin.
        method: procedure.
    """

    margin: float
    kind: Literal["absolute", "relative"] = "absolute"
    relative_margin: float | None = None
    alpha: float
    non_inferiority_p: float | None
    equivalence_p: float | None
    non_inferior: bool
    equivalent: bool
    inferior: bool
    method: str


class QualityComparison(BaseModel):
    """One quality metric over the paired items.

    Attributes:
        baseline, candidate: means over the paired items.
        baseline_run, candidate_run: the runs' own numbers over all their samples, with lm-eval's stderr.
        higher_is_better: ``None`` where the metric is not the mean of its per-sample values; then untested.
        n: pairs with a value on both sides; ``clusters`` of them where clustered.
        stderr: of the paired difference, clustered where ``clusters`` is set.
        interval_90, interval_95: of the difference, by ``interval_method``; ``None`` where there is none.
        changed: pairs whose values differ; ``changed_rate`` of ``n`` is the churn; ``changed_rate_upper``:
            its exact one-sided 95 % bound.
        mcnemar_p, mcnemar_p_holm: exact, two-sided, and corrected over the metrics of this comparison.
        difference_p, difference_p_holm: two-sided test of no difference, of any metric.
        minimal_detectable_difference: smallest loss that this n at this churn shows with the wanted power.
        chance: score of a model that guesses; 0 where answers are generated freely.
        margin_test: at the settings' margin; ``None`` where the direction is not known.
        guards: floor, ceiling, NaN and the like for this metric.
    """

    metric: str
    kind: Literal["binary", "continuous"]
    higher_is_better: bool | None
    n: int
    clusters: int | None = None
    baseline: float
    candidate: float
    baseline_run: float | None
    baseline_run_stderr: float | None
    candidate_run: float | None
    candidate_run_stderr: float | None
    difference: float
    stderr: float | None
    interval_90: Interval | None
    interval_95: Interval | None
    interval_method: str
    changed: int
    changed_rate: float
    changed_rate_upper: float
    flips: FlipCounts | None
    mcnemar_p: float | None
    mcnemar_p_holm: float | None
    difference_p: float | None
    difference_p_holm: float | None
    minimal_detectable_difference: float | None
    chance: float | None
    margin_test: MarginTest | None
    weak_rule: WeakRule
    guards: list[Finding] = []


class FlipClass(StrEnum):
    """Why an item flipped; the first that fits, in this order."""

    ERROR = "error"  # one side has no response
    EMPTY = "empty"  # one side's response is blank
    TRUNCATED = "truncated"  # the wrong side ran into the token limit
    FORMAT_ONLY = "format_only"  # another filter of the same metric agrees: only the strict extraction fails
    CHOICE_CHANGED = "choice_changed"  # multiple choice: another choice
    NUMERIC_ANSWER = "numeric_answer"  # both give a number, another one
    OTHER = "other"


class FlipAnalysis(BaseModel):
    """The items of one metric that flipped, and what changed in the responses of all pairs.

    Attributes:
        gained_by_class, lost_by_class: counts by ``FlipClass``.
        unstable_under_aa: flips of items that also flip between the two runs of the noise floor.
        identical_responses: pairs with equal responses, of ``compared_responses``.
        differ_at_first_token: of the pairs with different responses, those that differ in the first token.
        token_basis: ``engine`` where the engine's token lengths are known, else ``word``.
        first_difference_char_p50, first_difference_token_p50: medians over the pairs that differ.
    """

    metric: str
    gained_by_class: dict[FlipClass, int]
    lost_by_class: dict[FlipClass, int]
    unstable_under_aa: int | None
    compared_responses: int
    identical_responses: int
    differ_at_first_token: int
    token_basis: Literal["engine", "word"]
    first_difference_char_p50: float | None
    first_difference_token_p50: float | None


class NoiseFloor(BaseModel):
    """Churn of candidate against baseline, tested against the churn of the baseline against itself (A/A).

    Attributes:
        run_id: second run of the baseline's artifact.
        n: items in all three runs.
        churn_aa, churn_ab: shares of items whose value changes, A against A, and A against B.
        excess: ``churn_ab - churn_aa``, with its 95 % interval.
        excess_p: one-sided exact test (McNemar on "changed") of "B changes no more than A does".
        difference_aa: score difference between the two runs of the baseline.
        above_noise: whether the excess is significant at ``alpha``.
    """

    metric: str
    run_id: str
    n: int
    churn_aa: float
    churn_ab: float
    excess: float
    excess_interval_95: Interval | None
    excess_p: float
    difference_aa: float
    above_noise: bool


class RuntimeEstimate(BaseModel):
    """One runtime metric of one run, in its unit (``runtime_metrics.RUNTIME_METRICS``).

    Attributes:
        value: ``None``: not measured or not applicable, and ``note`` says why.
        low, high: 95 % interval; an end is ``None`` where it cannot be given.
        n: observations: requests, gaps between tokens, readings of sensors, or starts of instances.
        window_s: time with at least one request in flight, summed over serving instances.
        at_least: too few observations to bound a percentile from above.
        method: how the interval was made; ``none`` where there is none.
        note: why there is no value or no interval, or what else bears on the number.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    n: int
    window_s: float | None
    at_least: bool = False
    method: str = "none"
    note: str | None = None


class RuntimeComparison(BaseModel):
    """One runtime metric of both runs.

    Attributes:
        metric: a name of ``runtime_metrics.RUNTIME_METRICS``, such as ``ttftP50``, ``tps`` or ``power``.
        difference: candidate - baseline, with its 95 % interval.
        ratio: candidate / baseline, with its 95 % interval.
        interval_method: how intervals were made, or why there are none.
        at_least: a side's percentile has too few observations to be bounded (p99: below 299).
        note: why a value or a ratio is missing.
    """

    metric: str
    unit: str
    higher_is_better: bool
    baseline: float | None
    candidate: float | None
    difference: float | None
    difference_interval_95: Interval | None
    ratio: float | None
    ratio_interval_95: Interval | None
    ratio_interval_90: Interval | None
    interval_method: str
    at_least: bool = False
    note: str | None = None


class SensorProvenance(BaseModel):
    """What the power of one device of one serving instance was taken from.

    Attributes:
        method: ``counter`` (of energy) or ``integrated`` (readings of power, by the trapezoid rule).
        watts: ``joules`` / ``covered_s``.
        window_s: time in which the instance had a request in flight.
        covered_s: the part of it that lies between readings of this sensor, gaps left out.
        readings, interval_s: of all that the sensor gave while the instance was in use.
        largest_gap_s: longest stretch of the window without a reading.
        idle_watts_before: before the engine was started on the device; ``idle_watts``: with the engine there
            and no request in flight.
        reason: of the grade (see ``PowerProvenance``).
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
    interval_s: float | None
    largest_gap_s: float | None
    idle_watts_before: float | None
    idle_watts: float | None
    grade: Literal["A", "B", "C"]
    reason: str


class PowerProvenance(BaseModel):
    """Where a run's power comes from, and how far it may be trusted.

    Attributes:
        grade: A: energy counter of the whole device over the window; B: power readings at least once a second
            over at least 95 % of the window; C: sparser or partial readings; D: not measured.
        watts: mean power of the instances, each weighted by its time with requests in flight.
        joules: mean power times the window.
        measured_joules: in ``covered_s``, the part of the window that lies between readings.
        idle_watts: power between readings with no request in flight, where there were any.
        idle_watts_before: power before the engines were started, where it was measured.
        devices: the sensor of each device.
    """

    grade: Literal["A", "B", "C", "D"]
    reasons: list[str]
    sensors: list[str]
    scope: str | None
    watts: float | None = None
    joules: float | None
    measured_joules: float | None = None
    window_s: float | None
    covered_s: float | None
    largest_gap_s: float | None = None
    readings: int
    idle_watts: float | None = None
    idle_watts_before: float | None = None
    devices: list[SensorProvenance] = []


class EnergyComparison(BaseModel):
    """Provenance of both sides; ``comparable`` is false for unlike grades or scopes, with ``note``."""

    baseline: PowerProvenance
    candidate: PowerProvenance
    comparable: bool
    note: str | None


class WorkloadSide(BaseModel):
    """The work of one run over the paired items; ``error_share`` and ``retries`` are of the whole run."""

    requests: int
    prompt_tokens: int
    completion_tokens: int
    output_tokens_mean: float | None
    output_tokens_p50: float | None
    output_tokens_p90: float | None
    truncated_share: float
    stop_reasons: dict[str, float]
    error_share: float
    retries: int
    concurrency: int | None


class WorkloadParity(BaseModel):
    """Whether both runs did the same work; runtime of unlike work is not compared without a banner.

    Attributes:
        prompts_equal: input tokens are equal item by item (tokenizers may differ between builds).
        output_length_ratio: candidate's mean output length over the baseline's, with its 95 % interval.
        findings: what differs, each ``NOT_COMPARABLE`` or ``WARNING``.
    """

    baseline: WorkloadSide
    candidate: WorkloadSide
    prompts_equal: bool
    output_length_ratio: float | None
    output_length_ratio_interval_95: Interval | None
    comparable: bool
    findings: list[Finding]


class CandidateReport(BaseModel):
    """One candidate against the baseline.

    ``valid``: whether anything may be concluded; else ``findings`` has at least one ``INVALID`` and the
    numbers below are of the pairs that there are, for looking only.
    """

    candidate: ComparedRun
    valid: bool
    findings: list[Finding]
    coverage: Coverage
    plan_differences: list[PlanDifference]
    quality: list[QualityComparison]
    flips: list[FlipAnalysis]
    noise: list[NoiseFloor]
    runtime: list[RuntimeComparison]
    energy: EnergyComparison
    workload: WorkloadParity


class ComparisonReport(BaseModel):
    """Two or more runs, one of them the baseline."""

    schema_version: Literal[2] = 2
    settings: ComparisonSettings
    baseline: ComparedRun
    noise_floor_run: ComparedRun | None
    candidates: list[CandidateReport]
