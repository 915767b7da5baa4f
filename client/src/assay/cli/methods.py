"""``assay method``."""

from pathlib import Path
from typing import Annotated, Any

import typer

from assay.cli.session import JsonOption, connected, examples, session_of
from assay.errors import RequestRefused
from assay.rendering.listings import method_card, method_table, preview, task_table, template_list

app = typer.Typer(help="Methods: how answers are asked for and judged.", no_args_is_help=True)

TaskOption = Annotated[
    str | None, typer.Option(help="Task of lm-eval's index: makes a built-in method.", show_default=False)
]
InputOption = Annotated[
    str | None, typer.Option(help="Column with the question: makes a JSONL QA method.", show_default=False)
]
ExpectedOption = Annotated[
    str | None, typer.Option(help="Column with the expected output.", show_default=False)
]
PromptOption = Annotated[
    str | None, typer.Option(help="Prompt around {{input}} and other columns.", show_default="{{input}}")
]
PromptFileOption = Annotated[
    Path | None, typer.Option(help="File with the prompt template.", show_default=False)
]
MaxTokensOption = Annotated[int | None, typer.Option(help="Longest answer, tokens.", show_default=False)]
StopOption = Annotated[
    list[str] | None,
    typer.Option(help=r"Text that ends the answer; \n is a line end. Repeatable.", show_default=False),
]
DatasetOption = Annotated[str | None, typer.Option(help="Dataset that it must fit.", show_default=False)]
LimitOption = Annotated[int, typer.Option(help="At most this many.", min=1)]


@app.command(
    "create",
    epilog=examples(
        "assay method create gsm8k --task gsm8k",
        "assay method create capitals-qa --input-field input --expected-output-field expected_output "
        "--prompt-template 'Q: {{input}} A:' --stop '\\n' --dataset capitals",
    ),
)
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the new method.", show_default=False)],
    task: TaskOption = None,
    input_field: InputOption = None,
    expected_output_field: ExpectedOption = None,
    prompt_template: PromptOption = None,
    prompt_template_file: PromptFileOption = None,
    max_tokens: MaxTokensOption = None,
    stop: StopOption = None,
    dataset: DatasetOption = None,
    description: Annotated[str, typer.Option(help="What it measures.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Define a method: a task that lm-eval knows, or questions and answers in two columns."""
    session = session_of(context, as_json=as_json)
    recipe = _recipe(
        task=task,
        input_field=input_field,
        expected_output_field=expected_output_field,
        prompt_template=_template(prompt_template, prompt_template_file),
        max_tokens=max_tokens,
        stop=stop,
    )
    with connected(session) as client:
        method = client.methods.create(name, recipe, description=description, dataset=dataset)
    session.show(method, lambda: method_card(method))


@app.command("list")
def list_methods(
    context: typer.Context,
    name: Annotated[str | None, typer.Option(help="Only the one with this name.")] = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List methods in their newest version."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = list(client.methods.list(name=name, limit=limit))
    session.show({"items": found}, lambda: method_table(found))


@app.command("show")
def show(
    context: typer.Context,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="Name or id.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Show a method with its recipe."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = client.methods.get(method)
    session.show(found, lambda: method_card(found))


@app.command(
    "preview",
    epilog=examples(
        "assay method preview capitals-qa --dataset capitals",
        "assay method preview --task gsm8k --dataset gsm8k-test --num-fewshot 2 --rows 1",
    ),
)
def show_preview(
    context: typer.Context,
    dataset: Annotated[str, typer.Option(help="Dataset whose rows are shown.", show_default=False)],
    method: Annotated[
        str | None, typer.Argument(metavar="[METHOD]", help="Name or id; or give a recipe by options.")
    ] = None,
    task: TaskOption = None,
    input_field: InputOption = None,
    expected_output_field: ExpectedOption = None,
    prompt_template: PromptOption = None,
    prompt_template_file: PromptFileOption = None,
    rows: Annotated[int, typer.Option(help="How many rows.", min=1)] = 3,
    num_fewshot: Annotated[int | None, typer.Option(help="Examples in the prompt.", min=0)] = None,
    as_json: JsonOption = False,
) -> None:
    """Show rows as the model will be asked them, for a method or before it exists."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        if method is not None:
            recipe = client.methods.get(method).recipe
        else:
            recipe = _recipe(
                task=task,
                input_field=input_field,
                expected_output_field=expected_output_field,
                prompt_template=_template(prompt_template, prompt_template_file),
                max_tokens=None,
                stop=None,
            )
        page = client.methods.preview(recipe, dataset, rows=rows, num_fewshot=num_fewshot)
    session.show(page, lambda: preview(page.items))


@app.command("templates")
def templates(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the templates that a method can be made of."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = list(client.methods.templates())
    session.show({"items": found}, lambda: template_list(found))


@app.command("tasks", epilog=examples("assay method tasks", "assay method tasks gsm8k"))
def tasks(
    context: typer.Context,
    query: Annotated[str | None, typer.Argument(help="Part of a name.", show_default=False)] = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """Search lm-eval's tasks."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        page = client.methods.tasks(query=query, limit=limit)
    session.show(page, lambda: task_table(page.items))


def _template(text: str | None, file: Path | None) -> str | None:
    if text is not None and file is not None:
        raise RequestRefused("give --prompt-template or --prompt-template-file, not both")
    if file is None:
        return text
    try:
        # An editor ends the file with a line end; in a prompt it would be one token more.
        return file.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise RequestRefused(f"{file} cannot be read: {error}") from error


def _recipe(
    *,
    task: str | None,
    input_field: str | None,
    expected_output_field: str | None,
    prompt_template: str | None,
    max_tokens: int | None,
    stop: list[str] | None,
) -> dict[str, Any]:
    """The recipe that the options mean. Raises RequestRefused where they do not fit together."""
    question = {
        "input_field": input_field,
        "expected_output_field": expected_output_field,
        "prompt_template": prompt_template,
        "max_tokens": max_tokens,
        # A shell makes it hard to give a line end, the most common stop of all.
        "stop": [text.replace("\\n", "\n") for text in stop] if stop else None,
    }
    given = {name: value for name, value in question.items() if value is not None}
    if task is not None:
        if given:
            names = ", ".join(f"--{name.replace('_', '-')}" for name in given)
            raise RequestRefused(f"--task has its own prompts; {names} belongs to a JSONL QA method")
        return {"template": "builtin-lm-eval", "task": task}
    if input_field is None or expected_output_field is None:
        raise RequestRefused("give --task, or --input-field and --expected-output-field")
    return {"template": "jsonl-qa-lm-eval", **given}
