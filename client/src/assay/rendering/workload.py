"""Whether two runs did the same work, and where their power numbers come from."""

from rich.console import Group, RenderableType
from rich.text import Text

from assay.models import WorkloadParity
from assay.models.evidence import EnergyComparison, PowerProvenance, SensorProvenance
from assay.rendering.text import MISSING, Heading, clean, counted, fields, seconds, share, table

GRADES = {
    "A": "energy counter of the whole device",
    "B": "power readings at least once a second over at least 95 % of the time",
    "C": "sparse or partial power readings",
    "D": "not measured",
}
"""What the grades of a power measurement mean."""


def workload_report(workload: WorkloadParity) -> RenderableType:
    """The work of both runs side by side."""
    sides = (workload.baseline, workload.candidate)
    rows = [
        ("requests", *(str(side.requests) for side in sides)),
        ("prompt tokens", *(_whole(side.prompt_tokens) for side in sides)),
        ("output tokens", *(_whole(side.completion_tokens) for side in sides)),
        ("output tokens per answer", *(_number(side.output_tokens_mean) for side in sides)),
        ("  median", *(_number(side.output_tokens_p50) for side in sides)),
        ("  90th percentile", *(_number(side.output_tokens_p90) for side in sides)),
        ("cut at the token limit", *(share(side.truncated_share) for side in sides)),
        *_endings(workload),
        ("failed requests", *(share(side.error_share) for side in sides)),
        ("retries", *(_whole(side.retries) for side in sides)),
        ("concurrency", *(_whole(side.concurrency) for side in sides)),
    ]
    headings = (Heading("workload"), Heading("base", number=True), Heading("candidate", number=True))
    return Group(table(headings, rows), _sameness(workload))


def energy_report(energy: EnergyComparison) -> RenderableType:
    """Where the power numbers of both sides come from."""
    base, candidate = power_provenance(energy.baseline), power_provenance(energy.candidate)
    lines: list[tuple[str, str | Text]] = [("power, base", base), ("power, candidate", candidate)]
    if base == candidate:
        lines = [("power, both", base)]
    if not energy.comparable:
        note = energy.note or "unlike measurements"
        lines.append(("", Text(clean(f"energy is not compared: {note}"), style="yellow")))
    elif energy.note:
        lines.append(("", energy.note))
    return fields(lines)


def _sameness(workload: WorkloadParity) -> Text:
    parts = []
    if workload.prompts_equal is not None:
        parts.append(
            "equal input tokens item by item"
            if workload.prompts_equal
            else "input tokens differ (tokenizers may differ between builds)"
        )
    if workload.output_length_ratio is not None:
        interval = workload.output_length_ratio_interval_95
        bounds = "" if interval is None else f" (95 % interval {interval[0]:.2f} .. {interval[1]:.2f})"
        parts.append(f"output length {workload.output_length_ratio:.2f}x{bounds}")
    if workload.comparable:
        return Text("the same work: " + "; ".join(parts) if parts else "the same work")
    return Text("not the same work: " + "; ".join(parts) if parts else "not the same work", style="yellow")


def _endings(workload: WorkloadParity) -> list[tuple[str, str, str]]:
    """What ended the answers, the commonest first."""
    base, candidate = workload.baseline.stop_reasons, workload.candidate.stop_reasons
    reasons = sorted({*base, *candidate}, key=lambda reason: (-base.get(reason, 0.0), reason))
    return [
        (f"ended by {reason}", share(base.get(reason, 0.0)), share(candidate.get(reason, 0.0)))
        for reason in reasons
    ]


def power_provenance(power: PowerProvenance) -> str:
    """Grade and origin of a run's power, with a line for each device that it was read from."""
    parts = [f"grade {power.grade}: {GRADES.get(power.grade, '')}"]
    if power.joules is not None:
        covered = "" if power.covered_s is None else f" over {seconds(power.covered_s)}"
        parts.append(f"{power.joules:.1f} J{covered}, {counted(power.readings, 'reading')}")
    lines = ["; ".join((*parts, *power.reasons)), *map(_device, power.devices)]
    return "\n".join(lines)


def _device(device: SensorProvenance) -> str:
    parts = [f"{device.watts:.1f} W", f"{device.sensor} of the {device.scope}, {device.method}"]
    if device.interval_s is not None:
        parts.append(f"a reading every {seconds(device.interval_s)}")
    if device.largest_gap_s is not None:
        parts.append(f"largest gap {seconds(device.largest_gap_s)}")
    if device.idle_watts_before is not None:
        parts.append(f"{device.idle_watts_before:.1f} W before the engine was started")
    if device.idle_watts is not None:
        parts.append(f"{device.idle_watts:.1f} W between requests")
    return clean(f"{device.device_id}: {', '.join(parts)}")


def _whole(value: int | None) -> str:
    return MISSING if value is None else str(value)


def _number(value: float | None) -> str:
    return MISSING if value is None else f"{value:.1f}"
