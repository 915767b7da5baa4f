"""Methods, their versions, the templates, and whether a recipe fits a dataset."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python

from assay_chassis.errors import Fault
from assay_harness.errors import TemplateError
from assay_harness.index import IndexEntry
from assay_harness.spec import BuiltinTask, JsonlQuestionAnswer, Recipe
from assay_harness.template import parse_template

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$"
"""What a method's name looks like."""

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


@dataclass(frozen=True, slots=True)
class DatasetSchema:
    """Columns of a dataset's snapshot: name to type name."""

    dataset_id: str
    dataset_name: str
    snapshot_id: str
    columns: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class SnapshotReference:
    """A snapshot that can be fetched: its id, digest and split."""

    id: str
    digest: str
    split: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a template; ``default`` is meaningless where it is required."""

    name: str
    required: bool
    default: Any
    description: str


@dataclass(frozen=True, slots=True)
class Template:
    """A kind of recipe. ``name`` is for programs, ``title`` for people."""

    name: str
    title: str
    description: str
    parameters: tuple[Parameter, ...]


_DESCRIPTIONS: Mapping[str, str] = {
    "task": "name of a task of lm-eval's index; GET /v1/tasks finds them",
    "input_field": "column that holds the input of a row",
    "expected_output_field": "column that holds the answer that counts as right",
    "prompt_template": "the prompt; {{input}} and {{column}} stand for values, not the expected one",
    "max_tokens": "most tokens of a response",
    "stop": "texts that end a response, themselves left out",
    "target_delimiter": "between prompt and answer of a few-shot example",
    "fewshot_delimiter": "between few-shot examples, and before the prompt",
}


def templates() -> tuple[Template, ...]:
    """The templates there are; their parameters are those of the recipes, whatever they become."""
    return (
        Template(
            name="builtin-lm-eval",
            title="Built-in-lm-eval",
            description="A task of lm-eval, with its own prompt, filters and metrics, on a dataset's rows.",
            parameters=_parameters(BuiltinTask),
        ),
        Template(
            name="jsonl-qa-lm-eval",
            title="JSONL QA lm-eval",
            description="Question and answer: a prompt from each row, the response compared with the "
            "expected output by exact match, normalised match, containment and token F1.",
            parameters=_parameters(JsonlQuestionAnswer),
        ),
    )


def _parameters(recipe: type[BuiltinTask] | type[JsonlQuestionAnswer]) -> tuple[Parameter, ...]:
    return tuple(
        Parameter(
            name=name,
            required=field.is_required(),
            default=None if field.is_required() else to_jsonable_python(field.default),
            description=_DESCRIPTIONS.get(name, ""),
        )
        for name, field in recipe.model_fields.items()
        if name != "template"
    )


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


def output_of(recipe: BuiltinTask | JsonlQuestionAnswer, entry: IndexEntry | None) -> Output:
    """What the recipe asks of a backend; ``entry`` is that of a built-in task."""
    if entry is None:
        return Output(output_type="generate_until", needs_log_probabilities=False)
    return Output(output_type=entry.output_type, needs_log_probabilities=entry.needs_log_probabilities)


def misfits(
    recipe: BuiltinTask | JsonlQuestionAnswer, entry: IndexEntry | None, schema: DatasetSchema
) -> list[Fault]:
    """Why the recipe cannot be used on a dataset with these columns; empty if it can.

    A built-in task whose columns only its code knows is not judged here; the preview and the plan of a run
    render real rows.
    """
    if isinstance(recipe, JsonlQuestionAnswer):
        return _question_answer_misfits(recipe, schema)
    missing = [name for name in (entry.columns if entry else None) or () if name not in schema.columns]
    if not missing:
        return []
    message = (
        f"task {recipe.task!r} reads {_names(missing)}, which dataset {schema.dataset_name!r} does not have; "
        f"it has {_names(schema.columns)}. Leave dataset_id out and map them with column_mapping in the run"
    )
    return [Fault(message=message, field="recipe.task")]


def _question_answer_misfits(recipe: JsonlQuestionAnswer, schema: DatasetSchema) -> list[Fault]:
    faults = [
        Fault(
            message=f"dataset {schema.dataset_name!r} has no column {column!r}; "
            f"it has {_names(schema.columns)}",
            field=f"recipe.{field}",
        )
        for field, column in (
            ("input_field", recipe.input_field),
            ("expected_output_field", recipe.expected_output_field),
        )
        if column not in schema.columns
    ]
    known = ["input", *(name for name in schema.columns if name != recipe.expected_output_field)]
    try:
        parse_template(recipe.prompt_template).check(dict.fromkeys(known))
    except TemplateError as error:
        faults.append(Fault(message=str(error), field="recipe.prompt_template"))
    return faults


def _names(names: Sequence[str] | Mapping[str, str]) -> str:
    return ", ".join(repr(name) for name in names)


def now() -> datetime:
    """The time to the millisecond, which is what the store keeps: what is read is what was answered."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
