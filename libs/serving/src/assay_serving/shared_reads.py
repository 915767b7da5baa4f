"""One wake-up for many streams.

Most of what a token costs its reader is waking up for it. Where the kernel notes the arrival, it does not
matter when the bytes are read: sockets that become readable within a few milliseconds are read together, as
network cards share interrupts. The price is that two chunks of one stream that come within that time have one
stamp, so its length follows what the streams do.
"""

import asyncio
import socket
import time
from collections.abc import Callable

from assay_serving.ready_sockets import HeldRead, ReadySockets, fastest_ready_sockets

_LONGEST_MS = 6
"""64 streams with 15 ms between tokens share about 25 to a wake-up; an answer's end is seen so much later."""
_WINDOW_READS = 4096
_MERGED_AT_MOST = 2  # of a window: a tenth of what would be seen in the results
_LONGEST_PATIENCE = 256  # windows
_QUICK_WAKEUPS = 16


class SharedReads:
    """Calls a reader back when its socket has something to read; for many busy sockets at one wake-up.

    While few sockets become readable the callback runs at once. When one wake-up follows the other, it runs
    every `period_ms` milliseconds. Used from one event loop; nothing is kept while there is no socket.
    `make_sockets` is the kind of `ReadySockets`, the fastest there is unless told.
    """

    def __init__(self, make_sockets: Callable[[], ReadySockets] | None = None) -> None:
        self._make_sockets = make_sockets or fastest_ready_sockets()
        self.period_ms = _LONGEST_MS
        """How long sockets wait for others at most; 0 while the streams are too fast to share anything."""
        self._loop: asyncio.AbstractEventLoop
        self._sockets: ReadySockets | None = None
        self._readers: dict[int, Callable[[], None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._last_ns = 0  # of a wake-up
        self._quick_wakeups = 0  # in a row
        self._reads = 0  # of this window
        self._merged = 0
        self._clean_windows = 0
        self._patience = 1  # clean windows before the period is raised again

    def add(self, sock: socket.socket, reader: Callable[[], None]) -> None:
        """Call `reader`, which must not raise, whenever `sock` can be read or has ended."""
        if self._sockets is None:
            self._loop = asyncio.get_running_loop()
            self._sockets = self._make_sockets()
            self._loop.add_reader(self._sockets.fileno(), self._on_ready)
        self._sockets.add(sock)
        self._readers[sock.fileno()] = reader

    def remove(self, sock: socket.socket) -> None:
        """Forget `sock`, which is still open; nothing where it was not there."""
        if self._sockets is None or self._readers.pop(sock.fileno(), None) is None:
            return
        self._sockets.remove(sock.fileno())
        if not self._readers:
            self._close(self._sockets)

    def hold(self, sock: socket.socket, *, first: int, realtime_to_mono_ns: int) -> None:
        """Read `sock`, which was added, while events come; see `ReadySockets.hold`.

        Its reader is called when there is something to `take`.
        """
        assert self._sockets is not None, "the socket was added"
        self._sockets.hold(sock.fileno(), first=first, realtime_to_mono_ns=realtime_to_mono_ns)

    def take(self, sock: socket.socket) -> tuple[list[HeldRead], int]:
        """What was read of a socket that is held, and the error that ended it; see `ReadySockets.take`."""
        assert self._sockets is not None, "the socket was added"
        return self._sockets.take(sock.fileno())

    def note_merged(self) -> None:
        """Tell that one read brought several events of a stream, so that their times are unknown."""
        if self._timer is None:
            return  # not for waiting
        self._merged += 1
        if self._merged > _MERGED_AT_MOST:
            self.period_ms //= 2
            self._patience = min(2 * self._patience, _LONGEST_PATIENCE)
            self._reads = self._merged = self._clean_windows = 0

    def _on_ready(self) -> None:
        now = time.monotonic_ns()
        is_quick = now - self._last_ns < self.period_ms * 500_000
        self._quick_wakeups = self._quick_wakeups + 1 if is_quick else 0
        self._last_ns = now
        self._read()
        if self._quick_wakeups >= _QUICK_WAKEUPS and self.period_ms and self._sockets is not None:
            self._loop.remove_reader(self._sockets.fileno())
            self._timer = self._loop.call_later(self.period_ms / 1000, self._on_time)

    def _on_time(self) -> None:
        found = self._read()
        if self._sockets is None or self._timer is None:
            return  # the last socket has gone
        if found > 1 and self.period_ms:
            self._timer = self._loop.call_later(self.period_ms / 1000, self._on_time)
        else:
            self._timer, self._quick_wakeups = None, 0
            self._loop.add_reader(self._sockets.fileno(), self._on_ready)

    def _read(self) -> int:
        assert self._sockets is not None, "it wakes nobody up once it is closed"
        found, due = self._sockets.poll()
        readers = self._readers
        for descriptor in due:
            reader = readers.get(descriptor)
            if reader is not None:  # not removed by one before it
                reader()
        self._reads += found
        if self._reads >= _WINDOW_READS:
            self._end_window()
        return found

    def _end_window(self) -> None:
        self._clean_windows = 0 if self._merged else self._clean_windows + 1
        self._reads = self._merged = 0
        if self._clean_windows >= self._patience and self.period_ms < _LONGEST_MS:
            self.period_ms = min(2 * self.period_ms or 1, _LONGEST_MS)
            self._clean_windows = 0

    def _close(self, sockets: ReadySockets) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        else:
            self._loop.remove_reader(sockets.fileno())
        sockets.close()
        self._sockets = None
