"""Where power comes from, how it is graded, and when energy is compared."""

from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest

from assay_evidence.report import ComparisonSettings, EnergyComparison, PowerProvenance
from assay_evidence.runtime import compare_energy, compare_runtime
from assay_evidence.runtime.power import energy_of_blocks, mean_power, power_provenance
from assay_evidence.runtime.telemetry import read_telemetry
from assay_evidence.runtime.timeline import RequestTimeline, cut_into_blocks, read_timeline
from assay_evidence.runtime_metrics import ENERGY_METRICS
from assay_evidence.tables import REQUEST_COLUMNS
from assay_evidence.testing import Speed, synthetic_run

SECOND = 1_000_000_000
START = 1_000 * SECOND
WINDOW = 100
"""Seconds in flight of every instance."""


def timeline(*instances: str) -> RequestTimeline:
    """On every instance one request after the other, a second each."""
    rows = [
        {
            "index": number,
            "kind": "generate",
            "instance": name,
            "answered": True,
            "reused": False,
            "retries": 0,
            "completion_tokens": 10,
            "sent_ns": START + number * SECOND,
            "done_ns": START + (number + 1) * SECOND,
            "exact_token_times": False,
        }
        for name in instances
        for number in range(WINDOW)
    ]
    return read_timeline(pyarrow.Table.from_pylist(rows, schema=REQUEST_COLUMNS))


def sensor(
    *, start_s: float = 0.0, stop_s: float = WINDOW, step_s: float = 0.5, **changed: Any
) -> dict[str, Any]:
    """A card's power readings, every `step_s` seconds from `start_s` after the first request on; 50 W."""
    count = round((stop_s - start_s) / step_s)
    seconds = [start_s + step_s * number for number in range(count + 1)]
    return {
        "sensor": "rngd_power",
        "device_id": "0",
        "scope": "card",
        "joules": 50.0 * (stop_s - start_s),
        "seconds": stop_s - start_s,
        "readings": len(seconds),
        "method": "integrated",
        "first_mono_ns": START + round(start_s * SECOND),
        "last_mono_ns": START + round(stop_s * SECOND),
        "mean_interval_s": step_s,
        "largest_gap_s": step_s,
        "sparse_s": 0.0,
        "series": series([(at, 50.0 * (at - start_s)) for at in seconds]),
        **changed,
    }


def series(points: list[tuple[float, float]], *, spacing_s: float | None = 1.0) -> dict[str, Any]:
    """Seconds after the first request, and joules."""
    return {
        "mono_ns": [START + round(at * SECOND) for at, _ in points],
        "joules": [joules for _, joules in points],
        "spacing_s": spacing_s,
    }


def without(
    stretch: tuple[float, float], *, watts_inside: float = 50.0, step_s: float = 0.5
) -> dict[str, Any]:
    """Readings every half second but for a stretch without any; what is used in it is not at 50 W."""
    points: list[tuple[float, float]] = []
    joules = 0.0
    for number in range(round(WINDOW / step_s) + 1):
        at = number * step_s
        if points:
            gap = at - points[-1][0]
            joules = points[-1][1] + gap * (watts_inside if gap > 2 * step_s else 50.0)
        if not stretch[0] < at < stretch[1]:
            points.append((at, joules))
    return {"series": series(points), "readings": len(points), "largest_gap_s": stretch[1] - stretch[0]}


def graded(*sensors: dict[str, Any]) -> PowerProvenance:
    return power_provenance(timeline("i"), read_telemetry([{"instance_id": "i", "power": list(sensors)}]))


@pytest.mark.parametrize(
    ("changed", "grade", "covered"),
    [
        (sensor(method="counter"), "A", 100.0),
        # A counter loses nothing between two readings, as long as all of the time between is in the window.
        (sensor(method="counter", step_s=50.0), "A", 100.0),
        (sensor(method="counter", stop_s=80.0), "C", 80.0),
        (sensor(), "B", 100.0),
        (sensor(step_s=1.0), "B", 100.0),
        (sensor(step_s=2.0), "C", 100.0),
        (sensor(step_s=10.0), "C", 100.0),
        # A gap: five seconds where readings come twice a second.
        (sensor(**without((40.0, 45.0))), "B", 95.0),
        (sensor(**without((40.0, 46.0))), "C", 94.0),
        (sensor(method="counter", **without((40.0, 46.0))), "A", 100.0),
        # Begins late, ends early.
        (sensor(start_s=2.0, stop_s=98.0), "B", 96.0),
        (sensor(start_s=7.0), "C", 93.0),
        # The series was not recorded: only the mean over all readings is known.
        (sensor(series=None), "C", 100.0),
        (sensor(series=None, method="counter"), "C", 100.0),
        # What was recorded before a series said how it was thinned out.
        (sensor(series=series([(0.0, 0.0), (50.0, 2500.0), (100.0, 5000.0)], spacing_s=None)), "B", 100.0),
        (
            sensor(
                series=series([(0.0, 0.0), (50.0, 2500.0), (100.0, 5000.0)], spacing_s=None), sparse_s=5.1
            ),
            "C",
            100.0,
        ),
    ],
)
def test_grades(changed: dict[str, Any], grade: str, covered: float) -> None:
    found = graded(changed)
    assert found.grade == grade
    assert found.covered_s == pytest.approx(covered)
    assert found.window_s == pytest.approx(100.0)
    assert found.watts == pytest.approx(50.0)
    assert found.joules == pytest.approx(5000.0)
    assert found.measured_joules == pytest.approx(50.0 * covered)
    assert (found.sensors, found.scope) == (["rngd_power"], "card")
    assert found.reasons


def test_what_was_used_in_a_gap_is_not_made_up() -> None:
    # The trapezoid over the gap would say 500 W for six seconds: neither its energy nor its time counts.
    found = graded(sensor(**without((40.0, 46.0), watts_inside=500.0)))
    assert found.watts == pytest.approx(50.0)
    assert found.measured_joules == pytest.approx(50.0 * 94)
    assert found.largest_gap_s == pytest.approx(6.0)
    # A counter has counted it.
    counted = graded(sensor(method="counter", **without((40.0, 46.0), watts_inside=500.0)))
    assert counted.watts == pytest.approx((50.0 * 94 + 500.0 * 6) / 100)


def test_what_was_read_without_requests_in_flight_covers_nothing() -> None:
    # The sensor was read for a quarter of an hour before the run and stopped in its middle.
    found = graded(sensor(start_s=-900.0, stop_s=50.0))
    assert found.grade == "C"
    assert found.covered_s == pytest.approx(50.0)
    assert found.largest_gap_s == pytest.approx(50.0)
    assert found.idle_watts == pytest.approx(50.0)


def test_less_than_half_of_the_window_is_no_measurement() -> None:
    found = graded(sensor(start_s=-900.0, stop_s=49.0))
    assert (found.grade, found.watts, found.joules, found.devices) == ("D", None, None, [])
    assert "cover 49%" in found.reasons[0]
    assert graded(sensor(start_s=200.0, stop_s=300.0)).watts is None


def test_idle_time_between_requests_is_in_no_figure_of_the_run() -> None:
    # A request a second long, nine seconds of idling, another one: 200 W and 20 W.
    rows = [
        {
            "index": number,
            "instance": "i",
            "sent_ns": START + at * SECOND,
            "done_ns": START + (at + 1) * SECOND,
        }
        for number, at in enumerate((0, 10))
    ]
    blank = {"kind": "generate", "answered": True, "reused": False, "retries": 0, "exact_token_times": False}
    line = read_timeline(pyarrow.Table.from_pylist([row | blank for row in rows], schema=REQUEST_COLUMNS))
    course = [(-1.0, 0.0), (0.0, 20.0), (1.0, 220.0), (10.0, 400.0), (11.0, 600.0)]
    telemetry = read_telemetry(
        [{"instance_id": "i", "power": [sensor(method="counter", series=series(course))]}]
    )
    found = power_provenance(line, telemetry)
    assert found.watts == pytest.approx(200.0)
    assert found.measured_joules == pytest.approx(400.0)
    assert found.idle_watts == pytest.approx(20.0)
    assert found.grade == "A"


def test_every_device_has_its_record() -> None:
    baselines = [
        {
            "kind": "rngd_power",
            "device_id": name,
            "scope": "card",
            "watts": watts,
            "seconds": 3.0,
            "readings": 16,
        }
        for name, watts in (("0", 31.0), ("1", 33.0))
    ]
    telemetry = read_telemetry(
        [
            {
                "instance_id": "i",
                "power": [sensor(), sensor(device_id="1")],
                "accelerators": 2,
                "idle_baselines": baselines,
            }
        ]
    )
    found = power_provenance(timeline("i"), telemetry)
    assert found.watts == pytest.approx(100.0)
    assert found.idle_watts_before == pytest.approx(64.0)
    for device, before in zip(found.devices, (31.0, 33.0), strict=True):
        record = device.model_dump()
        assert record.pop("reason")
        assert record == {
            "instance_id": "i",
            "sensor": "rngd_power",
            "device_id": device.device_id,
            "scope": "card",
            "method": "integrated",
            "watts": pytest.approx(50.0),
            "joules": pytest.approx(5000.0),
            "window_s": pytest.approx(100.0),
            "covered_s": pytest.approx(100.0),
            "readings": 201,
            "interval_s": pytest.approx(0.5),
            "largest_gap_s": pytest.approx(0.5),
            "idle_watts_before": before,
            "idle_watts": None,
            "grade": "B",
        }


@pytest.mark.parametrize(
    ("power", "accelerators", "said"),
    [
        ([sensor()], 2, "1 devices have a sensor and 2 are occupied"),
        ([sensor(), sensor(device_id="1")], 1, "2 devices have a sensor and 1 are occupied"),
        # The processor's sensor says nothing of the cards that compute.
        ([sensor(scope="package", sensor="rapl_energy")], 1, "nvml: no driver"),
    ],
)
def test_power_of_other_devices_than_the_occupied_ones_is_none(
    power: list[dict[str, Any]], accelerators: int, said: str
) -> None:
    record = {
        "instance_id": "i",
        "power": power,
        "accelerators": accelerators,
        "unavailable": ["nvml: no driver"],
    }
    found = power_provenance(timeline("i"), read_telemetry([record]))
    assert (found.grade, found.watts, found.joules) == ("D", None, None)
    assert any(said in reason for reason in found.reasons)


def test_of_a_device_the_sensor_that_covers_the_window_counts() -> None:
    # The counter became unreadable in the middle of the run; readings of power went on.
    counter = sensor(sensor="nvml_energy", method="counter", stop_s=60.0)
    found = graded(counter, sensor(sensor="nvml_power"))
    assert (found.grade, found.sensors) == ("B", ["nvml_power"])


def test_no_sensor_is_grade_d_without_numbers() -> None:
    unavailable = {"instance_id": "i", "power": None, "unavailable": ["rapl: no counter"], "cpu_seconds": 9.0}
    found = power_provenance(timeline("i"), read_telemetry([unavailable]))
    assert (found.grade, found.reasons) == ("D", ["rapl: no counter"])
    assert (found.joules, found.covered_s, found.scope, found.readings) == (None, None, None, 0)
    assert mean_power(timeline("i"), read_telemetry([unavailable])) is None


def test_one_instance_without_a_sensor_makes_the_run_unmeasured() -> None:
    telemetry = read_telemetry([{"instance_id": "a", "power": [sensor()]}])
    found = power_provenance(timeline("a", "b"), telemetry)
    assert found.grade == "D"
    assert found.reasons == ["no power readings of serving instance b"]


def test_a_run_has_the_grade_of_its_worst_sensor() -> None:
    telemetry = read_telemetry(
        [
            {"instance_id": "a", "power": [sensor(method="counter")]},
            {"instance_id": "b", "power": [sensor(), sensor(device_id="1", step_s=5.0)]},
        ]
    )
    found = power_provenance(timeline("a", "b"), telemetry)
    assert found.grade == "C"
    assert len(found.reasons) == 3
    assert found.joules == pytest.approx(50 * 100 + 2 * 50 * 100)


def test_cards_count_before_the_processor_and_counters_before_readings() -> None:
    processor = sensor(sensor="rapl_energy", scope="package", device_id="cpu", method="counter")
    course = series([(0.0, 0.0), (100.0, 4800.0)])
    found = graded(processor, sensor(), sensor(sensor="nvml_energy", method="counter", series=course))
    assert (found.grade, found.sensors, found.scope) == ("A", ["nvml_energy"], "card")
    assert found.joules == pytest.approx(4800.0)
    assert graded(processor).scope == "package"


@pytest.mark.parametrize(
    "broken",
    [
        {"joules": float("nan")},
        {"joules": "much"},
        {"series": {"mono_ns": [1, 2], "joules": [0.0]}},
        {"series": {"mono_ns": [2, 1], "joules": [0.0, 1.0]}},
        {"series": {"mono_ns": [1, 2], "joules": [1.0, 0.0]}},
    ],
)
def test_a_malformed_record_has_no_sensor_and_says_which_field(broken: dict[str, Any]) -> None:
    found = graded(sensor(**broken))
    assert found.grade == "D"
    assert next(iter(broken)) in found.reasons[0]


def test_idle_power_is_told_where_it_was_seen() -> None:
    assert graded(sensor()).idle_watts is None
    assert graded(sensor(series=None, idle_seconds=10.0, idle_joules=180.0)).idle_watts == pytest.approx(18.0)


def test_energy_follows_the_course_of_power() -> None:
    # 20 W in the first half of the run and 80 W in the second.
    moments = [START, START + 50 * SECOND, START + 100 * SECOND]
    course = sensor(series={"mono_ns": moments, "joules": [0.0, 1000.0, 5000.0]})
    line = timeline("i")
    blocks = cut_into_blocks(line)
    energy = energy_of_blocks(line, blocks, read_telemetry([{"instance_id": "i", "power": [course]}]))
    assert energy is not None
    watts = energy / blocks.busy_s
    assert energy.sum() == pytest.approx(5000.0)
    assert watts[0] == pytest.approx(20.0, rel=1e-6)
    assert watts[-1] == pytest.approx(80.0, rel=1e-6)
    constant = read_telemetry([{"instance_id": "i", "power": [sensor(series=None)]}])
    assert energy_of_blocks(line, blocks, constant) is None


def compared(directory: Path, *, allow_unlike: bool = False, **changed: Any) -> EnergyComparison:
    """Two runs, of which the candidate's sensor is another."""
    runs = [synthetic_run(run_id=name, speed=Speed(watts=60.0)) for name in ("base", "new")]
    telemetry = runs[1].facts.model_copy(deep=True).telemetry
    power: Any = telemetry[0]["power"]
    power[0] |= changed
    evidence = [runs[0].evidence(directory), runs[1].with_facts(telemetry=telemetry).evidence(directory)]
    return compare_energy(evidence[0], evidence[1], allow_unlike=allow_unlike)


def test_unlike_grades_and_scopes_are_not_compared_unless_allowed(tmp_path: Path) -> None:
    alike = compared(tmp_path)
    assert (alike.comparable, alike.note) == (True, None)
    grades = compared(tmp_path, method="integrated")
    assert not grades.comparable
    assert "A of the baseline, B of the candidate" in (grades.note or "")
    scopes = compared(tmp_path, scope="package")
    assert not scopes.comparable
    assert "card of the baseline, package of the candidate" in (scopes.note or "")
    allowed = compared(tmp_path, method="integrated", allow_unlike=True)
    assert allowed.comparable
    assert allowed.note == grades.note


def test_energy_that_is_not_comparable_has_values_and_no_ratio(tmp_path: Path) -> None:
    baseline = synthetic_run(run_id="base", speed=Speed(watts=60.0)).evidence(tmp_path)
    candidate = synthetic_run(run_id="new", speed=Speed(watts=40.0)).evidence(tmp_path)
    settings = ComparisonSettings(bootstrap_resamples=200)
    unlike = compare_energy(baseline, candidate).model_copy(update={"comparable": False, "note": "unlike"})
    for one in compare_runtime(baseline, candidate, settings=settings, energy=unlike):
        if one.metric in ENERGY_METRICS:
            assert one.baseline is not None
            assert (one.ratio, one.difference, one.ratio_interval_95, one.note) == (
                None,
                None,
                None,
                "unlike",
            )
        elif one.metric not in {"goodput", "goodputShare", "coldStart"}:  # not asked for, not recorded
            assert one.ratio is not None


def test_without_the_course_of_power_it_is_taken_as_constant_and_said(tmp_path: Path) -> None:
    runs = []
    for name in ("base", "new"):
        made = synthetic_run(run_id=name, seed=len(name), speed=Speed(watts=60.0))
        telemetry = made.facts.model_copy(deep=True).telemetry
        power: Any = telemetry[0]["power"]
        del power[0]["series"]
        runs.append(made.with_facts(telemetry=telemetry).evidence(tmp_path))
    found = {
        one.metric: one
        for one in compare_runtime(runs[0], runs[1], settings=ComparisonSettings(bootstrap_resamples=200))
    }
    assert found["power"].ratio == pytest.approx(1.0)
    assert found["power"].ratio_interval_95 is None
    assert "course of power" in found["power"].interval_method
    assert found["joulesPerToken"].ratio_interval_95 is not None
    assert "power taken as constant" in found["joulesPerToken"].interval_method
    assert numpy.isfinite(found["joulesPerCorrectAnswer"].ratio_interval_95 or [numpy.nan]).all()
