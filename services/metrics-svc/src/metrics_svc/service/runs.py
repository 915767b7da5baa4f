"""Metrics and scored samples of runs, and what the events about runs change."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, JsonValue

from assay_chassis.errors import Fault, NotFound
from assay_chassis.leased_work import Wakeup
from assay_chassis.service_client import ServiceClient
from assay_chassis.store import Change, Document, DuplicateKey
from assay_contracts.eval_events import RunCancelled, RunFailed, RunResponded, SamplesCompleted
from metrics_svc.domain.runs import (
    FailurePolicy,
    RunMetrics,
    ScoringError,
    ScoringState,
    correctness,
    sample_values,
)
from metrics_svc.domain.samples import ScoredSample
from metrics_svc.domain.scoring import (
    Fields,
    Occurrence,
    after_block,
    after_end,
    after_responses,
    new_scoring,
)
from metrics_svc.errors import InvalidFilter, UnknownMetric, UnknownRun
from metrics_svc.store import MetricsStore


class SampleItem(BaseModel):
    """One scored sample.

    Attributes:
        values: numbers by ``<task>.<metric>,<filter>``, as they enter the run's metrics.
        filtered: by filter, what it made of the response.
        response: the text, or the most probable of the given continuations; ``None`` where the sample failed.
    """

    index: int
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


@dataclass(frozen=True, slots=True)
class SamplePage:
    """Part of a run's samples, in the order in which they were finished."""

    items: list[SampleItem]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class SampleFilter:
    """Which samples to list: all; those with ``metric``; those right or wrong by it."""

    metric: str | None = None
    correct: bool | None = None


class RunService:
    """Runs as metrics-svc knows them."""

    def __init__(self, *, store: MetricsStore, evaluations: ServiceClient, wakeup: Wakeup) -> None:
        self._store = store
        self._evaluations = evaluations
        self._wakeup = wakeup

    async def record_block(self, event: SamplesCompleted, *, when: Occurrence) -> None:
        """A block was appended to a run's sample log."""
        await self._record(event.run_id, lambda scoring: after_block(scoring, block=event.block, when=when))

    async def record_responses(self, event: RunResponded, *, when: Occurrence) -> None:
        """A run's sample log is complete."""
        await self._record(
            event.run_id,
            lambda scoring: after_responses(scoring, blocks=event.blocks, samples=event.samples, when=when),
        )

    async def record_failure(self, event: RunFailed, *, when: Occurrence) -> None:
        """A run failed; it may be resumed later."""
        reason = f"the run failed ({event.code}): {event.reason}"
        await self._record(
            event.run_id, lambda scoring: after_end(scoring, code="run-failed", reason=reason, when=when)
        )

    async def record_cancellation(self, event: RunCancelled, *, when: Occurrence) -> None:
        """A run was cancelled; it may be resumed later."""
        reason = f"the run was cancelled by {event.cancelled_by}"
        await self._record(
            event.run_id, lambda scoring: after_end(scoring, code="run-cancelled", reason=reason, when=when)
        )

    async def _record(self, run_id: str, decide: Callable[[Document], Fields | None]) -> None:
        """Apply a decision to the run's document, which is made if need be. Twice is once."""

        def change(scoring: Document) -> Change | None:
            fields = decide(scoring)
            return None if fields is None else Change(set=fields)

        if await self._store.scorings.modify(run_id, change) is None:
            with suppress(DuplicateKey):  # another delivery made it in between
                await self._store.scorings.insert(new_scoring(run_id))
            await self._store.scorings.modify(run_id, change)
        self._wakeup.notify()

    async def metrics(self, run_id: str) -> RunMetrics:
        """The metrics of a run: final ones, or those of the samples scored so far.

        Raises:
            UnknownRun: there is no such run.
            Unavailable: nothing is known here yet, and eval-svc does not answer.
        """
        scoring = await self._store.scorings.get(run_id)
        if scoring is None:
            await self.run(run_id)
            return RunMetrics(run_id=run_id, state=ScoringState.SCORING)
        return metrics_of(scoring)

    async def run(self, run_id: str, *, field: str | None = None) -> Mapping[str, Any]:
        """The run as eval-svc has it.

        Args:
            run_id: the run.
            field: field of the request that names it.

        Raises:
            UnknownRun: there is no such run.
            Unavailable: eval-svc does not answer.
        """
        try:
            run: Mapping[str, Any] = await self._evaluations.get(f"/v1/evaluations/{run_id}")
        except NotFound as error:
            message = f"there is no run {run_id!r}"
            raise UnknownRun(message, faults=[Fault(message, field=field)] if field else ()) from error
        return run

    async def samples(
        self, run_id: str, *, wanted: SampleFilter, cursor: str | None, limit: int
    ) -> SamplePage:
        """Scored samples in the order in which they were finished.

        Raises:
            UnknownRun: there is no such run.
            UnknownMetric: the run has no such metric with a value per sample.
            InvalidFilter: the cursor is not one of this list's, or the metric knows no right and wrong.
        """
        metrics = await self.metrics(run_id)
        metric = choose_metric(wanted.metric, metrics.sample_metrics, needed=wanted.correct is not None)
        matches = _matcher(metrics, metric=metric, correct=wanted.correct)
        start, skip = _read_cursor(cursor)
        items: list[SampleItem] = []
        async for block in self._store.scored_log(run_id).blocks(start=start):
            for position, sample in enumerate(block.samples):
                if block.number == start and position < skip:
                    continue
                values = values_of(sample, metrics)
                if not matches(values):
                    continue
                if len(items) == limit:
                    return SamplePage(items=items, next_cursor=f"{block.number}:{position}")
                items.append(_item(sample, values))
        return SamplePage(items=items, next_cursor=None)


def metrics_of(scoring: Mapping[str, Any]) -> RunMetrics:
    """The metrics in a run's document."""
    stored = scoring["metrics"]
    metrics = (
        RunMetrics(run_id=scoring["_id"], state=ScoringState.SCORING)
        if stored is None
        else RunMetrics.model_validate_json(stored)
    )
    error = scoring["error"]
    return metrics.model_copy(
        update={
            "state": ScoringState(scoring["state"]),
            "samples_expected": scoring["expected_samples"],
            "error": error and ScoringError.model_validate(error),
        }
    )


def values_of(sample: ScoredSample, metrics: RunMetrics) -> dict[str, float]:
    """The numbers of a sample of the run that ``metrics`` is of."""
    if metrics.subject is None:
        return {}
    task = metrics.subject.task
    return sample_values(
        sample,
        task=task,
        policy=metrics.failure_policy or FailurePolicy.EXCLUDE,
        numeric=[name.removeprefix(f"{task}.") for name in metrics.sample_metrics],
    )


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
    metrics: RunMetrics, *, metric: str | None, correct: bool | None
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


def _item(sample: ScoredSample, values: dict[str, float]) -> SampleItem:
    record = sample.record
    return SampleItem(
        index=record.index,
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
    )


def _read_cursor(cursor: str | None) -> tuple[int, int]:
    if cursor is None:
        return 0, 0
    block, separator, position = cursor.partition(":")
    if not (separator and block.isascii() and block.isdigit() and position.isascii() and position.isdigit()):
        message = "this cursor is not one that the list gave; start again without it"
        raise InvalidFilter(message, faults=[Fault(message, field="cursor")])
    return int(block), int(position)
