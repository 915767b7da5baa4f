"""What is evaluated and how: JSON-serialisable, immutable, kept inside a run's frozen plan."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from assay_harness.template import parse_template

FieldName = Annotated[str, Field(min_length=1, max_length=200)]


class _Frozen(BaseModel):
    """Immutable, and strict about unknown fields: a misspelt option must not be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BuiltinTask(_Frozen):
    """A task, group or tag of lm-eval's own index, by name (never by path).

    A tag runs as a group does, but has no numbers of its own, only those of its tasks.
    """

    template: Literal["builtin-lm-eval"] = "builtin-lm-eval"
    task: str = Field(min_length=1, max_length=200)


class JsonlQuestionAnswer(_Frozen):
    """Question answering over two columns of the rows, scored by text comparison.

    `prompt_template` may name `{{input}}` (the value of `input_field`) and any column of the rows except
    the expected output. Few-shot examples are the rendered prompt, `target_delimiter`, the expected output
    and `fewshot_delimiter`.
    """

    template: Literal["jsonl-qa-lm-eval"] = "jsonl-qa-lm-eval"
    input_field: FieldName
    expected_output_field: FieldName
    prompt_template: str = Field(default="{{input}}", max_length=100_000)
    max_tokens: Annotated[int, Field(strict=True, ge=1, le=1_000_000)] = 64
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ("\n\n",)
    target_delimiter: str = " "
    fewshot_delimiter: str = "\n\n"

    @field_validator("prompt_template")
    @classmethod
    def _syntax(cls, text: str) -> str:
        """Refuse anything but `{{field}}`; whether the fields exist is known only with the rows."""
        parse_template(text)
        return text


Recipe = Annotated[BuiltinTask | JsonlQuestionAnswer, Field(discriminator="template")]


class TaskOptions(_Frozen):
    """Choices of one run that change prompts or numbers; the defaults are those of `lm_eval.simple_evaluate`.

    The exception is `bootstrap_iterations` (lm-eval: 100,000, which costs half an hour for some metrics).
    `column_mapping` maps a column that the task reads to the dataset's column that holds it.
    `generation_kwargs` updates the task's own, key by key; `until` replaces the stop list. `repeats` is how
    often each prompt is asked; None leaves the task's own number (1 for most).
    """

    num_fewshot: Annotated[int, Field(strict=True, ge=0, le=1000)] | None = None
    limit: Annotated[int, Field(strict=True, ge=1)] | None = None
    repeats: Annotated[int, Field(strict=True, ge=1, le=1000)] | None = None
    generation_kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    column_mapping: dict[FieldName, FieldName] = Field(default_factory=dict)
    system_instruction: str | None = None
    apply_chat_template: bool = False
    fewshot_as_multiturn: bool = True
    random_seed: int = 0
    numpy_seed: Annotated[int, Field(ge=0, lt=2**32)] = 1234
    fewshot_seed: int = 1234
    bootstrap_iterations: Annotated[int, Field(strict=True, ge=0, le=100_000)] = 1000

    @field_validator("generation_kwargs")
    @classmethod
    def _known_shapes(cls, value: dict[str, JsonValue]) -> dict[str, JsonValue]:
        """Check the keys whose meaning is lm-eval's; others belong to the serving side."""
        until = value.get("until", [])
        texts = [until] if isinstance(until, str) else until
        if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
            raise ValueError("'until' must be a list of non-empty strings")
        tokens = value.get("max_gen_toks", 1)
        if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 1:
            raise ValueError("'max_gen_toks' must be a whole number of at least 1")
        temperature = value.get("temperature", 0)
        if isinstance(temperature, bool) or not isinstance(temperature, int | float) or temperature < 0:
            raise ValueError("'temperature' must be a number of at least 0")
        return {**value, "until": list(texts)} if "until" in value else value


class RowOrigin(_Frozen):
    """Where rows were ingested from, as far as that is known; decides whether a run is the task's own.

    `repo_id`, `subset` and `split` are those of a `huggingface` source and None for an upload.
    """

    kind: Literal["huggingface", "jsonl"]
    repo_id: str | None = None
    subset: str | None = None
    split: str | None = None


class RowFiles(_Frozen):
    """The Parquet files that an evaluation reads.

    `evaluation_split` and `fewshot_split` name the splits that the rows were ingested from ("test",
    "train"); the rows always play the role that the task evaluates on, or draws its examples from. Without
    `fewshot`, or where it is the same file, examples are drawn from the evaluation rows and the row itself,
    with any that asks the same, is left out. An origin of None
    means that nobody knows, which is reported as a deviation from the task's own data.
    """

    evaluation: Path
    evaluation_split: str = "test"
    fewshot: Path | None = None
    fewshot_split: str | None = None
    evaluation_origin: RowOrigin | None = None
    fewshot_origin: RowOrigin | None = None

    def absolute(self) -> "RowFiles":
        """Return the same files by absolute paths, for a process that works in another directory."""
        return self.model_copy(
            update={
                "evaluation": self.evaluation.absolute(),
                "fewshot": self.fewshot and self.fewshot.absolute(),
            }
        )


class GroupRows(_Frozen):
    """The rows of each task of a group, by the task's name; all tasks must be there, and no other."""

    members: dict[str, RowFiles] = Field(min_length=1)

    def absolute(self) -> "GroupRows":
        """Return the same files by absolute paths, for a process that works in another directory."""
        return GroupRows(members={task: rows.absolute() for task, rows in self.members.items()})


Rows = RowFiles | GroupRows


class FilterFunction(StrEnum):
    """What a step of a filter does to each response; the menu is closed: no expressions from users."""

    TASK_FILTER = "task-filter"
    NONE = "none"
    STRIP_THINKING = "strip-thinking"
    STRIP_WHITESPACE = "strip-whitespace"
    FIRST_LINE = "first-line"
    LAST_LINE = "last-line"
    FIRST_NUMBER = "first-number"
    LAST_NUMBER = "last-number"
    CHOICE_LETTER = "choice-letter"
    LOWERCASE = "lowercase"
    MAJORITY_VOTE = "majority-vote"


class FilterStep(_Frozen):
    """One step; only `task-filter` takes an argument: `{"name": ...}`, one of the task's own filters.

    `task-filter` must come first, because it reads the responses as they are. `majority-vote` keeps the most
    frequent of a prompt's repeats (the earliest of equals); without it the first repeat counts.
    """

    function: FilterFunction
    arguments: dict[str, JsonValue] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _arguments(self) -> "FilterStep":
        """Refuse arguments that the function does not know."""
        wanted = {"name"} if self.function is FilterFunction.TASK_FILTER else set()
        if set(self.arguments) != wanted:
            needs = "exactly the argument 'name'" if wanted else "no arguments"
            raise ValueError(f"{self.function.value!r} takes {needs}, got {sorted(self.arguments)}")
        if wanted and not isinstance(self.arguments["name"], str):
            raise ValueError("'name' must be the name of one of the task's filters")
        return self


class FilterPipeline(_Frozen):
    """Steps under a name; results are `<task>.<metric>,<name>`."""

    name: str = Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")
    steps: tuple[FilterStep, ...] = Field(min_length=1, max_length=20)

    @model_validator(mode="after")
    def _order(self) -> "FilterPipeline":
        """Refuse a task's filter behind another step."""
        if any(step.function is FilterFunction.TASK_FILTER for step in self.steps[1:]):
            raise ValueError(f"filter {self.name!r}: 'task-filter' must be the first step")
        return self


class QuestionAnswerScoring(_Frozen):
    """Score with the metrics of the JSONL question-answer template instead of the task's own.

    The expected text is the column `expected_output_field` of the task's document, None for the task's own
    target; `expected_steps` shorten it (such as `last-number` for GSM8K's worked solutions).
    """

    expected_output_field: FieldName | None = None
    expected_steps: tuple[FilterStep, ...] = ()

    @field_validator("expected_steps")
    @classmethod
    def _texts_only(cls, steps: tuple[FilterStep, ...]) -> tuple[FilterStep, ...]:
        """Refuse steps that mean nothing for an expected text."""
        for step in steps:
            if step.function in (FilterFunction.TASK_FILTER, FilterFunction.MAJORITY_VOTE):
                raise ValueError(f"{step.function.value!r} cannot be applied to an expected output")
        return steps


class Scoring(_Frozen):
    """Another way to score the same responses; prompts, hashes and the task stay as they are.

    `filters` replace the task's own. `question_answer` replaces the metrics; without `filters` it then reads
    the responses through `strict` and `flexible` as the template does. At least one must be given.
    """

    filters: tuple[FilterPipeline, ...] = Field(default=(), max_length=20)
    question_answer: QuestionAnswerScoring | None = None

    @model_validator(mode="after")
    def _something(self) -> "Scoring":
        """Refuse an empty scoring and filters of the same name."""
        if not self.filters and self.question_answer is None:
            raise ValueError("name at least one filter, or question_answer")
        names = [pipeline.name for pipeline in self.filters]
        if len(set(names)) < len(names):
            raise ValueError("two filters have the same name")
        return self
