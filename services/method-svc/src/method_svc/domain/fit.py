"""Whether a recipe fits a dataset's columns."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from assay_chassis.errors import Fault
from assay_harness.errors import TemplateError
from assay_harness.index import IndexEntry
from assay_harness.spec import BuiltinTask, JsonlQuestionAnswer
from assay_harness.template import parse_template


@dataclass(frozen=True, slots=True)
class DatasetSchema:
    """Columns of a dataset's snapshot: name to type name."""

    dataset_id: str
    dataset_name: str
    snapshot_id: str
    columns: Mapping[str, str]


def misfits(
    recipe: BuiltinTask | JsonlQuestionAnswer, entries: Sequence[IndexEntry], schema: DatasetSchema
) -> list[Fault]:
    """Why the recipe cannot be used on a dataset with these columns; empty if it can.

    ``entries`` is a built-in recipe's task, or those of its group. A task whose columns only its code knows
    is not judged here; the preview and the plan of a run render real rows.
    """
    if isinstance(recipe, JsonlQuestionAnswer):
        return _question_answer_misfits(recipe, schema)
    wanted = dict.fromkeys(name for entry in entries for name in entry.columns or ())
    missing = [name for name in wanted if name not in schema.columns]
    if not missing:
        return []
    message = (
        f"task {recipe.task!r} reads {names(missing)}, which dataset {schema.dataset_name!r} does not have; "
        f"it has {names(schema.columns)}. Leave dataset_id out and map them with column_mapping in the run"
    )
    return [Fault(message=message, field="recipe.task")]


def _question_answer_misfits(recipe: JsonlQuestionAnswer, schema: DatasetSchema) -> list[Fault]:
    faults = [
        Fault(
            message=f"dataset {schema.dataset_name!r} has no column {column!r}; "
            f"it has {names(schema.columns)}",
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


def names(values: Iterable[str]) -> str:
    """Names for a sentence."""
    return ", ".join(repr(value) for value in values)
