"""Lists of scored samples."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from pydantic import BaseModel, JsonValue

from assay_chassis.errors import Fault
from metrics_svc.domain.runs import QualityMetrics
from metrics_svc.domain.samples import ScoredSample
from metrics_svc.domain.values import SampleNumbers, correctness
from metrics_svc.errors import InvalidFilter, UnknownMetric
from metrics_svc.store.scored import ScoredLog

MOST_EXAMINED = 2000
"""Samples that one page looks at where they are filtered, so that a page never takes long."""

Matcher = Callable[[ScoredSample, Mapping[str, float]], bool]


class Outcome(StrEnum):
    """How a sample ended: right or wrong by a metric, or without a response."""

    RIGHT = "right"
    WRONG = "wrong"
    FAILED = "failed"


class SampleItem(BaseModel):
    """One scored sample.

    Attributes:
        task: what the sample belongs to; of a group, one of its tasks.
        values: numbers by ``<task>.<metric>,<filter>``, as they enter the run's metrics.
        filtered: by filter, what it made of the response.
        reused_from: document and request whose response was taken for the first request of this one.
        block: which block of the run's sample log has it, with its requests and their times.
        response: the text, or the most probable of the given continuations; ``None`` where the sample failed.
    """

    index: int
    task: str
    block: int
    doc_hash: str
    prompt_hash: str
    target_hash: str
    status: str
    error: JsonValue
    prompt: str | None
    target: str
    response: str | None
    values: dict[str, float]
    filtered: dict[str, JsonValue]
    reused_from: dict[str, int] | None


@dataclass(frozen=True, slots=True)
class SamplePage:
    """Part of a run's samples, in the order in which they were finished.

    ``examined`` are those that were looked at for it.
    """

    items: list[SampleItem]
    examined: int
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class SampleFilter:
    """Which samples to list; those that satisfy all that is set.

    Attributes:
        task: of this task.
        metric: with this metric.
        outcome: with this outcome; right and wrong are by ``metric``.
        index: the one of this evaluation row.
        search: with this text in prompt, target or response, upper and lower case alike.
    """

    task: str | None = None
    metric: str | None = None
    outcome: Outcome | None = None
    index: int | None = None
    search: str | None = None

    @property
    def is_set(self) -> bool:
        """Whether samples may be left out."""
        return self != SampleFilter()


async def list_samples(
    log: ScoredLog, metrics: QualityMetrics, *, wanted: SampleFilter, cursor: str | None, limit: int
) -> SamplePage:
    """Scored samples in the order in which they were finished.

    Raises:
        UnknownMetric: there is no such metric with a value per sample.
        InvalidFilter: there is no such task, the cursor is not one of this list's, or the metric knows no
            right and wrong.
    """
    task = metrics.subject.task if metrics.subject else ""
    _check_task(wanted.task, metrics, task=task)
    matches = _matcher(wanted, metrics, task=task)
    numbers = SampleNumbers(metrics)
    start = _read_cursor(cursor)
    samples = _from(log, start) if wanted.index is None else _only(log, wanted.index, start=start)
    items: list[SampleItem] = []
    examined = 0
    async for place, sample in samples:
        if wanted.is_set and examined == MOST_EXAMINED:
            return SamplePage(items=items, examined=examined, next_cursor=place.cursor())
        values = numbers.of(sample)
        if matches(sample, values):
            if len(items) == limit:
                return SamplePage(items=items, examined=examined, next_cursor=place.cursor())
            items.append(_item(sample, values, task=sample.record.task or task, block=place.block))
        examined += 1
    return SamplePage(items=items, examined=examined, next_cursor=None)


class _Place(NamedTuple):
    """Where a sample lies: its block and its position there."""

    block: int
    position: int

    def cursor(self) -> str:
        """The place as lists hand it out."""
        return f"{self.block}:{self.position}"


async def _from(log: ScoredLog, start: _Place) -> AsyncIterator[tuple[_Place, ScoredSample]]:
    async for block in log.blocks(start=start.block):
        for position, sample in enumerate(block.samples):
            place = _Place(block.number, position)
            if place >= start:
                yield place, sample


async def _only(log: ScoredLog, index: int, *, start: _Place) -> AsyncIterator[tuple[_Place, ScoredSample]]:
    block = await log.block_of(index)
    if block is not None:
        for position, sample in enumerate(block.samples):
            place = _Place(block.number, position)
            if sample.record.index == index and place >= start:
                yield place, sample


def _check_task(wanted: str | None, metrics: QualityMetrics, *, task: str) -> None:
    known = [task, *(member.task for member in metrics.members)]
    if wanted is not None and wanted not in known:
        message = f"there is no task {wanted!r} in this run; there are: {', '.join(known)}"
        raise InvalidFilter(message, faults=[Fault(message, field="task")])


def choose_metric(metric: str | None, known: list[str], *, needed: bool) -> str | None:
    """The metric to filter by: the one named, or the only one there is.

    Raises:
        UnknownMetric: there is none of this name, or one is needed and several could be meant.
    """
    names = ", ".join(known) or "none"
    if metric is not None and metric not in known:
        message = f"there is no metric {metric!r} with a value per sample; there are: {names}"
        raise UnknownMetric(message, faults=[Fault(message, field="metric")])
    if metric is None and needed:
        if len(known) != 1:
            message = f"name the metric to filter by; there are: {names}"
            raise UnknownMetric(message, faults=[Fault(message, field="metric")])
        return known[0]
    return metric


def _matcher(wanted: SampleFilter, metrics: QualityMetrics, *, task: str) -> Matcher:
    """What says of a sample and its numbers whether it is wanted."""
    rules = _rules_of_values(wanted, metrics)
    if wanted.task not in (None, task):
        rules.append(lambda sample, values: (sample.record.task or task) == wanted.task)
    if wanted.outcome is Outcome.FAILED:
        rules.append(lambda sample, values: sample.failed)
    if wanted.search is not None:
        text = wanted.search.casefold()
        rules.append(lambda sample, values: _holds(sample, text))
    return lambda sample, values: all(rule(sample, values) for rule in rules)


def _rules_of_values(wanted: SampleFilter, metrics: QualityMetrics) -> list[Matcher]:
    outcome = wanted.outcome if wanted.outcome is not Outcome.FAILED else None
    metric = choose_metric(wanted.metric, metrics.sample_metrics, needed=outcome is not None)
    if metric is None:
        return []
    if outcome is None:
        return [lambda sample, values: metric in values]
    higher_is_better = metrics.higher_is_better.get(metric)
    if higher_is_better is None:
        message = f"whether a higher {metric} is better is not known, so no sample is right or wrong by it"
        raise InvalidFilter(message, faults=[Fault(message, field="outcome")])

    def has_outcome(sample: ScoredSample, values: Mapping[str, float]) -> bool:
        value = values.get(metric)
        return value is not None and correctness(value, higher_is_better=higher_is_better) == outcome.value

    return [has_outcome]


def _holds(sample: ScoredSample, text: str) -> bool:
    """Whether prompt, target or response has ``text``, which is case-folded."""
    requests = sample.record.requests
    shown = (requests[0].prompt if requests else None, sample.record.target, sample.response_text())
    return any(text in one.casefold() for one in shown if one)


def _item(sample: ScoredSample, values: dict[str, float], *, task: str, block: int) -> SampleItem:
    record = sample.record
    return SampleItem(
        index=record.index,
        task=task,
        block=block,
        doc_hash=record.doc_hash,
        prompt_hash=record.prompt_hash,
        target_hash=record.target_hash,
        status=record.status,
        error=record.error,
        prompt=record.requests[0].prompt if record.requests else None,
        target=record.target,
        response=sample.response_text(),
        values=values,
        filtered=sample.filtered(),
        reused_from=record.requests[0].reused_from if record.requests else None,
    )


def _read_cursor(cursor: str | None) -> _Place:
    if cursor is None:
        return _Place(0, 0)
    block, separator, position = cursor.partition(":")
    if not (separator and block.isascii() and block.isdigit() and position.isascii() and position.isdigit()):
        message = "this cursor is not one that the list gave; start again without it"
        raise InvalidFilter(message, faults=[Fault(message, field="cursor")])
    return _Place(int(block), int(position))
