"""The snapshots' documents, and how one becomes current."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import BinaryIO

from assay_chassis.identifiers import new_id
from assay_chassis.outbox import EventWriter
from assay_chassis.store import Change, Collection, Document, DuplicateKey, Index, Store
from assay_contracts.dataset_events import SnapshotDeleted, SnapshotReady
from dataset_svc.domain.datasets import Dataset
from dataset_svc.domain.snapshots import Snapshot, SnapshotContent, SnapshotListing, SnapshotRole, now
from dataset_svc.errors import SnapshotNotFound
from dataset_svc.store.datasets import DatasetStore
from dataset_svc.store.deletion import DELETION_INDEX, Deletions, is_alive
from dataset_svc.store.documents import plain, snapshot_of

_MOST_AT_ONCE = 100
_INDEXES = (
    Index(("dataset_id", "replaces", "digest", "split", "ingest_id"), unique=True),
    Index(("ingest_id",), sparse=True),
    Index(("fewshot_snapshot_id",), sparse=True),
    Index(("dataset_id", "sort_key")),
    Index(("digest",)),
    DELETION_INDEX,
)


@dataclass(frozen=True, slots=True)
class Publication:
    """What is to become a dataset's data.

    Attributes:
        content, file: the rows to evaluate on, and the canonical file with them.
        fewshot, fewshot_file: rows for few-shot examples that go with them.
        ingest_id: the job that has made them.
        still_wanted: raises when nobody wants them any more; asked before each try.
    """

    content: SnapshotContent
    file: BinaryIO
    fewshot: SnapshotContent | None = None
    fewshot_file: BinaryIO | None = None
    ingest_id: str | None = None
    still_wanted: Callable[[], Awaitable[None]] | None = None


class SnapshotStore:
    """Snapshots of the datasets in ``datasets``.

    A snapshot is registered in three steps, and a crash between them leaves the dataset as it was:

    1. its file, under the digest (looked after once more behind step 2, see ``removals``);
    2. its document, under the unique key (dataset, snapshot that it replaces, digest, split, job), so that
       the next attempt with the same content finds what this one left;
    3. the dataset's guarded write: the new current snapshot together with the event.

    A snapshot that lost a race for step 3 gets a new id, so that a dataset's snapshot ids always sort in the
    order in which they became current.

    Rows for few-shot examples go with steps 1 and 2, before the snapshot that names them.
    """

    def __init__(self, collection: Collection, *, datasets: DatasetStore, events: EventWriter) -> None:
        self.collection = collection
        self._datasets = datasets
        self._events = events
        self.deletions = Deletions(collection)

    @classmethod
    async def open(cls, store: Store, *, datasets: DatasetStore, events: EventWriter) -> "SnapshotStore":
        """The snapshots of this database, their indexes created."""
        return cls(await store.collection("snapshots", _INDEXES), datasets=datasets, events=events)

    async def snapshot(self, snapshot_id: str) -> Snapshot:
        """The snapshot.

        Raises:
            SnapshotNotFound: there is no such snapshot.
            BeingDeleted: it or its dataset is being deleted, or not.
        """
        document = await self.collection.get(snapshot_id)
        if document is None or not is_alive(document, f"snapshot {snapshot_id!r}"):
            raise SnapshotNotFound(snapshot_id)
        dataset = await self._datasets.collection.get(document["dataset_id"])
        if not is_alive(dataset, f"snapshot {snapshot_id!r}"):
            raise SnapshotNotFound(snapshot_id)
        return snapshot_of(document)

    async def delete(self, snapshot: Snapshot) -> None:
        """Delete a marked snapshot; the key by which the same upload is found again is free."""
        event = SnapshotDeleted(
            dataset_id=snapshot.dataset_id, snapshot_id=snapshot.id, digest=snapshot.digest
        )
        await self.deletions.delete(
            snapshot.id, frees={"replaces": f"deleted:{snapshot.id}"}, events=self._events(event)
        )

    async def documents_of(self, dataset_id: str) -> list[Document]:
        """Some documents of a dataset's snapshots, as they are stored."""
        return await self.collection.find_many({"dataset_id": dataset_id}, limit=_MOST_AT_ONCE)

    async def main_of(self, companion: Snapshot) -> str | None:
        """Id of a snapshot that takes its few-shot examples from ``companion``."""
        query = {"dataset_id": companion.dataset_id, "fewshot_snapshot_id": companion.id, "deletion": None}
        found = await self.collection.find_many(query, limit=1)
        return str(found[0]["_id"]) if found else None

    async def have_content(self, digest: str) -> bool:
        """Whether a snapshot that is not deleted has the content."""
        found = await self.collection.find_many({"digest": digest, "deletion": None}, limit=1)
        return bool(found)

    async def snapshots(self, dataset_id: str, *, cursor: str | None, limit: int) -> SnapshotListing:
        """Snapshots of a dataset, newest first."""
        page = await self.collection.page({"dataset_id": dataset_id}, cursor=cursor, limit=limit)
        return SnapshotListing([snapshot_of(document) for document in page.items], page.next_cursor)

    async def published_by(self, ingest_id: str) -> Snapshot | None:
        """The snapshot of a job, if it is or was its dataset's data."""
        for document in await self.collection.find_many({"ingest_id": ingest_id}, limit=_MOST_AT_ONCE):
            snapshot = snapshot_of(document)
            if snapshot.role is SnapshotRole.EVALUATION and await self._has_been_current(snapshot):
                return snapshot
        return None

    async def publish(
        self, dataset_id: str, publication: Publication, *, keep_files: Callable[[], Awaitable[None]]
    ) -> Snapshot:
        """Make rows the dataset's current snapshot; the present one if it has the same content.

        Args:
            dataset_id: the dataset.
            publication: the rows. The files themselves are stored already.
            keep_files: called when documents refer to the files; makes sure that they stay.

        Raises:
            DatasetNotFound: there is no such dataset.
            Exception: what ``publication.still_wanted`` raises.
        """
        while True:
            dataset = await self._datasets.dataset(dataset_id)
            if publication.still_wanted is not None:
                # After the dataset was read: whoever replaced this worker since then is seen by the guard.
                await publication.still_wanted()
            current = dataset.current_snapshot
            if current is not None and await self._has(current, publication):
                return current
            replaces = current.id if current else ""
            fewshot = None
            if publication.fewshot is not None:
                fewshot = await self._claim(dataset, publication.fewshot, publication, replaces=replaces)
            snapshot = await self._claim(
                dataset, publication.content, publication, replaces=replaces, fewshot=fewshot
            )
            await keep_files()
            if await self._make_current(snapshot, fewshot, replaces=replaces):
                return snapshot
            # Somebody else replaced the same snapshot first, perhaps with this very document.
            if not await self._has_been_current(snapshot):
                await self.collection.delete(snapshot.id)
                if fewshot is not None:
                    await self.collection.delete(fewshot.id)

    async def _has(self, current: Snapshot, publication: Publication) -> bool:
        if not current.has(publication.content):
            return False
        if publication.fewshot is None or current.fewshot_snapshot_id is None:
            return publication.fewshot is None and current.fewshot_snapshot_id is None
        companion = await self.collection.get(current.fewshot_snapshot_id)
        return companion is not None and snapshot_of(companion).has(publication.fewshot)

    async def _claim(
        self,
        dataset: Dataset,
        content: SnapshotContent,
        publication: Publication,
        *,
        replaces: str,
        fewshot: Snapshot | None = None,
    ) -> Snapshot:
        after = max(replaces, fewshot.id if fewshot else "")
        snapshot_id = new_id("snap")
        while snapshot_id <= after:  # created in the same millisecond, or by a clock that is ahead
            await asyncio.sleep(0.001)
            snapshot_id = new_id("snap")
        document = {
            "_id": snapshot_id,
            "sort_key": snapshot_id,
            "dataset_id": dataset.id,
            "dataset_name": dataset.name,
            # What is never current replaces nothing, but is told apart from what does.
            "replaces": replaces if content.role is SnapshotRole.EVALUATION else f"examples:{replaces}",
            "created_at": now(),
            **plain(content),
        }
        if publication.ingest_id is not None:
            document["ingest_id"] = publication.ingest_id
        if fewshot is not None:
            document["fewshot_snapshot_id"] = fewshot.id
        try:
            return snapshot_of(await self.collection.insert(document))
        except DuplicateKey:
            key = {name: document[name] for name in ("dataset_id", "replaces", "digest", "split")}
            found = await self.collection.find_one({**key, "ingest_id": publication.ingest_id})
            if found is None:  # dropped by the one who lost the race with it
                return await self._claim(dataset, content, publication, replaces=replaces, fewshot=fewshot)
            return snapshot_of(found)

    async def _make_current(self, snapshot: Snapshot, fewshot: Snapshot | None, *, replaces: str) -> bool:
        events = [_ready(each) for each in (fewshot, snapshot) if each is not None]
        change = Change(
            set={"current_snapshot": plain(snapshot), "current_snapshot_id": snapshot.id},
            events=self._events(*events),
        )
        guard = {"current_snapshot_id": replaces or None, "deletion": None}
        return await self._datasets.collection.update(snapshot.dataset_id, change, guard=guard)

    async def _has_been_current(self, snapshot: Snapshot) -> bool:
        dataset = await self._datasets.dataset(snapshot.dataset_id)
        if dataset.current_snapshot is not None and dataset.current_snapshot.id == snapshot.id:
            return True
        # What was current and is not any more has a successor, whose document was there before it took over.
        successor = {"dataset_id": snapshot.dataset_id, "replaces": snapshot.id}
        return await self.collection.find_one(successor) is not None


def _ready(snapshot: Snapshot) -> SnapshotReady:
    return SnapshotReady(
        dataset_id=snapshot.dataset_id,
        dataset_name=snapshot.dataset_name,
        snapshot_id=snapshot.id,
        digest=snapshot.digest,
        rows=snapshot.rows,
        columns={column.name: column.type for column in snapshot.columns},
        split=snapshot.split,
        role="fewshot" if snapshot.role is SnapshotRole.FEWSHOT else "evaluation",
        fewshot_snapshot_id=snapshot.fewshot_snapshot_id,
        source_kind="jsonl" if snapshot.source.kind == "jsonl" else "huggingface",
    )
