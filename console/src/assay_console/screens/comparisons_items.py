"""The flips explorer: items of a comparison with both responses, and what differs in them."""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fastapi import Request, Response

from assay.models import AnsweredItem, CandidateReport, Comparison, ComparisonItem, Problem
from assay.rendering.comparison import subject_name
from assay.rendering.flips import CLASSES
from assay.rendering.quality import main_metric
from assay_console.gateway import ApiError
from assay_console.pages import pages_of
from assay_console.screens.comparisons_differences import (
    COMPARED_WORDS,
    TextDifference,
    shown,
    text_difference,
)
from assay_console.screens.comparisons_evidence import chosen_report
from assay_console.sign_in import Api

FLIPS: Mapping[str, str] = {
    # From the base to the candidate.
    "lost": "right → wrong",
    "gained": "wrong → right",
    "both_right": "right → right",
    "both_wrong": "wrong → wrong",
}
_ITEMS = 20
_AT_A_GLANCE = 200
"""Characters of a response in which a reader finds the difference without help."""


@dataclass(frozen=True, slots=True)
class ItemView:
    """One item: ``answers`` are what the metric's filter read in the base's response and the candidate's."""

    item: ComparisonItem
    difference: TextDifference
    prompt: str
    target: str
    answers: tuple[str | None, str | None]

    @property
    def remarks(self) -> Sequence[str]:
        """What a reader should know of the two responses, in sentences."""
        difference, place = self.difference, self.item.first_difference
        found = []
        if difference.is_equal and self.item.baseline.response:
            found.append("Both responses are the same.")
        if difference.is_white_space:
            found.append("They differ in white space only.")
        is_long = len(self.item.baseline.response or "") > _AT_A_GLANCE
        if is_long and place is not None and place.char is not None and not difference.is_equal:
            token = "" if place.token is None else f", token {place.token:,}"
            found.append(f"They part at character {place.char:,}{token}, counted from 0.")
        if difference.is_partial:
            found.append(f"Only {COMPARED_WORDS} words from the first difference on were compared.")
        if difference.is_cut:
            found.append("The responses are cut here; items.csv has the whole.")
        return found


async def items(
    request: Request,
    api: Api,
    comparison_id: str,
    candidate: str = "",
    metric: str = "",
    flip: str = "",
    flip_class: str = "",
    cursor: str = "",
) -> Response:
    """Items of one candidate in the order of the base's documents, filtered."""
    found = await api.get(f"/v1/comparisons/{comparison_id}", Comparison)
    report = chosen_report(found, candidate)
    if report is None:
        raise ApiError(404, Problem(title="There is no such candidate", detail=candidate))
    shown_metric = metric or _main_name(report)
    page = await api.page(
        f"/v1/comparisons/{comparison_id}/items",
        ComparisonItem,
        cursor=cursor,
        limit=_ITEMS,
        query={"candidate": candidate, "metric": shown_metric, "flip": flip, "flip_class": flip_class},
    )
    # Comparing long texts takes a while; others are answered in the meantime.
    views = await asyncio.to_thread(_views, page.items)
    return pages_of(request).page(
        request,
        "comparisons/items.html",
        comparison=found,
        report=report,
        base_name=subject_name(found.baseline, other=report.candidate),
        candidate_name=subject_name(report.candidate, other=found.baseline),
        items=views,
        metrics=[line.metric for line in report.quality],
        flips=FLIPS,
        classes=CLASSES,
        next_cursor=page.next_cursor,
        asked={"candidate": candidate, "metric": metric, "flip": flip, "flip_class": flip_class},
        shown_metric=shown_metric,
        cursor=cursor,
    )


def _main_name(report: CandidateReport) -> str:
    line = main_metric(report.quality)
    return line.metric if line is not None else ""


def _views(found: Sequence[ComparisonItem]) -> Sequence[ItemView]:
    return [
        ItemView(
            item=item,
            difference=text_difference(item.baseline.response or "", item.candidate.response or ""),
            prompt=shown(item.prompt or ""),
            target=shown(item.target or ""),
            answers=(_answer(item.baseline, item.metric), _answer(item.candidate, item.metric)),
        )
        for item in found
    ]


def _answer(side: AnsweredItem, metric: str) -> str | None:
    """What the metric's filter read in the response; ``None`` where nothing is known of it."""
    read: Any = side.filtered
    if isinstance(read, Mapping):
        read = read.get(metric.partition(",")[2])
    if isinstance(read, list) and len(read) == 1:
        read = read[0]
    return None if read in (None, [], {}) else shown(str(read))
