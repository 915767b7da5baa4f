"""What dataset-svc does."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from assay_chassis.identifiers import new_id
from dataset_svc.domain import Dataset, Listing, Snapshot, SnapshotListing, Source, now
from dataset_svc.errors import SnapshotNotFound, UploadTooLarge
from dataset_svc.ingest import ingest
from dataset_svc.jsonl import Limits
from dataset_svc.parquet import read_rows
from dataset_svc.store import DatasetStore

_WRITE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RowPage:
    """Rows ``offset`` and following of a snapshot that has ``total`` of them."""

    items: list[dict[str, Any]]
    offset: int
    total: int


@dataclass(frozen=True, slots=True)
class Content:
    """The canonical Parquet file of a snapshot."""

    digest: str
    size: int
    chunks: AsyncIterator[bytes]


class DatasetService:
    """Registers datasets, takes uploads, hands out rows.

    Args:
        store: this service's data.
        limits: bounds of an upload's content.
        max_upload_bytes: bound of its size.
        concurrent_ingests: uploads that are parsed at the same time.
        workspace: directory for uploads in progress; made if missing. Nothing in it outlives the process.
    """

    def __init__(
        self,
        *,
        store: DatasetStore,
        limits: Limits,
        max_upload_bytes: int,
        concurrent_ingests: int,
        workspace: Path,
    ) -> None:
        self._store = store
        self._limits = limits
        self._max_upload_bytes = max_upload_bytes
        self._ingests = asyncio.Semaphore(concurrent_ingests)
        self._workspace = workspace
        workspace.mkdir(parents=True, exist_ok=True)

    async def create_dataset(self, *, name: str, version: str, description: str) -> Dataset:
        """Register a dataset without data.

        Raises:
            NameTaken: one of that name and version exists.
        """
        dataset = Dataset(
            id=new_id("ds"), name=name, version=version, description=description, created_at=now()
        )
        await self._store.add(dataset)
        return dataset

    async def dataset(self, dataset_id: str) -> Dataset:
        """The dataset; raises DatasetNotFound."""
        return await self._store.dataset(dataset_id)

    async def datasets(self, *, name: str | None, cursor: str | None, limit: int) -> Listing:
        """Datasets, newest first."""
        return await self._store.datasets(name=name, cursor=cursor, limit=limit)

    async def snapshot(self, snapshot_id: str) -> Snapshot:
        """The snapshot; raises SnapshotNotFound."""
        return await self._store.snapshot(snapshot_id)

    async def snapshots(self, dataset_id: str, *, cursor: str | None, limit: int) -> SnapshotListing:
        """Snapshots of a dataset, newest first; raises DatasetNotFound."""
        await self._store.dataset(dataset_id)
        return await self._store.snapshots(dataset_id, cursor=cursor, limit=limit)

    async def add_data(
        self, dataset_id: str, chunks: AsyncIterator[bytes], *, split: str, filename: str
    ) -> Snapshot:
        """Make an uploaded JSON Lines file the dataset's current snapshot.

        The same content over the current snapshot gives that snapshot. Until the last step, which is one
        write, the dataset keeps the snapshot that it has.

        Raises:
            DatasetNotFound: there is no such dataset.
            UploadTooLarge: the upload has more bytes than the limit.
            InvalidUpload: the content breaks a rule of ``jsonl`` or ``schema``.
        """
        await self._store.dataset(dataset_id)
        # Both files have no name: the system removes them whatever ends this process.
        with (
            tempfile.TemporaryFile(dir=self._workspace) as upload,
            tempfile.TemporaryFile(dir=self._workspace) as parquet,
        ):
            source = await self._receive(chunks, upload, filename=filename)
            async with self._ingests:
                content = await asyncio.to_thread(
                    ingest, upload, parquet, limits=self._limits, split=split, source=source
                )
            return await self._store.publish(dataset_id, content, parquet)

    async def _receive(self, chunks: AsyncIterator[bytes], upload: BinaryIO, *, filename: str) -> Source:
        digest = hashlib.sha256()
        size = 0
        pending = bytearray()

        def write(data: bytes) -> None:
            digest.update(data)
            upload.write(data)

        async for chunk in chunks:
            size += len(chunk)
            if size > self._max_upload_bytes:
                raise UploadTooLarge(limit=self._max_upload_bytes)
            pending += chunk
            if len(pending) >= _WRITE_BYTES:
                await asyncio.to_thread(write, bytes(pending))
                pending.clear()
        write(bytes(pending))
        return Source(kind="jsonl", filename=filename, sha256=digest.hexdigest(), bytes=size)

    async def rows(self, snapshot_id: str, *, offset: int, limit: int) -> RowPage:
        """Rows of a snapshot in the order of the upload, from ``offset`` counted from 0.

        Raises:
            SnapshotNotFound: there is no such snapshot.
        """
        snapshot = await self._store.snapshot(snapshot_id)
        path = await self._store.cached_file(snapshot.digest)
        items = await asyncio.to_thread(read_rows, path, offset=offset, limit=limit)
        return RowPage(items=items, offset=offset, total=snapshot.rows)

    async def content(self, snapshot_id: str) -> Content:
        """The snapshot's canonical Parquet file.

        Raises:
            SnapshotNotFound: there is no such snapshot, or its file is gone.
        """
        snapshot = await self._store.snapshot(snapshot_id)
        size = await self._store.file_size(snapshot.digest)
        if size is None:
            raise SnapshotNotFound(snapshot_id)
        return Content(digest=snapshot.digest, size=size, chunks=self._store.file_chunks(snapshot.digest))
