"""Runs, plans and samples as text."""

from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from assay.models import (
    EarlyStopPlan,
    Plan,
    PlannedPower,
    Run,
    Sample,
    ScoredSample,
    ScoredView,
    StoppedEarly,
)
from assay.rendering.planning import planned_power
from assay.rendering.quality import quality_table
from assay.rendering.serving import serving_lines
from assay.rendering.text import (
    MISSING,
    Heading,
    clean,
    compact,
    counted,
    fields,
    last_line,
    moment,
    one_line,
    state,
    table,
)


def run_table(runs: Iterable[Run]) -> Table:
    """Runs, one a line."""
    rows = []
    for run in runs:
        progress = run.progress
        rows.append(
            (
                run.name,
                state(run.state),
                f"{progress.samples_done}/{progress.samples_total}",
                str(run.plan.artifact.get("name")),
                str(run.plan.dataset.get("name")),
                str(run.plan.method.get("name")),
                moment(run.created_at),
                run.id,
            )
        )
    headings = (
        Heading("run"),
        Heading("state"),
        Heading("samples", number=True),
        Heading("artifact"),
        Heading("dataset"),
        Heading("method"),
        Heading("created (UTC)"),
        Heading("id", style="dim"),
    )
    return table(headings, rows)


def plan_card(plan: Plan, *, power: PlannedPower | None = None) -> RenderableType:
    """A plan: what decides the numbers, and what they can show."""
    task, rows = plan.task, plan.dataset
    lines: list[tuple[str, str | Text]] = [
        ("artifact", f"{plan.artifact.get('name')} on {plan.artifact.get('backend')}"),
        (
            "dataset",
            f"{rows.get('name')}, {rows.get('rows')} rows, split {rows.get('split')!r}",
        ),
        ("digest", f"sha256:{rows.get('digest')}"),
        ("method", f"{plan.method.get('name')}, version {plan.method.get('version')}"),
        ("task", f"{task.get('task') or task.get('name')}, {task.get('output_type')}"),
        ("documents", str(task.get("document_count", MISSING))),
        ("few-shot", _fewshot(plan)),
    ]
    if task.get("generation_kwargs"):
        lines.append(("generation", compact(task["generation_kwargs"])))
    lines.append(("options", compact(_given(plan.options))))
    if plan.early_stop is not None:
        lines.append(("early stop", _early_stop(plan.early_stop)))
    shown = power or plan.power
    if shown is not None:
        lines.append(("power", planned_power(shown)))
    lines.append(("plan hash", plan.plan_hash))
    for member in plan.members or ():
        where = f"{_named(member.get('dataset'))}, {member.get('samples')} samples"
        lines.append((f"  {member.get('task')}", where))
    lines.extend(("not as published", Text(clean(note), style="yellow")) for note in plan.notes)
    return fields(lines)


def _fewshot(plan: Plan) -> str:
    count = plan.task.get("num_fewshot", 0)
    if not count:
        return "no examples"
    other = {
        "evaluation_rows": "the evaluated rows, each leaving itself out",
        "task": "the task's own definition",
    }
    where = _named(plan.fewshot) if plan.fewshot else other.get(plan.fewshot_source, plan.fewshot_source)
    return f"{counted(count, 'example')} from {where}"


def _named(rows: Mapping[str, Any] | None) -> str:
    return MISSING if not rows else f"{rows.get('name')}, split {rows.get('split')!r}"


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options without those that are left to somebody else."""
    values = {name: _given(value) if isinstance(value, Mapping) else value for name, value in options.items()}
    return {name: value for name, value in values.items() if value not in (None, {}, [])}


def run_card(run: Run) -> RenderableType:
    """One run: state, progress, plan."""
    progress = run.progress
    samples = f"{progress.samples_done} of {progress.samples_total}"
    if progress.samples_failed:
        samples += f", {progress.samples_failed} failed"
    lines: list[tuple[str, str | Text]] = [
        ("run", f"{run.name}  {run.id}"),
        ("state", state(run.state)),
        ("samples", samples),
        ("created", moment(run.created_at)),
        ("started", moment(run.started_at)),
        ("finished", moment(run.finished_at)),
    ]
    if run.stopped_early is not None:
        lines.append(("stopped early", _stopped_early(run.stopped_early)))
    lines.extend(serving_lines(run))
    if run.error is not None:
        lines.append(("error", Text(f"{run.error.code}: {run.error.message}", style="red")))
    return Group(fields(lines), Text(""), plan_card(run.plan, power=run.power))


def _stopped_early(stopped: StoppedEarly) -> str:
    words = {
        "proven": "proven not to be worse by the margin",
        "hopeless": "proving that it is not worse by the margin has become hopeless",
    }
    return f"after {stopped.samples} samples, at look {stopped.look + 1}: {words.get(stopped.outcome, '')}"


def _early_stop(part: EarlyStopPlan) -> str:
    looks = ", ".join(str(look) for look in part.looks)
    return (
        f"judged against {part.baseline_run_id} under {part.metric}, margin {part.margin:g}, "
        f"after {looks} documents"
    )


def sample_table(samples: Iterable[Sample]) -> Table:
    """What was asked and answered."""
    rows = []
    for sample in samples:
        first: Mapping[str, Any] = sample.requests[0] if sample.requests else {}
        rows.append(
            (
                str(sample.index),
                Text(_status(sample), style="" if sample.status == "ok" else "red"),
                one_line(last_line(str(first.get("prompt", ""))), width=70),
                one_line(sample.target, width=30),
                one_line(_answer(sample), width=60),
            )
        )
    headings = (
        Heading("#", number=True, style="dim"),
        Heading("status"),
        Heading("prompt (its last line)"),
        Heading("expected"),
        Heading("answer"),
    )
    return table(headings, rows)


def _status(sample: Sample) -> str:
    reused = any(request.get("reused_from") for request in sample.requests)
    return f"{sample.status}, reused" if reused else sample.status


def _answer(sample: Sample) -> str:
    if sample.status != "ok":
        return str((sample.error or {}).get("message", "no response"))
    texts = []
    for request in sample.requests:
        if request.get("response") is not None:
            texts.append(str(request["response"]).strip())
        elif request.get("log_probability") is not None:
            continuation = str(request.get("continuation", "")).strip()
            texts.append(f"{continuation} {request['log_probability']:.2f}")
    return " | ".join(texts)


def scored_table(samples: Iterable[ScoredSample], *, metric: str) -> Table:
    """Samples with their value of a metric."""
    rows = (
        (
            str(sample.index),
            one_line(last_line(sample.prompt), width=70),
            one_line(sample.target or "", width=30),
            one_line((sample.response or "").strip(), width=60),
            compact(sample.values.get(metric, MISSING)),
        )
        for sample in samples
    )
    headings = (
        Heading("#", number=True, style="dim"),
        Heading("prompt (its last line)"),
        Heading("expected"),
        Heading("answer"),
        Heading(metric, number=True),
    )
    return table(headings, rows)


def scored_view_table(views: Iterable[ScoredView]) -> Table:
    """Scored views of a run, one a line."""
    rows = (
        (
            MISSING if view.name == view.id else view.name,
            state(view.state),
            _scoring(view),
            moment(view.created_at or None),
            view.id,
        )
        for view in views
    )
    headings = (
        Heading("scoring"),
        Heading("state"),
        Heading("how"),
        Heading("created (UTC)"),
        Heading("id", style="dim"),
    )
    return table(headings, rows)


def scored_view_card(view: ScoredView) -> RenderableType:
    """One scored view with its numbers."""
    lines: list[tuple[str, str | Text]] = [
        ("scoring", view.id if view.name == view.id else f"{view.name}  {view.id}"),
        ("run", view.run_id),
        ("state", state(view.state)),
        ("how", _scoring(view)),
    ]
    if view.error is not None:
        lines.append(("error", Text(clean(str(view.error.get("message"))), style="red")))
    if not view.quality:
        return fields(lines)
    return Group(fields(lines), quality_table(view.quality, view.higher_is_better))


def _scoring(view: ScoredView) -> str:
    parts = [
        f"{pipeline.get('name')} = {_steps(pipeline.get('steps') or ())}"
        for pipeline in view.scoring.get("filters") or ()
    ]
    question_answer = view.scoring.get("question_answer")
    if question_answer is not None:
        column = question_answer.get("expected_output_field")
        steps = _steps(question_answer.get("expected_steps") or ())
        expected = f"column {column!r}" if column else "the task's target"
        parts.append(f"as questions and answers, expected: {expected}{steps and f', {steps}'}")
    return "; ".join(parts)


def _steps(steps: Iterable[Mapping[str, Any]]) -> str:
    """The steps of a filter, as the command line takes them."""
    return ", ".join(
        ":".join(str(word) for word in (step.get("function"), *(step.get("arguments") or {}).values()))
        for step in steps
    )
