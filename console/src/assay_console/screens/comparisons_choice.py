"""Which of the chosen runs is the base, and which can be compared with it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from assay.models import Run

MAX_RUNS = 21
"""A base and the twenty candidates that the API takes."""
SUCCEEDED = "Succeeded"


@dataclass(frozen=True, slots=True)
class ChosenRun:
    """One of the chosen runs.

    Attributes:
        run: the run.
        is_base: whether the others are compared with it.
        hindrance: why it cannot be compared at all; ``None`` where it can.
        doubts: why the comparison with the base would prove nothing, or less.
    """

    run: Run
    is_base: bool
    hindrance: str | None
    doubts: Sequence[str]


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen runs; ``unknown`` are identifiers under which there is no run."""

    runs: Sequence[ChosenRun]
    unknown: Sequence[str]
    base: Run | None

    @property
    def comparable_ids(self) -> frozenset[str]:
        """The runs that can be compared with the base without a doubt."""
        return frozenset(
            one.run.id for one in self.runs if not one.is_base and not one.hindrance and not one.doubts
        )

    @property
    def noise_floors(self) -> list[tuple[str, str]]:
        """Runs that can be the noise floor, as choices of a form: identifier and name."""
        return [(one.run.id, one.run.name) for one in self.runs if not one.is_base and not one.hindrance]

    @property
    def can_be_compared(self) -> bool:
        """Whether there is a base and something to compare with it."""
        return self.base is not None and any(not one.is_base and not one.hindrance for one in self.runs)


def chosen_ids(run_ids: Sequence[str]) -> Sequence[str]:
    """The identifiers, each once, in their order."""
    return list(dict.fromkeys(run_id.strip() for run_id in run_ids if run_id.strip()))


def choice_of(found: Sequence[Run | str], *, wanted_base: str) -> Choice:
    """Set the chosen runs beside the base: the wanted one, or the one that most likely is it."""
    runs = [one for one in found if isinstance(one, Run)]
    base = _base(runs, wanted_base)
    return Choice(
        runs=[
            ChosenRun(
                run=run,
                is_base=run is base,
                hindrance=_hindrance(run),
                doubts=list(_doubts(base, run)) if base is not None and run is not base else (),
            )
            for run in runs
        ],
        unknown=[one for one in found if isinstance(one, str)],
        base=base,
    )


def _base(runs: Sequence[Run], wanted: str) -> Run | None:
    """A run on a GPU before others, as the walkthrough has it; else the oldest."""
    usable = [run for run in runs if run.state == SUCCEEDED]
    named = next((run for run in usable if run.id == wanted), None)
    if named is not None:
        return named
    return min(
        usable, key=lambda run: (_of(run.plan.artifact, "backend") != "gpu", run.created_at), default=None
    )


def _hindrance(run: Run) -> str | None:
    if run.state == SUCCEEDED:
        return None
    if run.is_over:
        return f"it is {run.state}: only runs that Succeeded have final numbers"
    return f"it is {run.state}: wait until it has Succeeded"


def _doubts(base: Run, run: Run) -> Iterator[str]:
    ours, theirs = run.plan, base.plan
    if _of(ours.dataset, "digest") != _of(theirs.dataset, "digest"):
        yield (
            f"it evaluated other rows: snapshot {_snapshot(run)} instead of {_snapshot(base)}, so that items "
            "cannot be paired one by one"
        )
    if _of(ours.method, "recipe_hash") != _of(theirs.method, "recipe_hash"):
        yield f"it has another Evaluation Method: {_method(run)} instead of {_method(base)}"
    elif _of(ours.task, "num_fewshot") != _of(theirs.task, "num_fewshot"):
        yield (
            f"its prompts have {_of(ours.task, 'num_fewshot')} examples (few-shot), the base's "
            f"{_of(theirs.task, 'num_fewshot')}"
        )
    if _of(ours.task, "document_count") != _of(theirs.task, "document_count"):
        yield (
            f"it evaluated {_of(ours.task, 'document_count')} rows, the base "
            f"{_of(theirs.task, 'document_count')} (limit)"
        )


def _snapshot(run: Run) -> str:
    return f"{_of(run.plan.dataset, 'name') or '?'} {str(_of(run.plan.dataset, 'digest') or '?')[:12]}"


def _method(run: Run) -> str:
    return f"{_of(run.plan.method, 'name') or '?'} version {_of(run.plan.method, 'version') or '?'}"


def _of(part: dict[str, Any], name: str) -> Any:
    """A field of a plan; older plans lack some."""
    return part.get(name)
