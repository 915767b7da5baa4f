"""The options that describe a method: a task, or two columns and a prompt."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.session import without_nothing
from assay.errors import RequestRefused


@dataclass(frozen=True, slots=True)
class RecipeChoices:
    """The recipe, by its parts."""

    task: Annotated[
        str | None,
        typer.Option(help="Task or group of lm-eval's index: a built-in method.", show_default=False),
    ] = None
    input_field: Annotated[
        str | None, typer.Option(help="Column with the question: a JSONL QA method.", show_default=False)
    ] = None
    expected_output_field: Annotated[
        str | None, typer.Option(help="Column with the expected output.", show_default=False)
    ] = None
    prompt_template: Annotated[
        str | None,
        typer.Option(help="Prompt around {{input}} and other columns.", show_default="{{input}}"),
    ] = None
    prompt_template_file: Annotated[
        Path | None, typer.Option(help="File with the prompt template.", show_default=False)
    ] = None
    max_tokens: Annotated[int | None, typer.Option(help="Longest answer, tokens.", show_default=False)] = None
    stop: Annotated[
        list[str] | None,
        typer.Option(help=r"Text that ends the answer; \n is a line end. Repeatable.", show_default=False),
    ] = None
    target_delimiter: Annotated[
        str | None,
        typer.Option(help="Between question and answer of an example.", show_default="a space"),
    ] = None
    fewshot_delimiter: Annotated[
        str | None, typer.Option(help="Between examples.", show_default="an empty line")
    ] = None

    @property
    def given(self) -> dict[str, Any]:
        """Everything that was given but the task, by the names of the API. Raises RequestRefused."""
        return without_nothing(
            {
                "input_field": self.input_field,
                "expected_output_field": self.expected_output_field,
                "prompt_template": self._template(),
                "max_tokens": self.max_tokens,
                "stop": [_with_line_ends(text) for text in self.stop] if self.stop else None,
                "target_delimiter": _with_line_ends(self.target_delimiter),
                "fewshot_delimiter": _with_line_ends(self.fewshot_delimiter),
            }
        )

    def recipe(self) -> dict[str, Any]:
        """The recipe that the options mean. Raises RequestRefused where they do not fit together."""
        given = self.given
        if self.task is not None:
            if given:
                names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
                raise RequestRefused(f"--task has its own prompts; {names} belongs to a JSONL QA method")
            return {"template": "builtin-lm-eval", "task": self.task}
        if self.input_field is None or self.expected_output_field is None:
            raise RequestRefused(
                "give --task, or --input-field and --expected-output-field; "
                "`assay method form --dataset DATASET` shows what fits a dataset"
            )
        return {"template": "jsonl-qa-lm-eval", **given}

    def _template(self) -> str | None:
        file = self.prompt_template_file
        if self.prompt_template is not None and file is not None:
            raise RequestRefused("give --prompt-template or --prompt-template-file, not both")
        if file is None:
            return self.prompt_template
        try:
            # An editor ends the file with a line end; in a prompt it would be one token more.
            return file.read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise RequestRefused(f"{file} cannot be read: {error}") from error


def _with_line_ends(text: str | None) -> str | None:
    r"""The text with ``\n`` as a line end: a shell makes it hard to give one."""
    return None if text is None else text.replace("\\n", "\n")
