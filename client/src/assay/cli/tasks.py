"""``assay task``."""

from typing import Annotated

import typer

from assay.cli.listings import LimitOption
from assay.cli.session import JsonOption, connected, examples, session_of
from assay.rendering.methods import task_card, task_report

app = typer.Typer(help="Tasks of lm-eval: what a built-in method can be made of.", no_args_is_help=True)


@app.command(
    "search",
    epilog=examples(
        "assay task search gsm8k",
        "assay task search mmlu --status ok --limit 100",
    ),
)
def search(
    context: typer.Context,
    query: Annotated[
        list[str] | None, typer.Argument(help="Words of a name, tag or group.", show_default=False)
    ] = None,
    status: Annotated[
        list[str] | None,
        typer.Option(
            help="Only these: ok, needs-log-probabilities, needs-extra, unsafe-code, remote-judge, "
            "hub-metric, multimodal, unsupported. Repeatable.",
            show_default=False,
        ),
    ] = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """Search lm-eval's tasks; each says whether it runs here, and if not, why."""
    session = session_of(context, as_json=as_json)
    text = " ".join(query or ())
    with connected(session) as client:
        page = client.tasks.search(text, statuses=status or (), limit=limit)
    sought = f"{text!r}" + (f" with status {' or '.join(status)}" if status else "")
    session.show(page, lambda: task_report(page, sought=sought))


@app.command("show", epilog=examples("assay task show gsm8k", "assay task show mmlu"))
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="TASK", help="Name of the task.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Show a task or group: what it needs, its splits and columns, its members."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = client.tasks.get(name)
    session.show(found, lambda: task_card(found))
