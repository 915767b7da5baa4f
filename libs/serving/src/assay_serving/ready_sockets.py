"""Which sockets can be read, and the reading of those whose events may be looked at later.

There are two of a kind: `_ready_sockets.c`, compiled when the package is installed, and `PythonReadySockets`
where there was no compiler. What they do is the same; the first takes less processor time.
"""

import errno
import select
import socket
import struct
import time
from typing import NamedTuple, Protocol

from assay_serving.http_parser import lone_event

MOST_EVENTS = 8
"""Of one stream that are held.

More would save little, and what is left of them when many answers end together would hold up the others.
"""
READ_BYTES = 65536
_MOST_SOCKETS = 512  # of one call; the others are taken at the next
# As nearly all tokens come: an HTTP chunk that holds one event.
_CHUNK_OF_EVENT_END = b"\n\n\r\n"
_TIMESPEC = struct.Struct("@ll")
ANCILLARY_BYTES = 64
"""Room for what the kernel notes of a read."""


class HeldRead(NamedTuple):
    """What one read brought, and when; the compiled kind gives plain tuples.

    With `is_event` it was one whole HTTP chunk that holds one server-sent event of one line, and `data` is
    its `data:` field. Otherwise `data` is what came, and nothing if that was the connection's end.
    `kernel_ns` is 0 where the kernel made no note; both times are monotonic nanoseconds.
    """

    data: bytes
    kernel_ns: int
    read_ns: int
    is_event: bool


class ReadySockets(Protocol):
    """Sockets that are polled and, while they are held, read together; named by their descriptors."""

    def fileno(self) -> int:
        """The descriptor that is readable when a socket is."""

    def add(self, sock: socket.socket, /) -> None:
        """Poll this socket too; it does not block, and stays open until it is removed.

        Raises:
            OSError: it cannot be polled, or was added before.
        """

    def remove(self, descriptor: int, /) -> None:
        """Forget this socket, and what is held of it.

        Raises:
            KeyError: it was not added.
        """

    def hold(self, descriptor: int, *, first: int, realtime_to_mono_ns: int) -> None:
        """Read this socket in `poll`, as long as whole chunks with one event come that the kernel stamped.

        `poll` names it after `first` events (1 to `MOST_EVENTS`), then after every `MOST_EVENTS`, and at once
        when anything else has come, which ends the holding. `realtime_to_mono_ns` is added to kernel stamps.

        Raises:
            KeyError: it was not added.
            ValueError: `first` is out of range.
        """

    def take(self, descriptor: int, /) -> tuple[list[HeldRead], int]:
        """What is held of this socket, and the `errno` of the read that failed after it, or 0.

        Where the last read is no event, the holding has ended; reads that are no event have only such
        after them.
        """

    def poll(self) -> tuple[int, list[int]]:
        """How many sockets were ready, and which of them are due: those not held, and as `hold` says."""

    def close(self) -> None:
        """Forget everything. Idempotent."""


class _Held:
    """What is held of one socket."""

    __slots__ = ("error", "is_held", "limit", "offset_ns", "reads", "receive_into")

    def __init__(self, sock: socket.socket) -> None:
        self.receive_into = sock.recvmsg_into
        self.limit = MOST_EVENTS
        self.offset_ns = 0
        self.reads: list[tuple[bytes, list[tuple[int, int, bytes]], int]] = []
        self.error = 0
        self.is_held = False


class PythonReadySockets:
    """`ReadySockets` where nothing could be compiled."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._sockets: dict[int, _Held] = {}
        # One for all sockets: it stays in the processor's cache.
        self._buffer = bytearray(READ_BYTES)
        self._buffers = (self._buffer,)

    def fileno(self) -> int:
        """See `ReadySockets.fileno`."""
        return self._epoll.fileno()

    def add(self, sock: socket.socket, /) -> None:
        """See `ReadySockets.add`."""
        self._epoll.register(sock.fileno(), select.EPOLLIN)
        self._sockets[sock.fileno()] = _Held(sock)

    def remove(self, descriptor: int, /) -> None:
        """See `ReadySockets.remove`."""
        del self._sockets[descriptor]
        self._epoll.unregister(descriptor)

    def hold(self, descriptor: int, *, first: int, realtime_to_mono_ns: int) -> None:
        """See `ReadySockets.hold`."""
        held = self._sockets[descriptor]
        if not 1 <= first <= MOST_EVENTS:
            raise ValueError(f"first: {first} is not between 1 and {MOST_EVENTS}")
        held.limit, held.offset_ns, held.is_held = first, realtime_to_mono_ns, True

    def take(self, descriptor: int, /) -> tuple[list[HeldRead], int]:
        """See `ReadySockets.take`."""
        held = self._sockets[descriptor]
        reads, error = held.reads, held.error
        held.reads, held.error, held.limit = [], 0, MOST_EVENTS
        taken = []
        for data, ancillary, read_ns in reads:
            kernel_ns = kernel_stamp(ancillary, held.offset_ns)
            event = lone_event(data) if held.is_held and kernel_ns else None
            held.is_held = event is not None
            taken.append(HeldRead(data if event is None else event, kernel_ns, read_ns, held.is_held))
        held.is_held = held.is_held and not error
        return taken, error

    def poll(self) -> tuple[int, list[int]]:
        """See `ReadySockets.poll`."""
        ready = self._epoll.poll(0, _MOST_SOCKETS)
        sockets = self._sockets
        due = []
        for descriptor, _ in ready:
            held = sockets[descriptor]
            if not held.is_held or self._read(held):
                due.append(descriptor)
        return len(ready), due

    def _read(self, held: _Held) -> bool:
        """Read once; whether it is due. What an event says is looked at later."""
        if held.error or len(held.reads) >= MOST_EVENTS:
            return True  # they were not taken
        try:
            count, ancillary, _, _ = held.receive_into(self._buffers, ANCILLARY_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            held.error = error.errno or errno.EIO
            return True
        data = bytes(memoryview(self._buffer)[:count])
        held.reads.append((data, ancillary, time.monotonic_ns()))
        # An answer's end never looks like that of an event's chunk.
        return not data.endswith(_CHUNK_OF_EVENT_END) or len(held.reads) >= held.limit

    def close(self) -> None:
        """See `ReadySockets.close`."""
        self._sockets.clear()
        self._epoll.close()


def kernel_stamp(ancillary: list[tuple[int, int, bytes]], offset_ns: int) -> int:
    """The kernel's note of when the bytes came, plus `offset_ns`; 0 where it made none.

    Nothing else may have been asked of the socket.
    """
    if not ancillary:
        return 0
    seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
    return int(seconds * 1_000_000_000 + nanoseconds + offset_ns)


def compiled_ready_sockets() -> type[ReadySockets] | None:
    """The compiled kind; None where the package was installed without a compiler or not for Linux."""
    try:
        from assay_serving._ready_sockets import ReadySockets as Compiled
    except ImportError:
        return None
    return Compiled


def fastest_ready_sockets() -> type[ReadySockets]:
    """The compiled kind where there is one."""
    return compiled_ready_sockets() or PythonReadySockets
