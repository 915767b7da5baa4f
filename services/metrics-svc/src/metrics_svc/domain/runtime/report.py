"""Runtime metrics of one run, made by the same code as those of a comparison.

docs/runtime-metrics.md has the definitions.
"""

from collections.abc import Mapping, Sequence

import numpy
import pyarrow
from pydantic import JsonValue

from assay_evidence.report import ComparisonSettings, RuntimeEstimate
from assay_evidence.runtime.goodput import GoodputBounds
from assay_evidence.runtime.measure import RunMeasurements, measure, percentile_of
from assay_evidence.runtime.measured import EXACT_BINOMIAL, Measured, OwnInterval
from assay_evidence.runtime.telemetry import InstanceTelemetry
from assay_evidence.runtime_metrics import RUNTIME_METRICS
from assay_evidence.statistics.paired import rate_interval
from metrics_svc.domain.runtime.counts import RequestCounts
from metrics_svc.domain.runtime.details import (
    Distribution,
    GapDistribution,
    Percentile,
    PowerDetails,
    RuntimeDetails,
    RuntimeReport,
)
from metrics_svc.domain.runtime.serving import Serving
from metrics_svc.domain.runtime.trust import warnings_of

NOT_OF_A_RUN = frozenset({"joulesPerCorrectAnswer"})
"""What takes a metric of right and wrong, which only a comparison chooses."""
_NO_REQUEST = "no request was sent"
_UNKNOWN_YET = "not known before the run has ended"
_SHOWN_OF_A_SENSOR = {"sensor", "device_id", "scope", "joules", "seconds", "readings", "method"}


def make_report(
    requests: pyarrow.Table,
    counts: RequestCounts,
    *,
    telemetry: Sequence[InstanceTelemetry],
    serving: Serving | None,
    bounds: GoodputBounds | None,
) -> RuntimeReport:
    """All runtime metrics of a run, each with its interval.

    Args:
        requests: ``TIMING_COLUMNS``, ``index`` and ``schedule_delay_s``, in an order that depends on the
            requests alone.
        counts: of the same requests.
        telemetry: of every serving instance.
        serving: how the run was served; ``None`` while it goes on.
        bounds: for goodput.
    """
    settings = ComparisonSettings()
    measured = measure(
        requests,
        {one.instance_id: one for one in telemetry},
        correct=None,
        resamples=settings.bootstrap_resamples,
        seed=settings.seed,
        side=0,
        bounds=bounds,
    )
    found = {
        **measured.estimates(),
        **_delays(requests, measured),
        **_counted(counts, measured),
        **_of_serving(serving),
    }
    estimates = {name: found[name] for name in RUNTIME_METRICS if name not in NOT_OF_A_RUN}
    warnings = warnings_of(estimates, measured.gaps, counts, serving)
    power = _power(measured, telemetry)
    cpu_seconds = [one.cpu_seconds for one in telemetry if one.cpu_seconds is not None]
    details = RuntimeDetails(
        estimates=estimates,
        time_blocks=measured.blocks,
        ttft=_distribution("ttft", estimates),
        itl=_gaps(measured, counts, estimates),
        schedule_delay=_distribution("scheduleDelay", estimates),
        window_s=measured.window_s,
        instances=measured.instances,
        output_tokens=counts.output_tokens,
        prompt_tokens=counts.prompt_tokens,
        requests=counts.answered,
        failed_requests=counts.failed,
        retries=counts.retries,
        without_text=counts.without_text,
        token_count_mismatches=counts.mismatched,
        stamp_sources=dict(sorted(counts.stamp_sources.items())),
        power=power,
        cpu_seconds=sum(cpu_seconds) if cpu_seconds else None,
        goodput_bounds=bounds,
        calibration=[one.calibration for one in serving.instances] if serving else [],
        ledger=serving.ledger if serving else None,
        warnings=warnings,
        null_reasons={name: str(one.note) for name, one in estimates.items() if one.value is None},
    )
    return RuntimeReport(metrics={name: one.value for name, one in estimates.items()}, details=details)


def _delays(requests: pyarrow.Table, measured: RunMeasurements) -> dict[str, RuntimeEstimate]:
    seconds = requests["schedule_delay_s"].drop_null().to_numpy().astype(numpy.float64)
    return {
        name: measured.estimate(
            percentile_of(seconds, RUNTIME_METRICS[name].share or 0.5)
            or Measured(None, note="no request with a recorded wait before it was sent")
        )
        for name in ("scheduleDelayP50", "scheduleDelayP99")
    }


def _counted(counts: RequestCounts, measured: RunMeasurements) -> dict[str, RuntimeEstimate]:
    """Error rate and token counts."""
    requests = counts.answered + counts.failed
    errors = Measured(None, note=_NO_REQUEST)
    if requests:
        interval = OwnInterval(*rate_interval(counts.failed, requests), EXACT_BINOMIAL)
        errors = Measured(counts.failed / requests, n=requests, own=interval)
    tokens = {"inputTokens": counts.prompt_tokens, "outputTokens": counts.output_tokens}
    counted = {
        name: Measured(float(total), n=counts.answered, note="a count: as the server reports them")
        if counts.answered
        else Measured(None, note="no request has a response")
        for name, total in tokens.items()
    }
    return {name: measured.estimate(one) for name, one in ({"errorRate": errors} | counted).items()}


def _of_serving(serving: Serving | None) -> dict[str, RuntimeEstimate]:
    """Cold start and accelerator time, which lie outside the window of the requests."""
    unknown = Measured(None, note=_UNKNOWN_YET)
    found = {
        "coldStart": serving.cold_start() if serving else unknown,
        "acceleratorSeconds": serving.accelerator_seconds() if serving else unknown,
    }
    return {name: one.estimate(blocks=0, few_blocks=None, window_s=None) for name, one in found.items()}


def _distribution(name: str, estimates: Mapping[str, RuntimeEstimate]) -> Distribution:
    p50, p99 = estimates[f"{name}P50"], estimates[f"{name}P99"]
    return Distribution(n=p50.n, p50=_percentile(p50), p99=_percentile(p99))


def _percentile(found: RuntimeEstimate) -> Percentile | None:
    if found.value is None:
        return None
    return Percentile(value=found.value, low=found.low, high=found.high, at_least=found.at_least)


def _gaps(
    measured: RunMeasurements, counts: RequestCounts, estimates: Mapping[str, RuntimeEstimate]
) -> GapDistribution:
    gaps = measured.gaps
    after_first = gaps.observations.n + gaps.unknown
    return GapDistribution(
        **dict(_distribution("itl", estimates)),
        spread_gaps=gaps.spread,
        spread_share=gaps.spread_share,
        merged_gaps=gaps.merged,
        merged_share=gaps.merged / after_first if after_first else 0.0,
        unknown_gaps=gaps.unknown,
        merged_reads=counts.merged_reads,
        inexact_requests=counts.inexact,
    )


def _power(measured: RunMeasurements, telemetry: Sequence[InstanceTelemetry]) -> PowerDetails:
    """Power of the run and every reading there is; ``counted`` are those that make it up."""
    readings: list[JsonValue] = [
        {
            "instance_id": one.instance_id,
            **sensor.model_dump(include=_SHOWN_OF_A_SENSOR),
            "counted": sensor in one.counted(),
        }
        for one in telemetry
        for sensor in one.power or ()
    ]
    watts = measured.metrics["power"].value
    is_measured = watts is not None
    return PowerDetails(
        status="measured" if is_measured else "not measured",
        watts=watts,
        reasons=[] if is_measured else measured.power.reasons,
        readings=readings,
        provenance=measured.power,
    )
