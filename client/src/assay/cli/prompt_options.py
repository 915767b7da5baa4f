"""What decides the prompts of a run, and of a preview of it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import typer

from assay.cli.session import assignments, without_nothing
from assay.errors import RequestRefused

SEEDS = ("random", "numpy", "fewshot")


@dataclass(frozen=True, slots=True)
class RowChoices:
    """On which rows."""

    dataset: Annotated[
        str | None, typer.Option(help="Rows to evaluate: name or id of a dataset.", show_default=False)
    ] = None
    member: Annotated[
        list[str] | None,
        typer.Option(
            help="TASK=DATASET for a task of a group, in place of --dataset. Repeatable.", show_default=False
        ),
    ] = None
    fewshot_dataset: Annotated[
        str | None,
        typer.Option(
            help="Rows for few-shot examples.", show_default="those imported with the dataset, if any"
        ),
    ] = None
    member_fewshot: Annotated[
        list[str] | None,
        typer.Option(help="TASK=DATASET, rows for a task's examples. Repeatable.", show_default=False),
    ] = None
    column_map: Annotated[
        list[str] | None,
        typer.Option(
            "--map",
            help="METHOD_COLUMN=DATASET_COLUMN where the names differ. Repeatable.",
            show_default=False,
        ),
    ] = None

    def request(self) -> dict[str, Any]:
        """What the client's ``request`` and ``preview`` take. Raises RequestRefused."""
        members = assignments(self.member or (), option="--member")
        if self.dataset is None and not members:
            raise RequestRefused("give --dataset, or --member TASK=DATASET for every task of a group")
        if self.dataset is not None and members:
            raise RequestRefused("give either --dataset for all tasks or --member for each, not both")
        return {
            "dataset": self.dataset,
            "fewshot_dataset": self.fewshot_dataset,
            "member_datasets": members,
            "member_fewshot_datasets": assignments(self.member_fewshot or (), option="--member-fewshot"),
            "column_mapping": assignments(self.column_map or (), option="--map"),
        }


@dataclass(frozen=True, slots=True)
class PromptChoices:
    """How the rows are asked."""

    num_fewshot: Annotated[
        int | None, typer.Option(help="Examples in the prompt.", min=0, show_default="the method's")
    ] = None
    system_instruction: Annotated[
        str | None, typer.Option(help="Put before every prompt.", show_default=False)
    ] = None
    apply_chat_template: Annotated[bool, typer.Option("--apply-chat-template", help="Ask in chat turns.")] = (
        False
    )
    fewshot_as_multiturn: Annotated[
        bool,
        typer.Option(
            "--fewshot-as-multiturn/--fewshot-in-one-turn",
            help="In chat turns: a turn for each example, or all of them in one.",
        ),
    ] = True
    generation: Annotated[
        list[str] | None,
        typer.Option(
            help="Generation argument NAME=JSON over the method's own, such as max_gen_toks=64. Repeatable.",
            show_default=False,
        ),
    ] = None
    repeats: Annotated[
        int | None, typer.Option(help="Ask every prompt so often.", min=1, show_default="the method's")
    ] = None
    seed: Annotated[
        list[str] | None,
        typer.Option(
            help="N for every generator, or NAME=N for random, numpy or fewshot. Repeatable.",
            show_default="lm-eval's: random=0 numpy=1234 fewshot=1234",
        ),
    ] = None

    def options(self) -> dict[str, Any]:
        """The options as the API takes them; what was not given is left to the platform."""
        return without_nothing(
            {
                "num_fewshot": self.num_fewshot,
                "system_instruction": self.system_instruction,
                "apply_chat_template": self.apply_chat_template or None,
                "fewshot_as_multiturn": None if self.fewshot_as_multiturn else False,
                "generation_kwargs": _json_values(self.generation or ()) or None,
                "repeats": self.repeats,
                "seeds": _seeds(self.seed or ()) or None,
            }
        )


def _json_values(texts: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, text in assignments(texts, option="--generation").items():
        try:
            values[name] = json.loads(text)
        except ValueError:
            raise RequestRefused(
                f"--generation {name}: {text!r} is no JSON; write a text as '{name}=\"...\"'"
            ) from None
    return values


def _seeds(texts: Sequence[str]) -> dict[str, int]:
    seeds: dict[str, int] = {}
    for text in texts:
        name, separator, number = text.rpartition("=")
        if not number.isdecimal() or (separator and name not in SEEDS):
            raise RequestRefused(
                f"--seed {text!r}: write a whole number, or one of {', '.join(SEEDS)}=NUMBER"
            )
        seeds |= dict.fromkeys([name] if separator else SEEDS, int(number))
    return seeds
