"""Ending background tasks for certain."""

import asyncio
from contextlib import suppress


async def end(*tasks: asyncio.Task[None], patience: float = 0.5) -> None:
    """Cancel tasks and wait until they are over; their failures are raised, cancellation is not.

    A task that is not over after ``patience`` seconds is cancelled again, and so on.

    One ``cancel`` is not enough on Python 3.11: ``asyncio.wait_for`` there drops a cancellation that arrives
    in the moment in which what it waits for completes, and the task goes on.
    """
    waiting = {task for task in tasks if not task.done()}
    while waiting:
        for task in waiting:
            task.cancel()
        _, waiting = await asyncio.wait(waiting, timeout=patience)
    for task in tasks:
        with suppress(asyncio.CancelledError):
            task.result()
