"""What stands behind the runtime metrics of a run, as it is stored and handed out."""

from pydantic import BaseModel, JsonValue

from assay_evidence.report import PowerProvenance, RuntimeEstimate
from assay_evidence.runtime.goodput import GoodputBounds


class Percentile(BaseModel):
    """Nearest-rank percentile, seconds, with its 95 % interval.

    ``at_least``: too few observations to bound it from above; for p99 that is fewer than 299.
    """

    value: float
    low: float | None
    high: float | None
    at_least: bool


class Distribution(BaseModel):
    """Percentiles of ``n`` observations, seconds."""

    n: int
    p50: Percentile | None
    p99: Percentile | None


class GapDistribution(Distribution):
    """Inter-token gaps; k tokens that came together after a gap g are k gaps of g / k.

    Attributes:
        spread_gaps: gaps made by that rule; ``spread_share``: their share of all ``n``.
        merged_gaps: tokens that have no arrival of their own, because they came with an earlier one;
            ``merged_share``: their share of all tokens after the first of their request.
        unknown_gaps: those of them that came with the first token of their request, and have no gap at all.
        merged_reads: reads that carried more than one token.
        inexact_requests: requests left out because they have no time for every token.
    """

    spread_gaps: int = 0
    spread_share: float = 0.0
    merged_gaps: int
    merged_share: float
    unknown_gaps: int = 0
    merged_reads: int = 0
    inexact_requests: int


class PowerDetails(BaseModel):
    """Power and where it comes from. ``watts`` is ``None`` unless a sensor covered every instance."""

    status: str
    watts: float | None
    reasons: list[str]
    readings: list[JsonValue]
    provenance: PowerProvenance | None = None


class InstanceCalibration(BaseModel):
    """What the adapter measured of itself against an endpoint of known timing, as eval-svc recorded it.

    ``before`` and ``after`` the run; ``None`` where there is no such calibration, and ``note`` says why.
    """

    instance_id: str
    before: dict[str, JsonValue] | None = None
    after: dict[str, JsonValue] | None = None
    note: str | None = None


class RuntimeDetails(BaseModel):
    """What stands behind the runtime metrics. Times in seconds.

    Attributes:
        estimates: every runtime metric with its interval, by name.
        time_blocks: blocks of time that intervals of means, rates and energy resample.
        window_s: time with at least one request in flight, summed over instances.
        instances: serving instances that answered.
        requests: requests with a response.
        failed_requests: requests without one.
        retries: attempts beyond the first.
        without_text: generating requests whose response has no text, so no first token.
        token_count_mismatches: generating requests of which another number of tokens arrived than the
            server's usage says. The metrics count the server's.
        schedule_delay: wait of a request before it was sent to the engine; in no other number.
        gap_independence: what intervals take for granted.
        goodput_bounds: what goodput asks for; ``None``: no bounds given.
        calibration: by serving instance.
        ledger: what serving cost, summed over instances, as eval-svc recorded it.
        warnings: what makes the numbers less trustworthy than they look.
        null_reasons: why a runtime metric is ``None``.
    """

    percentile_definition: str = "nearest rank"
    confidence: float = 0.95
    gap_independence: str = (
        "without enough time blocks, intervals of percentiles take observations as independent, and shares "
        "of one gap as one"
    )
    estimates: dict[str, RuntimeEstimate] = {}
    time_blocks: int = 0
    ttft: Distribution
    itl: GapDistribution
    schedule_delay: Distribution
    window_s: float
    instances: int
    output_tokens: int
    prompt_tokens: int
    requests: int
    failed_requests: int
    retries: int
    without_text: int
    token_count_mismatches: int = 0
    stamp_sources: dict[str, int]
    power: PowerDetails
    cpu_seconds: float | None
    goodput_bounds: GoodputBounds | None = None
    calibration: list[InstanceCalibration] = []
    ledger: dict[str, JsonValue] | None = None
    warnings: list[str] = []
    null_reasons: dict[str, str]


class RuntimeReport(BaseModel):
    """Runtime metrics by name, and the details."""

    metrics: dict[str, float | None]
    details: RuntimeDetails
