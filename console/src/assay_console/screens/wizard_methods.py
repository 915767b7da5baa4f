"""Which methods fit a dataset's rows, and which columns of them they read."""

import asyncio
import re
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

from assay.models import Form, Method, Snapshot
from assay_console.gateway import ApiError, Gateway

_BUILTIN = "builtin-lm-eval"
_QUESTION_ANSWER = "jsonl-qa-lm-eval"
_PLACEHOLDER = re.compile(r"\{\{\s*([^{}]+?)\s*\}\}")
_ASKED_AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class WantedColumn:
    """A column that a method reads; ``column`` is the dataset's that may hold it ('' where none is known)."""

    name: str
    column: str
    reason: str


@dataclass(frozen=True, slots=True)
class Columns:
    """What a method reads of some rows.

    Attributes:
        fits: whether a run is possible with the columns as they are proposed.
        reason: why it is, or why not.
        wanted: the columns; ``None`` where only the task's own code knows them.
    """

    fits: bool
    reason: str
    wanted: Sequence[WantedColumn] | None


async def columns_of_all(api: Gateway, methods: Sequence[Method], snapshot: Snapshot) -> Sequence[Columns]:
    """What each of the methods reads of the rows; a task that several methods run is asked for once."""
    tasks = list(dict.fromkeys(_task(method) for method in methods if not _is_question_answer(method)))
    some = asyncio.Semaphore(_ASKED_AT_ONCE)

    async def one(task: str) -> Columns:
        async with some:
            return await _columns_of_task(api, task, snapshot)

    names = {column.name for column in snapshot.columns}
    is_renamed = any(
        _is_question_answer(method) and not names.issuperset(_own_columns(method.recipe))
        for method in methods
    )
    guesses, found = await asyncio.gather(
        _guessed_columns(api, snapshot) if is_renamed else _nothing(), asyncio.gather(*map(one, tasks))
    )
    of_task = dict(zip(tasks, found, strict=True))
    return [
        _columns_of_question_answer(method.recipe, names, guesses)
        if _is_question_answer(method)
        else of_task[_task(method)]
        for method in methods
    ]


async def columns_of(api: Gateway, method: Method, snapshot: Snapshot) -> Columns:
    """What the method reads of the rows."""
    return (await columns_of_all(api, [method], snapshot))[0]


def _is_question_answer(method: Method) -> bool:
    return bool(method.recipe.get("template") == _QUESTION_ANSWER)


def _task(method: Method) -> str:
    return str(method.recipe.get("task") or "")


async def _columns_of_task(api: Gateway, task: str, snapshot: Snapshot) -> Columns:
    query = {"template": _BUILTIN, "snapshot_id": snapshot.id, "task": task}
    try:
        form = await api.get("/v1/methods/form", Form, query=query)
    except ApiError as error:
        if not error.is_refusal:
            raise
        return Columns(fits=False, reason=str(error), wanted=None)
    mapping = form.column_mapping
    if mapping is None or mapping.complete is None:
        return Columns(fits=form.fits, reason=form.reason, wanted=None)
    wanted = [WantedColumn(guess.field, guess.value or "", guess.reason) for guess in mapping.guesses]
    return Columns(fits=form.fits, reason=_reason(form.reason, wanted), wanted=wanted)


def _reason(told: str, wanted: Sequence[WantedColumn]) -> str:
    """In terms of the wizard, where the form speaks of what a client has to send."""
    renamed = [one for one in wanted if one.column and one.column != one.name]
    if not renamed or any(not one.column for one in wanted):
        return told
    pairs = ", ".join(f"{one.name!r} from {one.column!r}" for one in renamed)
    return f"with a mapping, which the next step proposes: {pairs}"


async def _nothing() -> Sequence[str]:
    return ()


async def _guessed_columns(api: Gateway, snapshot: Snapshot) -> Sequence[str]:
    """The columns that look like the input and the expected output; none where none do."""
    query = {"template": _QUESTION_ANSWER, "snapshot_id": snapshot.id}
    form = await api.get("/v1/methods/form", Form, query=query)
    found = {guess.field: guess.value for guess in form.guesses}
    columns = [found.get("recipe.input_field"), found.get("recipe.expected_output_field")]
    return [column for column in columns if column] if all(columns) else ()


def _own_columns(recipe: Mapping[str, Any]) -> Sequence[str]:
    """Where a question-and-answer method finds the input and the expected output."""
    return [str(recipe.get("input_field")), str(recipe.get("expected_output_field"))]


def _columns_of_question_answer(
    recipe: Mapping[str, Any], names: AbstractSet[str], guesses: Sequence[str]
) -> Columns:
    """A question-and-answer method names its columns; another dataset may have them under other names."""
    own = _own_columns(recipe)
    guessed = dict(zip(own, guesses, strict=True)) if guesses else {}
    roles = dict(zip(own, ("the input", "the expected output"), strict=True))
    read = [
        name for name in _PLACEHOLDER.findall(str(recipe.get("prompt_template") or "")) if name != "input"
    ]
    wanted = [
        WantedColumn(
            name,
            name if name in names else guessed.get(name, ""),
            roles.get(name, "the prompt template holds it"),
        )
        for name in dict.fromkeys([*own, *read])
    ]
    missing = [one.name for one in wanted if not one.column]
    if missing:
        reason = f"it reads {_named(missing)}, which the rows do not have; they have {_named(sorted(names))}"
        return Columns(fits=False, reason=reason, wanted=wanted)
    told = f"the rows have {_named([one.name for one in wanted])}"
    return Columns(fits=True, reason=_reason(told, wanted), wanted=wanted)


def _named(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown
