"""Quality metrics as text, for one run and for two."""

from collections.abc import Iterable, Mapping, Sequence
from enum import StrEnum

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from assay.models import CandidateReport, Interval, QualityComparison
from assay.rendering.measures import Measures
from assay.rendering.text import (
    MISSING,
    Heading,
    clean,
    probability,
    score,
    share,
    signed,
    span,
    table,
)


class Outcome(StrEnum):
    """What the test at the margin says of a metric."""

    WORSE = "worse"
    BETTER = "better"
    EQUIVALENT = "equivalent"
    NOT_WORSE = "not worse"
    NOT_SHOWN = "not shown"
    UNTESTED = "untested"


OUTCOME_STYLES = {
    Outcome.WORSE: "red",
    Outcome.BETTER: "green",
    Outcome.EQUIVALENT: "green",
    Outcome.NOT_WORSE: "green",
    Outcome.NOT_SHOWN: "yellow",
    Outcome.UNTESTED: "dim",
}
_MEANINGS = {
    Outcome.WORSE: "proven to be worse by more than the margin",
    Outcome.BETTER: "proven not to be worse by the margin, and its 95 % interval is all on the better side",
    Outcome.EQUIVALENT: "proven to differ by less than the margin, either way",
    Outcome.NOT_WORSE: "proven not to be worse by the margin",
    Outcome.NOT_SHOWN: "these items prove neither; more of them may",
    Outcome.UNTESTED: "not the mean of its items' values, or without a known direction",
}
_ITEMS_REMARK = (
    "right, wrong: in both runs. McNemar's test is exact and two-sided, over lost and gained; "
    "Holm: corrected over all metrics here."
)


def quality_table(quality: Mapping[str, float | None], higher_is_better: Mapping[str, bool]) -> Table:
    """Quality metrics with lm-eval's standard error."""
    rows = [
        (key, score(value), score(_stderr(quality, key)), _direction(higher_is_better, key))
        for key, value in quality.items()
        if not _is_stderr(key)
    ]
    headings = (
        Heading("quality metric"),
        Heading("value", number=True),
        Heading("± stderr", number=True),
        Heading("better"),
    )
    return table(headings, rows)


def outcome(line: QualityComparison) -> Outcome:
    """What is proven of a metric."""
    test = line.margin_test
    if test is None or line.higher_is_better is None:
        return Outcome.UNTESTED
    if test.inferior:
        return Outcome.WORSE
    if not test.non_inferior:
        return Outcome.NOT_SHOWN
    if _on_better_side(line.interval_95, higher_is_better=line.higher_is_better):
        return Outcome.BETTER
    return Outcome.EQUIVALENT if test.equivalent else Outcome.NOT_WORSE


def quality_comparison(report: CandidateReport) -> RenderableType:
    """The quality metrics of two runs: scores, what is proven, items, and the runs' own numbers."""
    lines = report.quality
    if not lines:
        return Text("no metric has a value on both sides")
    return Group(
        _scores(lines),
        _legend({outcome(line) for line in lines}),
        _tests(lines),
        _items(lines),
        Text(_ITEMS_REMARK, style="dim"),
        _own_numbers(lines),
        _weak_rule(lines),
    )


def main_metric(lines: Sequence[QualityComparison]) -> QualityComparison | None:
    """The metric that is told first: the run's own first one that was tested, else the first."""
    tested = (line for line in lines if outcome(line) is not Outcome.UNTESTED)
    return next(tested, lines[0] if lines else None)


def _is_stderr(key: str) -> bool:
    return key.partition(",")[0].endswith("_stderr")


def _stderr(quality: Mapping[str, float | None], key: str) -> float | None:
    name, comma, chosen = key.partition(",")
    return quality.get(f"{name}_stderr{comma}{chosen}")


def _direction(higher_is_better: Mapping[str, bool], key: str) -> str:
    # Some producers say it once per metric, others once per metric and filter.
    for known in (key, key.partition(",")[0], key.partition(",")[0].rpartition(".")[2]):
        if known in higher_is_better:
            return "higher" if higher_is_better[known] else "lower"
    return ""


def _on_better_side(interval: Interval | None, *, higher_is_better: bool) -> bool:
    if interval is None:
        return False
    low, high = interval
    return low > 0 if higher_is_better else high < 0


def _scores(lines: Sequence[QualityComparison]) -> Measures:
    rows = []
    for line in lines:
        found = outcome(line)
        rows.append(
            (
                line.metric,
                score(line.baseline),
                score(line.candidate),
                signed(line.difference),
                span(line.interval_95),
                Text(found.value, style=OUTCOME_STYLES[found]),
            )
        )
    headings = (
        Heading("paired items"),
        Heading("base", number=True),
        Heading("candidate", number=True),
        Heading("difference", number=True),
        Heading("95 % interval", number=True),
        Heading("result"),
    )
    return Measures(headings, rows)


def _legend(outcomes: set[Outcome]) -> Text:
    return Text("\n".join(f"{name.value}: {_MEANINGS[name]}" for name in Outcome if name in outcomes), "dim")


def _tests(lines: Sequence[QualityComparison]) -> Measures:
    rows = []
    for line in lines:
        test = line.margin_test
        rows.append(
            (
                line.metric,
                MISSING if test is None else _margin(test.margin, test.relative_margin),
                span(line.interval_90),
                probability(None if test is None else test.non_inferiority_p),
                probability(None if test is None else test.equivalence_p),
                MISSING
                if line.minimal_detectable_difference is None
                else f"{line.minimal_detectable_difference:.4f}",
            )
        )
    headings = (
        Heading("test at the margin"),
        Heading("margin", number=True),
        Heading("90 % interval", number=True),
        Heading("p not worse", number=True),
        Heading("p equal", number=True),
        Heading("loss shown from", number=True),
    )
    return Measures(headings, rows)


def _margin(margin: float, relative: float | None) -> str:
    return f"{margin:g}" if relative is None else f"{margin:.4f} ({share(relative)} of base)"


def _items(lines: Sequence[QualityComparison]) -> Measures:
    rows = []
    for line in lines:
        flips = line.flips
        counts = (
            (MISSING,) * 4
            if flips is None
            else tuple(str(n) for n in (flips.lost, flips.gained, flips.both_right, flips.both_wrong))
        )
        rows.append((line.metric, _n(line), *counts, share(line.changed_rate), _p_values(line)))
    headings = (
        Heading("items"),
        Heading("n", number=True),
        Heading("lost", number=True),
        Heading("gained", number=True),
        Heading("right", number=True),
        Heading("wrong", number=True),
        Heading("changed", number=True),
        Heading("McNemar p (Holm)", number=True),
    )
    return Measures(headings, rows)


def _n(line: QualityComparison) -> str:
    return str(line.n) if line.clusters is None else f"{line.n} in {line.clusters} clusters"


def _p_values(line: QualityComparison) -> str:
    if line.mcnemar_p is None:
        return MISSING
    return f"{probability(line.mcnemar_p)} ({probability(line.mcnemar_p_holm)})"


def _own_numbers(lines: Iterable[QualityComparison]) -> Measures:
    rows = [
        (
            line.metric,
            _with_error(line.baseline_run, line.baseline_run_stderr),
            _with_error(line.candidate_run, line.candidate_run_stderr),
            {True: "within", False: "beyond", None: MISSING}[line.weak_rule.within_stderr],
        )
        for line in lines
    ]
    headings = (
        Heading("the runs' own numbers"),
        Heading("base ± stderr", number=True),
        Heading("candidate ± stderr", number=True),
        Heading("weak rule"),
    )
    return Measures(headings, rows)


def _with_error(value: float | None, error: float | None) -> str:
    return score(value) if error is None else f"{score(value)} ± {error:.4f}"


def _weak_rule(lines: Iterable[QualityComparison]) -> Text:
    """The words that call the rule weak, once."""
    labels = dict.fromkeys(line.weak_rule.label for line in lines if line.weak_rule.within_stderr is not None)
    return Text(clean("\n".join(labels)), style="dim")
