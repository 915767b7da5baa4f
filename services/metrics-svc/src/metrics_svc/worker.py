"""The scorer: takes views with unscored blocks under a lease, scores them, and aggregates complete ones.

Every step may be repeated: blocks have natural keys, scoring is repeatable, evidence is named by its content,
and the final metrics, the evidence that they go with and the event that tells of them are one write under the
lease.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from assay_chassis.errors import NotFound, Unavailable
from assay_chassis.leased_work import LeasedWorker, Wakeup, wait_for
from assay_chassis.leases import Lease, LeaseLost
from assay_chassis.outbox import EventWriter
from assay_chassis.service_client import DigestMismatch, ServiceClient
from assay_chassis.store import Change, Document
from assay_contracts.envelope import Event
from assay_contracts.metrics_events import RunScored, ScoringCompleted, ScoringFailed
from assay_evidence.tables import MalformedTables
from assay_harness.errors import HarnessError, HarnessFailed, HarnessProcessDied
from assay_harness.process import HarnessProcess
from assay_harness.spec import Scoring
from metrics_svc.domain.early_stop import SequentialWatch
from metrics_svc.domain.plans import RunPlan, check_task, read_plan, rescored, telemetry_of
from metrics_svc.domain.progress import ScoringProgress
from metrics_svc.domain.runs import RunMetrics, RunSubject, ScoringState
from metrics_svc.domain.runs import now as timestamp
from metrics_svc.domain.runtime.serving import Serving
from metrics_svc.domain.samples import SampleRecord, ScoredSample, read_records
from metrics_svc.domain.scoring import WORK_FIELDS, FailedBy, has_work, is_own, run_of, trend_fields
from metrics_svc.errors import Unscorable
from metrics_svc.service.early_stop import open_watch
from metrics_svc.service.evidence import EvidenceService, EvidenceTables, growing_tables
from metrics_svc.service.harness import HarnessOpener
from metrics_svc.settings import Settings
from metrics_svc.store import MetricsStore

logger = logging.getLogger(__name__)

STILL_WANTED = {"active": True}
"""Guard: the run has not been cancelled or failed in the meantime."""
LIVE_SHARE = 0.05
"""Share of the time that live metrics may take; they cost more the longer the run is."""


@dataclass(frozen=True, slots=True)
class ScorerParts:
    """What a scorer works with."""

    settings: Settings
    store: MetricsStore
    events: EventWriter
    evaluations: ServiceClient
    harness: HarnessOpener
    evidence: EvidenceService
    wakeup: Wakeup


@dataclass(frozen=True, slots=True)
class ScoringWork:
    """What one attempt builds up, block by block, and what it scores with."""

    progress: ScoringProgress
    tables: EvidenceTables
    harness: HarnessProcess
    watch: SequentialWatch | None

    async def add(self, samples: list[ScoredSample]) -> None:
        """Take in the next scored block."""
        self.progress.add(samples)
        await self.tables.add(samples)
        if self.watch is not None:
            self.watch.add(samples)


def scorer_of(parts: ScorerParts) -> LeasedWorker:
    """The loop that works on up to ``scoring_slots`` views at a time."""

    async def find(limit: int) -> list[Document]:
        # Without the metrics: this is asked at every block of every run.
        active = await parts.store.scorings.find_many(
            {"active": True}, order_by="sort_key", limit=limit, fields=WORK_FIELDS
        )
        return [scoring for scoring in active if has_work(scoring, now=time.time())]

    async def carry_out(lease: Lease) -> None:
        scoring = ViewScoring(parts, lease=lease, is_slot_wanted=lambda: scorer.is_short_of_slots)
        await scoring.attempt()

    scorer = LeasedWorker(
        name="scorer",
        collection=parts.store.scorings,
        find=find,
        carry_out=carry_out,
        slots=parts.settings.scoring_slots,
        lease_s=parts.settings.scoring_lease_s,
        sweep_s=parts.settings.scoring_sweep_s,
        wakeup=parts.wakeup,
    )
    return scorer


class ViewScoring:
    """One attempt at a view, under a lease: a run's own, which grows with the run, or one of a final run.

    Args:
        parts: what it works with.
        lease: on the view's document.
        is_slot_wanted: whether another view waits for a slot; this one then gives its up instead of waiting
            for new blocks.
    """

    def __init__(self, parts: ScorerParts, *, lease: Lease, is_slot_wanted: Callable[[], bool]) -> None:
        self._parts = parts
        self._lease = lease
        self._is_slot_wanted = is_slot_wanted
        self._view_id = lease.document_id
        self._log = parts.store.scored_log(self._view_id)
        self._live_due = float("-inf")

    async def attempt(self) -> None:
        """Score what there is, and go on until the view is final or nothing has come for a while.

        Raises:
            LeaseLost: another scorer has the view, or the run has ended.
            Unavailable: the store or a peer stays away.
        """
        try:
            await self._score_view()
        except (LeaseLost, Unavailable):
            raise
        except Unscorable as error:
            await self._fail(error.code, error.reason)
        except (HarnessProcessDied, HarnessFailed) as error:
            await self._try_later(error)
        except HarnessError as error:
            await self._fail("harness-refused", str(error))
        except MalformedTables as error:
            await self._fail("malformed-sample", str(error))
        except NotFound as error:
            await self._fail("not-found", error.detail)
        except DigestMismatch as error:
            await self._fail("rows-changed", str(error))
        except Exception as error:
            logger.exception("scoring of %s failed unexpectedly", self._view_id)
            await self._try_later(error)

    async def _score_view(self) -> None:
        view = await self._document()
        run_id = run_of(view)
        run = await self._parts.evaluations.get(f"/v1/evaluations/{run_id}")
        plan = read_plan(run)
        scoring = None if is_own(view) else Scoring.model_validate_json(view["scoring"])
        async with (
            self._parts.harness.open(plan.harness, scoring=scoring) as harness,
            growing_tables(task=plan.task.task) as tables,
        ):
            check_task(plan, harness.facts)
            if scoring is not None:
                plan = rescored(plan, filters=harness.facts.filters)
            progress = ScoringProgress(
                run_id=run_id, subject=RunSubject.of(run, plan), plan=plan, facts=harness.facts
            )
            watch = await open_watch(self._parts.store, view=view, run=run, plan=plan)
            work = ScoringWork(progress=progress, tables=tables, harness=harness, watch=watch)
            async for block in self._log.blocks():
                await work.add(block.samples)
            await self._follow(work)

    async def _follow(self, work: ScoringWork) -> None:
        """Score blocks as they become known."""
        settings, progress = self._parts.settings, work.progress
        idle_since = time.monotonic()
        while True:
            wakeup = self._parts.wakeup.next
            scoring = await self._document()
            await self._take_look(work, scoring)
            if progress.blocks < scoring["known_blocks"]:
                while progress.blocks < scoring["known_blocks"]:
                    await self._score_block(work)
                    await self._take_look(work, scoring)
                    await self._report(progress)
                idle_since = time.monotonic()
                continue
            if scoring["final_blocks"] is not None:
                await self._finish(work, scoring)
                return
            if self._is_slot_wanted() or time.monotonic() - idle_since > settings.scoring_idle_s:
                await self._report(progress, at_once=True)
                return
            if progress.reported_blocks < progress.blocks:
                await self._report(progress)
            await wait_for(wakeup, seconds=settings.scoring_sweep_s)

    async def _document(self) -> Document:
        view = await self._parts.store.scorings.get(self._view_id)
        if view is None or not view["active"]:
            raise LeaseLost(f"the run of {self._view_id} has ended")
        return view

    async def _score_block(self, work: ScoringWork) -> None:
        number = work.progress.blocks
        records = await self._records(work.progress.run_id, number)
        answered = [record for record in records if record.status == "ok"]
        scores = await work.harness.score([(record.index, record.answers()) for record in answered])
        by_index = {score.index: score for score in scores}
        samples = [ScoredSample(record=record, score=by_index.get(record.index)) for record in records]
        await self._log.put(number, samples)
        await work.add(samples)

    async def _take_look(self, work: ScoringWork, view: Mapping[str, Any]) -> None:
        """Look whether a run that may stop early is settled, and tell it once."""
        if work.watch is None or view["final_blocks"] is not None:
            return
        settlement = await asyncio.to_thread(work.watch.judge)
        if settlement is None:
            return
        told = work.watch.settled(self._view_id, settlement)
        change = Change(set={"settled": asdict(settlement)}, events=self._parts.events(told))
        await self._lease.write(change, guard=STILL_WANTED)
        logger.info("%s is settled: %s", self._view_id, settlement)

    async def _records(self, run_id: str, number: int) -> list[SampleRecord]:
        """A block of the sample log: from the run's own view where that has it, else from eval-svc."""
        if run_id != self._view_id:
            known = await self._parts.store.scored_log(run_id).block(number)
            if known is not None:
                return [sample.record for sample in known]
        block = await self._parts.evaluations.get(f"/v1/evaluations/{run_id}/blocks/{number}")
        return read_records(block["samples"])

    async def _report(self, progress: ScoringProgress, *, at_once: bool = False) -> None:
        """Tell how far scoring is, once per interval or ``at_once``, with the metrics so far."""
        began = time.monotonic()
        if not at_once and began < self._live_due:
            return
        live = await asyncio.to_thread(progress.live)
        spent = time.monotonic() - began
        self._live_due = began + max(self._parts.settings.live_interval_s, spent / LIVE_SHARE)
        fields = {"scored_blocks": progress.blocks, "attempts": 0, "metrics": live.model_dump_json()}
        progress.reported_blocks = progress.blocks
        await self._lease.write(Change(set=fields, bump=False), guard=STILL_WANTED)

    async def _finish(self, work: ScoringWork, view: Mapping[str, Any]) -> None:
        progress = work.progress
        complete = progress.complete(blocks=view["final_blocks"], samples=view["expected_samples"])
        aggregate = await work.harness.aggregate(complete.scores)
        metrics = progress.counted().model_copy(
            update={
                "state": ScoringState.FINAL,
                "quality": aggregate.metrics,
                "higher_is_better": aggregate.higher_is_better,
                "sample_metrics": complete.sample_metrics(
                    progress.plan.task.task, reported=aggregate.metrics
                ),
                "not_finite": aggregate.not_finite,
                "finished_at": timestamp(),
            }
        )
        run = await self._parts.evaluations.get(f"/v1/evaluations/{progress.run_id}")
        if is_own(view):
            runtime = await asyncio.to_thread(
                progress.tally.report,
                telemetry_of(run),
                serving=Serving.of(run),
                bounds=progress.plan.options.goodput,
            )
            metrics = metrics.model_copy(
                update={"runtime": runtime.metrics, "runtime_details": runtime.details}
            )
        tables = await work.tables.close()
        evidence_id = await self._parts.evidence.keep(view, run=run, metrics=metrics, tables=tables)
        change = Change(
            set={
                "state": ScoringState.FINAL.value,
                "active": False,
                "scored_blocks": progress.blocks,
                "metrics": metrics.model_dump_json(),
                "evidence_id": evidence_id,
                **(trend_fields(metrics) if is_own(view) else {}),
            },
            events=self._parts.events(_completed(view, metrics, progress.plan)),
        )
        await self._lease.write(change, guard={**STILL_WANTED, "final_blocks": view["final_blocks"]})
        logger.info("%s is scored: %d samples", self._view_id, metrics.samples_scored)

    async def _fail(self, code: str, reason: str) -> None:
        """End the view as failed. Only the failure of a run's own view is the run's, and is told."""
        logger.warning("%s cannot be scored: %s: %s", self._view_id, code, reason)
        view = await self._document()
        failed = ScoringFailed(run_id=self._view_id, code=code, reason=reason)
        change = Change(
            set={
                "state": ScoringState.FAILED.value,
                "active": False,
                "failed_by": FailedBy.SCORING.value,
                "error": {"code": code, "message": reason},
            },
            events=self._parts.events(failed) if is_own(view) else (),
        )
        await self._lease.write(change, guard=STILL_WANTED)

    async def _try_later(self, error: Exception) -> None:
        """Count an unexpected failure; give the run up after too many without a new block in between."""
        attempts = 1 + int((await self._document())["attempts"])
        if attempts >= self._parts.settings.scoring_tries:
            await self._fail("scoring-kept-failing", f"{attempts} tries; the last: {error}")
            return
        logger.warning("scoring of %s failed, try %d: %s", self._view_id, attempts, error)
        change = Change(set={"attempts": attempts, "retry_at": time.time() + 2.0 ** (attempts - 1)})
        await self._lease.write(change, guard=STILL_WANTED)


def _completed(view: Mapping[str, Any], metrics: RunMetrics, plan: RunPlan) -> Event:
    samples = metrics.samples_scored + metrics.samples_failed
    if is_own(view):
        return RunScored(
            run_id=metrics.run_id,
            samples=samples,
            quality=metrics.quality,
            runtime=metrics.runtime,
            canonical=plan.canonical,
        )
    return ScoringCompleted(
        scoring_id=view["_id"],
        run_id=metrics.run_id,
        name=view["name"],
        samples=samples,
        quality=metrics.quality,
    )
