"""``assay compare``."""

from enum import StrEnum
from typing import Annotated

import typer

from assay.cli.session import JsonOption, connected, examples, session_of
from assay.errors import RequestRefused
from assay.models import Comparison
from assay.rendering.quality import comparison_report, flipped_items, main_metric

EXAMPLES = examples(
    "assay compare RUN_A RUN_B",
    "assay compare RUN_A RUN_B --items lost --limit 20",
    "assay compare RUN_A RUN_B --json",
)


class Flip(StrEnum):
    """Which items to show."""

    GAINED = "gained"
    LOST = "lost"
    BOTH_RIGHT = "both_right"
    BOTH_WRONG = "both_wrong"


def compare(
    context: typer.Context,
    run_a: Annotated[
        str, typer.Argument(metavar="RUN_A", help="Baseline: name or id of a run.", show_default=False)
    ],
    run_b: Annotated[
        str, typer.Argument(metavar="RUN_B", help="Candidate: name or id of a run.", show_default=False)
    ],
    items: Annotated[Flip | None, typer.Option(help="Also show these items.", show_default=False)] = None,
    metric: Annotated[
        str | None, typer.Option(help="Metric that says which items; the first one with flips if not given.")
    ] = None,
    limit: Annotated[int, typer.Option(help="At most this many items.", min=1)] = 10,
    as_json: JsonOption = False,
) -> None:
    """Compare two succeeded runs item by item: A is the baseline, B the candidate."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        comparison = client.comparisons.create(client.runs.get(run_a).id, client.runs.get(run_b).id)
        chosen = metric or _default_metric(comparison, wanted=items is not None)
        shown = []
        if items is not None:
            shown = list(client.comparisons.items(comparison.id, metric=chosen, flip=items, limit=limit))
    if session.as_json:
        document = comparison.document()
        if items is not None:
            document["items"] = {
                "metric": chosen,
                "flip": items.value,
                "items": [item.document() for item in shown],
            }
        session.show(document, lambda: comparison_report(comparison))
        return
    session.show(comparison, lambda: comparison_report(comparison))
    if items is not None:
        heading = f"{items.value.replace('_', ' ')} under {chosen} (at most {limit})"
        session.out.print(flipped_items(shown, metric=chosen, heading=heading))


def _default_metric(comparison: Comparison, *, wanted: bool) -> str:
    line = main_metric(comparison)
    if line is None:
        if wanted:
            raise RequestRefused("no metric of these runs is right or wrong per item, so nothing flips")
        return ""
    return line.metric
