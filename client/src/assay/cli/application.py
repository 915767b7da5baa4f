"""The ``assay`` command: its groups, its options, and what it ends with."""

import sys
from typing import Annotated, NoReturn

import typer

from assay.cli import (
    artifacts,
    comparisons,
    datasets,
    decisions,
    keys,
    local,
    methods,
    planning,
    policies,
    runs,
    tasks,
    verification,
)
from assay.cli.session import Session, examples
from assay.errors import AssayError

EXIT_CODES = (
    "Exit codes:",
    "  0  done",
    "  1  a run or import that was waited for failed or was cancelled",
    "  2  wrong usage, or the platform refused the request",
    "  3  the platform cannot be reached, or failed",
    "  130  interrupted",
    "  `assay decide` ends with its verdict, `assay verify bundle` with its finding: see their help",
)

app = typer.Typer(
    name="assay",
    epilog="\n".join(
        (
            examples(
                "assay demo",
                "assay up",
                "assay dataset create capitals --file capitals.jsonl",
                "assay dataset import gsm8k openai/gsm8k --subset main --split test --fewshot-split train",
                "assay run start --artifact base --dataset capitals --method capitals-qa --wait",
                "assay compare BASE_RUN CANDIDATE_RUN",
                "assay decide BASE_RUN CANDIDATE_RUN --report decision.html",
            ),
            *EXIT_CODES,
        )
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(datasets.app, name="dataset")
app.add_typer(tasks.app, name="task")
app.add_typer(methods.app, name="method")
app.add_typer(artifacts.app, name="artifact")
app.add_typer(runs.app, name="run")
app.command("backends")(artifacts.backends)
app.command("compare", epilog=comparisons.EXAMPLES)(comparisons.compare)
app.command("decide", epilog=decisions.EXAMPLES, cls=decisions.VerdictCommand)(decisions.decide)
app.add_typer(decisions.app, name="decision")
app.add_typer(policies.app, name="policy")
app.add_typer(verification.app, name="verify")
app.command("power", epilog=planning.POWER_EXAMPLES)(planning.power)
app.command("trends", epilog=planning.TRENDS_EXAMPLES)(planning.trends)
app.add_typer(keys.app, name="keys")
app.command("whoami")(keys.whoami)
app.command("up")(local.up)
app.command("demo", epilog=local.DEMO_EXAMPLES)(local.demo)
app.command("version")(local.version)


@app.callback()
def options(
    context: typer.Context,
    url: Annotated[
        str | None, typer.Option(help="Base URL of the gateway.", envvar="ASSAY_URL", show_default=False)
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(help="API key.", envvar="ASSAY_API_KEY", show_default=False)
    ] = None,
) -> None:
    """May this compiled model replace the base one? Evaluate both, compare them item by item.

    Without --url, the platform that runs on this machine is used (see `assay up`).
    """
    session = context.ensure_object(Session)
    session.url, session.api_key = url, api_key


def main() -> NoReturn:
    """Run the command and end the process with its exit code."""
    # Made here, so that an error knows whether JSON was asked for.
    session = Session()
    try:
        app(obj=session)
    except AssayError as error:
        session.report(error)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)
