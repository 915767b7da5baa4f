"""What is evaluated and how: JSON-serialisable, immutable, kept inside a run's frozen plan."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue, field_validator

from assay_harness.template import parse_template

FieldName = Annotated[str, Field(min_length=1, max_length=200)]


class _Frozen(BaseModel):
    """Immutable, and strict about unknown fields: a misspelt option must not be ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class BuiltinTask(_Frozen):
    """A task of lm-eval's own index, by name (never by path)."""

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
    `generation_kwargs` updates the task's own, key by key; `until` replaces the stop list.
    """

    num_fewshot: Annotated[int, Field(strict=True, ge=0, le=1000)] | None = None
    limit: Annotated[int, Field(strict=True, ge=1)] | None = None
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


class RowFiles(_Frozen):
    """The Parquet files that an evaluation reads.

    `evaluation_split` names the split that the evaluation rows were ingested from ("test", "train"); the
    rows always play the role that the task evaluates on. Without `fewshot`, examples are drawn from the
    evaluation rows and the row itself is left out.
    """

    evaluation: Path
    evaluation_split: str = "test"
    fewshot: Path | None = None
