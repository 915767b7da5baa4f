"""A small HTTP/1.1 client whose purpose is to know when bytes arrived.

It speaks to an engine over TCP or a unix socket, reads with `recvmsg` from the event loop's reader callback
and hands every server-sent event to a callback at once, with the time of its arrival. On TCP sockets Linux
stamps each read itself (SO_TIMESTAMPNS), which takes this process's own delays out of the numbers. Stream
sockets of the unix family carry no such stamp; there, and on other systems, the clock is read after the read
returned.
"""

import asyncio
import socket
import struct
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from assay_serving.http_parser import ResponseParser, UpstreamError
from assay_serving.tls import TlsChannel, TlsSettings
from assay_serving.types import StampSource

__all__ = [
    "ResponseParser",
    "ServerEvent",
    "Upstream",
    "UpstreamAddress",
    "UpstreamError",
    "UpstreamReply",
    "exchange",
]

# Linux' number on every architecture that an adapter runs on; the socket module does not name it.
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_ANCILLARY_BYTES = 64
_READ_BYTES = 65536
# A wall-clock step larger than this between the two ends of a request makes its kernel stamps useless.
_MAX_CLOCK_STEP_NS = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamAddress:
    """Where an engine listens: `host` and `port`, or `unix_path`.

    `authority` is the name that requests are sent to, where that is not `host`; `path_prefix` goes before
    every path; with `tls` the connection is encrypted and the server's certificate checked.
    """

    host: str = "127.0.0.1"
    port: int = 0
    unix_path: str = ""
    authority: str = ""
    path_prefix: str = ""
    tls: TlsSettings | None = None


class ServerEvent(NamedTuple):
    """One `data:` field of an event stream.

    Of its two arrival times the reply's `stamp_source` says which to use: `kernel_mono_ns` (0 where the
    kernel gave none) or `read_mono_ns`, taken after the read returned. Events with equal `read_number`
    came in one read, and the times are those of the read's last bytes.
    """

    data: bytes
    kernel_mono_ns: int
    read_mono_ns: int
    read_number: int

    def arrived_mono_ns(self, source: StampSource) -> int:
        """The arrival by the clock that `source` names."""
        return self.kernel_mono_ns if source is StampSource.KERNEL else self.read_mono_ns


OnEvent = Callable[[ServerEvent], None]


class UpstreamReply(NamedTuple):
    """A finished answer. `body` is empty where the answer was an event stream.

    `sent_mono_ns` is when the request's last bytes were handed to the kernel, `done_mono_ns` when the last
    bytes of the answer arrived.
    """

    status: int
    body: bytes
    sent_mono_ns: int
    done_mono_ns: int
    stamp_source: StampSource


class Upstream:
    """One engine, reached over as many connections as requests are in flight at once.

    With `keep_alive` a connection serves one request after the other, which saves a handshake for each; use
    it where the engine does not drop idle connections at a bad moment. Without it every request has a
    connection of its own. A request that meets a kept connection which the engine has closed meanwhile is
    sent again over a new one. Used from one event loop.
    """

    def __init__(self, address: UpstreamAddress, *, keep_alive: bool) -> None:
        self._address = address
        self._keep_alive = keep_alive
        self._idle: list[_Connection] = []
        # One for all connections: it stays in the processor's cache.
        self._buffer = bytearray(_READ_BYTES)
        self._heads: dict[tuple[str, str], bytes] = {}

    async def exchange(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        on_event: OnEvent | None = None,
    ) -> UpstreamReply:
        """Send one request and wait for the whole answer.

        `on_event` is called from the reader callback, in order, for each server-sent event; it must be quick.
        An exception in it ends the exchange and is raised here. Cancelling closes the connection, by which
        an engine learns that nobody waits any more. The headers of a method and path are those that they
        were first used with.

        Raises:
            UpstreamError: no connection, or a cut-off or malformed answer.
        """
        request = b"%b%d\r\n\r\n%b" % (self._head(method, path, headers), len(body), body)
        while self._idle:
            connection = self._idle.pop()
            try:
                return await self._over(connection, request, on_event)
            except UpstreamError:
                if connection.has_answered:
                    raise
        return await self._over(await _Connection.open(self._address, self._buffer), request, on_event)

    def close(self) -> None:
        """Close the idle connections; those in use close with their requests."""
        self._keep_alive = False
        while self._idle:
            self._idle.pop().close()

    async def _over(
        self, connection: "_Connection", request: bytes, on_event: OnEvent | None
    ) -> UpstreamReply:
        try:
            reply = await connection.run(request, on_event)
        except BaseException:
            connection.close()
            raise
        if self._keep_alive and connection.may_be_kept:
            connection.rest(self._idle)
        else:
            connection.close()
        return reply

    def _head(self, method: str, path: str, headers: Mapping[str, str] | None) -> bytes:
        head = self._heads.get((method, path))
        if head is None:
            connection = "keep-alive" if self._keep_alive else "close"
            host = self._address.authority or self._address.host
            target = self._address.path_prefix + path
            lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", f"Connection: {connection}"]
            lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
            head = ("\r\n".join(lines) + "\r\nContent-Length: ").encode("latin-1")
            self._heads[method, path] = head
        return head


class _Connection:
    """One socket, used for one request at a time."""

    __slots__ = (
        "_ancillary_bytes",
        "_buffer",
        "_buffers",
        "_done",
        "_idle_in",
        "_is_spent",
        "_last_kernel_ns",
        "_last_read_ns",
        "_loop",
        "_on_event",
        "_parser",
        "_reads",
        "_realtime_to_mono_ns",
        "_receive_into",
        "_socket",
        "_stamps_this_answer",
        "_tls",
    )

    def __init__(
        self, sock: socket.socket, buffer: bytearray, *, stamps_by_kernel: bool, tls: TlsChannel | None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._receive_into = sock.recvmsg_into
        self._buffer = memoryview(buffer)
        self._buffers = (buffer,)
        self._tls = tls
        self._ancillary_bytes = _ANCILLARY_BYTES if stamps_by_kernel else 0
        self._last_kernel_ns = 0  # of the last read that was not a lone event
        self._last_read_ns = 0
        self._stamps_this_answer = stamps_by_kernel
        self._parser = ResponseParser()
        self._on_event: OnEvent | None = None
        self._done: asyncio.Future[None] | None = None
        self._idle_in: list[_Connection] | None = None
        self._reads = 0
        self._is_spent = False
        self._realtime_to_mono_ns = 0
        self._loop.add_reader(sock, self._on_readable)

    @classmethod
    async def open(cls, address: UpstreamAddress, buffer: bytearray) -> "_Connection":
        family = socket.AF_UNIX if address.unix_path else _family_of(address.host)
        target = address.unix_path or (address.host, address.port)
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.setblocking(False)
        stamps = False
        tls = TlsChannel(address.tls) if address.tls else None
        try:
            await asyncio.get_running_loop().sock_connect(sock, target)
            if not address.unix_path:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if sys.platform == "linux":
                    sock.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
                    stamps = True
            if tls is not None:
                await tls.handshake(sock)
        except OSError as error:
            sock.close()
            raise UpstreamError(f"cannot connect to the engine at {target}: {error.strerror}") from error
        except BaseException:
            sock.close()
            raise
        return cls(sock, buffer, stamps_by_kernel=stamps, tls=tls)

    @property
    def has_answered(self) -> bool:
        """Whether anything of the last request's answer has come."""
        return self._reads > 0

    @property
    def may_be_kept(self) -> bool:
        """Whether another request may follow; False also where more came than was asked for."""
        return self._parser.may_be_kept and not self._is_spent

    def rest(self, idle: "list[_Connection]") -> None:
        """Wait in `idle` for the next request; leaves it by itself when the engine closes."""
        self._idle_in = idle
        idle.append(self)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            self._loop.remove_reader(self._socket)
            self._socket.close()
        if self._done is not None and self._done.done() and not self._done.cancelled():
            self._done.exception()  # seen: it may have lost against an error of the sending side

    async def run(self, request: bytes, on_event: OnEvent | None) -> UpstreamReply:
        self._parser, self._on_event, self._reads, self._idle_in = ResponseParser(), on_event, 0, None
        self._stamps_this_answer = self._ancillary_bytes > 0
        self._realtime_to_mono_ns = _realtime_to_mono_ns()
        self._done = self._loop.create_future()
        sent = time.monotonic_ns()
        try:
            sent = await self._send(request)
        except OSError as error:
            # The engine may have answered (refusing a body) before it closed: that answer counts.
            if not self._parser.status:
                raise UpstreamError(f"the engine closed the connection: {error.strerror}") from error
        await self._done
        # Kernel stamps are wall-clock times: they are void if somebody set the clock meanwhile.
        step = abs(_realtime_to_mono_ns() - self._realtime_to_mono_ns)
        by_kernel = self._stamps_this_answer and self._last_kernel_ns > 0 and step <= _MAX_CLOCK_STEP_NS
        return UpstreamReply(
            status=self._parser.status,
            body=bytes(self._parser.body),
            sent_mono_ns=sent,
            done_mono_ns=max(sent, self._last_kernel_ns) if by_kernel else self._last_read_ns,
            stamp_source=StampSource.KERNEL if by_kernel else StampSource.USER_SPACE,
        )

    async def _send(self, request: bytes) -> int:
        """Hand all of it to the kernel and return when.

        The clock is read before the call, which wakes the engine: where both share a processor, the engine
        may be through with its work before this process goes on.
        """
        if self._tls is not None:
            request = self._tls.encrypt(request)
        sent = time.monotonic_ns()
        try:
            count = self._socket.send(request)
        except BlockingIOError:
            count = 0
        if count < len(request):
            await self._loop.sock_sendall(self._socket, memoryview(request)[count:])
            sent = time.monotonic_ns()
        return sent

    def _on_readable(self) -> None:
        """Take in what has come.

        This and `ResponseParser.lone_event` are all that runs for an ordinary token before the callback: what
        a token costs here decides how many streams one process can follow.
        """
        if self._done is None or self._done.done():
            self._end_idle()
            return
        try:
            count, ancillary, _, _ = self._receive_into(self._buffers, self._ancillary_bytes)
            self._last_read_ns = read_ns = time.monotonic_ns()
            data = bytes(self._buffer[:count])
            if self._tls is not None or not data:
                self._take_rarely(data, ancillary)
            elif (event := self._parser.lone_event(data)) is None or self._on_event is None or not ancillary:
                self._take(data, ancillary)
            else:
                self._reads += 1
                seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
                kernel_ns = seconds * 1_000_000_000 + nanoseconds + self._realtime_to_mono_ns
                self._on_event(ServerEvent(event, kernel_ns, read_ns, self._reads))
                return
        except BlockingIOError:
            return
        except OSError as error:
            self._finish(UpstreamError(f"the engine closed the connection: {error.strerror}"))
        except Exception as error:  # noqa: BLE001 - whatever a callback raises belongs to the waiting request
            self._finish(error)
        else:
            if self._parser.complete:
                self._finish(None)

    def _take(self, data: bytes, ancillary: list[tuple[int, int, bytes]]) -> None:
        self._reads += 1
        self._last_kernel_ns = self._kernel_stamp(ancillary)
        events = self._parser.feed(data)
        if events and not self._last_kernel_ns:
            self._stamps_this_answer = False
        if self._on_event is not None:
            for event in events:
                self._on_event(ServerEvent(event, self._last_kernel_ns, self._last_read_ns, self._reads))

    def _take_rarely(self, data: bytes, ancillary: list[tuple[int, int, bytes]]) -> None:
        """Take in what has to be decrypted first; empty `data` is the connection's end."""
        is_end = not data
        if self._tls is not None and data:
            data = self._tls.decrypt(data)
            is_end = self._tls.is_closed
        if data:  # nothing where only the beginning of a TLS record has come: its last bytes give the time
            self._take(data, ancillary)
        if is_end and not self._parser.complete:
            self._parser.close()

    def _end_idle(self) -> None:
        """The engine closed a connection that nobody uses, or sent what nobody asked for."""
        if self._idle_in is not None and self in self._idle_in:
            self._idle_in.remove(self)
            self.close()
        else:
            self._is_spent = True
            self._loop.remove_reader(self._socket)

    def _kernel_stamp(self, ancillary: list[tuple[int, int, bytes]]) -> int:
        if not ancillary:
            return 0
        # Nothing else was asked of this socket.
        seconds, nanoseconds = _TIMESPEC.unpack(ancillary[0][2])
        return int(seconds * 1_000_000_000 + nanoseconds + self._realtime_to_mono_ns)

    def _finish(self, error: Exception | None) -> None:
        if self._done is None or self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._loop.remove_reader(self._socket)
            self._done.set_exception(error)


async def exchange(
    address: UpstreamAddress,
    method: str,
    path: str,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    on_event: OnEvent | None = None,
) -> UpstreamReply:
    """Send one request over a connection of its own; see `Upstream.exchange`."""
    upstream = Upstream(address, keep_alive=False)
    return await upstream.exchange(method, path, body=body, headers=headers, on_event=on_event)


def _family_of(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


def _realtime_to_mono_ns() -> int:
    """What to add to CLOCK_REALTIME to get CLOCK_MONOTONIC, from the tightest of a few paired readings."""
    best_width, best = sys.maxsize, 0
    for _ in range(3):
        before = time.monotonic_ns()
        realtime = time.time_ns()
        after = time.monotonic_ns()
        if after - before < best_width:
            best_width, best = after - before, (before + after) // 2 - realtime
    return best
