"""Items that flipped, and whether they flip by themselves."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from assay.models import AnsweredItem, ComparisonItem, FlipAnalysis, NoiseFloor
from assay.rendering.measures import Measures
from assay.rendering.text import (
    MISSING,
    Heading,
    clean,
    last_line,
    one_line,
    probability,
    share,
    span,
    table,
)

CLASSES = {
    "error": "one side has no response",
    "empty": "one side's response is blank",
    "truncated": "the wrong side ran into the token limit",
    "format_only": "another filter of the metric still agrees: only the strict extraction fails",
    "choice_changed": "another choice",
    "numeric_answer": "another number",
    "other": "another answer",
}
"""Why items flip, with what each word means."""


def flip_report(analyses: Sequence[FlipAnalysis]) -> RenderableType:
    """Flips by class, metric by metric, and how the responses differ."""
    # Several metrics and filters often count the same items.
    alike: dict[str, list[FlipAnalysis]] = {}
    for analysis in analyses:
        if analysis.lost_by_class or analysis.gained_by_class:
            alike.setdefault(_counts(analysis), []).append(analysis)
    parts: list[RenderableType] = [_classes(group) for group in alike.values()]
    if not parts:
        parts = [Text("no item flipped")]
    if analyses:
        parts.append(_responses(analyses[0]))
    return Group(*parts)


def noise_table(floors: Sequence[NoiseFloor], *, run_name: str) -> RenderableType:
    """How much more the candidate changes than the baseline changes by itself."""
    rows = [
        (
            floor.metric,
            str(floor.n),
            share(floor.churn_aa),
            share(floor.churn_ab),
            span(floor.excess_interval_95),
            probability(floor.excess_p),
            Text("above noise", style="yellow") if floor.above_noise else Text("within noise", style="green"),
        )
        for floor in floors
    ]
    headings = (
        Heading("noise floor"),
        Heading("n", number=True),
        Heading("base again", number=True),
        Heading("candidate", number=True),
        Heading("excess, 95 %", number=True),
        Heading("p", number=True),
        Heading("result"),
    )
    remark = f"Share of items whose value changes: in {run_name or 'a second run of the base'}, and here."
    return Group(Measures(headings, rows), Text(clean(remark), style="dim"))


def flipped_items(items: Sequence[ComparisonItem], *, metric: str, heading: str) -> RenderableType:
    """Items with both answers beside each other."""
    if not items:
        return Text(f"{heading}: none")
    rows = [
        (
            one_line(last_line(item.prompt), width=70),
            one_line(item.target or "", width=30),
            one_line(_answer(item.baseline, metric), width=40),
            one_line(_answer(item.candidate, metric), width=40),
            _why(item),
        )
        for item in items
    ]
    headings = (
        Heading("prompt (its last line)"),
        Heading("expected"),
        Heading("base"),
        Heading("candidate"),
        Heading("why"),
    )
    return table(headings, rows, title=heading)


def _counts(analysis: FlipAnalysis) -> str:
    return repr((analysis.lost_by_class, analysis.gained_by_class, analysis.unstable_under_aa))


def _classes(alike: Sequence[FlipAnalysis]) -> RenderableType:
    """One table for metrics with equal counts."""
    analysis = alike[0]
    rows = []
    for name in (*CLASSES, *_unknown(analysis)):
        lost, gained = analysis.lost_by_class.get(name, 0), analysis.gained_by_class.get(name, 0)
        if lost or gained:
            rows.append((name, str(lost), str(gained), CLASSES.get(name, "")))
    headings = (
        Heading("why"),
        Heading("lost", number=True),
        Heading("gained", number=True),
        Heading("meaning", style="dim"),
    )
    title = Text(clean(f"flips under {', '.join(one.metric for one in alike)}"), style="bold")
    parts: list[RenderableType] = [title, table(headings, rows)]
    if analysis.unstable_under_aa is not None:
        parts.append(Text(f"{analysis.unstable_under_aa} of these flips also happen without a change (A/A)"))
    return Group(*parts)


def _unknown(analysis: FlipAnalysis) -> list[str]:
    """Classes of a newer platform."""
    return sorted({*analysis.lost_by_class, *analysis.gained_by_class} - CLASSES.keys())


def _responses(analysis: FlipAnalysis) -> Text:
    differ = analysis.compared_responses - analysis.identical_responses
    lines = [f"responses: {analysis.identical_responses} of {analysis.compared_responses} are identical"]
    if differ:
        unit = "token" if analysis.token_basis == "engine" else "word"
        lines[0] += (
            f"; of the {differ} others {analysis.differ_at_first_token} differ from the first {unit} on"
        )
        if analysis.first_difference_char_p50 is not None:
            lines[0] += f", half of them before character {analysis.first_difference_char_p50:.0f}"
    return Text("\n".join(lines))


def _why(item: ComparisonItem) -> Text:
    parts = [item.flip_class.replace("_", " ")] if item.flip_class else []
    if item.unstable_under_aa:
        parts.append("unstable (A/A)")
    return Text(clean(", ".join(parts)) or MISSING)


def _answer(side: AnsweredItem, metric: str) -> Any:
    """What the metric's filter read in the response, or the response."""
    filtered = side.filtered
    if isinstance(filtered, Mapping):
        filtered = filtered.get(metric.partition(",")[2], filtered)
    if isinstance(filtered, list) and len(filtered) == 1:
        filtered = filtered[0]
    found = side.response if filtered in (None, {}, []) else filtered
    return f"({side.status})" if found is None else found
