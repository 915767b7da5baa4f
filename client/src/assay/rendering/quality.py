"""Quality metrics as text, for one run and for two."""

from collections.abc import Mapping

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from assay.models import Comparison, ComparisonItem, QualityComparison
from assay.rendering.runtime import runtime_comparison
from assay.rendering.text import (
    MISSING,
    Heading,
    clean,
    compact,
    fields,
    last_line,
    one_line,
    probability,
    score,
    signed,
    table,
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


def comparison_report(comparison: Comparison) -> RenderableType:
    """A whole comparison: who, coverage, warnings, scores, items, runtime."""
    parts: list[RenderableType] = [fields(_subjects(comparison))]
    parts.extend(Text(f"warning: {compact(warning)}", style="yellow") for warning in comparison.warnings)
    parts += [_scores(comparison), _items(comparison)]
    parts += [Text("McNemar's test is exact and two-sided, over lost and gained.", style="dim")]
    parts += [_weak_rules(comparison), Text("")]
    parts.append(runtime_comparison(comparison))
    return Group(*parts)


def flipped_items(items: list[ComparisonItem], *, metric: str, heading: str) -> RenderableType:
    """Items with both answers beside each other."""
    if not items:
        return Text(f"{heading}: none")
    rows = [
        (
            one_line(last_line(item.prompt), width=70),
            one_line(item.target or "", width=30),
            one_line(_answer(item.baseline, metric), width=40),
            one_line(_answer(item.candidate, metric), width=40),
        )
        for item in items
    ]
    headings = (Heading("prompt (its last line)"), Heading("expected"), Heading("A"), Heading("B"))
    return table(headings, rows, title=heading)


def main_metric(comparison: Comparison) -> QualityComparison | None:
    """The metric whose items are shown where none was named: the first with flips."""
    return next((line for line in comparison.quality if line.flips is not None), None)


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


def _subjects(comparison: Comparison) -> list[tuple[str, str]]:
    coverage = comparison.coverage
    share = "" if coverage.fraction is None else f" ({100 * coverage.fraction:.1f} % of the larger run)"
    rest = f"; only in A: {coverage.baseline_only}, only in B: {coverage.candidate_only}"
    return [
        ("A, baseline", _subject(comparison.baseline)),
        ("B, candidate", _subject(comparison.candidate)),
        ("paired items", f"{coverage.paired}{share}{rest}"),
    ]


def _subject(run: Mapping[str, object]) -> str:
    artifact = run.get("artifact")
    name = artifact.get("name") if isinstance(artifact, Mapping) else run.get("artifact_name")
    remark = "  (not as published)" if run.get("canonical") is False else ""
    return f"{name or '?'}  {run.get('run_name') or ''}  {run.get('run_id', '')}{remark}"


def _scores(comparison: Comparison) -> Table:
    rows = []
    for line in comparison.quality:
        style = _verdict(line)
        error = "" if line.stderr is None else f" ± {line.stderr:.4f}"
        rows.append(
            (
                line.metric,
                score(line.baseline),
                score(line.candidate),
                Text(f"{signed(line.difference)}{error}", style=style),
                Text(_interval(line.confidence_interval), style=style),
            )
        )
    headings = (
        Heading("quality metric"),
        Heading("A", number=True),
        Heading("B", number=True),
        Heading("B - A ± stderr", number=True),
        Heading("95 % interval", number=True),
    )
    return table(headings, rows)


def _interval(bounds: list[float | None] | None) -> str:
    return f"{signed(bounds[0])} .. {signed(bounds[1])}" if bounds else MISSING


def _verdict(line: QualityComparison) -> str:
    """Colour only what the interval of the paired difference shows."""
    if line.confidence_interval is None or line.higher_is_better is None:
        return ""
    low, high = line.confidence_interval
    if low is None or high is None or low <= 0 <= high:
        return ""
    return "green" if (low > 0) is line.higher_is_better else "red"


def _items(comparison: Comparison) -> Table:
    rows = []
    for line in comparison.quality:
        flips = line.flips
        counts = (
            (MISSING,) * 4
            if flips is None
            else tuple(str(n) for n in (flips.lost, flips.gained, flips.both_right, flips.both_wrong))
        )
        rows.append((line.metric, str(line.n), *counts, probability(line.mcnemar_p)))
    headings = (
        Heading("items"),
        Heading("n", number=True),
        Heading("lost", number=True),
        Heading("gained", number=True),
        Heading("both right", number=True),
        Heading("both wrong", number=True),
        Heading("McNemar p", number=True),
    )
    return table(headings, rows)


def _weak_rules(comparison: Comparison) -> Text:
    """What the rule "difference within stderr" says, with the words that call it weak."""
    verdicts: dict[str, list[str]] = {"within": [], "beyond": []}
    label = ""
    for line in comparison.quality:
        rule = line.weak_rule or {}
        if rule.get("within_stderr") is not None:
            label = str(rule.get("label", "weak rule: difference within stderr"))
            verdicts["within" if rule["within_stderr"] else "beyond"].append(line.metric)
    lines = [f"  {verdict}: {', '.join(metrics)}" for verdict, metrics in verdicts.items() if metrics]
    return Text(clean("\n".join((label, *lines))), style="dim")


def _answer(side: Mapping[str, object], metric: str) -> object:
    """What the metric's filter read in the response, or the response."""
    filtered = side.get("filtered")
    if isinstance(filtered, Mapping):
        filtered = filtered.get(metric.partition(",")[2], filtered)
    if isinstance(filtered, list) and len(filtered) == 1:
        filtered = filtered[0]
    return side.get("response") if filtered in (None, {}, []) else filtered
