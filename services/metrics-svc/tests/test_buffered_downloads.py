"""Files that are made while they are sent: order, errors, readers that are slow or go away."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest

from metrics_svc.service.downloads import CHUNK_BYTES, Download


async def pieces(*sizes: int, made: list[int] | None = None) -> AsyncIterator[bytes]:
    for number, size in enumerate(sizes):
        if made is not None:
            made.append(number)
        yield bytes([number]) * size


async def test_the_bytes_come_in_order_whatever_their_sizes() -> None:
    sizes = (0, 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 7, 2)
    download = await Download.of("n", "t", pieces(*sizes))
    content = b"".join([chunk async for chunk in download.chunks])
    assert content == b"".join(bytes([number]) * size for number, size in enumerate(sizes))


async def test_nothing_is_an_empty_file() -> None:
    download = await Download.of("n", "t", pieces())
    assert b"".join([chunk async for chunk in download.chunks]) == b""


async def test_the_file_is_made_at_once_though_nobody_takes_it() -> None:
    made: list[int] = []
    finished = asyncio.Event()

    async def chunks() -> AsyncIterator[bytes]:
        async for piece in pieces(*[10_000] * 50, made=made):
            yield piece
        finished.set()

    download = await Download.of("n", "t", chunks())
    await asyncio.wait_for(finished.wait(), 30)
    assert len(made) == 50
    assert sum([len(chunk) async for chunk in download.chunks]) == 500_000


async def test_what_refuses_does_so_before_anything_is_sent() -> None:
    async def refusing() -> AsyncIterator[bytes]:
        if os.getpid():
            raise LookupError("no such thing")
        yield b""

    with pytest.raises(LookupError, match="no such thing"):
        await Download.of("n", "t", refusing())


async def test_a_failure_in_the_middle_breaks_the_transfer_off() -> None:
    async def failing() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.sleep(0)
        raise OSError("the disk is gone")

    download = await Download.of("n", "t", failing())
    taken: list[bytes] = []

    async def take() -> None:
        async for chunk in download.chunks:
            taken.append(chunk)

    with pytest.raises(OSError, match="the disk is gone"):
        await take()
    assert taken == [b"first"]


async def test_a_reader_that_goes_away_ends_the_making() -> None:
    ended = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x"
                await asyncio.sleep(0.001)
        finally:
            ended.set()

    download = await Download.of("n", "t", endless())
    reading = asyncio.create_task(anext(download.chunks))  # type: ignore[arg-type]
    assert await reading == b"x"
    await download.chunks.aclose()  # type: ignore[attr-defined]
    del download
    await asyncio.wait_for(ended.wait(), 30)
