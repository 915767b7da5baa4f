"""The snapshots' documents, and how one becomes current."""

import asyncio
from collections.abc import Awaitable, Callable

from assay_chassis.identifiers import new_id
from assay_chassis.outbox import EventWriter
from assay_chassis.store import Change, Collection, Document, DuplicateKey, Index, Store
from assay_contracts.dataset_events import SnapshotDeleted, SnapshotReady
from dataset_svc.domain.datasets import Dataset
from dataset_svc.domain.snapshots import Snapshot, SnapshotContent, SnapshotListing, now
from dataset_svc.errors import SnapshotNotFound
from dataset_svc.store.datasets import DatasetStore
from dataset_svc.store.deletion import DELETION_INDEX, Deletions, is_alive
from dataset_svc.store.documents import plain, snapshot_of

_MOST_AT_ONCE = 100
_INDEXES = (
    Index(("dataset_id", "replaces", "digest", "split"), unique=True),
    Index(("dataset_id", "sort_key")),
    Index(("digest",)),
    DELETION_INDEX,
)


class SnapshotStore:
    """Snapshots of the datasets in ``datasets``.

    A snapshot is registered in three steps, and a crash between them leaves the dataset as it was:

    1. its file, under the digest (looked after once more behind step 2, see ``removals``);
    2. its document, under the unique key (dataset, snapshot that it replaces, digest, split), so that the
       next attempt with the same content finds what this one left;
    3. the dataset's guarded write: the new current snapshot together with the event.

    A snapshot that lost a race for step 3 gets a new id, so that a dataset's snapshot ids always sort in the
    order in which they became current.
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

    async def publish(
        self, dataset_id: str, content: SnapshotContent, *, keep_file: Callable[[], Awaitable[None]]
    ) -> Snapshot:
        """Make ``content`` the dataset's current snapshot; the present one if it has the same content.

        Args:
            dataset_id: the dataset.
            content: what the file holds. The file itself is stored already.
            keep_file: called when a document refers to the file; makes sure that it stays.

        Raises:
            DatasetNotFound: there is no such dataset.
        """
        while True:
            dataset = await self._datasets.dataset(dataset_id)
            current = dataset.current_snapshot
            if current is not None and current.has(content):
                return current
            replaces = current.id if current else ""
            snapshot = await self._claim(dataset, content, replaces=replaces)
            await keep_file()
            if await self._make_current(snapshot, replaces=replaces):
                return snapshot
            # Somebody else replaced the same snapshot first, perhaps with this very document.
            await self._drop_if_never_current(snapshot)

    async def _claim(self, dataset: Dataset, content: SnapshotContent, *, replaces: str) -> Snapshot:
        snapshot_id = new_id("snap")
        while snapshot_id <= replaces:  # created in the same millisecond, or by a clock that is ahead
            await asyncio.sleep(0.001)
            snapshot_id = new_id("snap")
        document = {
            "_id": snapshot_id,
            "sort_key": snapshot_id,
            "dataset_id": dataset.id,
            "dataset_name": dataset.name,
            "replaces": replaces,
            "created_at": now(),
            **plain(content),
        }
        try:
            return snapshot_of(await self.collection.insert(document))
        except DuplicateKey:
            key = {name: document[name] for name in ("dataset_id", "replaces", "digest", "split")}
            found = await self.collection.find_one(key)
            if found is None:  # dropped by the one who lost the race with it
                return await self._claim(dataset, content, replaces=replaces)
            return snapshot_of(found)

    async def _make_current(self, snapshot: Snapshot, *, replaces: str) -> bool:
        event = SnapshotReady(
            dataset_id=snapshot.dataset_id,
            dataset_name=snapshot.dataset_name,
            snapshot_id=snapshot.id,
            digest=snapshot.digest,
            rows=snapshot.rows,
            columns={column.name: column.type for column in snapshot.columns},
            split=snapshot.split,
        )
        change = Change(
            set={"current_snapshot": plain(snapshot), "current_snapshot_id": snapshot.id},
            events=self._events(event),
        )
        guard = {"current_snapshot_id": replaces or None, "deletion": None}
        return await self._datasets.collection.update(snapshot.dataset_id, change, guard=guard)

    async def _drop_if_never_current(self, snapshot: Snapshot) -> None:
        dataset = await self._datasets.dataset(snapshot.dataset_id)
        if dataset.current_snapshot is not None and dataset.current_snapshot.id == snapshot.id:
            return
        # What was current and is not any more has a successor, whose document was there before it took over.
        successor = {"dataset_id": snapshot.dataset_id, "replaces": snapshot.id}
        if await self.collection.find_one(successor) is None:
            await self.collection.delete(snapshot.id)
