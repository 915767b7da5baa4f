"""Files that are made while they are sent."""

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

CHUNK_BYTES = 1 << 18

_Part = TypeVar("_Part")


@dataclass(frozen=True, slots=True)
class Download:
    """A file to hand out: its name, its media type, and its bytes in pieces."""

    name: str
    media_type: str
    chunks: AsyncIterator[bytes]

    @classmethod
    async def of(cls, name: str, media_type: str, chunks: AsyncIterator[bytes]) -> "Download":
        """A file that is made at once, whatever the speed at which it is taken.

        Raises:
            Exception: what the making raises before its first piece; later it breaks the transfer off.
        """
        made = _buffered(chunks)
        first = await anext(made, b"")

        async def all_chunks() -> AsyncIterator[bytes]:
            async with aclosing(made):
                yield first
                async for chunk in made:
                    yield chunk

        return cls(name=name, media_type=media_type, chunks=all_chunks())


async def _buffered(chunks: AsyncIterator[bytes]) -> AsyncGenerator[bytes, None]:
    """The same bytes by way of a file, so that a slow reader keeps nothing but the file waiting."""
    with tempfile.TemporaryFile(prefix="assay-download-") as file:
        descriptor, size, read = file.fileno(), 0, 0
        changed = asyncio.Event()

        async def make() -> None:
            nonlocal size
            async for chunk in chunks:
                size += await asyncio.to_thread(_append, descriptor, chunk, size)
                changed.set()

        maker = asyncio.create_task(make())
        maker.add_done_callback(lambda _: changed.set())
        try:
            while True:
                changed.clear()
                if read < size:
                    chunk = await asyncio.to_thread(os.pread, descriptor, CHUNK_BYTES, read)
                    read += len(chunk)
                    yield chunk
                elif maker.done():
                    maker.result()
                    return
                else:
                    await changed.wait()
        finally:
            maker.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await maker


def _append(descriptor: int, chunk: bytes, start: int) -> int:
    written = 0
    while written < len(chunk):
        written += os.pwrite(descriptor, memoryview(chunk)[written:], start + written)
    return written


async def in_thread(parts: Iterator[_Part]) -> AsyncIterator[_Part]:
    """What a blocking iterator yields, each taken in a thread."""
    done = object()
    while (part := await asyncio.to_thread(next, parts, done)) is not done:
        yield part  # type: ignore[misc]


async def file_chunks(path: Path) -> AsyncIterator[bytes]:
    """The bytes of a file."""
    with path.open("rb") as file:
        while chunk := await asyncio.to_thread(file.read, CHUNK_BYTES):
            yield chunk


async def one_chunk(content: bytes) -> AsyncIterator[bytes]:
    """Bytes that are there already."""
    yield content
