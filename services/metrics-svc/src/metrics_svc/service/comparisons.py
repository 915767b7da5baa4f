"""Comparisons of two runs."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, JsonValue

from assay_chassis.errors import Fault
from assay_chassis.identifiers import new_id
from assay_chassis.outbox import EventWriter
from assay_chassis.store import Document, DuplicateKey
from assay_contracts.metrics_events import ComparisonCreated
from metrics_svc.domain.comparison import Evidence, Flip, Item, compare, flip_of
from metrics_svc.domain.comparison_report import ComparisonReport, PairedItem
from metrics_svc.domain.runs import ScoringState, now
from metrics_svc.domain.samples import ScoredSample
from metrics_svc.domain.values import SampleNumbers
from metrics_svc.errors import InvalidFilter, RunNotFinal, UnknownComparison
from metrics_svc.service.runs import RunService
from metrics_svc.service.samples import choose_metric
from metrics_svc.store import MetricsStore

COMPARABLE_STATES = ("Scoring", "Succeeded")
"""States of a run with final metrics; eval-svc may not yet have heard of them."""


class Comparison(ComparisonReport):
    """A stored comparison."""

    id: str
    created_at: str
    created_by: str


class ComparedSample(BaseModel):
    """One side of a paired item."""

    index: int
    status: str
    value: float | None
    response: str | None
    filtered: dict[str, JsonValue]


class ComparedItem(BaseModel):
    """A paired item by one metric. ``flip`` is ``None`` where the metric is not one of right and wrong."""

    metric: str
    flip: Flip | None
    doc_hash: str
    prompt: str | None
    target: str
    baseline: ComparedSample
    candidate: ComparedSample


@dataclass(frozen=True, slots=True)
class ComparisonPage:
    """Part of the comparisons, newest first."""

    items: list[Comparison]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class ItemPage:
    """Part of the paired items, in the order of the baseline's documents."""

    items: list[ComparedItem]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Created:
    """A comparison, and whether it is new."""

    comparison: Comparison
    is_new: bool


class ComparisonService:
    """Compares final runs and keeps the results."""

    def __init__(self, *, store: MetricsStore, runs: RunService, events: EventWriter) -> None:
        self._store = store
        self._runs = runs
        self._events = events

    async def create(self, *, baseline_run_id: str, candidate_run_id: str, client: str) -> Created:
        """Compare two runs; the same two always give the same comparison.

        Raises:
            UnknownRun: there is no such run.
            RunNotFinal: a run has no final metrics.
            NotComparable: the runs answer different questions.
            InvalidFilter: both are the same run.
        """
        if baseline_run_id == candidate_run_id:
            message = "a run cannot be compared with itself; name another run"
            raise InvalidFilter(message, faults=[Fault(message, field="candidate_run_id")])
        pair_key = f"{baseline_run_id}:{candidate_run_id}"
        if existing := await self._store.comparisons.find_one({"pair_key": pair_key}):
            return Created(_comparison(existing), is_new=False)
        baseline = await self._evidence(baseline_run_id, field="baseline_run_id")
        candidate = await self._evidence(candidate_run_id, field="candidate_run_id")
        outcome = await asyncio.to_thread(compare, baseline, candidate)
        # The items come first, under a key of the pair: after a crash in between they are written again.
        await self._store.pair_log(pair_key).put(outcome.items)
        comparison_id = new_id("cmp")
        document: Document = {
            "_id": comparison_id,
            "sort_key": comparison_id,
            "pair_key": pair_key,
            "report": outcome.report.model_dump_json(),
            "created_at": now(),
            "created_by": client,
        }
        event = ComparisonCreated(
            comparison_id=comparison_id,
            baseline_run_id=baseline_run_id,
            candidate_run_id=candidate_run_id,
            paired_items=outcome.report.coverage.paired,
        )
        try:
            stored = await self._store.comparisons.insert(document, events=self._events(event))
        except DuplicateKey:
            existing = await self._store.comparisons.find_one({"pair_key": pair_key})
            assert existing is not None
            return Created(_comparison(existing), is_new=False)
        return Created(_comparison(stored), is_new=True)

    async def _evidence(self, run_id: str, *, field: str) -> Evidence:
        run = await self._runs.run(run_id, field=field)
        metrics = await self._runs.metrics(run_id)
        if metrics.state is not ScoringState.FINAL or run["state"] not in COMPARABLE_STATES:
            message = (
                f"run {run_id} is {run['state']} and its metrics are {metrics.state.value}; only a Succeeded "
                "run can be compared"
            )
            raise RunNotFinal(message, faults=[Fault(message, field=field)])
        assert metrics.subject is not None
        task, numbers = metrics.subject.task, SampleNumbers(metrics)
        items: list[Item] = []
        async for block in self._store.scored_log(run_id).blocks():
            for position, sample in enumerate(block.samples):
                values = numbers.of(sample)
                if not values and sample.failed:
                    continue  # an excluded sample is no evidence
                key, index = sample.record.key(task=task), sample.record.index
                items.append(Item(key=key, index=index, block=block.number, position=position, values=values))
        items.sort(key=lambda item: item.index)
        return Evidence(metrics=metrics, subject=metrics.subject, items=items)

    async def get(self, comparison_id: str) -> Comparison:
        """One comparison.

        Raises:
            UnknownComparison: there is none of this id.
        """
        return _comparison(await self._document(comparison_id))

    async def _document(self, comparison_id: str) -> Document:
        found = await self._store.comparisons.get(comparison_id)
        if found is None:
            raise UnknownComparison(f"there is no comparison {comparison_id!r}")
        return found

    async def page(self, *, cursor: str | None, limit: int) -> ComparisonPage:
        """Comparisons, newest first."""
        page = await self._store.comparisons.page({}, cursor=cursor, limit=limit)
        return ComparisonPage(
            items=[_comparison(document) for document in page.items], next_cursor=page.next_cursor
        )

    async def items(
        self,
        comparison_id: str,
        *,
        metric: str | None,
        flip: Flip | None,
        cursor: str | None,
        limit: int,
    ) -> ItemPage:
        """Paired items with both responses.

        Args:
            comparison_id: the comparison.
            metric: whose values to show and to filter by; the first one, if no ``flip`` is wanted.
            flip: only items with which this happened.
            cursor: ``next_cursor`` of the page before.
            limit: items on the page.

        Raises:
            UnknownComparison: there is none of this id.
            UnknownMetric: the comparison has no such metric.
            InvalidFilter: the metric has no flips, or the cursor is not one of this list's.
        """
        document = await self._document(comparison_id)
        report = ComparisonReport.model_validate_json(document["report"])
        names = [compared.metric for compared in report.quality]
        chosen = choose_metric(metric, names, needed=flip is not None or not names) or names[0]
        select = _Selection.of(report, metric=chosen, flip=flip)
        found: list[PairedItem] = []
        next_cursor: str | None = None
        log = self._store.pair_log(document["pair_key"])
        async for number, item in log.items(start=_read_cursor(cursor)):
            if not select.matches(item):
                continue
            if len(found) == limit:
                next_cursor = str(number)
                break
            found.append(item)
        samples = _Samples(self._store, report)
        return ItemPage(items=[await samples.show(item, select) for item in found], next_cursor=next_cursor)


@dataclass(frozen=True, slots=True)
class _Selection:
    """A metric of a comparison, where its values lie in a paired item, and the flip that is wanted."""

    metric: str
    position: int
    higher_is_better: bool | None
    wanted: Flip | None

    @classmethod
    def of(cls, report: ComparisonReport, *, metric: str, flip: Flip | None) -> "_Selection":
        position, compared = next(
            (number, one) for number, one in enumerate(report.quality) if one.metric == metric
        )
        if flip is not None and compared.flips is None:
            message = f"{metric} is not a metric of right and wrong, so it has no flips"
            raise InvalidFilter(message, faults=[Fault(message, field="flip")])
        return cls(
            metric=metric,
            position=position,
            higher_is_better=compared.higher_is_better if compared.flips else None,
            wanted=flip,
        )

    def flip(self, item: PairedItem) -> Flip | None:
        """What became of the item; ``None`` where that cannot be said."""
        baseline = item.baseline_values.get(self.position)
        candidate = item.candidate_values.get(self.position)
        if baseline is None or candidate is None or self.higher_is_better is None:
            return None
        return flip_of(baseline, candidate, higher_is_better=self.higher_is_better)

    def matches(self, item: PairedItem) -> bool:
        """Whether the item has the metric, and the wanted flip."""
        if self.position not in item.baseline_values and self.position not in item.candidate_values:
            return False
        return self.wanted is None or self.flip(item) is self.wanted


class _Samples:
    """Reads the samples behind paired items, every block once."""

    def __init__(self, store: MetricsStore, report: ComparisonReport) -> None:
        self._store = store
        self._baseline = report.baseline.run_id
        self._candidate = report.candidate.run_id
        self._blocks: dict[tuple[str, int], list[ScoredSample]] = {}

    async def show(self, item: PairedItem, selection: _Selection) -> ComparedItem:
        """The item with prompt, target and both responses."""
        baseline = await self._sample(self._baseline, item.baseline_block, item.baseline_position)
        candidate = await self._sample(self._candidate, item.candidate_block, item.candidate_position)
        requests = baseline.record.requests
        return ComparedItem(
            metric=selection.metric,
            flip=selection.flip(item),
            doc_hash=item.doc_hash,
            prompt=requests[0].prompt if requests else None,
            target=baseline.record.target,
            baseline=_side(baseline, item.baseline_values.get(selection.position)),
            candidate=_side(candidate, item.candidate_values.get(selection.position)),
        )

    async def _sample(self, run_id: str, block: int, position: int) -> ScoredSample:
        key = (run_id, block)
        if key not in self._blocks:
            samples = await self._store.scored_log(run_id).block(block)
            assert samples is not None, f"scored block {block} of {run_id} is gone"
            self._blocks[key] = samples
        return self._blocks[key][position]


def _side(sample: ScoredSample, value: float | None) -> ComparedSample:
    return ComparedSample(
        index=sample.record.index,
        status=sample.record.status,
        value=value,
        response=sample.response_text(),
        filtered=sample.filtered(),
    )


def _comparison(document: Mapping[str, Any]) -> Comparison:
    report = ComparisonReport.model_validate_json(document["report"])
    return Comparison(
        **dict(report),
        id=document["_id"],
        created_at=document["created_at"],
        created_by=document["created_by"],
    )


def _read_cursor(cursor: str | None) -> int:
    if cursor is None:
        return 0
    if not (cursor.isascii() and cursor.isdigit()):
        message = "this cursor is not one that the list gave; start again without it"
        raise InvalidFilter(message, faults=[Fault(message, field="cursor")])
    return int(cursor)
