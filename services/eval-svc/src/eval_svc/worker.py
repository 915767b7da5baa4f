"""What a worker does with a run: takes it under a lease and carries it out."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from assay_chassis.errors import ServiceError, Unavailable
from assay_chassis.leased_work import LeasedWorker, StopWork
from assay_chassis.leases import Lease, LeaseLost
from assay_chassis.outbox import EventWriter
from assay_chassis.store import Change, Document
from assay_chassis.tasks import end
from assay_chassis.telemetry import Telemetry
from assay_contracts.eval_events import (
    RunProvisioning,
    RunResponded,
    RunStarted,
    SamplesCompleted,
)
from assay_evidence.statistics.sequential import evaluation_order
from assay_harness.errors import HarnessError, HarnessProcessDied
from eval_svc.artifacts import ArtifactRegistry
from eval_svc.domain import NEEDS_WORKER, RunOptions, RunProgress, RunState, is_settled, now, run_event
from eval_svc.engine import Engine
from eval_svc.errors import RunFailure
from eval_svc.fleet import ServingFleet
from eval_svc.leased_instance import ClosedInstance
from eval_svc.ledger import run_ledger
from eval_svc.planning import Planner
from eval_svc.service import EvaluationService
from eval_svc.serving import ServingSession, ServingTerms
from eval_svc.settings import Settings
from eval_svc.store import EvalStore, LogSummary, SampleLog

logger = logging.getLogger(__name__)

First = TypeVar("First")
Second = TypeVar("Second")

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
    artifacts: ArtifactRegistry
    service: EvaluationService
    telemetry: Telemetry


def worker_of(parts: WorkerParts) -> LeasedWorker:
    """The loop that executes up to ``worker_slots`` runs at a time."""

    executions: dict[str, RunExecution] = {}

    async def carry_out(lease: Lease) -> None:
        run = await parts.service.run(lease.document_id)
        execution = executions[lease.document_id] = RunExecution(parts, lease=lease, run=run)
        try:
            with parts.telemetry.span(
                "carry out run",
                traceparent=run.get("traceparent"),
                attributes={"assay.run": lease.document_id},
            ):
                await execution.execute()
        finally:
            executions.pop(lease.document_id)

    async def check(lease: Lease) -> None:
        """End the work on a run that somebody has cancelled, or wants to; tell it when it is settled."""
        run = await parts.service.run(lease.document_id)
        if is_settled(run) and (execution := executions.get(lease.document_id)):
            execution.settle(run["settled"])
        if run["state"] == RunState.CANCELLED:
            raise LeaseLost(f"run {lease.document_id} was cancelled")
        if request := run.get("cancel_requested"):
            raise StopWork("cancel requested", then=partial(cancel, lease, request["by"]))

    async def cancel(lease: Lease, by: str) -> None:
        run = await parts.service.run(lease.document_id)
        if run["state"] != RunState.CANCELLED:
            await lease.write(parts.service.cancelled(run, by=by))

    return LeasedWorker(
        name="eval-worker",
        collection=parts.store.runs,
        find=lambda limit: parts.store.waiting_runs(limit=limit),
        carry_out=carry_out,
        check=check,
        slots=parts.settings.worker_slots,
        lease_s=parts.settings.lease_s,
        sweep_s=parts.settings.sweep_interval_s,
    )


@asynccontextmanager
async def _at_once(
    first: AbstractAsyncContextManager[First], second: AbstractAsyncContextManager[Second]
) -> AsyncIterator[tuple[First, Second]]:
    """Enter two contexts beside each other, since either may take long; leave both whatever happens."""
    async with AsyncExitStack() as stack:
        entering = (
            asyncio.ensure_future(stack.enter_async_context(first)),
            asyncio.ensure_future(stack.enter_async_context(second)),
        )
        try:
            await asyncio.gather(*entering)
        except BaseException:
            for each in entering:
                each.cancel()
            await asyncio.gather(*entering, return_exceptions=True)
            raise
        yield entering[0].result(), entering[1].result()


class RunExecution:
    """One worker's attempt at one run."""

    def __init__(self, parts: WorkerParts, *, lease: Lease, run: Document) -> None:
        self._parts = parts
        self._lease = lease
        self._run = run
        self._run_id: str = run["_id"]
        self._log = SampleLog(parts.store.blocks, run_id=self._run_id)
        self._next_block = 0
        self._progress = RunProgress(run["plan"])
        self._settlement: Mapping[str, Any] | None = run.get("settled")
        self._is_settled = asyncio.Event()
        if is_settled(run):
            self._is_settled.set()

    def settle(self, settlement: Mapping[str, Any]) -> None:
        """A look has decided: send nothing more, and end with the samples that there are."""
        self._settlement = settlement
        self._is_settled.set()

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
        summary = await self._log.summary()
        self._count(summary)
        await self._close_abandoned()
        if self._progress.done < self._progress.total and not self._is_settled.is_set():
            await self._enter_provisioning()
            serving = await self._serving()
            opening = self._parts.planner.open_harness(self._run["plan"]["harness"])
            async with _at_once(opening, serving) as (harness, _):
                engine = Engine(
                    harness=harness,
                    serving=serving,
                    options=RunOptions.model_validate(self._run["plan"]["options"]),
                    finished=summary.finished,
                    append=self._append,
                    block_samples=self._parts.settings.block_samples,
                    block_interval=self._parts.settings.block_interval_s,
                    order=_planned_order(self._run["plan"]),
                )
                await self._send(engine)
        stopped_early = None
        if self._progress.done < self._progress.total and self._settlement is not None:
            # Blocks may still be on their way, from here or from a worker that was overtaken.
            self._count(await self._log.seal())
            is_partial = self._progress.done < self._progress.total
            stopped_early = dict(self._settlement) if is_partial else None
        elif self._progress.done != self._progress.total:
            found = f"{self._progress.done} of {self._progress.total} samples are in the log"
            raise RunFailure("samples-missing", found)
        await self._enter_scoring(stopped_early)

    def _count(self, summary: LogSummary) -> None:
        """Begin counting at what the log has."""
        self._next_block = summary.blocks
        self._progress = RunProgress(self._run["plan"])
        self._progress.add(finished=summary.finished, failed=summary.failed)

    async def _send(self, engine: Engine) -> None:
        """Run the engine until it is through, or until the run is settled."""
        sending = asyncio.create_task(engine.run())
        settled = asyncio.create_task(self._wait_settled())
        try:
            await asyncio.wait((sending, settled), return_when=asyncio.FIRST_COMPLETED)
        finally:
            await end(settled, sending)

    async def _wait_settled(self) -> None:
        await self._is_settled.wait()
        logger.info("run %s is settled: %s", self._run_id, self._settlement)

    async def _close_abandoned(self) -> None:
        """Write down what can still be had of instances whose worker died."""
        abandoned = [each for each in self._run["serving"] if each.get("ended", "not recorded") is None]
        if abandoned:
            serving = await self._serving()
            for record in abandoned:
                await self._record_instance(await serving.close_abandoned(record))

    async def _serving(self) -> ServingSession:
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
                owner=self._run_id,
                fencing_token=self._lease.token,
                calibrates=settings.calibrate_serving,
                endpoint_key=await self._parts.artifacts.endpoint_key(plan["artifact"]),
            ),
            on_accepted=self._record_accepted,
            on_ready=self._enter_running,
            on_closed=self._record_instance,
        )

    async def _append(self, samples: list[dict[str, Any]]) -> None:
        failed = {sample["index"] for sample in samples if sample["status"] == "failed"}
        event = SamplesCompleted(
            run_id=self._run_id, block=self._next_block, samples=len(samples), failed_samples=len(failed)
        )
        await self._log.append(self._next_block, samples, events=self._parts.events(event))
        self._next_block += 1
        touched = self._progress.add(finished=[sample["index"] for sample in samples], failed=failed)
        await self._lease.write(Change(set=self._progress.changes(touched), bump=False))

    async def _enter_provisioning(self) -> None:
        event = run_event(RunProvisioning, self._run)
        await self._lease.write(
            Change(
                set={
                    "state": RunState.PROVISIONING.value,
                    "started_at": self._run["started_at"] or now(),
                    "progress": self._progress.document(),
                },
                increment={"attempts": 1},
                events=self._parts.events(event),
            ),
            guard=STILL_OURS,
        )

    async def _record_accepted(self, instance: dict[str, Any]) -> None:
        """From now on the instance costs something: whoever takes the run over has to know of it."""
        await self._lease.write(Change(push={"serving": instance}, bump=False), guard=STILL_OURS)

    async def _enter_running(self, instance: dict[str, Any]) -> None:
        event = run_event(RunStarted, self._run, instance_id=instance["instance_id"])
        await self._lease.write(
            Change(
                set={"state": RunState.RUNNING.value, "serving": await self._serving_with(instance)},
                events=self._parts.events(event),
            ),
            guard=STILL_OURS,
        )

    async def _record_instance(self, closed: ClosedInstance) -> None:
        """Keep what an instance leaves behind, and add up what the run's instances have cost."""
        record = closed.record
        if closed.had_room and closed.log is not None and closed.log.text:
            await self._parts.store.keep_instance_log(
                self._run_id, record["instance_id"], log=closed.log, at=now()
            )
        serving = await self._serving_with(record, is_kept=closed.had_room)
        await self._lease.write(Change(set={"serving": serving, "ledger": run_ledger(serving)}, bump=False))

    async def _serving_with(
        self, record: Mapping[str, Any], *, is_kept: bool = True
    ) -> list[Mapping[str, Any]]:
        """The run's serving records with this one in its place, or without it. Only one is open at a time."""
        run = await self._parts.service.run(self._run_id)
        others = [each for each in run["serving"] if each["instance_id"] != record["instance_id"]]
        return [*others, record] if is_kept else others

    async def _enter_scoring(self, stopped_early: dict[str, Any] | None) -> None:
        named = {f"early_stop_{name}": value for name, value in (stopped_early or {}).items()}
        event = run_event(
            RunResponded,
            self._run,
            blocks=self._next_block,
            samples=self._progress.done,
            failed_samples=self._progress.failed,
            **named,
        )
        await self._lease.write(
            Change(
                set={
                    "state": RunState.SCORING.value,
                    "stopped_early": stopped_early,
                    "progress": self._progress.document(),
                },
                events=self._parts.events(event),
            ),
            guard=STILL_OURS,
        )


def _planned_order(plan: Mapping[str, Any]) -> list[int] | None:
    """Indexes of the documents in the order in which the plan has them sent; ``None``: lm-eval's own."""
    part = plan.get("early_stop")
    if part is None:
        return None
    order: list[int] = evaluation_order(part["planned_samples"], part["order_seed"]).tolist()
    return order
