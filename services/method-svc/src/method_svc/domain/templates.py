"""The templates that a method can be made of, as they are described to people and programs."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from pydantic_core import to_jsonable_python

from assay_harness.spec import BuiltinTask, JsonlQuestionAnswer


class TemplateName(StrEnum):
    """A template's name for programs: the value of a recipe's ``template``."""

    BUILTIN = "builtin-lm-eval"
    JSONL_QA = "jsonl-qa-lm-eval"


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

    name: TemplateName
    title: str
    description: str
    recipe: type[BuiltinTask] | type[JsonlQuestionAnswer]

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """The fields of the recipe, whatever they become."""
        return tuple(
            Parameter(
                name=name,
                required=field.is_required(),
                default=None if field.is_required() else to_jsonable_python(field.default),
                description=DESCRIPTIONS.get(name, ""),
            )
            for name, field in self.recipe.model_fields.items()
            if name != "template"
        )


DESCRIPTIONS: Mapping[str, str] = {
    "task": "name of a task of lm-eval's index; GET /v1/tasks finds them",
    "input_field": "column that holds the input of a row",
    "expected_output_field": "column that holds the answer that counts as right",
    "prompt_template": "the prompt; {{input}} and {{column}} stand for values, not the expected one",
    "max_tokens": "most tokens of a response",
    "stop": "texts that end a response, themselves left out",
    "target_delimiter": "between prompt and answer of a few-shot example",
    "fewshot_delimiter": "between few-shot examples, and before the prompt",
}
"""What each parameter of a recipe means."""


def templates() -> tuple[Template, ...]:
    """The templates there are."""
    return (
        Template(
            name=TemplateName.BUILTIN,
            title="Built-in-lm-eval",
            description="A task of lm-eval, with its own prompt, filters and metrics, on a dataset's rows.",
            recipe=BuiltinTask,
        ),
        Template(
            name=TemplateName.JSONL_QA,
            title="JSONL QA lm-eval",
            description="Question and answer: a prompt from each row, the response compared with the "
            "expected output by exact match, normalised match, containment and token F1.",
            recipe=JsonlQuestionAnswer,
        ),
    )


def template_of(name: TemplateName) -> Template:
    """The template of that name."""
    return next(template for template in templates() if template.name is name)
