"""The scorer: takes runs with unscored blocks under a lease, scores them, and aggregates complete ones.

Every step may be repeated: blocks have natural keys, scoring is repeatable, and the final metrics and the
event that tells of them are one write under the lease.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay_chassis.errors import NotFound, Unavailable
from assay_chassis.leased_work import LeasedWorker, Wakeup, wait_for
from assay_chassis.leases import Lease, LeaseLost
from assay_chassis.outbox import EventWriter
from assay_chassis.service_client import DigestMismatch, ServiceClient
from assay_chassis.store import Change, Document
from assay_contracts.metrics_events import RunScored, ScoringFailed
from assay_harness.errors import HarnessError, HarnessFailed, HarnessProcessDied
from assay_harness.process import HarnessProcess
from assay_harness.spec import RowFiles
from metrics_svc.domain.progress import ScoringProgress
from metrics_svc.domain.runs import (
    HarnessInputs,
    RunSubject,
    ScoringState,
    SnapshotReference,
    check_task,
    read_plan,
    read_telemetry,
)
from metrics_svc.domain.runs import (
    now as timestamp,
)
from metrics_svc.domain.samples import ScoredSample, read_records
from metrics_svc.domain.scoring import FailedBy, has_work
from metrics_svc.errors import Unscorable
from metrics_svc.settings import Settings
from metrics_svc.store import MetricsStore

logger = logging.getLogger(__name__)

STILL_WANTED = {"active": True}
"""Guard: the run has not been cancelled or failed in the meantime."""


@dataclass(frozen=True, slots=True)
class ScorerParts:
    """What a scorer works with."""

    settings: Settings
    store: MetricsStore
    events: EventWriter
    evaluations: ServiceClient
    datasets: ServiceClient
    wakeup: Wakeup


def scorer_of(parts: ScorerParts) -> LeasedWorker:
    """The loop that scores up to ``scoring_slots`` runs at a time."""

    async def find(limit: int) -> list[Document]:
        active = await parts.store.scorings.find_many({"active": True}, order_by="sort_key", limit=limit)
        return [scoring for scoring in active if has_work(scoring, now=time.time())]

    async def carry_out(lease: Lease) -> None:
        scoring = RunScoring(parts, lease=lease, is_slot_wanted=lambda: scorer.is_short_of_slots)
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


class RunScoring:
    """One attempt at scoring one run, under a lease.

    Args:
        parts: what it works with.
        lease: on the run's document.
        is_slot_wanted: whether another run waits for a slot; this one then gives its up instead of waiting
            for new blocks.
    """

    def __init__(self, parts: ScorerParts, *, lease: Lease, is_slot_wanted: Callable[[], bool]) -> None:
        self._parts = parts
        self._lease = lease
        self._is_slot_wanted = is_slot_wanted
        self._run_id = lease.document_id
        self._log = parts.store.scored_log(self._run_id)

    async def attempt(self) -> None:
        """Score what there is, and go on until the run is final or nothing has come for a while.

        Raises:
            LeaseLost: another scorer has the run, or the run has ended.
            Unavailable: the store or a peer stays away.
        """
        try:
            await self._score_run()
        except (LeaseLost, Unavailable):
            raise
        except Unscorable as error:
            await self._fail(error.code, error.reason)
        except (HarnessProcessDied, HarnessFailed) as error:
            await self._try_later(error)
        except HarnessError as error:
            await self._fail("harness-refused", str(error))
        except NotFound as error:
            await self._fail("not-found", error.detail)
        except DigestMismatch as error:
            await self._fail("rows-changed", str(error))
        except Exception as error:
            logger.exception("scoring of %s failed unexpectedly", self._run_id)
            await self._try_later(error)

    async def _score_run(self) -> None:
        run = await self._parts.evaluations.get(f"/v1/evaluations/{self._run_id}")
        plan = read_plan(run)
        rows = await self._row_files(plan.harness)
        async with HarnessProcess.open(plan.harness.recipe, plan.harness.options, rows) as harness:
            check_task(plan, harness.facts)
            progress = ScoringProgress(subject=RunSubject.of(run, plan), plan=plan, facts=harness.facts)
            async for block in self._log.blocks():
                progress.add(block.samples)
            await self._follow(progress, harness)

    async def _row_files(self, inputs: HarnessInputs) -> RowFiles:
        return RowFiles(
            evaluation=await self._rows(inputs.evaluation),
            evaluation_split=inputs.evaluation.split,
            fewshot=await self._rows(inputs.fewshot) if inputs.fewshot else None,
        )

    async def _rows(self, snapshot: SnapshotReference) -> Path:
        return await self._parts.datasets.download(
            f"/v1/snapshots/{snapshot.snapshot_id}/content.parquet",
            sha256=snapshot.digest,
            directory=self._parts.settings.snapshot_cache,
        )

    async def _follow(self, progress: ScoringProgress, harness: HarnessProcess) -> None:
        """Score blocks as they become known."""
        settings = self._parts.settings
        idle_since = time.monotonic()
        while True:
            wakeup = self._parts.wakeup.next
            scoring = await self._document()
            if progress.blocks < scoring["known_blocks"]:
                while progress.blocks < scoring["known_blocks"]:
                    await self._score_block(progress, harness)
                    await self._report(progress)
                idle_since = time.monotonic()
                continue
            if scoring["final_blocks"] is not None:
                await self._finish(progress, harness, scoring)
                return
            if self._is_slot_wanted() or time.monotonic() - idle_since > settings.scoring_idle_s:
                await self._report(progress, at_once=True)
                return
            if progress.reported_blocks < progress.blocks:
                await self._report(progress)
            await wait_for(wakeup, seconds=settings.scoring_sweep_s)

    async def _document(self) -> Document:
        scoring = await self._parts.store.scorings.get(self._run_id)
        if scoring is None or not scoring["active"]:
            raise LeaseLost(f"run {self._run_id} has ended")
        return scoring

    async def _score_block(self, progress: ScoringProgress, harness: HarnessProcess) -> None:
        number = progress.blocks
        block = await self._parts.evaluations.get(f"/v1/evaluations/{self._run_id}/blocks/{number}")
        records = read_records(block["samples"])
        answered = [record for record in records if record.status == "ok"]
        scores = await harness.score([(record.index, record.answers()) for record in answered])
        by_index = {score.index: score for score in scores}
        samples = [ScoredSample(record=record, score=by_index.get(record.index)) for record in records]
        await self._log.put(number, samples)
        progress.add(samples)

    async def _report(self, progress: ScoringProgress, *, at_once: bool = False) -> None:
        """Tell how far scoring is, and, once per interval or ``at_once``, the metrics so far."""
        fields: dict[str, Any] = {"scored_blocks": progress.blocks, "attempts": 0}
        now = time.monotonic()
        if at_once or now - progress.reported_at >= self._parts.settings.live_interval_s:
            progress.reported_at = now
            progress.reported_blocks = progress.blocks
            live = await asyncio.to_thread(progress.live, self._run_id)
            fields["metrics"] = live.model_dump_json()
        await self._lease.write(Change(set=fields, bump=False), guard=STILL_WANTED)

    async def _finish(
        self, progress: ScoringProgress, harness: HarnessProcess, scoring: Mapping[str, Any]
    ) -> None:
        complete = progress.complete(blocks=scoring["final_blocks"], samples=scoring["expected_samples"])
        aggregate = await harness.aggregate(complete.scores)
        run = await self._parts.evaluations.get(f"/v1/evaluations/{self._run_id}")
        runtime = await asyncio.to_thread(progress.tally.report, read_telemetry(run))
        task = progress.plan.task.task
        metrics = progress.counted(self._run_id).model_copy(
            update={
                "state": ScoringState.FINAL,
                "quality": aggregate.metrics,
                "higher_is_better": aggregate.higher_is_better,
                "sample_metrics": [f"{task}.{key}" for key in complete.numeric],
                "not_finite": aggregate.not_finite,
                "runtime": runtime.metrics,
                "runtime_details": runtime.details,
                "finished_at": timestamp(),
            }
        )
        event = RunScored(
            run_id=self._run_id,
            samples=metrics.samples_scored + metrics.samples_failed,
            quality=metrics.quality,
            runtime=metrics.runtime,
        )
        change = Change(
            set={
                "state": ScoringState.FINAL.value,
                "active": False,
                "scored_blocks": progress.blocks,
                "metrics": metrics.model_dump_json(),
            },
            events=self._parts.events(event),
        )
        await self._lease.write(change, guard={**STILL_WANTED, "final_blocks": scoring["final_blocks"]})
        logger.info("run %s is scored: %d samples", self._run_id, event.samples)

    async def _fail(self, code: str, reason: str) -> None:
        logger.warning("run %s cannot be scored: %s: %s", self._run_id, code, reason)
        event = ScoringFailed(run_id=self._run_id, code=code, reason=reason)
        change = Change(
            set={
                "state": ScoringState.FAILED.value,
                "active": False,
                "failed_by": FailedBy.SCORING.value,
                "error": {"code": code, "message": reason},
            },
            events=self._parts.events(event),
        )
        await self._lease.write(change, guard=STILL_WANTED)

    async def _try_later(self, error: Exception) -> None:
        """Count an unexpected failure; give the run up after too many without a new block in between."""
        attempts = 1 + int((await self._document())["attempts"])
        if attempts >= self._parts.settings.scoring_tries:
            await self._fail("scoring-kept-failing", f"{attempts} tries; the last: {error}")
            return
        logger.warning("scoring of %s failed, try %d: %s", self._run_id, attempts, error)
        change = Change(set={"attempts": attempts, "retry_at": time.time() + 2.0 ** (attempts - 1)})
        await self._lease.write(change, guard=STILL_WANTED)
