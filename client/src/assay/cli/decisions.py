"""``assay decide`` and ``assay decision``."""

import traceback
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text
from typer.core import TyperCommand

from assay.cli.comparisons import BaseArgument, ClusterOption, NoiseFloorOption
from assay.cli.downloads import save_download
from assay.cli.listings import LimitOption
from assay.cli.session import JsonOption, Session, connected, examples, session_of
from assay.errors import AssayError, RequestRefused
from assay.files import check_writable
from assay.models import Decision
from assay.rendering.decision import decision_report, decision_table

ACCEPT, REJECT, INCONCLUSIVE, NO_DECISION = 0, 1, 2, 3
EXIT_CODES = (
    "Exit codes:",
    "  0  ACCEPT: the candidate may replace the base",
    "  1  REJECT: it may not",
    "  2  INCONCLUSIVE: the evidence does not say",
    "  3  the evidence is invalid, or no decision could be made (wrong usage, no platform, any failure)",
)
EXAMPLES = "\n".join(
    (
        examples(
            "assay decide BASE CANDIDATE",
            "assay decide BASE CANDIDATE --policy default@1 --noise-floor BASE_AGAIN",
            "assay decide BASE CANDIDATE --report decision.html --bundle evidence.zip --json",
        ),
        *EXIT_CODES,
    )
)
_CODES = {"ACCEPT": ACCEPT, "REJECT": REJECT, "INCONCLUSIVE": INCONCLUSIVE}

app = typer.Typer(help="Decisions: comparisons judged by a policy, stored for good.", no_args_is_help=True)

DecisionArgument = Annotated[str, typer.Argument(metavar="DECISION", help="Id.", show_default=False)]


class ReportFormat(StrEnum):
    """Formats of the report of a decision."""

    HTML = "html"
    MARKDOWN = "md"


class VerdictCommand(TyperCommand):
    """A command whose exit codes 0, 1 and 2 are verdicts: whatever goes wrong ends with 3.

    A job that reads the exit code must never take a misspelt option, a lost connection or a fault of this
    program for a verdict.
    """

    def make_context(self, *arguments: Any, **options: Any) -> Any:
        """As the base class; wrong usage ends with 3."""
        try:
            return super().make_context(*arguments, **options)
        except typer.TyperException as error:
            error.exit_code = NO_DECISION
            raise

    def invoke(self, ctx: Any) -> Any:
        """As the base class; every failure ends with 3."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except typer.TyperException as error:
            error.exit_code = NO_DECISION
            raise
        except AssayError as error:
            session_of(ctx).report(error)
            raise typer.Exit(NO_DECISION) from error
        except Exception as error:
            # Python itself would end with 1, which is REJECT.
            traceback.print_exc()
            raise typer.Exit(NO_DECISION) from error


def exit_code(decision: Decision) -> int:
    """What ``assay decide`` ends with. A verdict of a newer platform that is not known here is none."""
    return _CODES.get(decision.verdict, NO_DECISION) if decision.valid else NO_DECISION


def decide(
    context: typer.Context,
    base: BaseArgument,
    candidate: Annotated[
        str,
        typer.Argument(
            metavar="CANDIDATE",
            help="Run of what would replace it: name or id, or id of a scoring.",
            show_default=False,
        ),
    ],
    policy: Annotated[str, typer.Option(help="NAME (its newest version), NAME@VERSION, or id.")] = "default",
    noise_floor: NoiseFloorOption = None,
    cluster: ClusterOption = None,
    report: Annotated[
        Path | None, typer.Option(help="Also write the report: .html or .md.", show_default=False)
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            help="Also write the evidence bundle (.zip); `assay verify bundle` checks it.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """May the candidate replace the base? Judge two finished runs by a policy."""
    session = session_of(context, as_json=as_json)
    file_format = None if report is None else _report_format(report)
    for path in (report, bundle):
        if path is not None:
            check_writable(path)
    with connected(session) as client:
        decision = client.decisions.create(
            base, candidate, policy=policy, noise_floor=noise_floor, cluster_column=cluster
        )
        session.show(decision, lambda: decision_report(decision))
        if report is not None and file_format is not None:
            save_download(
                session,
                report,
                lambda file: client.decisions.report(decision.id, file, file_format=file_format),
            )
        if bundle is not None:
            save_download(session, bundle, lambda file: client.decisions.bundle(decision.id, file))
    raise typer.Exit(exit_code(decision))


@app.command(
    "list",
    epilog=examples("assay decision list", "assay decision list --candidate RUN --verdict ACCEPT"),
)
def list_decisions(
    context: typer.Context,
    candidate: Annotated[
        str | None, typer.Option(help="Only of this candidate run: name or id.", show_default=False)
    ] = None,
    verdict: Annotated[
        str | None, typer.Option(help="Only ACCEPT, REJECT or INCONCLUSIVE.", show_default=False)
    ] = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List decisions, newest first."""
    session = session_of(context, as_json=as_json)
    wanted = None if verdict is None else verdict.upper()
    if wanted is not None and wanted not in _CODES:
        raise RequestRefused(f"--verdict {verdict!r}: one of {', '.join(_CODES)}")
    with connected(session) as client:
        found = list(client.decisions.list(candidate=candidate, verdict=wanted, limit=limit))
    session.show({"items": found}, lambda: decision_table(found))


@app.command("show", epilog=examples("assay decision show DECISION"))
def show(context: typer.Context, decision: DecisionArgument, as_json: JsonOption = False) -> None:
    """Show a decision with its reasons; ends with 0 whatever the verdict was."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = client.decisions.get(decision)
    session.show(found, lambda: decision_report(found))


@app.command("report", epilog=examples("assay decision report DECISION --to decision.html"))
def report(
    context: typer.Context,
    decision: DecisionArgument,
    to: Annotated[Path, typer.Option(help="File to write: .html or .md.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Write the report of a decision to a file."""
    session = session_of(context, as_json=as_json)
    file_format = _report_format(to)
    with connected(session) as client:
        written = save_download(
            session, to, lambda file: client.decisions.report(decision, file, file_format=file_format)
        )
    _show_file(session, decision, to, written)


@app.command("bundle", epilog=examples("assay decision bundle DECISION --to evidence.zip"))
def bundle(
    context: typer.Context,
    decision: DecisionArgument,
    to: Annotated[Path, typer.Option(help="File to write (.zip).", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Write the evidence bundle of a decision; `assay verify bundle` recomputes the verdict from it."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        written = save_download(session, to, lambda file: client.decisions.bundle(decision, file))
    _show_file(session, decision, to, written)


def _report_format(path: Path) -> ReportFormat:
    try:
        return ReportFormat(path.suffix.removeprefix(".").lower())
    except ValueError:
        raise RequestRefused(f"{path}: the report of a decision ends in .html or .md") from None


def _show_file(session: Session, decision: str, path: Path, written: int) -> None:
    if session.as_json:
        document = {"decision_id": decision, "path": str(path), "bytes": written}
        session.show(document, lambda: Text(""))
