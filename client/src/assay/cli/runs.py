"""``assay run``."""

import io
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from assay.cli import exports, scorings
from assay.cli.listings import LimitOption, NameOption, SearchOption
from assay.cli.option_groups import with_option_groups
from assay.cli.prompt_options import PromptChoices, RowChoices
from assay.cli.run_options import ExecutionChoices, SubjectChoices, run_request
from assay.cli.session import JsonOption, Session, connected, examples, session_of
from assay.client import AssayClient
from assay.errors import NotFound, RequestRefused, RunDisappointed
from assay.models import Run, RunMetrics
from assay.progress import RunProgress
from assay.rendering.report import metrics_report
from assay.rendering.runs import plan_card, run_card, run_table, sample_table, scored_table
from assay.rendering.text import clean

app = typer.Typer(help="Runs: one artifact on one dataset by one method.", no_args_is_help=True)

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Name or id.", show_default=False)]
WaitOption = Annotated[bool, typer.Option("--wait", help="Wait for the end and show the metrics.")]


class Outcome(StrEnum):
    """How a sample ended: right or wrong by a metric, or without a response."""

    RIGHT = "right"
    WRONG = "wrong"
    FAILED = "failed"


@app.command(
    "plan",
    epilog=examples(
        "assay run plan --artifact base --dataset capitals --method capitals-qa",
        "assay run plan --artifact base --method arc --member arc_easy=easy --member arc_challenge=hard",
    ),
)
@with_option_groups
def plan(
    context: typer.Context,
    subject: SubjectChoices,
    rows: RowChoices,
    prompts: PromptChoices,
    execution: ExecutionChoices,
    as_json: JsonOption = False,
) -> None:
    """Check a run and show what it would be, without starting it."""
    session = session_of(context, as_json=as_json)
    request = run_request(subject, rows, prompts, execution)
    with connected(session) as client:
        effective = client.runs.plan(**request)
    session.show(effective, lambda: plan_card(effective))


@app.command(
    "start",
    epilog=examples(
        "assay run start --artifact base --dataset capitals --method capitals-qa --wait",
        "assay run start --artifact base --dataset gsm8k --method gsm8k --limit 20 --concurrency 4",
        "assay run start --artifact new --dataset gsm8k --method gsm8k --stop-early-against base-run",
        "assay run start --artifact base --dataset gsm8k --method gsm8k --apply-chat-template "
        "--system-instruction 'Think step by step.' --num-fewshot 0",
    ),
)
@with_option_groups
def start(
    context: typer.Context,
    subject: SubjectChoices,
    rows: RowChoices,
    prompts: PromptChoices,
    execution: ExecutionChoices,
    name: Annotated[str | None, typer.Option(help="Name of the run.", show_default=False)] = None,
    idempotency_key: Annotated[
        str | None,
        typer.Option(help="The same key gives the same run, however often it is sent.", show_default=False),
    ] = None,
    wait: WaitOption = False,
    as_json: JsonOption = False,
) -> None:
    """Check a run, freeze its plan and queue it."""
    session = session_of(context, as_json=as_json)
    request = run_request(subject, rows, prompts, execution)
    with connected(session) as client:
        run = client.runs.start(idempotency_key=idempotency_key, name=name, **request)
        _show_queued_or_wait(client, session, run, wait=wait)


@app.command("list")
def list_runs(
    context: typer.Context,
    name: NameOption = None,
    search: SearchOption = None,
    state: Annotated[
        str | None,
        typer.Option(help="Only runs in this state, such as Running, Succeeded or Failed."),
    ] = None,
    dataset: Annotated[str | None, typer.Option(help="Only runs on this dataset: name or id.")] = None,
    artifact: Annotated[str | None, typer.Option(help="Only runs of this artifact: name or id.")] = None,
    limit: LimitOption = 50,
    as_json: JsonOption = False,
) -> None:
    """List runs, newest first."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        runs = client.runs.list(
            name=name, search=search, state=state, dataset=dataset, artifact=artifact, limit=limit
        )
        found = list(runs)
    session.show({"items": found}, lambda: run_table(found))


@app.command("show")
def show(context: typer.Context, run: RunArgument, as_json: JsonOption = False) -> None:
    """Show a run with its plan and its metrics, so far or final."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = client.runs.get(run)
        metrics = _metrics(client, found)
    _show_run(session, found, metrics, with_plan=True)


@app.command("watch")
def watch(context: typer.Context, run: RunArgument, as_json: JsonOption = False) -> None:
    """Watch a run until it is over, then show its metrics. Ctrl-C stops watching, not the run."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        _wait(client, session, client.runs.get(run))


@app.command("cancel")
def cancel(context: typer.Context, run: RunArgument, as_json: JsonOption = False) -> None:
    """Cancel a run; its finished samples stay, and `assay run resume` goes on from there."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        found = client.runs.cancel(run)
    session.show(found, lambda: run_table([found]))


@app.command("resume")
def resume(
    context: typer.Context, run: RunArgument, wait: WaitOption = False, as_json: JsonOption = False
) -> None:
    """Queue a failed or cancelled run again; its finished samples are kept."""
    session = session_of(context, as_json=as_json)
    with connected(session) as client:
        _show_queued_or_wait(client, session, client.runs.resume(run), wait=wait)


@app.command(
    "samples",
    epilog=examples(
        "assay run samples RUN",
        "assay run samples RUN --outcome wrong --search Paris",
        "assay run samples RUN --index 17",
    ),
)
def samples(
    context: typer.Context,
    run: RunArgument,
    outcome: Annotated[
        Outcome | None,
        typer.Option(
            "--outcome",
            "--only",
            help="Only samples that are right or wrong by the metric, or that failed.",
            show_default=False,
        ),
    ] = None,
    metric: Annotated[
        str | None, typer.Option(help="Metric for --outcome.", show_default="the run's first")
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(
            help="Only samples with this text in prompt, expected output or response.", show_default=False
        ),
    ] = None,
    index: Annotated[
        int | None, typer.Option(help="Only the sample of this row.", min=0, show_default=False)
    ] = None,
    limit: LimitOption = 20,
    as_json: JsonOption = False,
) -> None:
    """Show what a run asked and what came back, in the order in which the samples finished."""
    session = session_of(context, as_json=as_json)
    by_metric = outcome in (Outcome.RIGHT, Outcome.WRONG)
    if metric is not None and not by_metric:
        raise RequestRefused("--metric says what --outcome means: give --outcome right or --outcome wrong")
    with connected(session) as client:
        run_id = client.runs.get(run).id
        if outcome is None and search is None and index is None:
            found = list(client.runs.samples(run_id, limit=limit))
            session.show({"items": found}, lambda: sample_table(found))
            return
        chosen = metric or _first_sample_metric(client, run_id)
        narrowed = client.runs.scored_samples(
            run_id,
            metric=chosen if by_metric else None,
            outcome=None if outcome is None else outcome.value,
            search=search,
            index=index,
            limit=limit,
        )
        scored = list(narrowed)
    session.show({"metric": chosen, "items": scored}, lambda: scored_table(scored, metric=chosen))


@app.command("logs", epilog=examples("assay run logs RUN", "assay run logs RUN --instance INSTANCE"))
def logs(
    context: typer.Context,
    run: RunArgument,
    instance: Annotated[
        str | None, typer.Option(help="Only this serving instance; `assay run show --json` names them.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Print what the engines that served a run have logged: the end of each, kept when it ended."""
    session = session_of(context, as_json=as_json)
    written = io.BytesIO()
    with connected(session) as client:
        found = client.runs.get(run)
        client.runs.logs(found.id, written, instance_id=instance)
    text = written.getvalue().decode(errors="replace").replace("\r\n", "\n").replace("\r", "\n")
    if session.as_json:
        session.show({"run": found.id, "instance": instance, "text": text}, lambda: Text(text))
    elif text:
        session.out.print(Text(clean(text)), soft_wrap=True)
    else:
        session.say("No log was kept: no serving instance of the run has ended, or none has logged anything.")


scorings.add_commands(app)
app.command(
    "export",
    epilog=examples(
        "assay run export RUN --to results/",
        "assay run export RUN --format parquet --to samples.parquet",
    ),
)(exports.export)


def _first_sample_metric(client: AssayClient, run_id: str) -> str:
    metrics = client.runs.metrics(run_id)
    if not metrics.sample_metrics:
        raise RequestRefused(f"run {run_id} has no metric with a value per sample yet")
    return metrics.sample_metrics[0]


def _show_queued_or_wait(client: AssayClient, session: Session, run: Run, *, wait: bool) -> None:
    if wait:
        _wait(client, session, run)
        return
    session.show(run, lambda: run_table([run]))
    session.say(f"Follow it with: assay run watch {run.id}")


def _wait(client: AssayClient, session: Session, run: Run) -> None:
    """Wait with a progress bar, then show. Raises RunDisappointed unless the run succeeds."""
    try:
        with RunProgress(session.messages, label=run.name) as progress:
            run = client.wait_run(run.id, progress)
    except KeyboardInterrupt:
        session.say(
            f"Stopped watching. The run goes on: `assay run watch {run.id}` shows it again, "
            f"`assay run cancel {run.id}` ends it."
        )
        raise
    _show_run(session, run, _metrics(client, run), with_plan=False)
    if run.state != "Succeeded":
        reason = f": {run.error.code}: {run.error.message}" if run.error is not None else ""
        raise RunDisappointed(f"run {run.id} is {run.state}{reason}")


def _metrics(client: AssayClient, run: Run) -> RunMetrics | None:
    """The metrics of a run; ``None`` before its first sample was scored."""
    try:
        return client.runs.metrics(run.id)
    except NotFound:
        return None


def _show_run(session: Session, run: Run, metrics: RunMetrics | None, *, with_plan: bool) -> None:
    document: dict[str, Any] = {"run": run, "metrics": metrics}

    def rendered() -> RenderableType:
        parts: list[RenderableType] = [run_card(run) if with_plan else run_table([run])]
        if metrics is not None:
            parts += [Text(""), metrics_report(metrics, with_deviations=not with_plan)]
        return Group(*parts)

    session.show(document, rendered)
