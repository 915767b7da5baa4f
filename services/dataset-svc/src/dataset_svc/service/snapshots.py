"""Handing out snapshots, their rows and their files."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from dataset_svc.domain.snapshots import Snapshot, SnapshotListing
from dataset_svc.errors import SnapshotNotFound
from dataset_svc.parquet import read_rows
from dataset_svc.store import Stores


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


class SnapshotService:
    """Immutable rows."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def snapshot(self, snapshot_id: str) -> Snapshot:
        """The snapshot; raises SnapshotNotFound."""
        return await self._stores.snapshots.snapshot(snapshot_id)

    async def snapshots(self, dataset_id: str, *, cursor: str | None, limit: int) -> SnapshotListing:
        """Snapshots of a dataset, newest first; raises DatasetNotFound."""
        await self._stores.datasets.dataset(dataset_id)
        return await self._stores.snapshots.snapshots(dataset_id, cursor=cursor, limit=limit)

    async def rows(self, snapshot_id: str, *, offset: int, limit: int) -> RowPage:
        """Rows of a snapshot in the order of the upload, from ``offset`` counted from 0.

        Raises:
            SnapshotNotFound: there is no such snapshot.
        """
        snapshot = await self._stores.snapshots.snapshot(snapshot_id)
        path = await self._stores.files.cached(snapshot.digest)
        items = await asyncio.to_thread(read_rows, path, offset=offset, limit=limit)
        return RowPage(items=items, offset=offset, total=snapshot.rows)

    async def content(self, snapshot_id: str) -> Content:
        """The snapshot's canonical Parquet file.

        Raises:
            SnapshotNotFound: there is no such snapshot, or its file is gone.
        """
        snapshot = await self._stores.snapshots.snapshot(snapshot_id)
        size = await self._stores.files.size(snapshot.digest)
        if size is None:
            raise SnapshotNotFound(snapshot_id)
        return Content(digest=snapshot.digest, size=size, chunks=self._stores.files.chunks(snapshot.digest))
