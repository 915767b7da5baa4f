"""Ending background tasks for certain."""

import asyncio
from contextlib import suppress


async def end(*tasks: asyncio.Task[None]) -> None:
    """Cancel tasks and wait until they are over; their failures are raised, cancellation is not.

    One ``cancel`` is not enough on Python 3.11: ``asyncio.wait_for`` there drops a cancellation that arrives
    in the moment in which what it waits for completes, and the task goes on.
    """
    waiting = {task for task in tasks if not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=0.5)
    for task in tasks:
        with suppress(asyncio.CancelledError):
            task.result()
