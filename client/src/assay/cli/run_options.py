"""The options of ``assay run plan`` and ``assay run start``."""

import json
from typing import Annotated, Any

import typer

from assay.cli.session import assignments
from assay.errors import RequestRefused

ArtifactOption = Annotated[
    str, typer.Option(help="What is evaluated: name or id of an artifact.", show_default=False)
]
DatasetOption = Annotated[
    str, typer.Option(help="On which rows: name or id of a dataset.", show_default=False)
]
MethodOption = Annotated[str, typer.Option(help="How: name or id of a method.", show_default=False)]
NameOption = Annotated[str | None, typer.Option(help="Name of the run.", show_default=False)]
MethodVersionOption = Annotated[
    int | None, typer.Option(help="Version of the method.", min=1, show_default="newest")
]
FewshotDatasetOption = Annotated[
    str | None, typer.Option(help="Dataset with the rows for few-shot examples.", show_default=False)
]
MapOption = Annotated[
    list[str] | None,
    typer.Option(
        "--map", help="METHOD_COLUMN=DATASET_COLUMN where the names differ. Repeatable.", show_default=False
    ),
]
LimitOption = Annotated[
    int | None, typer.Option(help="Evaluate the first N rows.", min=1, show_default="all rows")
]
BatchSizeOption = Annotated[int, typer.Option(help="Prompts handed over in one burst.", min=1)]
ConcurrencyOption = Annotated[int, typer.Option(help="Requests in flight at once.", min=1)]
NumFewshotOption = Annotated[
    int | None, typer.Option(help="Examples in the prompt.", min=0, show_default="the method's")
]
GenerationOption = Annotated[
    list[str] | None,
    typer.Option(
        help="Generation argument NAME=JSON over the method's own, such as max_gen_toks=64. Repeatable.",
        show_default=False,
    ),
]
OnFailureOption = Annotated[
    str, typer.Option(help="What a failed sample counts as: score_zero, exclude, or fail (the run).")
]
MaxRetriesOption = Annotated[int, typer.Option(help="Further tries of a failed request.", min=0)]
CpusOption = Annotated[
    float | None, typer.Option(help="Serving CPUs.", min=0.1, show_default="the backend's")
]
MemoryOption = Annotated[
    int | None, typer.Option(help="Serving memory, GiB.", min=1, show_default="the backend's")
]
AcceleratorsOption = Annotated[
    int | None, typer.Option(help="Serving accelerators.", min=1, show_default="the backend's")
]
ContextOption = Annotated[
    int | None,
    typer.Option(help="Longest prompt with answer, tokens.", min=128, show_default="the backend's"),
]

GIBIBYTE = 1024**3


def run_options(
    *,
    limit: int | None,
    batch_size: int,
    concurrency: int,
    num_fewshot: int | None,
    generation: list[str] | None,
    on_failure: str,
    max_retries: int,
    cpus: float | None,
    memory_gib: int | None,
    accelerators: int | None,
    max_context_tokens: int | None,
) -> dict[str, Any]:
    """The ``options`` of a run as the API takes them; what was not given is left to the platform."""
    serving = {
        "cpus": cpus,
        "memory_bytes": None if memory_gib is None else memory_gib * GIBIBYTE,
        "accelerators": accelerators,
        "max_context_tokens": max_context_tokens,
    }
    options = {
        "limit": limit,
        "batch_size": batch_size,
        "concurrency": concurrency,
        "num_fewshot": num_fewshot,
        "generation_kwargs": _json_values(generation or []) or None,
        "on_failure": on_failure,
        "max_retries": max_retries,
        "serving": {name: value for name, value in serving.items() if value is not None} or None,
    }
    return {name: value for name, value in options.items() if value is not None}


def _json_values(texts: list[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for name, text in assignments(texts, option="--generation").items():
        try:
            values[name] = json.loads(text)
        except ValueError:
            raise RequestRefused(
                f"--generation {name}: {text!r} is no JSON; write a text as '{name}=\"...\"'"
            ) from None
    return values
