"""What dataset-svc keeps: datasets, snapshots, and the snapshots' files by digest."""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, BinaryIO

from assay_chassis.identifiers import new_id
from assay_chassis.infrastructure import Infrastructure
from assay_chassis.outbox import EventWriter
from assay_chassis.store import Change, Collection, Document, DuplicateKey, FileStore, Index
from assay_contracts.dataset_events import DatasetCreated, SnapshotReady
from dataset_svc.domain import (
    Column,
    Dataset,
    Listing,
    Snapshot,
    SnapshotContent,
    SnapshotListing,
    Source,
    now,
)
from dataset_svc.errors import DatasetNotFound, NameTaken, SnapshotNotFound

_CHUNK_BYTES = 1 << 20
_DATASET_INDEXES = (
    Index(("name", "version"), unique=True),
    Index(("sort_key",)),
    Index(("name", "sort_key")),
)
_SNAPSHOT_INDEXES = (
    Index(("dataset_id", "replaces", "digest", "split"), unique=True),
    Index(("dataset_id", "sort_key")),
)


class DatasetStore:
    """Datasets and snapshots in this service's database.

    A snapshot is registered in three steps, and a crash between them leaves the dataset as it was:

    1. its file, under the digest;
    2. its document, under the unique key (dataset, snapshot that it replaces, digest, split), so that the
       next attempt with the same content finds what this one left;
    3. the dataset's guarded write: the new current snapshot together with the event.

    A snapshot that lost a race for step 3 gets a new id, so that a dataset's snapshot ids always sort in the
    order in which they became current.
    """

    def __init__(
        self,
        *,
        datasets: Collection,
        snapshots: Collection,
        files: FileStore,
        events: EventWriter,
        cache: Path,
    ) -> None:
        self._datasets = datasets
        self._snapshots = snapshots
        self._files = files
        self._events = events
        self._cache = cache

    async def add(self, dataset: Dataset) -> None:
        """Register a dataset.

        Raises:
            NameTaken: one of that name and version exists.
        """
        event = DatasetCreated(dataset_id=dataset.id, name=dataset.name, version=dataset.version)
        document = {
            "_id": dataset.id,
            "sort_key": dataset.id,
            "name": dataset.name,
            "version": dataset.version,
            "description": dataset.description,
            "created_at": dataset.created_at,
            "current_snapshot": None,
            "current_snapshot_id": None,
        }
        try:
            await self._datasets.insert(document, events=self._events(event))
        except DuplicateKey:
            key = {"name": dataset.name, "version": dataset.version}
            found = await self._datasets.find_one(key)
            raise NameTaken(**key, dataset_id=found["_id"] if found else "unknown") from None

    async def dataset(self, dataset_id: str) -> Dataset:
        """The dataset; raises DatasetNotFound."""
        document = await self._datasets.get(dataset_id)
        if document is None:
            raise DatasetNotFound(dataset_id)
        return _dataset(document)

    async def datasets(self, *, name: str | None, cursor: str | None, limit: int) -> Listing:
        """Datasets, newest first; only those of that name if one is given."""
        query = {} if name is None else {"name": name}
        page = await self._datasets.page(query, cursor=cursor, limit=limit)
        return Listing([_dataset(document) for document in page.items], page.next_cursor)

    async def snapshot(self, snapshot_id: str) -> Snapshot:
        """The snapshot; raises SnapshotNotFound."""
        document = await self._snapshots.get(snapshot_id)
        if document is None:
            raise SnapshotNotFound(snapshot_id)
        return _snapshot(document)

    async def snapshots(self, dataset_id: str, *, cursor: str | None, limit: int) -> SnapshotListing:
        """Snapshots of a dataset, newest first."""
        page = await self._snapshots.page({"dataset_id": dataset_id}, cursor=cursor, limit=limit)
        return SnapshotListing([_snapshot(document) for document in page.items], page.next_cursor)

    async def publish(self, dataset_id: str, content: SnapshotContent, parquet: BinaryIO) -> Snapshot:
        """Make ``content`` the dataset's current snapshot; the present one if it has the same content.

        Args:
            dataset_id: the dataset.
            content: what the file holds.
            parquet: the canonical file; read from its start.

        Raises:
            DatasetNotFound: there is no such dataset.
        """
        await self._files.put(content.digest, _chunks(parquet))
        while True:
            dataset = await self.dataset(dataset_id)
            current = dataset.current_snapshot
            if current is not None and current.has(content):
                return current
            replaces = current.id if current else ""
            snapshot = await self._claim(dataset, content, replaces=replaces)
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
            **_plain(content),
        }
        try:
            return _snapshot(await self._snapshots.insert(document))
        except DuplicateKey:
            key = {name: document[name] for name in ("dataset_id", "replaces", "digest", "split")}
            found = await self._snapshots.find_one(key)
            if found is None:  # dropped by the one who lost the race with it
                return await self._claim(dataset, content, replaces=replaces)
            return _snapshot(found)

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
            set={"current_snapshot": _plain(snapshot), "current_snapshot_id": snapshot.id},
            events=self._events(event),
        )
        guard = {"current_snapshot_id": replaces or None}
        return await self._datasets.update(snapshot.dataset_id, change, guard=guard)

    async def _drop_if_never_current(self, snapshot: Snapshot) -> None:
        dataset = await self.dataset(snapshot.dataset_id)
        if dataset.current_snapshot is not None and dataset.current_snapshot.id == snapshot.id:
            return
        # What was current and is not any more has a successor, whose document was there before it took over.
        successor = {"dataset_id": snapshot.dataset_id, "replaces": snapshot.id}
        if await self._snapshots.find_one(successor) is None:
            await self._snapshots.delete(snapshot.id)

    async def file_size(self, digest: str) -> int | None:
        """Bytes of a snapshot's file, or ``None`` when there is none."""
        return await self._files.size(digest)

    def file_chunks(self, digest: str) -> AsyncIterator[bytes]:
        """A snapshot's file, in pieces."""
        return self._files.chunks(digest)

    async def cached_file(self, digest: str) -> Path:
        """A snapshot's file on this machine's disk, fetched at first use.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: the stored bytes do not have this digest.
        """
        path = self._cache / digest
        if not path.exists():
            await self._fetch(digest, path)
        return path

    async def _fetch(self, digest: str, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        actual = hashlib.sha256()
        descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{digest[:16]}-")
        try:
            with os.fdopen(descriptor, "wb") as file:
                async for chunk in self._files.chunks(digest):
                    actual.update(chunk)
                    file.write(chunk)
            if actual.hexdigest() != digest:
                raise OSError(f"the stored file {digest} has the digest {actual.hexdigest()}")
            os.replace(partial, path)
        finally:
            with suppress(FileNotFoundError):
                os.unlink(partial)


async def open_dataset_store(infrastructure: Infrastructure, *, cache: Path) -> DatasetStore:
    """The store on this service's database, its indexes created; ``cache`` keeps files by digest."""
    store = infrastructure.store
    return DatasetStore(
        datasets=await store.collection("datasets", _DATASET_INDEXES),
        snapshots=await store.collection("snapshots", _SNAPSHOT_INDEXES),
        files=store.files("snapshots"),
        events=infrastructure.events,
        cache=cache,
    )


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    file.seek(0)
    while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
        yield chunk


def _plain(value: Snapshot | SnapshotContent) -> Document:
    document = asdict(value)
    document["columns"] = [{**column, "examples": list(column["examples"])} for column in document["columns"]]
    return document


def _snapshot(document: Mapping[str, Any]) -> Snapshot:
    return Snapshot(
        id=document.get("id") or document["_id"],
        dataset_id=document["dataset_id"],
        dataset_name=document["dataset_name"],
        digest=document["digest"],
        rows=document["rows"],
        bytes=document["bytes"],
        split=document["split"],
        columns=tuple(
            Column(**{**column, "examples": tuple(column["examples"])}) for column in document["columns"]
        ),
        source=Source(**document["source"]),
        created_at=document["created_at"],
    )


def _dataset(document: Mapping[str, Any]) -> Dataset:
    current = document["current_snapshot"]
    dataset = Dataset(
        id=document["_id"],
        name=document["name"],
        version=document["version"],
        description=document["description"],
        created_at=document["created_at"],
    )
    return replace(dataset, current_snapshot=_snapshot(current)) if current else dataset
