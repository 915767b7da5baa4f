"""Power of a run's serving instances, where it comes from, and how far it may be trusted.

Nothing is estimated: an instance without a sensor has no power, and neither has one of whose window the
sensor saw less than half, or of which only some of the occupied devices have a sensor.

Grades. A: energy counters of whole devices that cover at least 95 % of the window. B: power readings at most
``DENSE_S`` apart over at least 95 % of the window. C: sensors with sparser readings, or over less of the
window. D: not measured. A run has the worst grade of its instances, an instance the worst of its devices. Of
a device's sensors the one with the best grade counts, an energy counter before readings of power.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy

from assay_evidence.report import EnergyComparison, PowerProvenance, SensorProvenance
from assay_evidence.runtime.course import DENSE_S, WindowEnergy, energy_between, energy_in_window
from assay_evidence.runtime.telemetry import InstanceTelemetry, SensorEnergy
from assay_evidence.runtime.timeline import (
    NANOSECONDS,
    FloatArray,
    InstanceTimeline,
    RequestTimeline,
    TimeBlocks,
)

__all__ = [
    "DENSE_S",
    "FULL_COVERAGE",
    "LEAST_COVERAGE",
    "compare_provenance",
    "energy_of_blocks",
    "mean_power",
    "power_of_instances",
    "power_provenance",
]

FULL_COVERAGE = 0.95
LEAST_COVERAGE = 0.5
"""Share of the window below which the mean of what was covered is not the power of the window."""


def mean_power(timeline: RequestTimeline, telemetry: Mapping[str, InstanceTelemetry]) -> float | None:
    """Mean power in watts, each instance weighted by its time with requests in flight.

    ``None`` unless sensors cover every instance.
    """
    return power_provenance(timeline, telemetry).watts


def power_provenance(
    timeline: RequestTimeline, telemetry: Mapping[str, InstanceTelemetry]
) -> PowerProvenance:
    """Power of a run with its record; all of it ``None`` in grade D, and ``reasons`` say why."""
    return power_of_instances(timeline.instances, telemetry)


def power_of_instances(
    instances: Sequence[InstanceTimeline], telemetry: Mapping[str, InstanceTelemetry]
) -> PowerProvenance:
    """As ``power_provenance``, from the stretches alone in which each instance had requests in flight."""
    read = [_read(instance, telemetry.get(instance.name)) for instance in instances]
    window = sum(instance.busy_ns for instance in instances) / NANOSECONDS
    missing = list(dict.fromkeys(reason for one in read for reason in one.missing))
    if missing or not window:
        return PowerProvenance(
            grade="D",
            reasons=missing or ["no request was sent"],
            sensors=[],
            scope=None,
            joules=None,
            window_s=window or None,
            covered_s=None,
            readings=0,
        )
    watts = sum(one.watts * one.window_s for one in read) / window
    devices = [device.record for one in read for device in one.devices]
    gaps = [device.largest_gap_s for device in devices if device.largest_gap_s is not None]
    return PowerProvenance(
        grade=max(device.grade for device in devices),
        reasons=list(dict.fromkeys(device.reason for device in devices)),
        sensors=sorted({device.sensor for device in devices}),
        scope=", ".join(sorted({device.scope for device in devices})),
        watts=watts,
        joules=watts * window,
        measured_joules=sum(device.joules for device in devices),
        window_s=window,
        covered_s=sum(min(device.record.covered_s for device in one.devices) for one in read),
        largest_gap_s=max(gaps, default=None),
        readings=sum(device.readings for device in devices),
        idle_watts=_idle_watts(read),
        idle_watts_before=_idle_watts_before(read),
        devices=devices,
    )


def energy_of_blocks(
    timeline: RequestTimeline, blocks: TimeBlocks, telemetry: Mapping[str, InstanceTelemetry]
) -> FloatArray | None:
    """Joules of each block; they add up to mean power times window.

    Returns:
        ``None`` where power is not known, or a sensor has no series, so that its course is not known.
    """
    if mean_power(timeline, telemetry) is None:
        return None
    joules = numpy.zeros(len(blocks))
    for instance, first, bounds in zip(
        timeline.instances, blocks.first_of_instance, blocks.bounds_ns, strict=True
    ):
        part = slice(first, first + len(bounds) - 1)
        for device in _read(instance, telemetry.get(instance.name)).devices:
            series = device.sensor.series
            if series is None or len(series.mono_ns) < 2:
                return None
            joules[part] += energy_between(instance, device.sensor, bounds)
    return joules


@dataclass(frozen=True, slots=True)
class _Device:
    """A device of an instance by the sensor that counts."""

    sensor: SensorEnergy
    energy: WindowEnergy
    record: SensorProvenance


@dataclass(frozen=True, slots=True)
class _Instance:
    """What the sensors of one instance say; ``missing``: why that is no power."""

    window_s: float
    devices: Sequence[_Device] = ()
    missing: Sequence[str] = ()

    @property
    def watts(self) -> float:
        return sum(device.record.watts for device in self.devices)


def _read(instance: InstanceTimeline, telemetry: InstanceTelemetry | None) -> _Instance:
    window = instance.busy_ns / NANOSECONDS
    if telemetry is None or not (sensors := telemetry.by_device()):
        said = telemetry.unavailable if telemetry else []
        return _Instance(window, missing=said or [f"no power readings of serving instance {instance.name}"])
    occupied = telemetry.accelerators
    if occupied and len(sensors) != occupied:
        reason = f"{len(sensors)} devices have a sensor and {occupied} are occupied"
        return _Instance(
            window, missing=[f"serving instance {instance.name}: {reason}", *telemetry.unavailable]
        )
    devices = [_of_device(instance, telemetry, candidates) for candidates in sensors.values()]
    missing = [
        f"{_named(device.sensor)}: readings cover {device.record.covered_s / window:.0%} of the time with "
        f"requests in flight; below {LEAST_COVERAGE:.0%} that is no measurement"
        for device in devices
        if device.record.covered_s < LEAST_COVERAGE * window
    ]
    return _Instance(window, devices=devices, missing=missing)


def _of_device(
    instance: InstanceTimeline, telemetry: InstanceTelemetry, candidates: Sequence[SensorEnergy]
) -> _Device:
    made = [_device(instance, telemetry, sensor) for sensor in candidates]
    return min(made, key=lambda one: (one.record.grade, one.sensor.method != "counter", -one.energy.dense_s))


def _device(instance: InstanceTimeline, telemetry: InstanceTelemetry, sensor: SensorEnergy) -> _Device:
    energy = energy_in_window(instance, sensor)
    window = instance.busy_ns / NANOSECONDS
    grade, reason = _graded(sensor, energy, window_s=window)
    return _Device(
        sensor=sensor,
        energy=energy,
        record=SensorProvenance(
            instance_id=instance.name,
            sensor=sensor.sensor,
            device_id=sensor.device_id,
            scope=sensor.scope,
            method=sensor.method,
            watts=energy.joules / energy.covered_s if energy.covered_s else 0.0,
            joules=energy.joules,
            window_s=window,
            covered_s=energy.covered_s,
            readings=sensor.readings,
            interval_s=_interval_s(sensor),
            largest_gap_s=energy.largest_gap_s,
            idle_watts_before=_before(telemetry, sensor),
            idle_watts=energy.idle_joules / energy.idle_s if energy.idle_s else None,
            grade=grade,
            reason=reason,
        ),
    )


def _graded(
    sensor: SensorEnergy, energy: WindowEnergy, *, window_s: float
) -> tuple[Literal["A", "B", "C"], str]:
    what = _named(sensor)
    if sensor.series is None:
        return (
            "C",
            f"{what}: the course of its readings was not recorded, so the mean of all of them is taken",
        )
    share = energy.dense_s / window_s if window_s else 0.0
    if share < FULL_COVERAGE:
        covered = energy.covered_s / window_s if window_s else 0.0
        return (
            "C",
            f"{what}: readings at most {DENSE_S:g} s apart cover {share:.0%} of the time with requests in "
            f"flight, all readings {covered:.0%}",
        )
    if sensor.method == "counter":
        return "A", f"{what}: energy counter over {share:.0%} of the time with requests in flight"
    interval = _interval_s(sensor) or 0.0
    return (
        "B",
        f"{what}: a reading every {interval:.2g} s over {share:.0%} of the time with requests in flight",
    )


def _named(sensor: SensorEnergy) -> str:
    return f"{sensor.sensor} of the {sensor.scope}"


def _interval_s(sensor: SensorEnergy) -> float | None:
    return sensor.seconds / (sensor.readings - 1) if sensor.readings > 1 else None


def _before(telemetry: InstanceTelemetry, sensor: SensorEnergy) -> float | None:
    """Idle power of the device by the same sensor, or by another one of the device."""
    of_device = [one for one in telemetry.idle_baselines if one.device_id == sensor.device_id]
    found = min(of_device, key=lambda one: one.kind != sensor.sensor, default=None)
    return None if found is None else found.watts


def _idle_watts(instances: Sequence[_Instance]) -> float | None:
    """Power without requests, over the instances that were seen idle by all their sensors."""
    seconds = joules = 0.0
    for instance in instances:
        idle = min(device.energy.idle_s for device in instance.devices)
        if idle > 0:
            seconds += idle
            joules += idle * sum(device.record.idle_watts or 0.0 for device in instance.devices)
    return joules / seconds if seconds else None


def _idle_watts_before(instances: Sequence[_Instance]) -> float | None:
    """Power before the engines were started, weighted as power is; ``None`` unless known of every device."""
    seconds = joules = 0.0
    for instance in instances:
        for device in instance.devices:
            if device.record.idle_watts_before is None:
                return None
            joules += device.record.idle_watts_before * instance.window_s
        seconds += instance.window_s
    return joules / seconds


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
