"""Runs: what the routes and the event handlers ask for."""

import base64
import binascii
from collections.abc import Mapping
from typing import Any

from assay_chassis.errors import Fault
from assay_chassis.identifiers import new_id
from assay_chassis.leases import is_free
from assay_chassis.outbox import EventWriter
from assay_chassis.store import Change, Document, DuplicateKey, Page
from assay_contracts.eval_events import (
    RunCancelled,
    RunFailed,
    RunQueued,
    RunSucceeded,
)
from assay_contracts.metrics_events import RunScored, RunSettled, ScoringFailed
from assay_contracts.work import RunRequested
from eval_svc.artifacts import ArtifactRegistry
from eval_svc.domain import (
    FINISHED,
    RESUMABLE,
    RunFilter,
    RunProgress,
    RunRequest,
    RunState,
    canonical_hash,
    is_settled,
    now,
    run_event,
    uses_of,
)
from eval_svc.errors import (
    IdempotencyKeyReused,
    InvalidCursor,
    UnknownBlock,
    UnknownInstanceLog,
    UnknownRun,
    WrongState,
)
from eval_svc.fleet import ServingFleet
from eval_svc.planning import Planner, power_figures
from eval_svc.store import EvalStore, SampleLog, run_query


class EvaluationService:
    """Everything about runs except carrying them out, which is the worker's part."""

    def __init__(
        self,
        *,
        store: EvalStore,
        events: EventWriter,
        planner: Planner,
        fleet: ServingFleet,
        artifacts: ArtifactRegistry,
    ) -> None:
        self._store = store
        self._artifacts = artifacts
        self._events = events
        self._planner = planner
        self._fleet = fleet

    async def backends(self) -> list[dict[str, Any]]:
        """What every configured adapter says of itself; one that does not answer is listed as unhealthy."""
        return await self._fleet.describe_all()

    async def preview(self, request: RunRequest) -> dict[str, Any]:
        """The effective plan of ``request`` with its ``power``; nothing is started.

        Raises as ``Planner.plan``.
        """
        plan = await self._plan(request)
        return {**plan, "power": power_figures(plan["task"]["document_count"])}

    async def _plan(self, request: RunRequest) -> dict[str, Any]:
        artifact = await self._artifacts.find(request.artifact_id)
        early_stop = request.options.early_stop
        baseline = await self._store.runs.get(early_stop.baseline_run_id) if early_stop else None
        return await self._planner.plan(request, artifact=artifact, baseline=baseline)

    async def start(
        self, request: RunRequest, *, client: str, idempotency_key: str | None, traceparent: str | None
    ) -> Document:
        """Queue a run with a frozen plan.

        The same ``idempotency_key`` of the same client gives the run that it gave before.

        Raises:
            IdempotencyKeyReused: the key was used for a different request.
            InvalidPlan, NotFound, Unavailable: as ``Planner.plan``; nothing was queued.
        """
        body_hash = canonical_hash(request.model_dump(mode="json"))
        key = f"{client}:{idempotency_key}" if idempotency_key else None
        if key and (earlier := await self._store.runs.find_one({"idempotency_key": key})):
            return _same_request(earlier, body_hash=body_hash)
        plan = await self._plan(request)
        run_id = new_id("run")
        document: Document = {
            "_id": run_id,
            "sort_key": run_id,
            "name": request.name or run_id,
            "state": RunState.QUEUED.value,
            "plan": plan,
            "dataset_id": plan["dataset"]["id"],
            "uses": uses_of(plan),
            "progress": RunProgress(plan).document(),
            "power": power_figures(plan["task"]["document_count"]),
            "serving": [],
            "ledger": None,
            "error": None,
            "quality": None,
            "runtime": None,
            "attempts": 0,
            "body_hash": body_hash,
            "traceparent": traceparent,
            "created_at": now(),
            "created_by": client,
            "started_at": None,
            "finished_at": None,
        }
        if key:
            document["idempotency_key"] = key
        events = self._events(run_event(RunQueued, document), RunRequested(run_id=run_id))
        try:
            return await self._store.runs.insert(document, events=events)
        except DuplicateKey:
            earlier = await self._store.runs.find_one({"idempotency_key": key})
            assert earlier is not None
            return _same_request(earlier, body_hash=body_hash)

    async def run(self, run_id: str) -> Document:
        """One run.

        Raises:
            UnknownRun: there is none of this id.
        """
        found = await self._store.runs.get(run_id)
        if found is None:
            raise UnknownRun(f"there is no run {run_id!r}")
        return found

    async def runs(self, wanted: RunFilter, *, cursor: str | None, limit: int) -> Page:
        """Runs, newest first; names of runs need not be unique."""
        return await self._store.runs.newest(run_query(wanted), prefix="run", cursor=cursor, limit=limit)

    async def cancel(self, run_id: str, *, client: str) -> Document:
        """Cancel a run: at once when nobody works on it, else as soon as its worker looks.

        Cancelling a cancelled run changes nothing.

        Raises:
            UnknownRun: there is none of this id.
            WrongState: the run has succeeded or failed.
        """

        def decide(run: Document) -> Change | None:
            state = RunState(run["state"])
            if state is RunState.CANCELLED or run.get("cancel_requested"):
                return None
            if state in FINISHED:
                raise WrongState(f"run {run_id} is {state.value}; there is nothing to cancel")
            if state is RunState.SCORING or is_free(run):
                return self.cancelled(run, by=client)
            return Change(set={"cancel_requested": {"by": client, "at": now()}})

        return await self._modify(run_id, decide)

    def cancelled(self, run: Document, *, by: str) -> Change:
        """The change that makes ``run`` Cancelled."""
        event = run_event(RunCancelled, run, cancelled_by=by)
        return Change(
            set={"state": RunState.CANCELLED.value, "finished_at": now()},
            unset=("cancel_requested",),
            events=self._events(event),
        )

    async def resume(self, run_id: str) -> Document:
        """Queue a failed or cancelled run again; its finished samples are kept.

        Raises:
            UnknownRun: there is none of this id.
            WrongState: the run is neither failed nor cancelled.
        """

        def decide(run: Document) -> Change:
            state = RunState(run["state"])
            if state not in RESUMABLE:
                raise WrongState(f"run {run_id} is {state.value}; only a Failed or Cancelled run is resumed")
            events = self._events(run_event(RunQueued, run), RunRequested(run_id=run_id))
            return Change(
                set={"state": RunState.QUEUED.value, "error": None, "finished_at": None},
                unset=("cancel_requested",),
                events=events,
            )

        return await self._modify(run_id, decide)

    async def samples(self, run_id: str, *, cursor: str | None, limit: int) -> Page:
        """Finished samples in the order of the log.

        Raises:
            UnknownRun: there is no such run.
            InvalidCursor: the cursor is not one that this list gave.
        """
        await self.run(run_id)
        block, offset = _read_cursor(cursor)
        log = SampleLog(self._store.blocks, run_id=run_id)
        items: list[Document] = []
        while len(items) < limit:
            document = await log.block(block)
            if document is None:
                return Page(items=items, next_cursor=None)
            part = document["samples"][offset : offset + limit - len(items)]
            items += part
            offset += len(part)
            if offset >= len(document["samples"]):
                block, offset = block + 1, 0
        more = await log.block(block) is not None
        return Page(items=items, next_cursor=_write_cursor(block, offset) if more else None)

    async def logs(self, run_id: str, *, instance_id: str | None) -> str:
        """What the engines of a run have logged: each instance's end, under a line with its id.

        With ``instance_id`` that one's alone, without the line. An instance that still serves has none yet.

        Raises:
            UnknownRun: there is no such run.
            UnknownInstanceLog: it keeps no log of that instance.
        """
        run = await self.run(run_id)
        if instance_id is not None:
            log = await self._store.instance_log(run_id, instance_id)
            if log is None:
                raise UnknownInstanceLog(f"run {run_id} keeps no log of an instance {instance_id!r}")
            return log.text
        parts = []
        for record in run["serving"]:
            log = await self._store.instance_log(run_id, record["instance_id"])
            if log is not None:
                cut = ", its end" if log.is_cut else ""
                parts.append(f"==> instance {record['instance_id']}{cut} <==\n{log.text.rstrip()}\n")
        return "\n".join(parts)

    async def block(self, run_id: str, block: int) -> Document:
        """One block of the sample log.

        Raises:
            UnknownBlock: there is none of this number.
        """
        found = await SampleLog(self._store.blocks, run_id=run_id).block(block)
        if found is None:
            raise UnknownBlock(f"run {run_id!r} has no block {block}")
        return found

    async def record_scores(self, event: RunScored) -> None:
        """metrics-svc has the final metrics: the run has succeeded. Harmless when told twice or too late."""

        def decide(run: Document) -> Change | None:
            if run["state"] != RunState.SCORING:
                return None
            succeeded = run_event(
                RunSucceeded,
                run,
                samples=run["progress"]["samples_done"],
                failed_samples=run["progress"]["samples_failed"],
                quality=event.quality,
                runtime=event.runtime,
                canonical=run["plan"]["canonical"],
            )
            return Change(
                set={
                    "state": RunState.SUCCEEDED.value,
                    "quality": [[name, value] for name, value in event.quality.items()],
                    "runtime": event.runtime,
                    "finished_at": now(),
                },
                events=self._events(succeeded),
            )

        await self._store.runs.modify(event.run_id, decide)

    async def record_settlement(self, event: RunSettled) -> None:
        """A look of the run has decided: its worker ends it as soon as it looks.

        Harmless when told twice or too late. A run that is cancelled or has failed meanwhile remembers it,
        so that it ends at once when it is resumed.
        """

        def decide(run: Document) -> Change | None:
            is_complete = run["state"] in (RunState.SCORING, RunState.SUCCEEDED)
            if is_complete or is_settled(run) or "early_stop" not in run["plan"]:
                return None
            settled = {"look": event.look, "samples": event.samples, "outcome": event.outcome}
            return Change(set={"settled": settled})

        await self._store.runs.modify(event.run_id, decide)

    async def record_scoring_failure(self, event: ScoringFailed) -> None:
        """metrics-svc cannot score the run: it has failed. Harmless when told twice or too late."""

        def decide(run: Document) -> Change | None:
            if run["state"] != RunState.SCORING:
                return None
            return self.failed(run, code=event.code, reason=event.reason)

        await self._store.runs.modify(event.run_id, decide)

    def failed(self, run: Document, *, code: str, reason: str) -> Change:
        """The change that makes ``run`` Failed."""
        event = run_event(RunFailed, run, code=code, reason=reason)
        return Change(
            set={
                "state": RunState.FAILED.value,
                "error": {"code": code, "message": reason},
                "finished_at": now(),
            },
            events=self._events(event),
        )

    async def _modify(self, run_id: str, decide: Any) -> Document:
        found = await self._store.runs.modify(run_id, decide)
        if found is None:
            raise UnknownRun(f"there is no run {run_id!r}")
        return found


def _same_request(run: Document, *, body_hash: str) -> Document:
    if run["body_hash"] != body_hash:
        raise IdempotencyKeyReused(
            f"this Idempotency-Key started run {run['_id']} with a different request; use a new key"
        )
    return run


def _write_cursor(block: int, offset: int) -> str:
    return base64.urlsafe_b64encode(f"{block}:{offset}".encode()).decode()


def _read_cursor(cursor: str | None) -> tuple[int, int]:
    if cursor is None:
        return 0, 0
    try:
        block, offset = base64.urlsafe_b64decode(cursor).decode().split(":")
        return int(block), int(offset)
    except (binascii.Error, ValueError) as error:
        message = "this cursor is not one that the list gave; start again without it"
        raise InvalidCursor(message, faults=[Fault(message, field="cursor")]) from error


def quality_of(run: Mapping[str, Any]) -> dict[str, float | None] | None:
    """The quality metrics of a stored run. They are stored as pairs: their names contain dots."""
    pairs = run.get("quality")
    return None if pairs is None else dict(pairs)
