"""The snapshots' files, by digest."""

import asyncio
import hashlib
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from assay_chassis.store import FileStore
from dataset_svc.errors import space_needed
from dataset_svc.store.removals import RemovalStore

_CHUNK_BYTES = 1 << 20


class SnapshotFiles:
    """Canonical Parquet files under their digest, and copies of those in use on this machine's disk."""

    def __init__(self, files: FileStore, *, cache: Path, removals: RemovalStore) -> None:
        self._files = files
        self._removals = removals
        self._cache = cache

    async def put(self, digest: str, file: BinaryIO) -> None:
        """Store ``file``, read from its start, unless it is there."""
        await self._files.put(digest, _chunks(file))

    async def keep(self, digest: str, file: BinaryIO) -> None:
        """Make sure that a file stays to which a document now refers."""
        await self._removals.prevent(digest)
        await self.put(digest, file)

    async def remove(self, digest: str) -> None:
        """Remove a file, here and in the store."""
        await self._files.delete(digest)
        (self._cache / digest).unlink(missing_ok=True)

    async def size(self, digest: str) -> int | None:
        """Bytes of a snapshot's file, or ``None`` when there is none."""
        return await self._files.size(digest)

    def chunks(self, digest: str) -> AsyncIterator[bytes]:
        """A snapshot's file, in pieces."""
        return self._files.chunks(digest)

    async def cached(self, digest: str) -> Path:
        """A snapshot's file on this machine's disk, fetched at first use.

        Raises:
            FileNotFoundError: there is no such file.
            StorageFull: the disk is full.
            OSError: the stored bytes do not have this digest.
        """
        path = self._cache / digest
        if not path.exists():
            with space_needed():
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


async def _chunks(file: BinaryIO) -> AsyncIterator[bytes]:
    file.seek(0)
    while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
        yield chunk
