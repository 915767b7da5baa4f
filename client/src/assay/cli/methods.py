"""``assay method``."""

from typing import Annotated

import typer

from assay.cli.listings import add_list_and_show
from assay.cli.option_groups import with_option_groups
from assay.cli.prompt_options import PromptChoices, RowChoices
from assay.cli.recipe_options import RecipeChoices
from assay.cli.session import JsonOption, connected, examples, session_of
from assay.errors import RequestRefused
from assay.rendering.methods import form_card, method_card, method_table, preview_report, template_list

app = typer.Typer(help="Methods: how answers are asked for and judged.", no_args_is_help=True)


@app.command(
    "form",
    epilog=examples(
        "assay method form --dataset capitals",
        "assay method form --dataset questions --task gsm8k",
    ),
)
def form(
    context: typer.Context,
    dataset: Annotated[str, typer.Option(help="Dataset that the method is for.", show_default=False)],
    template: Annotated[
        str | None, typer.Option(help="builtin-lm-eval or jsonl-qa-lm-eval.", show_default="what fits best")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help="Task: shows where its columns are in the dataset.", show_default=False),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what a method for a dataset may say: guessed defaults with their reasons, columns, tasks."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = client.methods.form(dataset, template=template, task=task)
    session.show(found, lambda: form_card(found))


@app.command(
    "create",
    epilog=examples(
        "assay method create gsm8k --task gsm8k",
        "assay method create capitals-qa --input-field input --expected-output-field expected_output "
        "--prompt-template 'Q: {{input}} A:' --stop '\\n' --dataset capitals",
    ),
)
@with_option_groups
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the new method.", show_default=False)],
    choices: RecipeChoices,
    dataset: Annotated[str | None, typer.Option(help="Dataset that it must fit.", show_default=False)] = None,
    description: Annotated[str, typer.Option(help="What it measures.")] = "",
    as_json: JsonOption = False,
) -> None:
    """Define a method: a task that lm-eval knows, or questions and answers in two columns."""
    session = session_of(context, as_json=as_json)
    recipe = choices.recipe()
    with connected(session) as client:
        method = client.methods.create(name, recipe, description=description, dataset=dataset)
    session.show(method, lambda: method_card(method))


add_list_and_show(
    app,
    lambda client: client.methods,
    table=method_table,
    card=method_card,
    kind="method",
    shown="a method with its recipe, in its newest version",
)


@app.command(
    "preview",
    epilog=examples(
        "assay method preview capitals-qa --dataset capitals",
        "assay method preview --task gsm8k --dataset gsm8k-test --num-fewshot 2 --row 7 --row 19",
        "assay method preview gsm8k --dataset gsm8k-test --apply-chat-template --rows 1",
    ),
)
@with_option_groups
def preview(
    context: typer.Context,
    choices: RecipeChoices,
    rows: RowChoices,
    prompts: PromptChoices,
    method: Annotated[
        str | None, typer.Argument(metavar="[METHOD]", help="Name or id; or give a recipe by options.")
    ] = None,
    version: Annotated[
        int | None, typer.Option(help="Version of the method.", min=1, show_default="newest")
    ] = None,
    offset: Annotated[int, typer.Option(help="First row, counted from 0.", min=0)] = 0,
    count: Annotated[int, typer.Option("--rows", help="How many rows.", min=1)] = 3,
    row: Annotated[
        list[int] | None,
        typer.Option(
            help="This row, in place of --offset and --rows. Repeatable.", min=0, show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show rows as the model will be asked them, for a method or before there is one."""
    session = session_of(context, as_json=as_json)
    if method is not None and (choices.task is not None or choices.given):
        raise RequestRefused("give a method, or a recipe by options, not both")
    if method is None and version is not None:
        raise RequestRefused("--version is that of a method: name one")
    wanted = {"offset": offset, "rows": count} if not row else {"row_indices": row}
    recipe = choices.recipe() if method is None else method
    request = rows.request()
    with connected(session) as client:
        found = client.methods.preview(recipe, version=version, **request, **prompts.options(), **wanted)
    session.show(found, lambda: preview_report(found))


@app.command("templates")
def templates(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the templates that a method can be made of."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = list(client.methods.templates())
    session.show({"items": found}, lambda: template_list(found))
