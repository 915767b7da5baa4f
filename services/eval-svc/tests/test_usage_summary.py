"""What is kept of an instance's telemetry."""

import asyncio
import json
import math
from itertools import pairwise
from random import Random

import numpy
import pytest
from hypothesis import given
from hypothesis.strategies import floats, lists

from assay_serving.types import IdleBaseline, Reading, SensorKind, TelemetrySample
from eval_svc.usage import MOST_POINTS, Usage, without_series

SECOND = 1_000_000_000
START = 5 * SECOND


def watts(value: float, *, device: str = "0") -> Reading:
    return Reading(kind=SensorKind.RNGD_POWER, device_id=device, scope="card", watts=value)


def counter(value: float) -> Reading:
    return Reading(kind=SensorKind.NVML_ENERGY, device_id="0", scope="card", joules_total=value)


def sample(at_s: float, *readings: Reading) -> TelemetrySample:
    return TelemetrySample(mono_ns=START + round(at_s * SECOND), readings=readings)


def only_sensor(usage: Usage) -> dict[str, object]:
    summary = usage.summary()
    json.dumps(summary)
    (sensor,) = summary["power"]
    return dict(sensor)


def test_power_readings_are_integrated_and_their_spacing_is_kept() -> None:
    usage = Usage()
    for at, value in ((0.0, 10.0), (0.5, 20.0), (1.0, 20.0), (3.5, 40.0)):
        usage.add(sample(at, watts(value)))
    sensor = only_sensor(usage)
    assert sensor["joules"] == pytest.approx(15 * 0.5 + 20 * 0.5 + 30 * 2.5)
    assert sensor["seconds"] == pytest.approx(3.5)
    assert (sensor["readings"], sensor["method"]) == (4, "integrated")
    assert (sensor["first_mono_ns"], sensor["last_mono_ns"]) == (START, START + int(3.5 * SECOND))
    assert sensor["mean_interval_s"] == pytest.approx(3.5 / 3)
    assert sensor["largest_gap_s"] == pytest.approx(2.5)
    assert sensor["sparse_s"] == pytest.approx(2.5)  # only the gap of more than a second


def test_a_counter_is_read_over_its_own_readings() -> None:
    # The sensor begins to answer two seconds after the instance is in use.
    usage = Usage()
    usage.add(sample(0.0))
    usage.add(sample(2.0, counter(1000.0)))
    usage.add(sample(4.0, counter(1300.0)))
    sensor = only_sensor(usage)
    assert (sensor["joules"], sensor["seconds"], sensor["method"]) == (300.0, 2.0, "counter")
    assert usage.summary()["window_s"] == 4.0


def test_two_devices_and_two_methods_are_kept_apart() -> None:
    usage = Usage()
    for at in (0.0, 1.0):
        usage.add(sample(at, watts(10.0), watts(30.0, device="1"), counter(50 * at)))
    found = {(one["device_id"], one["method"]): one["joules"] for one in usage.summary()["power"]}
    assert found == {("0", "integrated"): 10.0, ("1", "integrated"): 30.0, ("0", "counter"): 50.0}


def test_one_reading_is_no_energy() -> None:
    usage = Usage()
    usage.add(sample(0.0, watts(10.0)))
    assert usage.summary()["power"] is None


def test_without_a_sensor_nothing_is_made_up() -> None:
    usage = Usage()
    cpu = Reading(kind=SensorKind.CPU_TIME, device_id="pid 1", scope="process tree", cpu_seconds_total=1.0)
    usage.add(TelemetrySample(mono_ns=START, readings=(cpu,), unavailable=("rapl: none",)))
    summary = usage.summary()
    assert (summary["power"], summary["unavailable"], summary["cpu_seconds"]) == (None, ["rapl: none"], 0.0)


def course_of(usage: Usage) -> tuple[list[int], list[float], float]:
    series = only_sensor(usage)["series"]
    assert isinstance(series, dict)
    return series["mono_ns"], series["joules"], series["spacing_s"]


def test_an_hour_has_a_point_every_second_and_the_exact_energy_at_each() -> None:
    # Power swings by the half minute, and is read five times a second, a little unevenly.
    usage = Usage()
    random = Random(3)
    at, joules, known = 0.0, 0.0, {}
    while at < 3600:
        known[START + round(at * SECOND)] = joules
        usage.add(sample(at, counter(joules)))
        step = 0.2 + random.uniform(-0.01, 0.01)
        joules += step * (200 + 150 * math.sin(at / 5))
        at += step
    moments, energies, spacing = course_of(usage)
    assert spacing == 1.0
    assert len(moments) == len(energies) <= MOST_POINTS + 1
    assert moments[0] == min(known)
    assert moments[-1] == max(known)
    assert max(later - earlier for earlier, later in pairwise(moments)) <= SECOND
    assert energies == [known[moment] for moment in moments], "points are readings, not made up"
    between = numpy.interp(list(known), moments, energies)
    assert numpy.abs(between - numpy.array(list(known.values()))).max() < 40, "a second at 350 W at most"


def test_a_longer_run_has_coarser_points_and_says_so() -> None:
    usage = Usage()
    for number in range(5 * 3600 * 3):
        usage.add(sample(number * 0.2, watts(100.0 + 50.0 * (number // 3000 % 2))))
    moments, _, spacing = course_of(usage)
    assert len(moments) <= MOST_POINTS + 1
    assert spacing > 1.0
    assert max(later - earlier for earlier, later in pairwise(moments)) <= spacing * SECOND
    assert only_sensor(usage)["largest_gap_s"] == pytest.approx(0.2)


def test_steady_power_needs_few_points_and_a_change_has_more() -> None:
    usage = Usage()
    for number in range(500):
        usage.add(sample(number * 0.2, watts(400.0 if 250 <= number < 255 else 60.0)))
    moments, _, _ = course_of(usage)
    change = [moment for moment in moments if START + 49.5 * SECOND < moment < START + 51.5 * SECOND]
    assert len(moments) < 130
    corners = [START + round(at * SECOND) for at in (49.8, 50.0, 50.8, 51.0)]
    assert change == corners


def test_points_further_apart_than_the_spacing_are_a_gap_in_the_readings() -> None:
    usage = Usage()
    for number in range(400):
        if not 100 < number < 150:
            usage.add(sample(number * 0.2, watts(60.0)))
    moments, _, spacing = course_of(usage)
    gaps = [(a, b) for a, b in pairwise(moments) if b - a > spacing * SECOND]
    assert gaps == [(START + 20 * SECOND, START + 30 * SECOND)]


@given(
    steps=lists(floats(0.01, 30.0), min_size=1, max_size=60),
    draws=lists(floats(0.0, 900.0), min_size=61, max_size=61),
)
def test_points_are_readings_from_the_first_to_the_last(steps: list[float], draws: list[float]) -> None:
    usage = Usage()
    at, joules, known = 0.0, 7.0, {}
    for step, draw in zip([0.0, *steps], draws, strict=False):
        at, joules = at + step, joules + step * draw
        known[START + round(at * SECOND)] = joules - 7.0
        usage.add(sample(at, counter(joules)))
    moments, energies, spacing = course_of(usage)
    assert (moments[0], moments[-1]) == (min(known), max(known))
    assert energies == pytest.approx([known[moment] for moment in moments])
    readings = sorted(known)
    for before, after in pairwise(moments):
        assert after - before <= spacing * SECOND or readings.index(after) == readings.index(before) + 1


def test_sources_are_read_at_their_own_pace() -> None:
    # One card every 0.2 s, another every second by an exporter: each has its own intervals and idle time.
    usage = Usage()
    for number in range(51):
        at = number * 0.2
        if number == 25:
            usage.request_sent()
        if number == 26:
            usage.request_done()
        usage.add(sample(at, watts(100.0)))
        if number % 5 == 0:
            usage.add(sample(at + 0.01, watts(50.0, device="1")))
    by_device = {one["device_id"]: one for one in usage.summary()["power"]}
    assert by_device["0"]["idle_seconds"] == pytest.approx(10.0 - 0.4)
    assert by_device["1"]["idle_seconds"] == pytest.approx(8.0)
    assert by_device["1"]["idle_joules"] == pytest.approx(400.0)


def test_the_adapters_lag_is_kept_over_the_run() -> None:
    usage = Usage()
    assert usage.summary()["event_loop_lag"] is None
    for number in range(200):
        usage.add(TelemetrySample(mono_ns=START + number * SECOND, event_loop_lag=number / 1000))
    assert usage.summary()["event_loop_lag"] == {"max_s": 0.199, "p99_s": 0.197, "samples": 200}


def test_what_is_known_of_the_devices_is_in_the_record() -> None:
    baseline = IdleBaseline(
        kind=SensorKind.NVML_ENERGY, device_id="0", scope="card", watts=61.5, seconds=3.0, readings=16
    )
    assert Usage().summary()["accelerators"] is None
    usage = Usage(accelerators=2, idle_baselines=(baseline,))
    summary = usage.summary()
    json.dumps(summary)
    assert summary["accelerators"] == 2
    assert summary["idle_baselines"] == [
        {
            "kind": "nvml_energy",
            "device_id": "0",
            "scope": "card",
            "watts": 61.5,
            "seconds": 3.0,
            "readings": 16,
        }
    ]


async def test_after_the_last_request_every_sensor_is_read_once_more() -> None:
    usage = Usage()
    for at in (0.0, 0.2, 0.4):
        usage.add(sample(at, counter(10 * at)))
    waiting = asyncio.create_task(usage.caught_up(timeout=60))
    await asyncio.sleep(0)
    usage.add(sample(0.6, counter(6.0)))
    await asyncio.sleep(0)
    assert not waiting.done(), "this reading may have been on its way already"
    usage.add(sample(0.8, counter(8.0)))
    await waiting


async def test_nobody_waits_for_sensors_that_are_not_there_or_too_slow() -> None:
    await Usage().caught_up(timeout=60)
    slow = Usage()
    for at in (0.0, 30.0, 60.0):
        slow.add(sample(at, counter(10 * at)))
    await slow.caught_up(timeout=60)
    vanished = Usage()
    for at in (0.0, 0.001, 0.002):
        vanished.add(sample(at, counter(10 * at)))
    await vanished.caught_up(timeout=0.01)


def test_energy_without_requests_is_the_idle_baseline() -> None:
    usage = Usage()
    usage.add(sample(0.0, watts(40.0)))
    usage.add(sample(1.0, watts(40.0)))  # idle
    usage.request_sent()
    usage.add(sample(2.0, watts(200.0)))
    usage.add(sample(3.0, watts(200.0)))
    usage.request_done()
    usage.add(sample(4.0, watts(40.0)))  # busy for a part of it
    usage.request_sent()
    usage.request_done()
    usage.add(sample(5.0, watts(40.0)))  # a request came and went in between
    usage.add(sample(6.0, watts(60.0)))  # idle
    sensor = only_sensor(usage)
    assert (sensor["idle_seconds"], sensor["idle_joules"]) == (2.0, 40.0 + 50.0)


def test_beside_a_counter_readings_of_power_need_no_course() -> None:
    usage, failing = Usage(), Usage()
    for number in range(20):
        at = number * 0.2
        usage.add(sample(at, counter(10 * at), watts(50.0)))
        failing.add(sample(at, *([counter(10 * at)] if number < 10 else []), watts(50.0)))
    by_method = {one["method"]: one for one in usage.summary()["power"]}
    assert by_method["integrated"]["series"] is None
    assert by_method["integrated"]["joules"] == pytest.approx(50.0 * 3.8)
    assert by_method["counter"]["series"]["mono_ns"]
    assert all(one["series"] for one in failing.summary()["power"]), "the counter fell silent"


def test_lists_of_runs_leave_the_courses_out() -> None:
    usage = Usage()
    for number in range(3):
        usage.add(sample(number * 0.2, counter(number)))
    measured = {"instance_id": "a", "telemetry": usage.summary()}
    run = {"id": "run_1", "serving": [measured, {"instance_id": "b", "telemetry": None}]}
    listed = without_series(run)
    [sensor] = listed["serving"][0]["telemetry"]["power"]
    assert (sensor["series"], sensor["joules"]) == (None, 2.0)
    assert listed["serving"][1] == run["serving"][1]
    assert measured["telemetry"]["power"][0]["series"] is not None
