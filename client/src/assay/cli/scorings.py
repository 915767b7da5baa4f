"""``assay run rescore``: a finished run, scored another way without asking the model again."""

from typing import Annotated, Any

import typer

from assay.cli.listings import LimitOption
from assay.cli.session import JsonOption, connected, examples, session_of, without_nothing
from assay.errors import RequestRefused, RunDisappointed
from assay.models import ScoredView
from assay.rendering.runs import scored_view_card, scored_view_table

TASK_FILTER = "task-filter"


def rescore(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name or id.", show_default=False)],
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter",
            help="NAME=STEP,STEP,... replaces the task's filters. Steps: task-filter:NAME (first), none, "
            "strip-thinking, strip-whitespace, first-line, last-line, first-number, last-number, "
            "choice-letter, lowercase, majority-vote. Repeatable.",
            show_default=False,
        ),
    ] = None,
    question_answer: Annotated[
        bool,
        typer.Option("--question-answer", help="Score with the metrics of questions and answers instead."),
    ] = False,
    expected_output_field: Annotated[
        str | None,
        typer.Option(help="With --question-answer: column with the expected output.", show_default=False),
    ] = None,
    expected_step: Annotated[
        list[str] | None,
        typer.Option(
            help="With --question-answer: step for the expected output, such as last-number. Repeatable.",
            show_default=False,
        ),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the scored view.", show_default=False)] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait for the numbers.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Score a finished run another way. Nothing is asked again, and the run keeps its own numbers."""
    session = session_of(context, as_json=as_json)
    scoring = _scoring(filters or [], question_answer, expected_output_field, expected_step or [])
    with connected(session) as client:
        view = client.scorings.create(client.runs.get(run).id, scoring, name=name)
        if wait:
            view = client.wait_scoring(view.id)
    session.show(view, lambda: scored_view_card(view))
    _check(view)


def scorings(
    context: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN", help="Name or id.", show_default=False)],
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """List the other scorings of a run."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = list(client.scorings.list(client.runs.get(run).id, limit=limit))
    session.show({"items": found}, lambda: scored_view_table(found))


def scoring(
    context: typer.Context,
    scoring_id: Annotated[str, typer.Argument(metavar="SCORING", help="Id.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Show one of them with its numbers."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        view = client.scorings.get(scoring_id)
    session.show(view, lambda: scored_view_card(view))


def add_commands(app: typer.Typer) -> None:
    """Add the commands to those of runs."""
    app.command(
        "rescore",
        epilog=examples(
            "assay run rescore RUN --filter last=strip-thinking,last-number",
            "assay run rescore RUN --filter strict=task-filter:strict-match --filter lenient=last-number",
            "assay run rescore RUN --question-answer --expected-step last-number",
        ),
    )(rescore)
    app.command("scorings")(scorings)
    app.command("scoring")(scoring)


def _scoring(
    filters: list[str], question_answer: bool, expected_output_field: str | None, expected_step: list[str]
) -> dict[str, Any]:
    """The scoring as the API takes it. Raises RequestRefused."""
    if not question_answer and (expected_output_field or expected_step):
        raise RequestRefused("--expected-output-field and --expected-step belong to --question-answer")
    if not filters and not question_answer:
        raise RequestRefused("give --filter NAME=STEPS, or --question-answer")
    document: dict[str, Any] = {}
    if filters:
        document["filters"] = [_filter(text) for text in filters]
    if question_answer:
        document["question_answer"] = without_nothing(
            {
                "expected_output_field": expected_output_field,
                "expected_steps": [_step(text, option="--expected-step") for text in expected_step] or None,
            }
        )
    return document


def _filter(text: str) -> dict[str, Any]:
    name, separator, steps = text.partition("=")
    if not separator or not name or not steps:
        raise RequestRefused(f"--filter {text!r}: write NAME=STEP,STEP,..., such as last=last-number")
    return {"name": name, "steps": [_step(step, option="--filter") for step in steps.split(",")]}


def _step(text: str, *, option: str) -> dict[str, Any]:
    function, separator, name = text.partition(":")
    if bool(separator) != (function == TASK_FILTER) or (separator and not name):
        raise RequestRefused(
            f"{option} {text!r}: only {TASK_FILTER} has an argument, the name of one of the task's own "
            f"filters, as in {TASK_FILTER}:strict-match"
        )
    return {"function": function, "arguments": {"name": name}} if name else {"function": function}


def _check(view: ScoredView) -> None:
    if view.state == "failed":
        reason = (view.error or {}).get("message", "no reason was given")
        raise RunDisappointed(f"scoring {view.id} failed: {reason}")
