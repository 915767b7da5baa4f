"""Evidence tables, pairs and clusters: immutable files under their sha256."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

from assay_chassis.store import FileStore

_CHUNK_BYTES = 1 << 20


class EvidenceFiles:
    """Files under their sha256, written once and never removed.

    Raises (all methods): Unavailable when the store does not answer.
    """

    def __init__(self, files: FileStore) -> None:
        self._files = files

    async def put(self, path: Path) -> str:
        """Store a file unless it is there; its sha256, as lower-case hex digits."""
        digest = await asyncio.to_thread(sha256_of, path)
        await self._files.put(digest, _chunks(path))
        return digest

    def chunks(self, digest: str) -> AsyncIterator[bytes]:
        """A file, in pieces.

        Raises:
            FileNotFoundError: there is no such file.
        """
        return self._files.chunks(digest)

    async def fetch(self, digest: str, directory: Path) -> Path:
        """A copy of a file in ``directory``, under its digest.

        Raises:
            FileNotFoundError: there is no such file.
            OSError: the stored bytes do not have this digest.
        """
        path = directory / digest
        if path.exists():
            return path
        actual = hashlib.sha256()
        with path.open("wb") as file:
            async for chunk in self._files.chunks(digest):
                actual.update(chunk)
                await asyncio.to_thread(file.write, chunk)
        if actual.hexdigest() != digest:
            path.unlink()
            raise OSError(f"the stored file {digest} has the digest {actual.hexdigest()}")
        return path


def sha256_of(path: Path) -> str:
    """Digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


async def _chunks(path: Path) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, _CHUNK_BYTES):
            yield chunk
