"""Taking uploads."""

import asyncio
import hashlib
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from dataset_svc.compression import Compression, Content
from dataset_svc.domain.snapshots import Snapshot, SnapshotContent, Source
from dataset_svc.errors import UploadTooLarge, space_needed
from dataset_svc.ingest import ingest
from dataset_svc.jsonl import Limits
from dataset_svc.store import Publication, Stores

_WRITE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Upload:
    """What the sender says of a file."""

    filename: str
    compression: Compression


class UploadService:
    """Makes uploaded files into snapshots.

    Args:
        stores: this service's data.
        limits: bounds of an upload's content.
        max_upload_bytes: bound of its size.
        concurrent_ingests: uploads that are parsed at the same time.
        workspace: directory for uploads in progress; made if missing. Nothing in it outlives the process.
    """

    def __init__(
        self,
        stores: Stores,
        *,
        limits: Limits,
        max_upload_bytes: int,
        concurrent_ingests: int,
        workspace: Path,
    ) -> None:
        self._stores = stores
        self._limits = limits
        self._max_upload_bytes = max_upload_bytes
        self._ingests = asyncio.Semaphore(concurrent_ingests)
        self._workspace = workspace
        workspace.mkdir(parents=True, exist_ok=True)

    async def add_data(
        self, dataset_id: str, chunks: AsyncIterator[bytes], *, upload: Upload, split: str
    ) -> Snapshot:
        """Make an uploaded JSON Lines file the dataset's current snapshot.

        The same content over the current snapshot gives that snapshot. Until the last step, which is one
        write, the dataset keeps the snapshot that it has.

        Raises:
            DatasetNotFound: there is no such dataset.
            UploadTooLarge: the upload, or its content, has more bytes than the limit.
            BrokenArchive, ImplausibleArchive: it cannot be decompressed.
            StorageFull: the disk is full.
            InvalidUpload: the content breaks a rule of ``jsonl`` or ``schema``.
        """
        await self._stores.datasets.dataset(dataset_id)
        # Both files have no name: the system removes them whatever ends this process.
        with (
            space_needed(),
            tempfile.TemporaryFile(dir=self._workspace) as file,
            tempfile.TemporaryFile(dir=self._workspace) as parquet,
        ):
            source = await self._receive(chunks, file, upload=upload)
            async with self._ingests:
                content = await asyncio.to_thread(self._ingest, file, parquet, source=source, split=split)
            return await self._stores.publish(dataset_id, Publication(content=content, file=parquet))

    def _ingest(self, file: BinaryIO, parquet: BinaryIO, *, source: Source, split: str) -> SnapshotContent:
        file.seek(0)
        content = Content(
            file,
            Compression(source.compression),
            sent_bytes=source.bytes,
            limit=self._max_upload_bytes,
        )
        return ingest(
            content, parquet, limits=self._limits, split=split, source=source, scratch=self._workspace
        )

    async def _receive(self, chunks: AsyncIterator[bytes], file: BinaryIO, *, upload: Upload) -> Source:
        digest = hashlib.sha256()
        size = 0
        pending = bytearray()

        def write(data: bytes) -> None:
            digest.update(data)
            file.write(data)

        async for chunk in chunks:
            size += len(chunk)
            if size > self._max_upload_bytes:
                raise UploadTooLarge(limit=self._max_upload_bytes)
            pending += chunk
            if len(pending) >= _WRITE_BYTES:
                await asyncio.to_thread(write, bytes(pending))
                pending.clear()
        write(bytes(pending))
        return Source(
            kind="jsonl",
            filename=upload.filename,
            sha256=digest.hexdigest(),
            bytes=size,
            compression=upload.compression.value,
        )
