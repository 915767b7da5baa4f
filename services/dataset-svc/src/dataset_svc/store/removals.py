"""Files that no snapshot needs any more, until they are gone.

A file is shared by all snapshots of the same content, so removing one races with an upload of that content.
Both sides write first and look then: the remover marks its entry ``removing`` and looks for snapshots with
the digest; the uploader writes its snapshot and looks for an entry. Whoever comes second sees the other: the
remover gives up, or the uploader waits for the removal and stores the file again.
"""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from assay_chassis.store import Change, Collection, DuplicateKey, Index, Store
from dataset_svc.domain.snapshots import now

_MOST_AT_ONCE = 100


class RemovalState(StrEnum):
    """How far a removal is."""

    WAITING = "waiting"
    REMOVING = "removing"


@dataclass(frozen=True, slots=True)
class Removal:
    """A file to remove, unless one of the deleted snapshots turns out to be needed by a run."""

    digest: str
    snapshot_ids: tuple[str, ...]
    due_at: datetime


class RemovalStore:
    """Removals by digest."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    @classmethod
    async def open(cls, store: Store) -> "RemovalStore":
        """The removals of this database, their index created."""
        return cls(await store.collection("removals", (Index(("state",)),)))

    async def add(self, digest: str, *, snapshot_id: str, due_at: datetime) -> None:
        """Plan to remove a file; ``snapshot_id`` was deleted and had it."""
        document = {"_id": digest, "state": "waiting", "snapshot_ids": [snapshot_id], "due_at": due_at}
        try:
            await self._collection.insert(document)
        except DuplicateKey:
            change = Change(set={"due_at": due_at}, push={"snapshot_ids": snapshot_id})
            await self._collection.update(digest, change)

    async def due(self) -> list[Removal]:
        """Some of those whose time has come, and those that a crash has left in the middle."""
        found = await self._collection.find_many({"state": RemovalState.REMOVING.value}, limit=_MOST_AT_ONCE)
        found += await self._collection.find_many({"state": RemovalState.WAITING.value}, limit=_MOST_AT_ONCE)
        entries = [Removal(each["_id"], tuple(each["snapshot_ids"]), each["due_at"]) for each in found]
        return [entry for entry in entries if entry.due_at.replace(tzinfo=now().tzinfo) <= now()]

    async def postpone(self, digest: str, *, due_at: datetime) -> None:
        """Look again later."""
        await self._collection.update(digest, Change(set={"due_at": due_at}))

    async def begin(self, digest: str) -> None:
        """Announce that the file goes now."""
        await self._collection.update(digest, Change(set={"state": RemovalState.REMOVING.value}))

    async def end(self, digest: str) -> None:
        """The file is gone, or is needed after all."""
        await self._collection.delete(digest)

    async def prevent(self, digest: str) -> None:
        """Keep a file that a snapshot now needs: drop the plan, or wait until a removal has ended."""
        while await self._collection.get(digest) is not None:
            if not await self._collection.delete(digest, guard={"state": RemovalState.WAITING.value}):
                await asyncio.sleep(0.05)
