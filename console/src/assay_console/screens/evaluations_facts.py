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
    """The phases of serving; none before the run had its first instance."""
    if run.ledger is None:
        return ()
    ledgers: list[Mapping[str, Any]] = [record.get("ledger") or {} for record in run.serving]
    return [
        Phase(name, meaning, run.ledger.get(key), [one.get(key) for one in ledgers])
        for key, (name, meaning) in _PHASES.items()
    ]


def advice(code: str) -> str:
    """What a reader can do about a run that failed."""
    return _ADVICE.get(code, _OTHERWISE)
