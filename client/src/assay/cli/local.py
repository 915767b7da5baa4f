"""``assay up``, ``assay demo``, ``assay version``: the platform on this machine."""

import sys
from importlib import import_module
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from assay.cli.session import JsonOption, examples, session_of
from assay.demo import DemoOptions, run_demo
from assay.errors import RequestRefused
from assay.settings import read_environment

DEMO_EXAMPLES = examples(
    "assay demo", "assay demo --keep-data", "assay demo --questions 40 --report /tmp/demo.html"
)


def up(
    home: Annotated[
        Path | None,
        typer.Option(help="Directory for data, keys and logs.", show_default="$ASSAY_HOME or .assay"),
    ] = None,
) -> None:
    """Run the whole platform on this machine, in the foreground, until Ctrl-C."""
    sys.exit(_allinone("assay_allinone.__main__").up(home))


def demo(
    context: typer.Context,
    keep_data: Annotated[
        bool, typer.Option("--keep-data", help="Keep the directory with the data, keys and logs.")
    ] = False,
    questions: Annotated[
        int | None, typer.Option(help="Use the first N questions.", min=1, show_default="all")
    ] = None,
    report: Annotated[
        Path, typer.Option(help="HTML report of the decision; the evidence bundle is written beside it.")
    ] = Path("demo-report.html"),
    as_json: JsonOption = False,
) -> None:
    """Start the platform, evaluate a model and a lossier build of it, compare them, decide, and end.

    Takes a few minutes. Everything is real: the model, the servers, the numbers.
    """
    session = session_of(context, as_json=as_json)
    _allinone("assay_allinone.platform")
    options = DemoOptions(
        home=read_environment().home, report=report, keep_data=keep_data, questions=questions
    )
    sys.exit(run_demo(session, options))


def version(context: typer.Context, as_json: JsonOption = False) -> None:
    """Print the version of this client."""
    session = session_of(context, as_json=as_json)
    number = version_of("assay")
    session.show({"assay": number}, lambda: Text(f"assay {number}"))


def _allinone(module: str) -> Any:
    """A module of the platform. Raises RequestRefused where only the client is installed."""
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("assay_allinone"):
            raise
        raise RequestRefused(
            "the platform is not installed here, only its client: install assay-allinone, "
            "or set ASSAY_URL to a platform that runs elsewhere"
        ) from error
