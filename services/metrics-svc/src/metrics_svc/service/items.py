"""The items behind a comparison: every pair with both responses."""

import asyncio
import tempfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
from pydantic import BaseModel, JsonValue

from assay_chassis.errors import Fault
from assay_evidence.comparison import Flip, select_pairs
from assay_evidence.report import CandidateReport, ComparedRun, FlipClass
from metrics_svc.domain.samples import ScoredSample
from metrics_svc.domain.values import SampleNumbers
from metrics_svc.errors import InvalidFilter
from metrics_svc.service.comparisons import ComparisonService, KeptComparison
from metrics_svc.service.runs import metrics_of
from metrics_svc.service.samples import choose_metric
from metrics_svc.store import MetricsStore
from metrics_svc.store.scored import ScoredLog

_BLOCKS_KEPT = 16


class FirstDifference(BaseModel):
    """Where two responses part: character and token, from 0. ``token``: ``None`` where it is not known."""

    char: int
    token: int | None


class ComparedSample(BaseModel):
    """One side of a paired item."""

    index: int
    status: str
    value: float | None
    response: str | None
    filtered: dict[str, JsonValue]


class ComparedItem(BaseModel):
    """A paired item by one metric.

    Attributes:
        flip: what became of it; ``None`` where the metric is not one of right and wrong.
        flip_class: why it flipped, where it did.
        first_difference: ``None`` where the responses are equal, or one is missing.
        unstable_under_aa: whether it also changes between two runs of the baseline's artifact; ``None`` where
            no second run was named or has the item.
    """

    metric: str
    flip: Flip | None
    flip_class: FlipClass | None
    doc_hash: str
    prompt: str | None
    target: str
    first_difference: FirstDifference | None
    unstable_under_aa: bool | None
    baseline: ComparedSample
    candidate: ComparedSample


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Which items to list: those with one candidate, by one metric, with one fate or reason.

    ``candidate``: a run or scored view; the first one of the comparison if ``None``.
    """

    candidate: str | None = None
    metric: str | None = None
    flip: Flip | None = None
    flip_class: FlipClass | None = None


@dataclass(frozen=True, slots=True)
class ItemPage:
    """Part of the paired items, in the order of the baseline's documents."""

    items: list[ComparedItem]
    next_cursor: str | None


class ItemService:
    """Lists the items of comparisons: the table of pairs first, then only the blocks of what is shown."""

    def __init__(self, *, store: MetricsStore, comparisons: ComparisonService) -> None:
        self._store = store
        self._comparisons = comparisons

    async def page(
        self, comparison_id: str, *, wanted: ItemFilter, cursor: str | None, limit: int
    ) -> ItemPage:
        """Paired items with both responses.

        Args:
            comparison_id: the comparison.
            wanted: without a metric, the first one; one must be named to filter by flips where there are
                several.
            cursor: ``next_cursor`` of the page before.
            limit: items on the page.

        Raises:
            UnknownComparison: there is none of this id.
            UnknownMetric: the comparison has no such metric.
            InvalidFilter: the comparison has no such candidate, the metric has no flips, or the cursor is not
                one of this list's.
        """
        start = _read_cursor(cursor)
        kept = await self._comparisons.kept(comparison_id)
        place = candidate_place(kept, wanted.candidate)
        report = kept.report.candidates[place]
        metric = _metric(report, wanted)
        if metric is None:
            return ItemPage(items=[], next_cursor=None)
        rows = await self.rows(kept, place, metric=metric, wanted=wanted)
        baseline = await ItemSamples.of(self._store, kept.report.baseline)
        candidate = await ItemSamples.of(self._store, report.candidate)
        items = [
            await _item(row, metric=metric, baseline=baseline, candidate=candidate)
            for row in rows.slice(start, limit).to_pylist()
        ]
        return ItemPage(items=items, next_cursor=str(start + limit) if start + limit < len(rows) else None)

    async def rows(
        self, kept: KeptComparison, place: int, *, metric: str, wanted: ItemFilter
    ) -> pyarrow.Table:
        """The pairs with one candidate that are wanted, see ``select_pairs``; one row each."""
        with tempfile.TemporaryDirectory(prefix="assay-items-", ignore_cleanup_errors=True) as directory:
            path = await self._store.files.fetch(kept.pairs[place], Path(directory))
            # Not mapped into memory: the file goes away with the directory.
            pairs = await asyncio.to_thread(pyarrow.parquet.read_table, path, memory_map=False)
        return await asyncio.to_thread(
            select_pairs, pairs, metric=metric, task=kept.task, flip=wanted.flip, flip_class=wanted.flip_class
        )


class ItemSamples:
    """Samples of one side of a comparison, by their place in the scored log; few blocks stay in memory.

    Args:
        log: the side's scored log.
        numbers: gives the values of its samples.
    """

    def __init__(self, log: ScoredLog, *, numbers: SampleNumbers) -> None:
        self._log = log
        self._numbers = numbers
        self._blocks: OrderedDict[int, list[ScoredSample]] = OrderedDict()

    @classmethod
    async def of(cls, store: MetricsStore, side: ComparedRun) -> "ItemSamples":
        """Those of a run or scored view that was compared."""
        view_id = side.scoring_id or side.run_id
        view = await store.scorings.get(view_id)
        assert view is not None, f"view {view_id} is gone"
        return cls(store.scored_log(view_id), numbers=SampleNumbers(metrics_of(view)))

    async def sample(self, *, block: int, position: int) -> ScoredSample:
        """One sample."""
        if block not in self._blocks:
            samples = await self._log.block(block)
            assert samples is not None, f"scored block {block} is gone"
            self._blocks[block] = samples
            if len(self._blocks) > _BLOCKS_KEPT:
                self._blocks.popitem(last=False)
        return self._blocks[block][position]

    def value(self, sample: ScoredSample, *, metric: str) -> float | None:
        """The value of a sample, as it enters the metric."""
        return self._numbers.of(sample).get(metric)


async def _item(
    row: Mapping[str, Any], *, metric: str, baseline: ItemSamples, candidate: ItemSamples
) -> ComparedItem:
    first = await baseline.sample(block=row["baseline_block"], position=row["baseline_position"])
    second = await candidate.sample(block=row["candidate_block"], position=row["candidate_position"])
    requests = first.record.requests
    difference = None
    if row["first_character"] is not None:
        difference = FirstDifference(char=row["first_character"], token=row["first_token"])
    return ComparedItem(
        metric=metric,
        flip=row["flip"],
        flip_class=row["flip_class"],
        doc_hash=first.record.doc_hash,
        prompt=requests[0].prompt if requests else None,
        target=first.record.target,
        first_difference=difference,
        unstable_under_aa=row["unstable"],
        baseline=_side(first, baseline.value(first, metric=metric)),
        candidate=_side(second, candidate.value(second, metric=metric)),
    )


def _side(sample: ScoredSample, value: float | None) -> ComparedSample:
    return ComparedSample(
        index=sample.record.index,
        status=sample.record.status,
        value=value,
        response=sample.response_text(),
        filtered=sample.filtered(),
    )


def candidate_place(kept: KeptComparison, wanted: str | None) -> int:
    """Which candidate of a comparison a run or scored view is; the first one if none is named.

    Raises:
        InvalidFilter: it is none of them.
    """
    if wanted is None:
        return 0
    sides = [one.candidate for one in kept.report.candidates]
    names = [side.scoring_id or side.run_id for side in sides]
    for known in (names, [side.run_id for side in sides]):
        if wanted in known:
            return known.index(wanted)
    message = f"the comparison has no candidate {wanted!r}; there are: {', '.join(names)}"
    raise InvalidFilter(message, faults=[Fault(message, field="candidate")])


def _metric(report: CandidateReport, wanted: ItemFilter) -> str | None:
    """The metric to list by; ``None`` where nothing was compared and none is asked for."""
    filtered = wanted.flip is not None or wanted.flip_class is not None
    names = [compared.metric for compared in report.quality]
    if not names and wanted.metric is None:
        return None
    chosen = choose_metric(wanted.metric, names, needed=filtered) or names[0]
    compared = next(one for one in report.quality if one.metric == chosen)
    if filtered and compared.flips is None:
        message = f"{chosen} is not a metric of right and wrong, so it has no flips"
        field = "flip" if wanted.flip is not None else "flip_class"
        raise InvalidFilter(message, faults=[Fault(message, field=field)])
    return chosen


def _read_cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit() and len(cursor) < 19):
        message = "this cursor is not one that the list gave; start again without it"
        raise InvalidFilter(message, faults=[Fault(message, field="cursor")])
    return int(cursor)
