"""How finished samples are gathered into blocks."""

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval_svc.engine import BlockWriter


class Log:
    """Keeps what is appended; waits for `may_append` at every block."""

    def __init__(self) -> None:
        self.blocks: list[list[int]] = []
        self.appended = asyncio.Event()
        self.may_append = asyncio.Event()
        self.may_append.set()

    async def append(self, block: list[dict[str, Any]]) -> None:
        await self.may_append.wait()
        self.blocks.append([sample["index"] for sample in block])
        self.appended.set()


def sample(index: int) -> dict[str, Any]:
    return {"index": index}


@given(count=st.integers(0, 40), size=st.integers(1, 7), pauses=st.sets(st.integers(0, 40)))
def test_every_sample_is_appended_once_in_order_in_blocks_that_fit(
    count: int, size: int, pauses: set[int]
) -> None:
    async def write() -> list[list[int]]:
        log = Log()
        writer = BlockWriter(log.append, block_samples=size, block_interval=1000.0)
        running = asyncio.create_task(writer.run())
        for index in range(count):
            await writer.add(sample(index))
            if index in pauses:
                await asyncio.sleep(0)
        writer.end()
        await running
        return log.blocks

    blocks = asyncio.run(write())
    assert [index for block in blocks for index in block] == list(range(count))
    assert all(len(block) == size for block in blocks[:-1])
    assert all(0 < len(block) <= size for block in blocks)


async def test_a_block_that_does_not_fill_is_appended_after_the_interval() -> None:
    log = Log()
    writer = BlockWriter(log.append, block_samples=64, block_interval=0.05)
    running = asyncio.create_task(writer.run())
    for expected in ([[0, 1]], [[0, 1], [2]]):
        for index in expected[-1]:
            await writer.add(sample(index))
        await asyncio.wait_for(log.appended.wait(), 30)
        log.appended.clear()
        assert log.blocks == expected
    running.cancel()


async def test_a_slow_log_holds_up_those_who_add() -> None:
    log = Log()
    log.may_append.clear()
    writer = BlockWriter(log.append, block_samples=2, block_interval=1000.0)
    running = asyncio.create_task(writer.run())
    added = 0

    async def add() -> None:
        nonlocal added
        for index in range(100):
            await writer.add(sample(index))
            added += 1

    adding = asyncio.create_task(add())
    for _ in range(1000):
        await asyncio.sleep(0)
    assert added <= 2 + 4 * 2, "one block on its way, four waiting"
    log.may_append.set()
    await adding
    writer.end()
    await running
    assert sum(map(len, log.blocks)) == 100


async def test_what_the_log_raises_ends_the_writing() -> None:
    async def refuse(_: list[dict[str, Any]]) -> None:
        raise ConnectionError("gone")

    writer = BlockWriter(refuse, block_samples=1, block_interval=1000.0)
    running = asyncio.create_task(writer.run())
    await writer.add(sample(0))
    with pytest.raises(ConnectionError):
        await running
