"""Methods and their immutable versions."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter

from assay_harness.index import IndexEntry
from assay_harness.spec import BuiltinTask, JsonlQuestionAnswer, Recipe

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""What a method's name looks like."""
MAX_DESCRIPTION_CHARACTERS = 2000

_RECIPE: TypeAdapter[BuiltinTask | JsonlQuestionAnswer] = TypeAdapter(Recipe)


@dataclass(frozen=True, slots=True)
class Output:
    """What a recipe asks of a backend: lm-eval's output type, and whether it needs log-probabilities."""

    output_type: str
    needs_log_probabilities: bool


@dataclass(frozen=True, slots=True)
class MethodVersion:
    """One immutable version of a method, as it is shown.

    Attributes:
        id: the method.
        name: the method's name.
        description: what the version is for.
        version: counts from 1.
        recipe: the template and its parameters, defaults filled in.
        recipe_hash: sha256 of the recipe's canonical JSON, hexadecimal.
        output: what the recipe asks of a backend.
        created_at: when the version was created.
        created_by: who created it.
    """

    id: str
    name: str
    description: str
    version: int
    recipe: BuiltinTask | JsonlQuestionAnswer
    recipe_hash: str
    output: Output
    created_at: datetime
    created_by: str


@dataclass(frozen=True, slots=True)
class Listing:
    """A page of methods, newest first; ``next_cursor`` is ``None`` on the last one."""

    items: list[MethodVersion]
    next_cursor: str | None


def recipe_document(recipe: BuiltinTask | JsonlQuestionAnswer) -> dict[str, Any]:
    """The recipe as JSON data, with every default written out."""
    return recipe.model_dump(mode="json")


def read_recipe(document: Mapping[str, Any]) -> BuiltinTask | JsonlQuestionAnswer:
    """The recipe that ``recipe_document`` has written."""
    return _RECIPE.validate_python(dict(document))


def recipe_hash(recipe: BuiltinTask | JsonlQuestionAnswer) -> str:
    """sha256 of the canonical JSON (sorted keys, no white space) of the recipe, hexadecimal."""
    canonical = json.dumps(recipe_document(recipe), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def output_of(entries: Sequence[IndexEntry]) -> Output:
    """What a recipe asks of a backend; ``entries`` is its task, or those of its group, empty without one.

    The output type of a group whose tasks differ is ``mixed``.
    """
    if not entries:
        return Output(output_type="generate_until", needs_log_probabilities=False)
    types = {entry.output_type for entry in entries}
    return Output(
        output_type=types.pop() if len(types) == 1 else "mixed",
        needs_log_probabilities=any(entry.needs_log_probabilities for entry in entries),
    )


def now() -> datetime:
    """The time to the millisecond, which is what the store keeps: what is read is what was answered."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
