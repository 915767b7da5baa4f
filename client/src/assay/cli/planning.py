"""``assay power`` and ``assay trends``."""

from typing import Annotated

import typer
from rich.text import Text

from assay.cli.listings import LimitOption
from assay.cli.session import JsonOption, connected, examples, session_of
from assay.rendering.planning import power_report, trend_table

POWER_EXAMPLES = examples(
    "assay power",
    "assay power --samples 500 --margin 0.02",
    "assay power --margin 0.01 --margin 0.02 --method gsm8k",
    "assay power --samples 1319 --churn 0.04",
)
TRENDS_EXAMPLES = examples(
    "assay trends gsm8k",
    "assay trends gsm8k --metric 'gsm8k.exact_match,strict-match' --since 2026-01-01",
)


def power(
    context: typer.Context,
    samples: Annotated[
        int | None, typer.Option(help="What can so many samples show?", min=1, show_default=False)
    ] = None,
    margin: Annotated[
        list[float] | None,
        typer.Option(
            help="How many samples does this margin need? 0.02 is two points. Repeatable.",
            show_default="0.01, 0.02, 0.03",
        ),
    ] = None,
    churn: Annotated[
        float | None,
        typer.Option(
            help="Share of the answers that change between the runs.",
            min=0,
            max=1,
            show_default="observed or assumed",
        ),
    ] = None,
    method: Annotated[
        str | None,
        typer.Option(
            help="Take the churn that the newest comparison of this method saw.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """How many samples does a comparison need, and what can a number of samples show?"""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        plan = client.planning.power(samples=samples, margins=margin or (), churn=churn, method=method)
    session.show(plan, lambda: power_report(plan))


def trends(
    context: typer.Context,
    method: Annotated[str, typer.Argument(metavar="METHOD", help="Name or id.", show_default=False)],
    metric: Annotated[str | None, typer.Option(help="Metric.", show_default="the runs' first")] = None,
    dataset: Annotated[
        str | None, typer.Option(help="Only runs on this dataset: name or id.", show_default=False)
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="Only runs that finished since: 2026-01-31, or a time.", show_default=False),
    ] = None,
    limit: LimitOption = 200,
    as_json: JsonOption = False,
) -> None:
    """Show a metric of one method over time, artifact by artifact."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        points = list(client.trends.list(method, metric=metric, dataset=dataset, since=since, limit=limit))
    if not points and not session.as_json:
        session.out.print(Text("no finished run of this method matches"))
        return
    session.show({"items": points}, lambda: trend_table(points))
