"""Lists of scored samples."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from pydantic import BaseModel, JsonValue

from assay_chassis.errors import Fault
from metrics_svc.domain.runs import QualityMetrics
from metrics_svc.domain.samples import ScoredSample
from metrics_svc.domain.values import SampleNumbers, correctness
from metrics_svc.errors import InvalidFilter, UnknownMetric
from metrics_svc.store.scored import ScoredLog


class SampleItem(BaseModel):
    """One scored sample.

    Attributes:
        task: what the sample belongs to; of a group, one of its tasks.
        values: numbers by ``<task>.<metric>,<filter>``, as they enter the run's metrics.
        filtered: by filter, what it made of the response.
        reused_from: document and request whose response was taken for the first request of this one.
        response: the text, or the most probable of the given continuations; ``None`` where the sample failed.
    """

    index: int
    task: str
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
    """Part of a run's samples, in the order in which they were finished."""

    items: list[SampleItem]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class SampleFilter:
    """Which samples to list: all; those of ``task``; those with ``metric``; those right or wrong by it."""

    task: str | None = None
    metric: str | None = None
    correct: bool | None = None


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
    metric = choose_metric(wanted.metric, metrics.sample_metrics, needed=wanted.correct is not None)
    matches = _matcher(metrics, metric=metric, correct=wanted.correct)
    numbers = SampleNumbers(metrics)
    start, skip = _read_cursor(cursor)
    items: list[SampleItem] = []
    async for block in log.blocks(start=start):
        for position, sample in enumerate(block.samples):
            if block.number == start and position < skip:
                continue
            own = sample.record.task or task
            values = numbers.of(sample)
            if not matches(values) or wanted.task not in (None, task, own):
                continue
            if len(items) == limit:
                return SamplePage(items=items, next_cursor=f"{block.number}:{position}")
            items.append(_item(sample, values, task=own))
    return SamplePage(items=items, next_cursor=None)


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


def _matcher(
    metrics: QualityMetrics, *, metric: str | None, correct: bool | None
) -> Callable[[Mapping[str, float]], bool]:
    if metric is None:
        return lambda values: True
    if correct is None:
        return lambda values: metric in values
    higher_is_better = metrics.higher_is_better.get(metric)
    if higher_is_better is None:
        message = f"whether a higher {metric} is better is not known, so no sample is right or wrong by it"
        raise InvalidFilter(message, faults=[Fault(message, field="correct")])
    wanted = "right" if correct else "wrong"

    def matches(values: Mapping[str, float]) -> bool:
        value = values.get(metric)
        return value is not None and correctness(value, higher_is_better=higher_is_better) == wanted

    return matches


def _item(sample: ScoredSample, values: dict[str, float], *, task: str) -> SampleItem:
    record = sample.record
    return SampleItem(
        index=record.index,
        task=task,
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


def _read_cursor(cursor: str | None) -> tuple[int, int]:
    if cursor is None:
        return 0, 0
    block, separator, position = cursor.partition(":")
    if not (separator and block.isascii() and block.isdigit() and position.isascii() and position.isdigit()):
        message = "this cursor is not one that the list gave; start again without it"
        raise InvalidFilter(message, faults=[Fault(message, field="cursor")])
    return int(block), int(position)
