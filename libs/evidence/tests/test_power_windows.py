"""Energy of windows: properties that hold for every series of readings and every course of requests."""

from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis.strategies import DrawFn, composite, floats, integers, lists

from assay_evidence.runtime.course import energy_between, energy_in_window
from assay_evidence.runtime.telemetry import SensorEnergy
from assay_evidence.runtime.timeline import InstanceTimeline

SECOND = 1_000_000_000
START = 5_000 * SECOND
MILLISECOND = 1_000_000


def instance(*stretches: tuple[int, int]) -> InstanceTimeline:
    """Requests in flight between these moments, milliseconds after the start."""
    starts, ends = (START + MILLISECOND * numpy.asarray(edges) for edges in zip(*stretches, strict=True))
    return InstanceTimeline(name="i", first=0, stop=len(starts), starts_ns=starts, ends_ns=ends)


def sensor(moments_ms: list[int], watts: list[float], *, method: str = "counter") -> SensorEnergy:
    """Power between each two moments."""
    steps = numpy.diff(moments_ms) / 1000
    joules = numpy.concatenate([[0.0], numpy.cumsum(steps * numpy.asarray(watts[: len(steps)]))])
    return SensorEnergy.model_validate(
        {
            "sensor": "nvml_energy",
            "device_id": "0",
            "scope": "card",
            "joules": float(joules[-1]),
            "seconds": float(steps.sum()),
            "readings": len(moments_ms),
            "method": method,
            "first_mono_ns": START + moments_ms[0] * MILLISECOND,
            "last_mono_ns": START + moments_ms[-1] * MILLISECOND,
            "largest_gap_s": float(steps.max()),
            "series": {
                "mono_ns": [START + at * MILLISECOND for at in moments_ms],
                "joules": joules.tolist(),
                "spacing_s": 1.0,
            },
        }
    )


@composite
def instances(draw: DrawFn) -> InstanceTimeline:
    """One to twelve stretches with requests in flight, apart from one another."""
    edges = draw(lists(integers(0, 60_000), min_size=2, max_size=24, unique=True).map(sorted))
    edges = edges[: len(edges) // 2 * 2]
    return instance(*zip(edges[::2], edges[1::2], strict=True))


@composite
def sensors(draw: DrawFn, *, longest_ms: int = 20_000) -> SensorEnergy:
    """Readings from some moment on, at most ``longest_ms`` apart."""
    steps = draw(lists(integers(1, longest_ms), min_size=1, max_size=80))
    moments = (draw(integers(-5_000, 30_000)) + numpy.cumsum([0, *steps])).tolist()
    watts = draw(lists(floats(0, 700), min_size=len(steps), max_size=len(steps)))
    method = draw(integers(0, 1).map(["counter", "integrated"].__getitem__))
    return sensor(moments, watts, method=method)


@given(busy=instances(), seen=sensors())
def test_no_window_has_more_energy_than_was_counted(busy: InstanceTimeline, seen: SensorEnergy) -> None:
    found = energy_in_window(busy, seen)
    assert 0 <= found.joules <= seen.joules * (1 + 1e-9)
    assert 0 <= found.dense_s <= found.covered_s + 1e-9
    assert found.covered_s <= busy.busy_ns / SECOND + 1e-9
    assert found.joules + found.idle_joules <= seen.joules * (1 + 1e-9) + 1e-9
    assert found.idle_s + found.covered_s <= seen.seconds + 1e-9


@given(busy=instances(), seen=sensors(longest_ms=1_000), cut=integers(1, 59_999))
def test_energy_of_adjoining_windows_adds_up(busy: InstanceTimeline, seen: SensorEnergy, cut: int) -> None:
    at = START + cut * MILLISECOND
    parts = [clipped(busy, before=at), clipped(busy, after=at)]
    found = [energy_in_window(part, seen) for part in parts if part is not None]
    whole = energy_in_window(busy, seen)
    assert sum(one.joules for one in found) == pytest.approx(whole.joules, abs=1e-6)
    assert sum(one.covered_s for one in found) == pytest.approx(whole.covered_s, abs=1e-6)


def clipped(
    busy: InstanceTimeline, *, before: int | None = None, after: int | None = None
) -> InstanceTimeline | None:
    starts, ends = numpy.clip(busy.starts_ns, after, before), numpy.clip(busy.ends_ns, after, before)
    kept = ends > starts
    if not kept.any():
        return None
    return InstanceTimeline(
        name="i", first=0, stop=int(kept.sum()), starts_ns=starts[kept], ends_ns=ends[kept]
    )


@given(busy=instances(), seen=sensors(), cuts=lists(integers(0, 60_000), max_size=12))
def test_energy_between_moments_adds_up_to_mean_power_times_window(
    busy: InstanceTimeline, seen: SensorEnergy, cuts: list[int]
) -> None:
    ends = (int(busy.starts_ns[0]), int(busy.ends_ns[-1]))
    inside = [START + cut * MILLISECOND for cut in cuts]
    bounds = numpy.unique([*ends, *numpy.clip(inside, *ends)])
    found = energy_in_window(busy, seen)
    mean = found.joules / found.covered_s if found.covered_s else seen.watts
    between = energy_between(busy, seen, bounds)
    assert (between >= 0).all()
    assert between.sum() == pytest.approx(mean * busy.busy_ns / SECOND, rel=1e-6, abs=1e-6)


@given(busy=instances(), seen=sensors(longest_ms=1_000))
def test_energy_by_counting_every_millisecond(busy: InstanceTimeline, seen: SensorEnergy) -> None:
    assert seen.series is not None
    moments = (numpy.asarray(seen.series.mono_ns) - START) // MILLISECOND
    every = numpy.arange(moments[0], moments[-1])
    watts = numpy.diff(seen.series.joules) / numpy.diff(moments)
    of_stretch = numpy.searchsorted(moments, every, side="right") - 1
    edges = zip(busy.starts_ns, busy.ends_ns, strict=True)
    in_flight = numpy.zeros(len(every), bool)
    for start, end in edges:
        in_flight |= (every >= (start - START) // MILLISECOND) & (every < (end - START) // MILLISECOND)
    found = energy_in_window(busy, seen)
    assert found.joules == pytest.approx(float(watts[of_stretch][in_flight].sum()), rel=1e-6, abs=1e-6)
    assert found.covered_s == pytest.approx(in_flight.sum() / 1000, abs=1e-6)


def test_a_slow_exporters_readings_are_no_gaps_but_a_longer_silence_is() -> None:
    # A reading every ten seconds; forty seconds without any; the requests come and go all the time.
    moments = [at * 1000 for at in (0, 10, 20, 30, 70, 80, 90, 100)]
    busy = instance(*((at * 1000, at * 1000 + 500) for at in range(100)))
    for method in ("counter", "integrated"):
        found = energy_in_window(busy, sensor(moments, [60.0] * 7, method=method))
        assert found.covered_s == pytest.approx(30.0)
        assert found.dense_s == 0.0
        assert found.joules == pytest.approx(60.0 * 30)
        assert found.largest_gap_s == pytest.approx(40.0)


def test_records_of_before_are_read() -> None:
    old: dict[str, Any] = sensor([0, 5_000, 10_000], [60.0, 80.0], method="integrated").model_dump()
    del old["series"]["spacing_s"]
    busy = instance((0, 10_000))
    found = energy_in_window(busy, SensorEnergy.model_validate(old | {"sparse_s": 4.0}))
    assert (found.joules, found.covered_s, found.dense_s) == (pytest.approx(700.0), 10.0, 6.0)
