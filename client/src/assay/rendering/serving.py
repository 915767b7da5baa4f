"""How a run was served, as text: its instances, what they cost, and how well the adapter measures."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text

from assay.models import Run
from assay.rendering.text import MISSING, clean, counted, seconds, share

Line = tuple[str, str | Text]
_COLD_START = (("schedule_s", "schedule"), ("pull_s", "pull"), ("load_s", "load"), ("ready_s", "ready"))
_WARNING = "yellow"


def serving_lines(run: Run) -> Iterator[Line]:
    """Lines of a run's card; none before it had its first serving instance."""
    if not run.serving:
        return
    yield "serving", _instances(run.serving)
    if run.ledger is not None:
        yield from _ledger_lines(run.ledger)
    several = len(run.serving) > 1
    for number, record in enumerate(run.serving, start=1):
        which = f" {number}" if several else ""
        yield from _calibration_lines(record.get("calibration"), label=f"calibration{which}")
        yield from _end_lines(record, label=f"instance{which}")


def _instances(serving: Sequence[Mapping[str, Any]]) -> str:
    launchers = sorted({str(record["launcher"]) for record in serving if record.get("launcher")})
    devices = max((int(record.get("accelerators") or 0) for record in serving), default=0)
    parts = [counted(len(serving), "instance")]
    if launchers:
        parts.append(f"by {', '.join(launchers)}")
    if devices:
        parts.append(f"with {counted(devices, 'accelerator')}")
    return " ".join(parts)


def _ledger_lines(ledger: Mapping[str, Any]) -> Iterator[Line]:
    phases = ", ".join(f"{word} {_time(ledger.get(name))}" for name, word in _COLD_START)
    # Instances that never answered have phases, but no cold start.
    of = "in all" if ledger.get("instances", 1) > 1 else ""
    yield "cold start", f"{_time(ledger.get('cold_start_s'))}: {phases} {of}".strip()
    held = ""
    if (accelerator_seconds := ledger.get("accelerator_seconds")) != 0:  # where there is a device, or may be
        held = f"; held {_time(ledger.get('occupied_s'))}, {_number(accelerator_seconds)} accelerator-seconds"
    yield "served", f"{_time(ledger.get('serving_s'))}, then drained {_time(ledger.get('drain_s'))}{held}"
    if ledger.get("idle_joules") is None:
        yield "idle energy", "not measured"
    else:
        idle = _time(ledger.get("idle_seconds"))
        yield "idle energy", f"{_number(ledger['idle_joules'])} J in {idle} without a request"
    if ledger.get("incomplete"):
        of = counted(int(ledger["incomplete"]), "instance")
        yield "", Text(f"the end of {of} is not known: the sums are too low", style=_WARNING)


def _calibration_lines(calibration: Any, *, label: str) -> Iterator[Line]:
    if not isinstance(calibration, Mapping):
        return
    for when in ("before", "after"):
        if isinstance(found := calibration.get(when), Mapping):
            yield f"{label} {when}", _calibration(found)
    if calibration.get("note"):
        yield label, Text(f"none: {clean(str(calibration['note']))}", style=_WARNING)


def _calibration(found: Mapping[str, Any]) -> str:
    parts = [
        f"TTFT error p99 {seconds(found.get('ttft_error_p99'))}",
        f"ITL error p99 {seconds(found.get('itl_error_p99'))}",
        f"merged gaps {share(found.get('merged_gap_share'))}",
        f"event-loop lag p99 {seconds(found.get('event_loop_lag_p99'))}",
        f"{found.get('stamp_source', MISSING)} stamps",
    ]
    if found.get("other_instances"):
        parts.append(f"beside {counted(int(found['other_instances']), 'other instance')}")
    return ", ".join(parts)


def _end_lines(record: Mapping[str, Any], *, label: str) -> Iterator[Line]:
    """What is to be told of an instance that did not end as it should."""
    ended, ledger = record.get("ended"), record.get("ledger")
    if isinstance(ended, Mapping) and ended.get("state") != "released":
        yield label, Text(clean(f"{ended.get('state')}: {ended.get('reason')}"), style=_WARNING)
    if isinstance(ledger, Mapping) and ledger.get("note"):
        yield label, Text(clean(str(ledger["note"])), style=_WARNING)


def _time(value: float | None) -> str:
    return "0 s" if value == 0 else seconds(value)


def _number(value: Any) -> str:
    return MISSING if value is None else f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
