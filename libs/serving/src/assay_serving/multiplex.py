"""Many requests over one stream, each answered when it is done."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Generic, TypeVar

Reply = TypeVar("Reply")


class Multiplexer(Generic[Reply]):
    """Runs one task per request and yields their replies in the order in which they finish.

    `start` and `cancel` are called while the incoming messages are read. `replies` ends once `finish` was
    called and nothing is in flight; closing it cancels what is. Every started request gets exactly one
    reply: a cancelled one gets what `cancelled` makes of its id. So no more replies wait here than the caller
    has requests without an answer.
    """

    def __init__(self, *, cancelled: Callable[[str], Reply]) -> None:
        self._cancelled = cancelled
        self._tasks: dict[str, asyncio.Task[Reply]] = {}
        self._ready: list[Reply] = []
        self._error: BaseException | None = None
        self._wakeup = asyncio.Event()
        self._is_finished = False

    def start(self, request_id: str, answer: Coroutine[Any, Any, Reply]) -> None:
        """Begin a request.

        Raises:
            ValueError: one with this id is in flight.
        """
        if request_id in self._tasks:
            answer.close()
            raise ValueError(f"request {request_id!r} is already in flight on this stream")
        task = asyncio.get_running_loop().create_task(answer, name=request_id)
        self._tasks[request_id] = task
        task.add_done_callback(self._collect)

    def cancel(self, request_id: str) -> None:
        """Cancel a request; one that is unknown or answered is left alone."""
        task = self._tasks.get(request_id)
        if task is not None:
            task.cancel()

    def finish(self, error: BaseException | None = None) -> None:
        """No more requests come; with an error the stream ends by it at once."""
        self._is_finished = True
        self._error = self._error or error
        self._wakeup.set()

    async def replies(self) -> AsyncIterator[list[Reply]]:
        """Replies as they come, those together that are there together.

        Raises what `finish` was given or what a request's task raised.
        """
        try:
            while True:
                await self._wakeup.wait()
                self._wakeup.clear()
                if self._error is not None:
                    raise self._error
                ready, self._ready = self._ready, []
                if ready:
                    yield ready
                if self._is_finished and not self._tasks and not self._ready:
                    return
        finally:
            for task in tuple(self._tasks.values()):
                task.cancel()

    def _collect(self, task: "asyncio.Task[Reply]") -> None:
        request_id = task.get_name()
        del self._tasks[request_id]
        if task.cancelled():
            self._ready.append(self._cancelled(request_id))
        elif (error := task.exception()) is not None:
            self._error = self._error or error
        else:
            self._ready.append(task.result())
        self._wakeup.set()
