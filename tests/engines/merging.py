"""Several sequences that are generated at once, as one stream of what comes."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Sequence

from engines.generation import Delta, Generator, Wanted


async def generate_all(
    generator: Generator, wanted: Sequence[Wanted], *, stream_interval: int = 1
) -> AsyncGenerator[tuple[int, Delta], None]:
    """Deltas of all sequences with the sequence's index, as they come; leaving it early ends all.

    `stream_interval` tokens come in one delta, but the first and the last ones at once. Raises what
    `Generator.generate` raises.
    """
    if len(wanted) == 1:
        async with contextlib.aclosing(_gather(generator, wanted[0], stream_interval)) as deltas:
            async for delta in deltas:
                yield 0, delta
        return
    queue: asyncio.Queue[tuple[int, Delta | BaseException | None]] = asyncio.Queue()

    async def feed(index: int, one: Wanted) -> None:
        try:
            async for delta in _gather(generator, one, stream_interval):
                queue.put_nowait((index, delta))
        except Exception as error:  # noqa: BLE001 - raised again by the reader
            queue.put_nowait((index, error))
        else:
            queue.put_nowait((index, None))

    tasks = [asyncio.create_task(feed(index, one)) for index, one in enumerate(wanted)]
    try:
        remaining = len(tasks)
        while remaining:
            index, delta = await queue.get()
            if isinstance(delta, BaseException):
                raise delta
            if delta is None:
                remaining -= 1
            else:
                yield index, delta
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _gather(generator: Generator, wanted: Wanted, stream_interval: int) -> AsyncGenerator[Delta, None]:
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
