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


def sensor(**changed: Any) -> dict[str, Any]:
    """A card's power readings, twice a second over the whole window; 50 W."""
    return {
        "sensor": "rngd_power",
        "device_id": "0",
        "scope": "card",
        "joules": 5000.0,
        "seconds": 100.0,
        "readings": 201,
        "method": "integrated",
        "first_mono_ns": START,
        "last_mono_ns": START + WINDOW * SECOND,
        "mean_interval_s": 0.5,
        "largest_gap_s": 0.6,
        "sparse_s": 0.0,
        **changed,
    }


def graded(*sensors: dict[str, Any]) -> PowerProvenance:
    return power_provenance(timeline("i"), read_telemetry([{"instance_id": "i", "power": list(sensors)}]))


@pytest.mark.parametrize(
    ("changed", "grade", "covered"),
    [
        ({"method": "counter"}, "A", 100.0),
        # A counter loses nothing between two readings.
        ({"method": "counter", "sparse_s": 100.0, "largest_gap_s": 50.0}, "A", 100.0),
        ({"method": "counter", "last_mono_ns": START + 80 * SECOND}, "C", 81.0),
        ({}, "B", 100.0),
        ({"sparse_s": 5.0, "largest_gap_s": 5.0}, "B", 95.0),
        ({"sparse_s": 5.1, "largest_gap_s": 5.1}, "C", 94.9),
        ({"sparse_s": 100.0, "readings": 11, "largest_gap_s": 10.0}, "C", 0.0),
        # Begins late, ends early: a second at either end is no more than a gap.
        ({"first_mono_ns": START + SECOND, "last_mono_ns": START + 99 * SECOND}, "B", 100.0),
        ({"first_mono_ns": START + 7 * SECOND}, "C", 94.0),
        # What was recorded before these were.
        ({"first_mono_ns": None, "last_mono_ns": None, "sparse_s": None}, "C", 0.0),
    ],
)
def test_grades(changed: dict[str, Any], grade: str, covered: float) -> None:
    found = graded(sensor(**changed))
    assert found.grade == grade
    assert found.covered_s == pytest.approx(covered)
    assert found.window_s == pytest.approx(100.0)
    assert found.joules == pytest.approx(5000.0)
    assert (found.sensors, found.scope) == (["rngd_power"], "card")
    assert found.reasons


def test_what_was_read_without_requests_in_flight_covers_nothing() -> None:
    # The sensor was read for an hour before the run and stopped in its middle.
    found = graded(sensor(first_mono_ns=START - 3600 * SECOND, last_mono_ns=START + 50 * SECOND))
    assert found.grade == "C"
    assert found.covered_s == pytest.approx(51.0)


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
            {"instance_id": "b", "power": [sensor(joules=2000.0), sensor(device_id="1", sparse_s=50.0)]},
        ]
    )
    found = power_provenance(timeline("a", "b"), telemetry)
    assert found.grade == "C"
    assert len(found.reasons) == 3
    assert found.joules == pytest.approx(50 * 100 + (20 + 50) * 100)


def test_cards_count_before_the_processor_and_counters_before_readings() -> None:
    processor = sensor(sensor="rapl_energy", scope="package", device_id="cpu", method="counter", joules=900.0)
    found = graded(processor, sensor(), sensor(sensor="nvml_energy", method="counter", joules=4800.0))
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
    ],
)
def test_a_malformed_record_has_no_sensor_and_says_which_field(broken: dict[str, Any]) -> None:
    found = graded(sensor(**broken))
    assert found.grade == "D"
    assert next(iter(broken)) in found.reasons[0]


def test_idle_power_is_told_where_it_was_seen() -> None:
    assert graded(sensor()).idle_watts is None
    assert graded(sensor(idle_seconds=10.0, idle_joules=180.0)).idle_watts == pytest.approx(18.0)


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
    assert energy_of_blocks(line, blocks, read_telemetry([{"instance_id": "i", "power": [sensor()]}])) is None


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
