"""How late an event loop runs what is due."""

import asyncio

_PERIOD_SECONDS = 0.05


class LoopLag:
    """Watches one event loop by a timer and tells the largest delay of it.

    Event loops count timers in whole milliseconds, so that an idle loop shows up to one. `start` and `stop`
    belong on the loop; `largest_since` has one reader, which may be another thread and then sees also a
    delay that is not over yet.
    """

    def __init__(self, *, period: float = _PERIOD_SECONDS) -> None:
        self._period = period
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._largest = 0.0

    def start(self) -> None:
        """Begin to watch the running loop."""
        self.stop()
        self._loop = asyncio.get_running_loop()
        self._largest = 0.0
        self._arm(self._loop)

    def largest_since(self) -> float:
        """The largest delay, in seconds, since the call before or since `start`; 0.0 while it is stopped."""
        largest, self._largest = self._largest, 0.0
        if self._loop is None:
            return 0.0
        return max(largest, self._loop.time() - self._due, 0.0)

    def stop(self) -> None:
        """End watching. Idempotent."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop = None

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        self._due = loop.time() + self._period
        self._timer = loop.call_at(self._due, self._note)

    def _note(self) -> None:
        if self._loop is not None:
            self._largest = max(self._largest, self._loop.time() - self._due)
            self._arm(self._loop)
