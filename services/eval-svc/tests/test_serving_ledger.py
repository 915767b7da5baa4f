"""What is written down of the cost of serving instances."""

import math
from typing import Any

from hypothesis import given
from hypothesis.strategies import builds, floats, integers, lists, none

from assay_serving.types import PhaseTimes, Reading, SensorKind, TelemetrySample
from eval_svc.ledger import SUMMED, instance_ledger, run_ledger
from eval_svc.usage import Usage

SECOND = 1_000_000_000
TIMES = PhaseTimes(schedule=1, pull=2, load=3, ready=4, serving=50, drain=0.5, occupied=58)
amounts = floats(min_value=0, max_value=1e6) | none()
ledgers = lists(
    builds(
        lambda values, missing: {
            **dict(zip(SUMMED, values, strict=True)),
            "note": "lost" if missing else None,
        },
        lists(amounts, min_size=len(SUMMED), max_size=len(SUMMED)),
        integers(0, 1),
    )
)


def ledger_of(**changes: Any) -> dict[str, Any]:
    return instance_ledger("one", **{"phases": TIMES, "accelerators": 2, "telemetry": None, **changes})


def test_every_phase_and_every_accelerator_is_counted() -> None:
    ledger = ledger_of(waited=0.25)
    assert set(ledger) == {*SUMMED, "note"}
    assert ledger["cold_start_s"] == 10
    assert (ledger["serving_s"], ledger["drain_s"], ledger["occupied_s"]) == (50, 0.5, 58)
    assert ledger["accelerator_seconds"] == 116
    assert ledger["waited_s"] == 0.25
    assert ledger["idle_joules"] is None
    assert ledger["note"] is None


def test_what_is_not_known_is_null_and_says_why() -> None:
    lost = ledger_of(is_end_known=False, note="the adapter was restarted")
    assert lost["cold_start_s"] == 10
    assert [lost[name] for name in ("serving_s", "drain_s", "occupied_s", "accelerator_seconds")] == [
        None
    ] * 4
    assert ledger_of(was_ready=False)["cold_start_s"] is None


def test_idle_energy_counts_each_device_once_and_only_between_requests() -> None:
    usage = Usage()

    def read(second: int) -> None:
        readings = (
            Reading(kind=SensorKind.NVML_ENERGY, device_id="a", scope="card", joules_total=100.0 * second),
            Reading(kind=SensorKind.NVML_POWER, device_id="a", scope="card", watts=999.0),
            Reading(kind=SensorKind.NVML_POWER, device_id="b", scope="card", watts=50.0),
        )
        usage.add(TelemetrySample(mono_ns=second * SECOND, readings=readings))

    read(1)
    read(2)
    usage.request_sent()
    read(3)
    usage.request_done()
    read(4)
    read(5)
    ledger = ledger_of(telemetry=usage.summary())
    # From 1 to 2 and from 4 to 5: a counter of 100 J/s on one card, 50 W on the other.
    assert ledger["idle_joules"] == 300
    assert ledger["idle_seconds"] == 2
    usage = Usage()
    usage.add(TelemetrySample(mono_ns=SECOND, unavailable=("no sensor",)))
    assert ledger_of(telemetry=usage.summary())["idle_joules"] is None


@given(ledgers)
def test_sums_are_of_what_is_known(found: list[dict[str, Any]]) -> None:
    sums = run_ledger([{"ledger": each} for each in found] + [{"ledger": None}, {}])
    if not found:
        assert sums is None
        return
    assert sums is not None
    assert sums["instances"] == len(found)
    assert sums["incomplete"] == sum(each["note"] is not None for each in found)
    for name in SUMMED:
        known = [each[name] for each in found if each[name] is not None]
        if known:
            assert math.isclose(sums[name], math.fsum(known), rel_tol=1e-9)
        else:
            assert sums[name] is None
