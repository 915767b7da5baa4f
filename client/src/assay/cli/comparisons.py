"""``assay compare``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from assay.cli.downloads import save_download
from assay.cli.session import JsonOption, Session, connected, examples, session_of
from assay.client import AssayClient
from assay.errors import RequestRefused
from assay.files import check_writable
from assay.models import CandidateReport, Comparison, ComparisonItem
from assay.rendering.comparison import comparison_report, subject_name
from assay.rendering.flips import flipped_items
from assay.resources.comparisons import REPORTS

EXAMPLES = examples(
    "assay compare BASE CANDIDATE",
    "assay compare BASE CANDIDATE --noise-floor BASE_AGAIN --margin 0.01",
    "assay compare BASE CANDIDATE --items lost --class format_only --limit 20",
    "assay compare BASE CANDIDATE OTHER_CANDIDATE --report comparison.html",
    "assay compare BASE CANDIDATE --json",
)

BaseArgument = Annotated[
    str,
    typer.Argument(
        metavar="BASE", help="Run of what is replaced: name or id, or id of a scoring.", show_default=False
    ),
]
NoiseFloorOption = Annotated[
    str | None,
    typer.Option(
        help="Second run of the base's artifact: what changes in it by itself is noise.", show_default=False
    ),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(
        help="Column of the dataset; items with equal values there belong together.", show_default=False
    ),
]


class Flip(StrEnum):
    """Which items to show."""

    GAINED = "gained"
    LOST = "lost"
    BOTH_RIGHT = "both_right"
    BOTH_WRONG = "both_wrong"


class FlipClass(StrEnum):
    """Why an item flipped."""

    ERROR = "error"
    EMPTY = "empty"
    TRUNCATED = "truncated"
    FORMAT_ONLY = "format_only"
    CHOICE_CHANGED = "choice_changed"
    NUMERIC_ANSWER = "numeric_answer"
    OTHER = "other"


class Choice(NamedTuple):
    """Which items to show."""

    flip: Flip
    flip_class: FlipClass | None
    metric: str | None
    limit: int


class Found(NamedTuple):
    """The items of one candidate."""

    report: CandidateReport
    metric: str
    items: list[ComparisonItem]


def compare(
    context: typer.Context,
    base: BaseArgument,
    candidates: Annotated[
        list[str],
        typer.Argument(
            metavar="CANDIDATE...", help="Runs of what would replace it, up to 20.", show_default=False
        ),
    ],
    noise_floor: NoiseFloorOption = None,
    margin: Annotated[
        float | None,
        typer.Option(
            help="How much worse a metric may be, in its unit: 0.02 is two points.", show_default="0.02"
        ),
    ] = None,
    cluster: ClusterOption = None,
    items: Annotated[Flip | None, typer.Option(help="Also show these items.", show_default=False)] = None,
    flip_class: Annotated[
        FlipClass | None,
        typer.Option("--class", help="Only items that flipped for this reason.", show_default=False),
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Metric that says which items.", show_default="the first one with flips"),
    ] = None,
    limit: Annotated[int, typer.Option(help="At most this many items.", min=1)] = 10,
    report: Annotated[
        Path | None,
        typer.Option(
            help="Also write a file: .html or .md (the report), .csv or .parquet (the items).",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Compare finished runs with a base, item by item: quality, flips, runtime, energy.

    The first lines say what was found. Runs that do not answer the same questions are shown as INVALID.
    """
    session = session_of(context, as_json=as_json)
    choice = _choice(items, flip_class=flip_class, metric=metric, limit=limit)
    file_format = _file_format(report, candidates=len(candidates))
    with connected(session) as client:
        comparison = client.comparisons.create(
            base, candidates, noise_floor=noise_floor, margin=margin, cluster_column=cluster
        )
        found = (
            [] if choice is None else [_items(client, comparison, r, choice) for r in comparison.candidates]
        )
        _show(session, comparison, found, choice)
        if report is not None:
            save_download(
                session,
                report,
                lambda file: client.comparisons.download(comparison.id, file, file_format=file_format),
            )
    if not session.as_json:
        session.say(f"Judge it by a policy: assay decide {base} {candidates[0]}")


def _choice(
    items: Flip | None, *, flip_class: FlipClass | None, metric: str | None, limit: int
) -> Choice | None:
    if items is None:
        if flip_class is not None or metric is not None:
            raise RequestRefused("--class and --metric say which items: give --items lost or --items gained")
        return None
    return Choice(items, flip_class, metric, limit)


def _file_format(report: Path | None, *, candidates: int) -> str:
    """The format that the file's name asks for. Raises RequestRefused."""
    if report is None:
        return ""
    found = report.suffix.removeprefix(".").lower()
    if found not in REPORTS:
        raise RequestRefused(f"--report {report}: the name must end in .html, .md, .csv or .parquet")
    if found in {"csv", "parquet"} and candidates > 1:
        raise RequestRefused(
            f"--report {report}: a table of items is of one candidate; compare them one by one"
        )
    check_writable(report)
    return found


def _items(client: AssayClient, comparison: Comparison, report: CandidateReport, choice: Choice) -> Found:
    metric = choice.metric or _default_metric(report)
    found = client.comparisons.items(
        comparison.id,
        candidate=report.candidate.view_id,
        metric=metric,
        flip=choice.flip,
        flip_class=choice.flip_class,
        limit=choice.limit,
    )
    return Found(report, metric, list(found))


def _default_metric(report: CandidateReport) -> str:
    line = next((line for line in report.quality if line.flips is not None), None)
    if line is None:
        raise RequestRefused("no metric of these runs is right or wrong per item, so nothing flips")
    return line.metric


def _show(session: Session, comparison: Comparison, found: list[Found], choice: Choice | None) -> None:
    document: dict[str, Any] = comparison.document()
    if choice is not None:
        document["items"] = [
            {
                "candidate_run_id": entry.report.candidate.view_id,
                "metric": entry.metric,
                "flip": choice.flip.value,
                "flip_class": choice.flip_class,
                "items": [item.document() for item in entry.items],
            }
            for entry in found
        ]
    session.show(document, lambda: comparison_report(comparison))
    if session.as_json or choice is None:
        return
    which = choice.flip.value.replace("_", " ")
    if choice.flip_class is not None:
        which += f" ({choice.flip_class.value.replace('_', ' ')})"
    for entry in found:
        name = subject_name(entry.report.candidate, other=comparison.baseline)
        heading = f"{name}: {which} under {entry.metric} (at most {choice.limit})"
        session.out.print(flipped_items(entry.items, metric=entry.metric, heading=heading))
