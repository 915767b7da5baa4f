"""Many requests over one stream, each answered when it is done."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, Generic, TypeVar

Reply = TypeVar("Reply")


class Multiplexer(Generic[Reply]):
    """Runs one task per request and yields their replies in the order in which they finish.

    `start` and `cancel` are called while the incoming messages are read. `replies` ends once `finish` was
    called and nothing is in flight; closing it cancels what is. Every started request gets exactly one
    reply: a cancelled one gets what `cancelled` makes of its id.
    """

    def __init__(self, *, cancelled: Callable[[str], Reply]) -> None:
        self._cancelled = cancelled
        self._tasks: dict[str, asyncio.Task[Reply]] = {}
        self._queue: asyncio.Queue[Reply | BaseException | None] = asyncio.Queue()
        self._is_finished = False

    def start(self, request_id: str, answer: Coroutine[Any, Any, Reply]) -> None:
        """Begin a request.

        Raises:
            ValueError: one with this id is in flight.
        """
        if request_id in self._tasks:
            answer.close()
            raise ValueError(f"request {request_id!r} is already in flight on this stream")
        task = asyncio.get_running_loop().create_task(answer)
        self._tasks[request_id] = task
        task.add_done_callback(lambda done: self._collect(request_id, done))

    def cancel(self, request_id: str) -> None:
        """Cancel a request; one that is unknown or answered is left alone."""
        task = self._tasks.get(request_id)
        if task is not None:
            task.cancel()

    def reply(self, reply: Reply) -> None:
        """Answer without a task."""
        self._queue.put_nowait(reply)

    def finish(self, error: BaseException | None = None) -> None:
        """No more requests come; with an error the stream ends by it at once."""
        self._is_finished = True
        if error is not None:
            self._queue.put_nowait(error)
        elif not self._tasks:
            self._queue.put_nowait(None)

    async def replies(self) -> AsyncIterator[Reply]:
        """Replies as they come; raises what `finish` was given or what a request's task raised."""
        try:
            while (item := await self._queue.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                yield item
        finally:
            for task in tuple(self._tasks.values()):
                task.cancel()

    def _collect(self, request_id: str, task: "asyncio.Task[Reply]") -> None:
        del self._tasks[request_id]
        if task.cancelled():
            self._queue.put_nowait(self._cancelled(request_id))
        else:
            self._queue.put_nowait(task.exception() or task.result())
        if self._is_finished and not self._tasks:
            self._queue.put_nowait(None)
