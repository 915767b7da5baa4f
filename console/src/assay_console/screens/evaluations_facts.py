"""What stands behind an evaluation: the phases of its serving, and what to do about an error."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assay.models import Run

_PHASES = {
    "waited_s": ("Waited", "until the adapter had room"),
    "schedule_s": ("Schedule", "from the request to a place to run"),
    "pull_s": ("Pull", "the artifact's files"),
    "load_s": ("Load", "the model into the engine"),
    "ready_s": ("Ready", "until a first real completion"),
    "cold_start_s": ("Cold start", "the four before together"),
    "serving_s": ("Serving", "while requests could be sent"),
    "drain_s": ("Drain", "until everything was given back"),
    "occupied_s": ("Occupied", "in which accelerators, if any, were held"),
}
_ADVICE = {
    "serving-failed": "The model could not be served. Check the artifact's address and parameters and the "
    "backend's health; then resume, or clone onto another artifact.",
    "serving-lost": "The engine went away while it answered. The logs may say why; resume asks only for "
    "what is still missing.",
    "adapter-unavailable": "No adapter answered for this backend. See System health; resume when it is back.",
    "sample-failed": "A request failed for good and the plan says that the run then fails. Resume asks for "
    "it again, or start a run with another way to treat failures.",
    "nothing-to-ask": "No row is left to evaluate. Check the dataset and the limit.",
    "harness-error": "The task could not make its prompts from these rows. Look at the method's preview and "
    "at the column mapping.",
}
_OTHERWISE = "Look at the logs and at the plan. Resume asks only for what is still missing."


@dataclass(frozen=True, slots=True)
class Phase:
    """One phase: seconds over all serving instances, and of each; ``None`` is not known."""

    name: str
    meaning: str
    total: float | None
    each: Sequence[float | None]


def phases(run: Run) -> Sequence[Phase]:
    """The phases of serving; while the run goes on those that are over."""
    ledgers = [_ledger(record) for record in run.serving]
    found = []
    for key, (name, meaning) in _PHASES.items():
        each = [ledger.get(key) for ledger in ledgers]
        known = [value for value in each if value is not None]
        if run.ledger is not None:
            found.append(Phase(name, meaning, run.ledger.get(key), each))
        elif known:
            found.append(Phase(name, meaning, sum(known), each))
    return found


def _ledger(record: Mapping[str, Any]) -> Mapping[str, float | None]:
    """What an instance has cost; of one that still serves, the phases that it has told."""
    told = {f"{name}_s": value for name, value in (record.get("phase_times") or {}).items()}
    return record.get("ledger") or told


def advice(code: str) -> str:
    """What a reader can do about a run that failed."""
    return _ADVICE.get(code, _OTHERWISE)
