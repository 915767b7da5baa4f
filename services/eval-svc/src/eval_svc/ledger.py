"""What a run's serving instances have cost in time, devices and energy."""

from collections.abc import Iterable, Mapping
from typing import Any

from assay_evidence.runtime.telemetry import read_telemetry
from assay_serving.types import PhaseTimes

SUMMED = (
    "waited_s",
    "schedule_s",
    "pull_s",
    "load_s",
    "ready_s",
    "cold_start_s",
    "serving_s",
    "drain_s",
    "occupied_s",
    "accelerator_seconds",
    "idle_joules",
    "idle_seconds",
)
"""What is added up over the instances of a run."""


def instance_ledger(
    instance_id: str,
    *,
    phases: PhaseTimes,
    accelerators: int,
    telemetry: Mapping[str, Any] | None,
    was_ready: bool = True,
    waited: float = 0.0,
    is_end_known: bool = True,
    note: str | None = None,
) -> dict[str, Any]:
    """The ledger of one instance.

    Args:
        instance_id: of the instance.
        phases: its times, as last known.
        accelerators: devices that it occupied.
        telemetry: ``Usage.summary`` of it; ``None`` where nothing was measured.
        was_ready: whether it has ever answered.
        waited: seconds that the run waited until the adapter had room for it.
        is_end_known: whether ``phases`` are those after its end. Where not, and it was never ready, nothing
            of them is known.
        note: what is not known and why; ``None`` where everything is.

    Returns:
        ``SUMMED`` and ``note``. Seconds of each phase; ``cold_start_s`` from the request to the first real
        completion; ``occupied_s`` for which it held its accelerators, ``accelerator_seconds`` these times
        their number; ``idle_joules`` of its devices in ``idle_seconds``, while no request was in flight.
        ``null`` is "not known".
    """
    ended: dict[str, float | None] = {
        "serving_s": phases.serving,
        "drain_s": phases.drain,
        "occupied_s": phases.occupied,
        "accelerator_seconds": phases.occupied * accelerators,
    }
    started: dict[str, float | None] = {
        "schedule_s": phases.schedule,
        "pull_s": phases.pull,
        "load_s": phases.load,
        "ready_s": phases.ready,
    }
    return {
        "waited_s": waited,
        **(started if was_ready or is_end_known else dict.fromkeys(started)),
        "cold_start_s": phases.cold_start if was_ready else None,
        **(ended if is_end_known else dict.fromkeys(ended)),
        **_idle_energy(instance_id, telemetry),
        "note": note,
    }


def run_ledger(serving: Iterable[Mapping[str, Any]]) -> dict[str, Any] | None:
    """The sums of ``SUMMED`` over the serving records of a run; ``None`` before the first has its ledger.

    ``null`` where no instance knows the value, ``incomplete`` says how many do not know all of theirs: the
    sums are then what was known, and less than what was spent.
    """
    ledgers = [ledger for record in serving if (ledger := record.get("ledger"))]
    if not ledgers:
        return None
    sums: dict[str, Any] = {}
    for name in SUMMED:
        known = [ledger[name] for ledger in ledgers if ledger[name] is not None]
        sums[name] = sum(known) if known else None
    return {
        **sums,
        "instances": len(ledgers),
        "incomplete": sum(each["note"] is not None for each in ledgers),
    }


def _idle_energy(instance_id: str, telemetry: Mapping[str, Any] | None) -> dict[str, float | None]:
    """Idle energy of the sensors that make up the instance's power, so that nothing counts twice."""
    if telemetry is None:
        return {"idle_joules": None, "idle_seconds": None}
    record = {**telemetry, "instance_id": instance_id}
    counted = read_telemetry([record])[instance_id].counted()
    return {
        "idle_joules": sum(sensor.idle_joules for sensor in counted) if counted else None,
        "idle_seconds": max((sensor.idle_seconds for sensor in counted), default=None),
    }
