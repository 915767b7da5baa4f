"""Ingest jobs and how they go on."""

from dataclasses import asdict
from datetime import datetime
from typing import Any

from assay_chassis.leases import Lease, is_free
from assay_chassis.outbox import EventWriter
from assay_chassis.store import Change, Collection, Document, Index, Store
from assay_contracts.dataset_events import IngestCancelled, IngestFailed
from assay_contracts.work import IngestRequested
from dataset_svc.domain.ingests import (
    ACTIVE,
    Failure,
    HubSource,
    Ingest,
    IngestListing,
    IngestState,
    Phase,
    Progress,
)
from dataset_svc.domain.snapshots import now
from dataset_svc.errors import IngestNotFound, IngestOver

_INDEXES = (Index(("dataset_id", "sort_key")), Index(("is_active",), sparse=True))
_STILL_ACTIVE = {"state": {"$in": [state.value for state in ACTIVE]}}
"""Guard: nobody has ended the job behind the worker's back."""


class IngestStore:
    """Jobs. A job that is over never changes again."""

    def __init__(self, collection: Collection, *, events: EventWriter) -> None:
        self.collection = collection
        self._events = events

    @classmethod
    async def open(cls, store: Store, *, events: EventWriter) -> "IngestStore":
        """The jobs of this database, their indexes created."""
        return cls(await store.collection("ingests", _INDEXES), events=events)

    async def add(self, job: Ingest) -> None:
        """Queue a job and tell the workers."""
        document = {
            "_id": job.id,
            "sort_key": job.id,
            "dataset_id": job.dataset_id,
            "state": job.state.value,
            "is_active": True,
            "source": asdict(job.source),
            "commit": None,
            "progress": asdict(job.progress),
            "error": None,
            "snapshot_id": None,
            "attempts": 0,
            "created_at": job.created_at,
            "started_at": None,
            "finished_at": None,
        }
        await self.collection.insert(document, events=self._events(IngestRequested(ingest_id=job.id)))

    async def ingest(self, ingest_id: str) -> Ingest:
        """The job; raises IngestNotFound."""
        return ingest_of(await self.document(ingest_id))

    async def document(self, ingest_id: str) -> Document:
        """The job as it is stored; raises IngestNotFound."""
        document = await self.collection.get(ingest_id)
        if document is None:
            raise IngestNotFound(ingest_id)
        return document

    async def some(self, ingest_ids: list[str]) -> dict[str, Ingest]:
        """Those of the jobs that there are, by id."""
        found = await self.collection.find_many({"_id": {"$in": ingest_ids}}, limit=len(ingest_ids) or 1)
        return {document["_id"]: ingest_of(document) for document in found}

    async def ingests(self, dataset_id: str, *, cursor: str | None, limit: int) -> IngestListing:
        """Jobs of a dataset, newest first."""
        page = await self.collection.page({"dataset_id": dataset_id}, cursor=cursor, limit=limit)
        return IngestListing([ingest_of(document) for document in page.items], page.next_cursor)

    async def active(self, limit: int) -> list[Document]:
        """Jobs that need a worker, the oldest first."""
        return await self.collection.find_many({"is_active": True}, order_by="_id", limit=limit)

    async def request_cancel(self, ingest_id: str, *, by: str) -> Ingest:
        """Cancel a job that nobody works on; ask the worker of any other to end it.

        Raises:
            IngestNotFound: there is no such job.
            IngestOver: it has succeeded or failed.
        """

        def decide(document: Document) -> Change | None:
            job = ingest_of(document)
            if job.state is IngestState.CANCELLED or document.get("cancel_requested_by"):
                return None
            if job.is_over:
                raise IngestOver(ingest_id, state=job.state)
            if is_free(document):
                return self.cancelled(job, by=by)
            return Change(set={"cancel_requested_by": by})

        document = await self.collection.modify(ingest_id, decide)
        if document is None:
            raise IngestNotFound(ingest_id)
        return ingest_of(document)

    async def start_attempt(self, lease: Lease, *, started_at: datetime | None) -> None:
        """Another attempt begins; raises LeaseLost."""
        change = Change(
            set={
                "state": IngestState.RUNNING.value,
                "started_at": started_at or now(),
                "progress": asdict(Progress()),
            },
            increment={"attempts": 1},
        )
        await lease.write(change, guard=_STILL_ACTIVE)

    async def take_back_attempt(self, lease: Lease) -> None:
        """Do not count an attempt; raises LeaseLost."""
        await lease.write(Change(increment={"attempts": -1}))

    async def record(self, lease: Lease, progress: Progress, *, commit: str | None) -> None:
        """Keep how far the attempt is, and what the revision stands for; raises LeaseLost."""
        known = {} if commit is None else {"commit": commit}
        await lease.write(Change(set={"progress": asdict(progress), **known}, bump=False))

    async def succeed(self, lease: Lease, *, snapshot_id: str) -> None:
        """The job has made, or found, this snapshot; raises LeaseLost."""
        change = _over(IngestState.SUCCEEDED, {"snapshot_id": snapshot_id, "error": None})
        await lease.write(change, guard=_STILL_ACTIVE)

    async def fail(self, lease: Lease, job: Ingest, failure: Failure) -> None:
        """The job cannot be done; raises LeaseLost."""
        event = IngestFailed(
            ingest_id=job.id, dataset_id=job.dataset_id, code=failure.code, message=failure.message
        )
        error = {**asdict(failure), "hints": list(failure.hints)}
        change = _over(IngestState.FAILED, {"error": error}, events=self._events(event))
        await lease.write(change, guard=_STILL_ACTIVE)

    async def cancel(self, lease: Lease, job: Ingest, *, by: str) -> None:
        """The job's work has ended because somebody wanted it; raises LeaseLost."""
        await lease.write(self.cancelled(job, by=by), guard=_STILL_ACTIVE)

    def cancelled(self, job: Ingest, *, by: str) -> Change:
        """What makes a job a cancelled one."""
        event = IngestCancelled(ingest_id=job.id, dataset_id=job.dataset_id, cancelled_by=by)
        return _over(IngestState.CANCELLED, {}, events=self._events(event))


def _over(state: IngestState, fields: dict[str, Any], *, events: Any = ()) -> Change:
    return Change(
        set={"state": state.value, "finished_at": now(), **fields}, unset=("is_active",), events=events
    )


def ingest_of(document: Document) -> Ingest:
    """The job of a document."""
    error = document["error"]
    progress = document["progress"]
    return Ingest(
        id=document["_id"],
        dataset_id=document["dataset_id"],
        state=IngestState(document["state"]),
        source=HubSource(**document["source"]),
        created_at=document["created_at"],
        commit=document["commit"],
        progress=Progress(**{**progress, "phase": Phase(progress["phase"])}),
        error=Failure(error["code"], error["message"], tuple(error["hints"])) if error else None,
        snapshot_id=document["snapshot_id"],
        started_at=document["started_at"],
        finished_at=document["finished_at"],
    )
