"""A whole comparison as text: what was found, then what it rests on."""

from collections.abc import Iterable, Sequence

from rich.console import Group, RenderableType
from rich.rule import Rule
from rich.text import Text

from assay.models import (
    CandidateReport,
    ComparedRun,
    Comparison,
    Coverage,
    Finding,
    QualityComparison,
    RuntimeComparison,
)
from assay.rendering.flips import flip_report, noise_table
from assay.rendering.quality import OUTCOME_STYLES, Outcome, main_metric, outcome, quality_comparison
from assay.rendering.runtime import ratio_span, runtime_comparison
from assay.rendering.text import clean, compact, counted, fields, one_line, score, share, signed, span
from assay.rendering.workload import energy_report, workload_report

SHOWN_DIFFERENCES = 20
"""Differences between plans that are listed."""
INVALID, NOT_COMPARABLE, WARNING, INFO = "invalid", "not_comparable", "warning", "info"

_FINDINGS = {
    INVALID: ("INVALID", "bold red"),
    NOT_COMPARABLE: ("not comparable", "yellow"),
    WARNING: ("warning", "yellow"),
    INFO: ("note", "dim"),
}

_SENTENCES = {
    Outcome.WORSE: "worse by more than the margin of {margin}",
    Outcome.BETTER: "better, and not worse by the margin of {margin}",
    Outcome.EQUIVALENT: "equal within the margin of {margin}",
    Outcome.NOT_WORSE: "not worse by the margin of {margin}",
    Outcome.NOT_SHOWN: "not shown to be within the margin of {margin}, nor to be beyond it",
    Outcome.UNTESTED: "not tested",
}


def comparison_report(comparison: Comparison) -> RenderableType:
    """What was found of every candidate, then each one in full."""
    several = len(comparison.candidates) > 1
    parts: list[RenderableType] = []
    if several:
        parts += [conclusion(comparison, report) for report in comparison.candidates]
    for report in comparison.candidates:
        if several:
            name = subject_name(report.candidate, other=comparison.baseline)
            parts += [Text(""), Rule(Text(clean(name), style="bold"), align="left", style="dim")]
        parts.append(_banner(report, INVALID, NOT_COMPARABLE))
        if not several:
            parts.append(conclusion(comparison, report))
        parts.append(_banner(report, WARNING, INFO))
        parts += _sections(comparison, report)
    return Group(*parts)


def conclusion(comparison: Comparison, report: CandidateReport) -> Text:
    """The first lines: what was found, in words."""
    base = subject_name(comparison.baseline, other=report.candidate)
    candidate = subject_name(report.candidate, other=comparison.baseline)
    text = Text()
    if not report.valid:
        text.append(
            clean(f"{candidate} against {base}: INVALID, nothing may be concluded\n"), style="bold red"
        )
        return text.append(_coverage_line(report.coverage))
    line = main_metric(report.quality)
    if line is None:
        text.append(clean(f"{candidate} against {base}: no metric to compare\n"), style="bold yellow")
        return text.append(_coverage_line(report.coverage))
    found = outcome(line)
    headline = f"{candidate} against {base}: {found.value.upper()}\n"
    text.append(clean(headline), style=f"bold {OUTCOME_STYLES[found]}")
    text.append(clean(f"{_main_sentence(line, found)}\n"))
    text.append(clean("".join(f"{sentence}\n" for sentence in _other_sentences(report, line))))
    return text.append(_coverage_line(report.coverage))


def subject_name(run: ComparedRun, *, other: ComparedRun) -> str:
    """The artifact; where both sides have the same one, the run."""
    if run.artifact_name and run.artifact_name != other.artifact_name:
        return run.artifact_name
    return run.run_name or run.view_id


def _main_sentence(line: QualityComparison, found: Outcome) -> str:
    margin = "" if line.margin_test is None else f"{line.margin_test.margin:g}"
    words = _SENTENCES[found].format(margin=margin)
    numbers = f"{score(line.baseline)} -> {score(line.candidate)} ({signed(line.difference)}"
    interval = "" if line.interval_95 is None else f"; 95 % interval {span(line.interval_95)}"
    sentence = f"{line.metric}: {numbers}{interval}), {words}."
    if found is Outcome.NOT_SHOWN and line.minimal_detectable_difference is not None:
        sentence += f" {line.n} items show a loss from {line.minimal_detectable_difference:.4f} on."
    return sentence


def _other_sentences(report: CandidateReport, main: QualityComparison) -> list[str]:
    others = [outcome(line) for line in report.quality if line is not main]
    sentences = []
    if others:
        counts = ", ".join(f"{others.count(name)} {name.value}" for name in Outcome if name in others)
        sentences.append(f"{counted(len(others), 'other metric')}: {counts}.")
    if main.flips is not None:
        lost, gained = main.flips.lost, main.flips.gained
        sentences.append(f"Of {counted(main.n, 'item')}, {lost} lost and {gained} gained.")
    runtime = _runtime_sentence(report)
    return [*sentences, runtime] if runtime else sentences


def _runtime_sentence(report: CandidateReport) -> str:
    if report.workload is not None and not report.workload.comparable:
        return "Runtime is not comparable: the runs did not do the same work."
    shown = {"tps": "output tokens/s", "ttftP50": "time to first token", "latencyP50": "latency"}
    known: dict[str, RuntimeComparison] = {line.metric: line for line in report.runtime}
    parts = []
    for metric, words in shown.items():
        line = known.get(metric)
        if line is not None and line.ratio is not None:
            interval = "" if line.ratio_interval_95 is None else f" ({ratio_span(line)})"
            parts.append(f"{words} {line.ratio:.2f}x{interval}")
    return f"Runtime, candidate over base: {', '.join(parts)}." if parts else ""


def _coverage_line(coverage: Coverage) -> str:
    floor = "" if coverage.floor is None else f", at least {share(coverage.floor)} wanted"
    line = f"{counted(coverage.paired, 'item')} paired, {share(coverage.fraction)} of the larger run{floor}."
    counts = {
        "only in base": coverage.missing_in_candidate,
        "only in candidate": coverage.missing_in_baseline,
        "failed in base": coverage.failed_in_baseline,
        "failed in candidate": coverage.failed_in_candidate,
        "with another prompt": coverage.prompt_differs,
        "with another expected answer": coverage.target_differs,
    }
    rest = ", ".join(f"{count} {words}" for words, count in counts.items() if count)
    return f"{line} Not paired: {rest}." if rest else line


def _banner(report: CandidateReport, *severities: str) -> RenderableType:
    """The findings of these severities; those that rule conclusions out stand before everything else."""
    lines = [
        Text(clean(f"{_FINDINGS[severity][0]}: {finding.message}"), style=_FINDINGS[severity][1])
        for severity in severities
        for finding in _distinct(report)
        if finding.severity == severity
    ]
    return Group(*lines)


def _distinct(report: CandidateReport) -> Iterable[Finding]:
    """All findings, those of a part too, each message once; what holds for several metrics is told of one."""
    guards = (guard for line in report.quality for guard in line.guards)
    work = report.workload.findings if report.workload is not None else ()
    by_message = {finding.message: finding for finding in (*report.findings, *guards, *work)}
    alike: dict[tuple[str, str, str], list[Finding]] = {}
    for finding in by_message.values():
        is_about_metric = finding.subject is not None and "," in finding.subject
        subject = "metric" if is_about_metric else finding.message
        alike.setdefault((finding.severity, finding.code, subject), []).append(finding)
    for found in alike.values():
        first, more = found[0], len(found) - 1
        remark = f" (and so for {counted(more, 'other metric')})" if more else ""
        yield first.model_copy(update={"message": f"{first.message}{remark}"})


def _sections(comparison: Comparison, report: CandidateReport) -> list[RenderableType]:
    parts: list[RenderableType] = [Text(""), fields(_subjects(comparison, report))]
    parts += _plan_differences(report)
    parts += [Text(""), quality_comparison(report), Text(""), flip_report(report.flips)]
    if report.noise:
        run = comparison.noise_floor_run
        parts.append(noise_table(report.noise, run_name=run.run_name if run is not None else ""))
    parts += [Text(""), runtime_comparison(report.runtime)]
    if report.energy is not None:
        parts.append(energy_report(report.energy))
    if report.workload is not None:
        parts.append(workload_report(report.workload))
    return parts


def _subjects(comparison: Comparison, report: CandidateReport) -> Sequence[tuple[str, str]]:
    lines = [("base", _subject(comparison.baseline)), ("candidate", _subject(report.candidate))]
    if comparison.noise_floor_run is not None:
        lines.append(("noise floor", _subject(comparison.noise_floor_run)))
    settings = comparison.settings
    clustered = f", clustered by {settings.cluster_column}" if settings.cluster_column else ""
    margins = f"margin {settings.margin:g}, alpha {settings.alpha:g}"
    if comparison.policy is not None:
        margins = f"margins of policy {comparison.policy.label}"
    lines.append(("settings", f"{margins}{clustered}"))
    lines.append(("comparison", comparison.id))
    return lines


def _subject(run: ComparedRun) -> str:
    parts = [f"{run.artifact_name or '?'} on {run.backend or '?'}", f"run {run.run_name} {run.view_id}"]
    if run.samples_failed:
        parts.append(f"{run.samples_failed} failed samples")
    if run.early_stop:
        parts.append("stopped early")
    if run.canonical is False:
        parts.append("not as published")
    return ", ".join(parts)


def _plan_differences(report: CandidateReport) -> list[RenderableType]:
    differences = [entry for entry in report.plan_differences if not entry.expected]
    lines = [
        Text(
            clean(
                f"plans differ in {entry.path}: {one_line(compact(entry.baseline), width=40)} -> "
                f"{one_line(compact(entry.candidate), width=40)}"
            ),
            style="yellow",
        )
        for entry in differences[:SHOWN_DIFFERENCES]
    ]
    if len(differences) > SHOWN_DIFFERENCES:
        lines.append(Text(f"... and {len(differences) - SHOWN_DIFFERENCES} more", style="yellow"))
    return list(lines)
