"""Energy that a sensor saw while requests were in flight.

The window is the union of an instance's requests in flight. Between two successive readings energy is taken
to grow evenly, so that the part of a stretch that lies in the window has its share of the stretch's energy.
Three kinds of stretch:

- dense: readings at most ``DENSE_S`` apart; and, of an energy counter, one that lies in the window as good as
  whole, whose energy is then known however long it is;
- sparse: longer, as this sensor's readings usually are;
- a gap: more than ``GAP_FACTOR`` times as long as is usual for the sensor, and longer than ``DENSE_S``. What
  happened in a gap is not known: neither its energy nor its time counts.

What lies before the first reading or after the last one does not count either.
"""

from dataclasses import dataclass

import numpy

from assay_evidence.runtime.telemetry import EnergySeries, SensorEnergy
from assay_evidence.runtime.timeline import NANOSECONDS, BoolArray, FloatArray, InstanceTimeline, IntArray

DENSE_S = 1.0
"""Readings at most this far apart are dense."""
GAP_FACTOR = 2.5
_WHOLE = 0.99


@dataclass(frozen=True, slots=True)
class WindowEnergy:
    """What one sensor saw of an instance's window.

    Attributes:
        joules: in ``covered_s``.
        covered_s: seconds of the window in stretches that are no gap.
        dense_s: seconds of the window in dense stretches.
        largest_gap_s: the longest stretch without a reading that touches the window; ``None``: not known.
        idle_joules, idle_s: in stretches that are no gap and have no request in flight.
    """

    joules: float
    covered_s: float
    dense_s: float
    largest_gap_s: float | None
    idle_joules: float
    idle_s: float


def energy_in_window(instance: InstanceTimeline, sensor: SensorEnergy) -> WindowEnergy:
    """Energy of ``sensor`` in the window of ``instance``.

    Of a record without a series only the mean over all its readings is known: it is taken for the window, and
    nothing counts as dense.
    """
    if sensor.series is None or len(sensor.series.mono_ns) < 2:
        return _without_course(instance, sensor)
    stretches = _Stretches.of(instance, sensor, sensor.series)
    kept, idle = ~stretches.gap, ~stretches.gap & (stretches.busy_s == 0)
    energy = stretches.watts * stretches.busy_s
    covered = float(stretches.busy_s[kept].sum())
    dense = float(stretches.busy_s[stretches.dense].sum())
    if sensor.series.spacing_s is None:
        # Where readings were missing is not in the record, only how long: it is taken to be in the window.
        missing = (sensor.sparse_s or 0.0) if sensor.method != "counter" else 0.0
        dense = max(0.0, covered - missing)
    return WindowEnergy(
        joules=float(energy[kept].sum()),
        covered_s=covered,
        dense_s=dense,
        largest_gap_s=_largest_gap_s(instance, sensor, sensor.series, stretches),
        idle_joules=float((stretches.watts * stretches.lasts_s)[idle].sum()),
        idle_s=float(stretches.lasts_s[idle].sum()),
    )


def energy_between(instance: InstanceTimeline, sensor: SensorEnergy, bounds_ns: IntArray) -> FloatArray:
    """Joules in the window between successive moments, ``(bounds - 1,)``.

    Where the sensor covers nothing, its mean over the covered window stands in: the sum over the whole window
    is mean power times window.

    Raises:
        ValueError: the record has no series.
    """
    if sensor.series is None or len(sensor.series.mono_ns) < 2:
        raise ValueError(f"sensor {sensor.sensor!r}: the course of its energy was not recorded")
    window = energy_in_window(instance, sensor)
    mean = window.joules / window.covered_s if window.covered_s else sensor.watts
    stretches = _Stretches.of(instance, sensor, sensor.series)
    moments = numpy.asarray(sensor.series.mono_ns, dtype=numpy.int64)
    # Power by stretch, with one more before the first reading and one after the last.
    watts = numpy.concatenate([[mean], numpy.where(stretches.gap, mean, stretches.watts), [mean]])
    grid = numpy.union1d(moments, bounds_ns)
    busy = numpy.diff(instance.busy_until(grid))
    of_cell = watts[numpy.searchsorted(moments, grid[:-1], side="right")] * busy
    until = numpy.concatenate([[0.0], numpy.cumsum(of_cell)])
    between: FloatArray = numpy.diff(until[numpy.searchsorted(grid, bounds_ns)])
    return between


@dataclass(frozen=True, slots=True)
class _Stretches:
    """Between successive points of a series: how long, how much of it in the window, mean power."""

    lasts_s: FloatArray
    busy_s: FloatArray
    watts: FloatArray
    dense: BoolArray
    gap: BoolArray

    @classmethod
    def of(cls, instance: InstanceTimeline, sensor: SensorEnergy, series: EnergySeries) -> "_Stretches":
        moments = numpy.asarray(series.mono_ns, dtype=numpy.int64)
        lasts = numpy.diff(moments) / NANOSECONDS
        busy = numpy.diff(instance.busy_until(moments))
        spacing = series.spacing_s or 0.0
        known = (busy >= _WHOLE * lasts) & (sensor.method == "counter")
        usual = max(DENSE_S, spacing, GAP_FACTOR * float(numpy.median(lasts)))
        # A nanosecond is lost where seconds are made of nanoseconds.
        return cls(
            lasts_s=lasts,
            busy_s=busy,
            watts=numpy.diff(numpy.asarray(series.joules)) / lasts,
            dense=(lasts <= max(DENSE_S, spacing) + 1e-9) | known,
            gap=(lasts > usual + 1e-9) & ~known,
        )


def _largest_gap_s(
    instance: InstanceTimeline, sensor: SensorEnergy, series: EnergySeries, stretches: _Stretches
) -> float:
    """Stretches that touch the window, and what it has before the first reading and after the last."""
    touching = float(stretches.lasts_s[stretches.busy_s > 0].max(initial=0.0))
    if sensor.largest_gap_s is not None:
        touching = min(touching, sensor.largest_gap_s)  # points of the series may have been left out
    before = (series.mono_ns[0] - int(instance.starts_ns[0])) / NANOSECONDS
    after = (int(instance.ends_ns[-1]) - series.mono_ns[-1]) / NANOSECONDS
    return max(touching, before, after)


def _without_course(instance: InstanceTimeline, sensor: SensorEnergy) -> WindowEnergy:
    window = instance.busy_ns / NANOSECONDS
    if sensor.first_mono_ns is not None and sensor.last_mono_ns is not None:
        span = numpy.asarray([sensor.first_mono_ns, sensor.last_mono_ns], dtype=numpy.int64)
        window = float(numpy.diff(instance.busy_until(span))[0])
    return WindowEnergy(
        joules=sensor.watts * window,
        covered_s=window,
        dense_s=0.0,
        largest_gap_s=sensor.largest_gap_s,
        idle_joules=sensor.idle_joules,
        idle_s=sensor.idle_seconds,
    )
