"""Several sequences that are generated at once, as one stream of what comes."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

from engines.generation import Delta, Generator, Wanted

_Item = tuple[int, Delta | Exception | None]


async def generate_all(
    generator: Generator, wanted: Sequence[Wanted], *, stream_interval: int = 1
) -> AsyncGenerator[tuple[int, Delta], None]:
    """Deltas of all sequences with the sequence's index, as they come; leaving it early ends all.

    `stream_interval` tokens come in one delta, but the first and the last ones at once. Raises what
    `Generator.generate` raises.
    """
    queue: asyncio.Queue[_Item] = asyncio.Queue()
    tasks = [
        asyncio.create_task(_feed(queue, index, _gather(generator, one, stream_interval)))
        for index, one in enumerate(wanted)
    ]
    try:
        remaining = len(tasks)
        while remaining:
            index, item = await queue.get()
            if isinstance(item, Exception):
                raise item
            if item is None:
                remaining -= 1
            else:
                yield index, item
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _feed(queue: asyncio.Queue[_Item], index: int, deltas: AsyncGenerator[Delta, None]) -> None:
    """Put the deltas, then ``None`` or what ended them, into the queue."""
    end: Exception | None = None
    try:
        async with contextlib.aclosing(deltas):
            async for delta in deltas:
                queue.put_nowait((index, delta))
    except Exception as error:  # noqa: BLE001 - raised again by the reader
        end = error
    queue.put_nowait((index, end))


async def _gather(generator: Generator, wanted: Wanted, stream_interval: int) -> AsyncGenerator[Delta, None]:
    """The deltas of one sequence, several as one where that is asked for."""
    held: Delta | None = None
    is_first = True
    async with contextlib.aclosing(generator.generate(wanted)) as deltas:
        async for delta in deltas:
            if held is None:
                held = delta
            else:
                held.extend(delta)
            if is_first or held.finish_reason is not None or len(held.tokens) >= stream_interval:
                is_first = False
                yield held
                held = None
