"""What is kept of an instance's telemetry."""

import json
import math
from itertools import pairwise

import pytest

from assay_serving.types import Reading, SensorKind, TelemetrySample
from eval_svc.usage import Usage

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


def test_the_series_is_bounded_and_keeps_the_course_of_the_energy() -> None:
    usage = Usage()
    count = 20_000
    for number in range(count):
        usage.add(sample(number * 0.5, watts(100.0 + 50.0 * math.sin(number / 2000))))
    sensor = only_sensor(usage)
    series = sensor["series"]
    assert isinstance(series, dict)
    moments, joules = series["mono_ns"], series["joules"]
    assert len(moments) == len(joules) <= 130
    assert (moments[0], joules[0]) == (START, 0.0)
    assert (moments[-1], joules[-1]) == (sensor["last_mono_ns"], sensor["joules"])
    assert moments == sorted(moments)
    spacing = {later - earlier for earlier, later in pairwise(moments[1:-1])}
    assert len(spacing) == 1, "every so many-th reading"
    for at, energy in zip(moments, joules, strict=True):
        end = (at - START) / SECOND / 0.5
        expected = 0.5 * (100 * end + 50 * 2000 * (1 - math.cos(end / 2000)))
        assert energy == pytest.approx(expected, rel=1e-4, abs=0.1)


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
