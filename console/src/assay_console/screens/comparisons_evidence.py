"""What a comparison says, arranged for reading: findings, quality, runtime, in the words of the client."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from assay.models import CandidateReport, Comparison, Finding, QualityComparison, RuntimeComparison
from assay.rendering.comparison import conclusion
from assay.rendering.quality import Outcome, main_metric, outcome
from assay.rendering.runtime import label
from assay_console.screens.evaluations_runtime import amount

MAIN_RUNTIME = ("tps", "ttftP50", "ttftP99", "itlP50", "itlP99", "power", "tokensPerWatt")
"""The runtime metrics that stand before all others."""
OUTCOME_COLOURS: Mapping[Outcome, str] = {
    Outcome.WORSE: "danger",
    Outcome.BETTER: "success",
    Outcome.EQUIVALENT: "success",
    Outcome.NOT_WORSE: "success",
    Outcome.NOT_SHOWN: "warning",
    Outcome.UNTESTED: "secondary",
}
OUTCOME_MEANINGS: Mapping[Outcome, str] = {
    Outcome.WORSE: "proven to be worse by more than the margin",
    Outcome.BETTER: "proven not to be worse by the margin, with the whole 95 % interval on the better side",
    Outcome.EQUIVALENT: "proven to differ by less than the margin, either way",
    Outcome.NOT_WORSE: "proven not to be worse by the margin",
    Outcome.NOT_SHOWN: "these items prove neither; more of them may",
    Outcome.UNTESTED: "not a mean over items, or without a known direction",
}
_ABSENCES = ("not measured", "not applicable", "not recorded")
_PLOT_WIDTH = 160.0
_PLOT_EDGE = 4.0


@dataclass(frozen=True, slots=True)
class IntervalPlot:
    """An interval of a difference as horizontal places in a drawing 160 wide, zero in its middle.

    ``margin``: where the candidate would be worse by the margin.
    """

    low: float
    high: float
    middle: float
    margin: float | None


@dataclass(frozen=True, slots=True)
class QualityRow:
    """One quality metric: the runs' own numbers and the paired evidence."""

    line: QualityComparison
    outcome: Outcome
    plot: IntervalPlot | None

    @property
    def run_difference(self) -> float | None:
        """Candidate minus base of the runs' own numbers."""
        base, candidate = self.line.baseline_run, self.line.candidate_run
        return None if base is None or candidate is None else candidate - base

    @property
    def colour(self) -> str:
        """Of the result's badge."""
        return OUTCOME_COLOURS[self.outcome]


@dataclass(frozen=True, slots=True)
class RuntimeRow:
    """One runtime metric of both runs, written out; ``result`` is empty where nothing can be said."""

    line: RuntimeComparison
    label: str
    baseline: str
    candidate: str
    result: str

    @property
    def is_measured(self) -> bool:
        """Whether at least one run has a value."""
        return self.line.baseline is not None or self.line.candidate is not None


@dataclass(frozen=True, slots=True)
class CandidateView:
    """One candidate's report, arranged.

    Attributes:
        report: as the API has it.
        sentences: what was found, in words.
        outcome: of the main metric; ``None`` where nothing may be concluded.
        main: the metric that is told first.
        findings: by severity, each once.
        quality: all metrics.
        runtime: the metrics of the walkthrough, in its order.
        further_runtime: the others.
        runtime_notes: remarks on runtime metrics, with the names of those that they are about.
    """

    report: CandidateReport
    sentences: Sequence[str]
    outcome: Outcome | None
    main: QualityRow | None
    findings: Mapping[str, Sequence[Finding]]
    quality: Sequence[QualityRow]
    runtime: Sequence[RuntimeRow]
    further_runtime: Sequence[RuntimeRow]
    runtime_notes: Mapping[str, Sequence[str]]


def candidate_view(comparison: Comparison, report: CandidateReport) -> CandidateView:
    """Arrange what was found of one candidate."""
    quality = _quality_rows(report.quality)
    first = main_metric(report.quality)
    main = next((row for row in quality if row.line is first), None)
    rows = {line.metric: _runtime_row(line) for line in report.runtime}
    headline, *sentences = conclusion(comparison, report).plain.strip().split("\n")
    return CandidateView(
        report=report,
        sentences=sentences or [headline],
        outcome=main.outcome if main is not None and report.valid else None,
        main=main,
        findings=_findings(report),
        quality=quality,
        runtime=[rows[name] for name in MAIN_RUNTIME if name in rows],
        further_runtime=[row for name, row in rows.items() if name not in MAIN_RUNTIME],
        runtime_notes=_runtime_notes(report.runtime),
    )


def chosen_report(comparison: Comparison, view_id: str) -> CandidateReport | None:
    """The report of this candidate, of the first where none is named; ``None`` where it is no candidate."""
    if not view_id:
        return comparison.candidates[0]
    return next((one for one in comparison.candidates if one.candidate.view_id == view_id), None)


def _findings(report: CandidateReport) -> Mapping[str, Sequence[Finding]]:
    """All findings by severity, each message once; what holds for several metrics is told of one."""
    guards = (guard for line in report.quality for guard in line.guards)
    work = report.workload.findings if report.workload is not None else ()
    alike: dict[tuple[str, str, str], dict[str, Finding]] = {}
    for finding in (*report.findings, *guards, *work):
        is_of_metric = finding.subject is not None and "," in finding.subject
        key = (finding.severity, finding.code, "metric" if is_of_metric else finding.message)
        alike.setdefault(key, {})[finding.message] = finding
    found: dict[str, list[Finding]] = {}
    for (severity, _, _), by_message in alike.items():
        first, *others = by_message.values()
        remark = f" (and so for {len(others)} other metric{'s' if len(others) > 1 else ''})" if others else ""
        found.setdefault(severity, []).append(
            first.model_copy(update={"message": f"{first.message}{remark}"})
        )
    return found


def _quality_rows(lines: Sequence[QualityComparison]) -> Sequence[QualityRow]:
    # Shares have one scale, so that their intervals can be compared by eye; other units have their own.
    shares = [_extent(line) for line in lines if _is_share(line)]
    common = max(shares, default=0.0)
    return [
        QualityRow(
            line=line,
            outcome=outcome(line),
            plot=_plot(line, extent=common if _is_share(line) else _extent(line)),
        )
        for line in lines
    ]


def _is_share(line: QualityComparison) -> bool:
    return all(value is not None and 0 <= value <= 1 for value in (line.baseline, line.candidate))


def _extent(line: QualityComparison) -> float:
    margin = line.margin_test.margin if line.margin_test is not None else 0.0
    return max((abs(end) for end in (*(line.interval_95 or ()), margin)), default=0.0)


def _plot(line: QualityComparison, *, extent: float) -> IntervalPlot | None:
    if line.interval_95 is None or line.difference is None or extent <= 0:
        return None
    half = _PLOT_WIDTH / 2

    def place(value: float) -> float:
        return round(half + value / extent * (half - _PLOT_EDGE), 2)

    margin = None
    if line.margin_test is not None and line.higher_is_better is not None:
        margin = place(-line.margin_test.margin if line.higher_is_better else line.margin_test.margin)
    low, high = line.interval_95
    return IntervalPlot(place(low), place(high), place(line.difference), margin)


def _runtime_row(line: RuntimeComparison) -> RuntimeRow:
    return RuntimeRow(
        line=line,
        label=label(line.metric),
        baseline=_amount(line, line.baseline),
        candidate=_amount(line, line.candidate),
        result=_runtime_result(line),
    )


def _amount(line: RuntimeComparison, value: float | None) -> str:
    if value is not None:
        return amount(line.metric, value)
    return next((words for words in _ABSENCES if words in (line.note or "")), "not measured")


def _runtime_result(line: RuntimeComparison) -> str:
    """Better or worse only where the whole interval says so."""
    interval = line.ratio_interval_95
    if interval is None or line.higher_is_better is None:
        return ""
    if interval[0] <= 1 <= interval[1]:
        return "no difference shown"
    return "better" if (interval[0] > 1) is line.higher_is_better else "worse"


def _runtime_notes(lines: Sequence[RuntimeComparison]) -> Mapping[str, Sequence[str]]:
    notes: dict[str, list[str]] = {}
    for line in lines:
        for remark in _remarks(line):
            notes.setdefault(remark, []).append(line.metric)
    return notes


def _remarks(line: RuntimeComparison) -> Iterator[str]:
    base, separator, candidate = (line.note or "").partition("; candidate: ")
    if separator and base.removeprefix("baseline: ") == candidate:
        yield f"both runs: {candidate}"
    elif line.note:
        yield line.note
    if line.at_least:
        yield "at least: too few observations for an upper bound"
    if line.ratio is not None and line.ratio_interval_95 is None:
        reason = line.interval_method.removeprefix("none").removeprefix(": ")
        yield f"no interval{f': {reason}' if reason else ''}"
