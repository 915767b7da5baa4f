"""An endpoint of known timing: ``python -I -S calibration_endpoint.py CHUNKS INTERVAL_SECONDS``.

Answers every HTTP request on a free port of 127.0.0.1, which it prints, by a stream of server-sent events.
Each event says when its bytes were handed to the kernel (`sent`) and when the request had arrived
(`arrived`), both CLOCK_MONOTONIC in nanoseconds. Ends when its standard input does, and so with whoever
started it. It needs the standard library alone, and so listens within some 30 milliseconds.
"""

import heapq
import select
import socket
import struct
import sys
import time
from typing import NamedTuple

_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_END = b"0\r\n\r\n"
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_STDIN = 0


class _Due(NamedTuple):
    """The next event of one answer."""

    at_ns: int
    descriptor: int
    number: int
    arrived_ns: int


class _Endpoint:
    """One thread, one poll: what is due is sent at once, and between that requests are taken."""

    def __init__(self, *, chunks: int, interval_ns: int) -> None:
        self._chunks = chunks
        self._interval_ns = interval_ns
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        if sys.platform == "linux":
            # Connections inherit it. The first socket of a host that asks for stamps has to wait for them.
            self._listener.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self._clients: dict[int, socket.socket] = {}
        self._partial: dict[int, bytes] = {}
        self._due: list[_Due] = []
        self._poll = select.poll()
        self._poll.register(_STDIN, select.POLLIN)
        self._poll.register(self._listener, select.POLLIN)

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def serve(self) -> None:
        """Serve until standard input ends."""
        while True:
            wait_ns = self._due[0].at_ns - time.monotonic_ns() if self._due else None
            for descriptor, _ in self._poll.poll(wait_ns and max(0, wait_ns) / 1e6):
                if descriptor == _STDIN:
                    return
                if descriptor == self._listener.fileno():
                    self._accept()
                else:
                    self._read(descriptor)
            while self._due and self._due[0].at_ns <= time.monotonic_ns():
                self._send(heapq.heappop(self._due))

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._clients[client.fileno()] = client
        self._partial[client.fileno()] = b""
        self._poll.register(client, select.POLLIN)

    def _read(self, descriptor: int) -> None:
        try:
            data, ancillary, _, _ = self._clients[descriptor].recvmsg(65536, 64)
        except OSError:
            data, ancillary = b"", []
        if not data:
            self._close(descriptor)
            return
        self._partial[descriptor] += data
        head, end, body = self._partial[descriptor].partition(b"\r\n\r\n")
        if end and len(body) >= _content_length(head):
            self._partial[descriptor] = b""
            arrived = _arrival_ns(ancillary)
            heapq.heappush(self._due, _Due(arrived + self._interval_ns, descriptor, 0, arrived))

    def _send(self, due: _Due) -> None:
        client = self._clients.get(due.descriptor)
        if client is None:
            return
        is_last = due.number == self._chunks - 1
        now = time.monotonic_ns()
        event = b'data: {"number":%d,"arrived":%d,"sent":%d}\n\n' % (due.number, due.arrived_ns, now)
        chunk = b"%x\r\n%b\r\n" % (len(event), event)
        try:
            client.sendall((b"" if due.number else _HEAD) + chunk + (_END if is_last else b""))
        except OSError:
            self._close(due.descriptor)
            return
        if not is_last:
            after = due._replace(at_ns=due.at_ns + self._interval_ns, number=due.number + 1)
            heapq.heappush(self._due, after)

    def _close(self, descriptor: int) -> None:
        self._poll.unregister(descriptor)
        self._clients.pop(descriptor).close()
        del self._partial[descriptor]
        self._due = [due for due in self._due if due.descriptor != descriptor]
        heapq.heapify(self._due)


def _content_length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


def _arrival_ns(ancillary: list[tuple[int, int, bytes]]) -> int:
    """When the kernel took the last bytes, where it says so: this process may have been woken late."""
    now, realtime = time.monotonic_ns(), time.time_ns()
    for level, kind, content in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack_from(content)
            return int(seconds * 1_000_000_000 + nanoseconds + now - realtime)
    return now


def main() -> None:
    """Print the port and serve."""
    endpoint = _Endpoint(chunks=int(sys.argv[1]), interval_ns=int(float(sys.argv[2]) * 1e9))
    print(endpoint.port, flush=True)
    endpoint.serve()


if __name__ == "__main__":
    main()
