"""Runs as metrics-svc knows them: their metrics, and what the events about them change."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from assay_chassis.errors import Fault, NotFound
from assay_chassis.leased_work import Wakeup
from assay_chassis.service_client import ServiceClient
from assay_chassis.store import Change, Document, DuplicateKey
from assay_contracts.eval_events import RunCancelled, RunFailed, RunResponded, SamplesCompleted
from metrics_svc.domain.runs import RunMetrics, ScoringError, ScoringState
from metrics_svc.domain.scoring import (
    Fields,
    Occurrence,
    after_block,
    after_end,
    after_responses,
    is_own,
    new_scoring,
    run_of,
)
from metrics_svc.errors import UnknownRun
from metrics_svc.service.samples import SampleFilter, SamplePage, list_samples
from metrics_svc.store import MetricsStore


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
        if scoring is None or not is_own(scoring):
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
            UnknownMetric, InvalidFilter: see ``list_samples``.
        """
        metrics = await self.metrics(run_id)
        log = self._store.scored_log(run_id)
        return await list_samples(log, metrics, wanted=wanted, cursor=cursor, limit=limit)


def metrics_of(scoring: Mapping[str, Any]) -> RunMetrics:
    """The metrics in a view's document."""
    stored = scoring["metrics"]
    metrics = (
        RunMetrics(run_id=run_of(scoring), state=ScoringState.SCORING)
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
