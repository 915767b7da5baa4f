"""Power of a run's serving instances, where it comes from, and how far it may be trusted.

Nothing is estimated: an instance without a sensor has no power.

Grades. A: energy counters of whole devices that cover at least 95 % of the window. B: power readings at most
``DENSE_S`` apart over at least 95 % of the window. C: sensors with sparser readings, or over less of the
window. D: an instance has no sensor. A run has the worst grade of its instances, an instance the worst of the
sensors that make up its power.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy

from assay_evidence.report import EnergyComparison, PowerProvenance
from assay_evidence.runtime.telemetry import EnergySeries, InstanceTelemetry, SensorEnergy
from assay_evidence.runtime.timeline import (
    NANOSECONDS,
    FloatArray,
    InstanceTimeline,
    IntArray,
    RequestTimeline,
    TimeBlocks,
)

DENSE_S = 1.0
"""Readings at most this far apart are dense; so much may also be missing at either end of the window."""
FULL_COVERAGE = 0.95
Grade = Literal["A", "B", "C", "D"]


def mean_power(timeline: RequestTimeline, telemetry: Mapping[str, InstanceTelemetry]) -> float | None:
    """Mean power in watts, each instance weighted by its time with requests in flight.

    ``None`` unless a sensor covers every instance.
    """
    total = sum(instance.busy_ns for instance in timeline.instances)
    joules = 0.0
    for instance in timeline.instances:
        sensors = _sensors_of(instance, telemetry)
        if not sensors:
            return None
        joules += sum(sensor.watts for sensor in sensors) * instance.busy_ns
    return joules / total if total else None


def energy_of_blocks(
    timeline: RequestTimeline, blocks: TimeBlocks, telemetry: Mapping[str, InstanceTelemetry]
) -> FloatArray | None:
    """Joules of each block; they add up to mean power times window.

    Power varies over the blocks of an instance as its sensors' series say.

    Returns:
        ``None`` where power is not known, or a sensor has no series, so that its course is not known.
    """
    watts = mean_power(timeline, telemetry)
    if watts is None:
        return None
    joules = numpy.zeros(len(blocks))
    for instance, first, bounds in zip(
        timeline.instances, blocks.first_of_instance, blocks.bounds_ns, strict=True
    ):
        part = slice(first, first + len(bounds) - 1)
        for sensor in _sensors_of(instance, telemetry):
            if sensor.series is None or len(sensor.series.mono_ns) < 2:
                return None
            joules[part] += _power_between(bounds, sensor, sensor.series) * blocks.busy_s[part]
    total = float(joules.sum())
    return joules * (watts * timeline.window_s / total) if total > 0 else None


def _power_between(bounds_ns: IntArray, sensor: SensorEnergy, series: EnergySeries) -> FloatArray:
    """Mean power between successive moments; the sensor's own mean where it has no reading in between."""
    moments = numpy.asarray(series.mono_ns, dtype=numpy.int64)
    inside = numpy.clip(bounds_ns, moments[0], moments[-1])
    energy = numpy.interp(inside - moments[0], moments - moments[0], numpy.asarray(series.joules))
    seconds = numpy.diff(inside) / NANOSECONDS
    joules = numpy.diff(energy)
    return numpy.where(seconds > 0, joules / numpy.where(seconds > 0, seconds, 1.0), sensor.watts)


def _sensors_of(instance: InstanceTimeline, telemetry: Mapping[str, InstanceTelemetry]) -> list[SensorEnergy]:
    known = telemetry.get(instance.name)
    return known.counted() if known else []


def power_provenance(
    timeline: RequestTimeline, telemetry: Mapping[str, InstanceTelemetry]
) -> PowerProvenance:
    """Grade and origin of a run's power. ``joules``: mean power times the window; ``None`` in grade D."""
    watts = mean_power(timeline, telemetry)
    window = timeline.window_s
    if watts is None:
        return PowerProvenance(
            grade="D",
            reasons=_why_unknown(timeline, telemetry),
            sensors=[],
            scope=None,
            joules=None,
            window_s=window or None,
            covered_s=None,
            readings=0,
        )
    found = [(instance, _sensors_of(instance, telemetry)) for instance in timeline.instances]
    graded = [_graded(instance, sensor) for instance, sensors in found for sensor in sensors]
    counted = [sensor for _, sensors in found for sensor in sensors]
    return PowerProvenance(
        grade=max(grade for grade, _ in graded),
        reasons=list(dict.fromkeys(reason for _, reason in graded)),
        sensors=sorted({sensor.sensor for sensor in counted}),
        scope=", ".join(sorted({sensor.scope for sensor in counted})),
        joules=watts * window,
        window_s=window,
        covered_s=sum(
            min(_covered_s(instance, sensor) or 0.0 for sensor in sensors) for instance, sensors in found
        ),
        readings=sum(sensor.readings for sensor in counted),
        idle_watts=_idle_watts([sensors for _, sensors in found]),
    )


def _idle_watts(instances: Sequence[Sequence[SensorEnergy]]) -> float | None:
    """Power without requests, over the instances that were seen idle by all their sensors."""
    seconds = joules = 0.0
    for sensors in instances:
        idle = min(sensor.idle_seconds for sensor in sensors)
        if idle > 0:
            seconds += idle
            joules += idle * sum(sensor.idle_joules / sensor.idle_seconds for sensor in sensors)
    return joules / seconds if seconds else None


def _why_unknown(timeline: RequestTimeline, telemetry: Mapping[str, InstanceTelemetry]) -> list[str]:
    if not timeline.instances:
        return ["no request was sent"]
    missing = [instance.name for instance in timeline.instances if not _sensors_of(instance, telemetry)]
    said = {reason for name in missing if name in telemetry for reason in telemetry[name].unavailable}
    return sorted(said) or [f"no power readings of serving instance {name}" for name in missing]


def _covered_s(instance: InstanceTimeline, sensor: SensorEnergy) -> float | None:
    """Seconds of the instance's window that the sensor covers; ``None`` where its times are not known."""
    if sensor.first_mono_ns is None or sensor.last_mono_ns is None or sensor.sparse_s is None:
        return None
    slack = int(DENSE_S * NANOSECONDS)
    span = numpy.asarray([sensor.first_mono_ns - slack, sensor.last_mono_ns + slack])
    inside = float(numpy.diff(instance.busy_until(span))[0])
    # Where the sparse stretches lie is not known: they are taken to lie in the window.
    sparse = sensor.sparse_s if sensor.method != "counter" else 0.0
    return max(0.0, inside - sparse)


def _graded(instance: InstanceTimeline, sensor: SensorEnergy) -> tuple[Grade, str]:
    covered = _covered_s(instance, sensor)
    what = f"{sensor.sensor} of the {sensor.scope}"
    if covered is None:
        return "C", f"{what}: when it was read is not known"
    window = instance.busy_ns / NANOSECONDS
    share = covered / window if window else 0.0
    if share < FULL_COVERAGE:
        return "C", f"{what}: covers {share:.0%} of the time with requests in flight"
    if sensor.method == "counter":
        return "A", f"{what}: energy counter over {share:.0%} of the time with requests in flight"
    interval = sensor.seconds / max(sensor.readings - 1, 1)
    return (
        "B",
        f"{what}: a reading every {interval:.2g} s over {share:.0%} of the time with requests in flight",
    )


def compare_provenance(
    baseline: PowerProvenance, candidate: PowerProvenance, *, allow_unlike: bool = False
) -> EnergyComparison:
    """Whether energy of the two runs may be compared.

    Args:
        allow_unlike: compare unlike grades and scopes all the same; the note stays.
    """
    unknown = [
        f"{name} run: {'; '.join(side.reasons)}"
        for name, side in (("baseline", baseline), ("candidate", candidate))
        if side.grade == "D"
    ]
    if unknown:
        note = "not measured: " + "; ".join(unknown)
        return EnergyComparison(baseline=baseline, candidate=candidate, comparable=False, note=note)
    unlike = []
    if baseline.grade != candidate.grade:
        unlike.append(
            f"power grades differ: {baseline.grade} of the baseline, {candidate.grade} of the candidate"
        )
    if baseline.scope != candidate.scope:
        unlike.append(
            f"sensor scopes differ: {baseline.scope} of the baseline, {candidate.scope} of the candidate"
        )
    return EnergyComparison(
        baseline=baseline,
        candidate=candidate,
        comparable=allow_unlike or not unlike,
        note="; ".join(unlike) or None,
    )
