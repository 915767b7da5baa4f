"""The worker: takes queued and abandoned runs under a lease and carries them out.

A message on ``assay.work.run`` only wakes it. What needs work is read from the runs themselves, so a lost
message costs one sweep interval, and a dead worker's run is taken when its lease lapses.
"""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from assay_chassis.errors import ServiceError, Unavailable
from assay_chassis.leases import Lease, LeaseLost, acquire, is_free
from assay_chassis.outbox import EventWriter
from assay_chassis.store import Change, Document
from assay_chassis.telemetry import Telemetry
from assay_contracts.eval_events import (
    RunProvisioning,
    RunResponded,
    RunStarted,
    SamplesCompleted,
)
from assay_harness.errors import HarnessError, HarnessProcessDied
from eval_svc.domain import NEEDS_WORKER, RunOptions, RunState, now, run_event
from eval_svc.engine import Engine
from eval_svc.errors import RunFailure
from eval_svc.fleet import ServingFleet
from eval_svc.planning import Planner
from eval_svc.service import EvaluationService
from eval_svc.serving import ServingSession, ServingTerms
from eval_svc.settings import Settings
from eval_svc.store import EvalStore, SampleLog

logger = logging.getLogger(__name__)

STILL_OURS = {"state": {"$in": [state.value for state in NEEDS_WORKER]}}
"""Guard: nobody has ended the run behind the worker's back."""


@dataclass(frozen=True, slots=True)
class WorkerParts:
    """What a worker works with."""

    settings: Settings
    store: EvalStore
    events: EventWriter
    planner: Planner
    fleet: ServingFleet
    service: EvaluationService
    telemetry: Telemetry


class _Cancelled(Exception):
    """Somebody asked for the run to be cancelled."""


class Worker:
    """Executes up to ``worker_slots`` runs at a time."""

    def __init__(self, parts: WorkerParts) -> None:
        self._parts = parts
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._wakeup = asyncio.Event()
        self._running: dict[str, asyncio.Task[None]] = {}

    def wake(self) -> None:
        """Look for work now."""
        self._wakeup.set()

    async def run(self) -> None:
        """Take and carry out runs until cancelled; then give their leases back."""
        try:
            while True:
                self._wakeup.clear()
                try:
                    await self._take_runs()
                except Unavailable as error:
                    logger.warning("worker waits: %s", error)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._parts.settings.sweep_interval_s):
                        await self._wakeup.wait()
        finally:
            for task in self._running.values():
                task.cancel()
            await asyncio.gather(*self._running.values(), return_exceptions=True)

    async def _take_runs(self) -> None:
        free = self._parts.settings.worker_slots - len(self._running)
        if free <= 0:
            return
        for run in await self._parts.store.waiting_runs(limit=50):
            if free == 0:
                return
            if run["_id"] in self._running or not is_free(run):
                continue
            lease = await acquire(
                self._parts.store.runs, run, owner=self._owner, duration=self._parts.settings.lease_s
            )
            if lease is None:
                continue
            free -= 1
            task = asyncio.create_task(self._carry_out(lease))
            self._running[run["_id"]] = task
            task.add_done_callback(partial(self._done, run["_id"]))

    def _done(self, run_id: str, task: asyncio.Task[None]) -> None:
        self._running.pop(run_id, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("run %s was dropped", run_id, exc_info=error)
        self.wake()

    async def _carry_out(self, lease: Lease) -> None:
        run = await self._parts.service.run(lease.document_id)
        with self._parts.telemetry.span(
            "carry out run", traceparent=run.get("traceparent"), attributes={"assay.run": lease.document_id}
        ):
            execution = RunExecution(self._parts, lease=lease, run=run)
            logger.info("run %s taken, token %d", lease.document_id, lease.token)
            try:
                await self._beside_heartbeat(lease, execution.execute)
            except LeaseLost as error:
                logger.warning("run %s: %s", lease.document_id, error)
            except Unavailable as error:
                logger.warning("run %s is put back: %s", lease.document_id, error)
            else:
                logger.info("run %s is done here", lease.document_id)
            finally:
                with suppress(Unavailable):
                    await lease.release()

    async def _beside_heartbeat(self, lease: Lease, work: Callable[[], Awaitable[None]]) -> None:
        """Do ``work`` while the lease is renewed; end it when the lease is lost or the run is cancelled."""
        working = asyncio.ensure_future(work())
        beating = asyncio.create_task(self._beat(lease))
        try:
            await asyncio.wait((working, beating), return_when=asyncio.FIRST_COMPLETED)
            if working.done():
                working.result()
                return
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)
            try:
                beating.result()
            except _Cancelled as request:
                run = await self._parts.service.run(lease.document_id)
                if run["state"] != RunState.CANCELLED:
                    await lease.write(self._parts.service.cancelled(run, by=str(request)))
        finally:
            for task in (working, beating):
                task.cancel()
            await asyncio.gather(working, beating, return_exceptions=True)

    async def _beat(self, lease: Lease) -> None:
        while True:
            run = await self._parts.service.run(lease.document_id)
            if request := run.get("cancel_requested"):
                raise _Cancelled(request["by"])
            if run["state"] == RunState.CANCELLED:
                raise LeaseLost(f"run {lease.document_id} was cancelled")
            await asyncio.sleep(self._parts.settings.lease_s / 4)
            await lease.renew()


class RunExecution:
    """One worker's attempt at one run."""

    def __init__(self, parts: WorkerParts, *, lease: Lease, run: Document) -> None:
        self._parts = parts
        self._lease = lease
        self._run = run
        self._run_id: str = run["_id"]
        self._log = SampleLog(parts.store.blocks, run_id=self._run_id)
        self._next_block = 0
        self._done = 0
        self._failed = 0

    async def execute(self) -> None:
        """Go from wherever the run is to Scoring, or to Failed.

        Raises:
            LeaseLost: another worker has the run.
            Unavailable: the store or a peer stays away; the run is left for the next attempt.
        """
        try:
            await self._respond()
        except RunFailure as failure:
            await self._fail(failure.code, failure.reason)
        except HarnessProcessDied as error:
            raise Unavailable(str(error)) from error
        except HarnessError as error:
            await self._fail("harness-error", str(error))
        except (LeaseLost, Unavailable):
            raise
        except ServiceError as error:
            await self._fail(error.slug, error.detail)
        except Exception as error:
            logger.exception("run %s failed unexpectedly", self._run_id)
            await self._fail("internal-error", f"{type(error).__name__}: {error}")

    async def _fail(self, code: str, reason: str) -> None:
        run = await self._parts.service.run(self._run_id)
        await self._lease.write(self._parts.service.failed(run, code=code, reason=reason))

    async def _respond(self) -> None:
        blocks, finished, self._failed = await self._log.summary()
        self._next_block, self._done = blocks, len(finished)
        total = self._run["progress"]["samples_total"]
        if self._done < total:
            await self._enter_provisioning()
            async with (
                self._parts.planner.open_harness(self._run["plan"]["harness"]) as harness,
                self._serving() as serving,
            ):
                await Engine(
                    harness=harness,
                    serving=serving,
                    options=RunOptions.model_validate(self._run["plan"]["options"]),
                    finished=finished,
                    append=self._append,
                    block_samples=self._parts.settings.block_samples,
                    block_interval=self._parts.settings.block_interval_s,
                ).run()
        if self._done != total:
            raise RunFailure("samples-missing", f"{self._done} of {total} samples are in the log")
        await self._enter_scoring()

    def _serving(self) -> ServingSession:
        settings = self._parts.settings
        plan = self._run["plan"]
        return ServingSession(
            fleet=self._parts.fleet,
            artifact=plan["artifact"],
            terms=ServingTerms(
                idempotency_key=f"{self._run_id}:{self._lease.token}",
                resources=plan["options"]["serving"],
                concurrency=plan["options"]["concurrency"],
                lease_s=settings.serving_lease_s,
                ready_timeout_s=settings.serving_ready_timeout_s,
                attempts=settings.serving_attempts,
                labels={"run": self._run_id},
            ),
            on_ready=self._enter_running,
            on_closed=self._record_instance,
        )

    async def _append(self, samples: list[dict[str, Any]]) -> None:
        failed = sum(sample["status"] == "failed" for sample in samples)
        event = SamplesCompleted(
            run_id=self._run_id, block=self._next_block, samples=len(samples), failed_samples=failed
        )
        await self._log.append(self._next_block, samples, events=self._parts.events(event))
        self._next_block += 1
        self._done += len(samples)
        self._failed += failed
        progress = {"progress.samples_done": self._done, "progress.samples_failed": self._failed}
        await self._lease.write(Change(set=progress, bump=False))

    async def _enter_provisioning(self) -> None:
        event = run_event(RunProvisioning, self._run)
        await self._lease.write(
            Change(
                set={
                    "state": RunState.PROVISIONING.value,
                    "started_at": self._run["started_at"] or now(),
                    "progress.samples_done": self._done,
                    "progress.samples_failed": self._failed,
                },
                increment={"attempts": 1},
                events=self._parts.events(event),
            ),
            guard=STILL_OURS,
        )

    async def _enter_running(self, instance: dict[str, Any]) -> None:
        event = run_event(RunStarted, self._run, instance_id=instance["instance_id"])
        await self._lease.write(
            Change(
                set={"state": RunState.RUNNING.value},
                push={"serving": instance},
                events=self._parts.events(event),
            ),
            guard=STILL_OURS,
        )

    async def _record_instance(self, instance_id: str, usage: dict[str, Any]) -> None:
        """Keep what the instance's telemetry measured, beside its provenance."""
        run = await self._parts.service.run(self._run_id)
        for position, instance in enumerate(run["serving"]):
            if instance["instance_id"] == instance_id:
                change = Change(set={f"serving.{position}.telemetry": usage}, bump=False)
                await self._lease.write(change)

    async def _enter_scoring(self) -> None:
        event = run_event(
            RunResponded,
            self._run,
            blocks=self._next_block,
            samples=self._done,
            failed_samples=self._failed,
        )
        await self._lease.write(
            Change(
                set={
                    "state": RunState.SCORING.value,
                    "progress.samples_done": self._done,
                    "progress.samples_failed": self._failed,
                },
                events=self._parts.events(event),
            ),
            guard=STILL_OURS,
        )
