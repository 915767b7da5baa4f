"""One connection to an engine, and when what came over it arrived.

Reads with `recvmsg` and notes the arrival of every server-sent event. On TCP sockets Linux stamps what comes
itself (SO_TIMESTAMPNS), so that it does not matter when this process reads. Stream sockets of the unix family
carry no such stamp; there, and on other systems, the clock is read after the read returned.
"""

import asyncio
import itertools
import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from assay_serving.http_parser import ResponseParser, UpstreamError
from assay_serving.ready_sockets import ANCILLARY_BYTES, MOST_EVENTS, kernel_stamp
from assay_serving.shared_reads import SharedReads
from assay_serving.tls import TlsChannel, TlsSettings
from assay_serving.types import StampSource

# Linux' number on every architecture that an adapter runs on; the socket module does not name it.
_SO_TIMESTAMPNS = 35
# A wall-clock step larger than this between the two ends of a request makes its kernel stamps useless.
_MAX_CLOCK_STEP_NS = 1_000_000
_turns = itertools.count()


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


class Connection:
    """One socket, used for one request at a time."""

    __slots__ = (
        "_ancillary_bytes",
        "_buffer",
        "_buffers",
        "_done",
        "_first_held",
        "_idle_in",
        "_is_held",
        "_is_spent",
        "_last_kernel_ns",
        "_last_read_ns",
        "_loop",
        "_on_event",
        "_parser",
        "_reads",
        "_realtime_to_mono_ns",
        "_receive_into",
        "_shared_reads",
        "_socket",
        "_stamps_this_answer",
        "_tls",
        "_tokens_come",
    )

    def __init__(
        self,
        sock: socket.socket,
        buffer: bytearray,
        shared_reads: SharedReads,
        *,
        stamps_by_kernel: bool,
        tls: TlsChannel | None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._receive_into = sock.recvmsg_into
        self._buffer = memoryview(buffer)
        self._buffers = (buffer,)
        self._tls = tls
        self._ancillary_bytes = ANCILLARY_BYTES if stamps_by_kernel else 0
        self._last_kernel_ns = 0  # of the last read that was not a lone event
        self._last_read_ns = 0
        self._stamps_this_answer = stamps_by_kernel
        self._parser = ResponseParser()
        self._on_event: OnEvent | None = None
        self._done: asyncio.Future[None] | None = None
        self._idle_in: list[Connection] | None = None
        self._reads = 0
        self._is_spent = False
        self._realtime_to_mono_ns = 0
        self._first_held = 1
        self._is_held = False
        self._tokens_come = False
        # Without the kernel's stamps the time of the read counts, which then must not wait for other sockets.
        self._shared_reads = shared_reads if stamps_by_kernel else None
        if self._shared_reads is not None:
            self._shared_reads.add(sock, self._on_readable)
        else:
            self._loop.add_reader(sock, self._on_readable)

    @classmethod
    async def open(
        cls, address: UpstreamAddress, buffer: bytearray, shared_reads: SharedReads
    ) -> "Connection":
        """Connect. `buffer` is read into by all connections in turn.

        Raises:
            UpstreamError: nobody answers there, or the server's certificate is refused.
        """
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
        return cls(sock, buffer, shared_reads, stamps_by_kernel=stamps, tls=tls)

    @property
    def has_answered(self) -> bool:
        """Whether anything of the last request's answer has come."""
        return self._reads > 0

    @property
    def may_be_kept(self) -> bool:
        """Whether another request may follow; False also where more came than was asked for."""
        return self._parser.may_be_kept and not self._is_spent

    def rest(self, idle: "list[Connection]") -> None:
        """Wait in `idle` for the next request; leaves it by itself when the engine closes."""
        self._idle_in = idle
        idle.append(self)

    def close(self) -> None:
        """End it, by which an engine learns that nobody waits any more. Idempotent."""
        if self._socket.fileno() >= 0:
            self._stop_reading()
            self._socket.close()
        if self._done is not None and self._done.done() and not self._done.cancelled():
            self._done.exception()  # seen: it may have lost against an error of the sending side

    async def run(self, request: bytes, on_event: OnEvent | None) -> UpstreamReply:
        """Send one request and wait for the whole answer; see `Upstream.exchange`."""
        self._parser, self._on_event, self._reads, self._idle_in = ResponseParser(), on_event, 0, None
        self._tokens_come = False
        # Streams that begin together shall not be taken together for ever, which would hold up all others.
        self._first_held = 1 + next(_turns) % MOST_EVENTS
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
        """Take what has come: all that was read while the socket was held, or what one read brings."""
        if self._done is None or self._done.done():
            self._end_idle()
            return
        try:
            if self._is_held:
                self._take_held()
            else:
                self._read()
        except BlockingIOError:
            pass
        except OSError as error:
            self._finish(UpstreamError(f"the engine closed the connection: {error.strerror}"))
        except Exception as error:  # noqa: BLE001 - whatever a callback raises belongs to the waiting request
            self._finish(error)
        else:
            if self._parser.complete:
                self._finish(None)
            elif not self._is_held:
                self._hold()

    def _hold(self) -> None:
        """Let ordinary tokens be read without this connection, many at a time.

        The first token may be waited for, so it is not among them.
        """
        is_plain = self._tls is None and self._on_event is not None
        if (
            self._shared_reads is not None
            and is_plain
            and self._tokens_come
            and self._parser.is_between_events
        ):
            self._shared_reads.hold(
                self._socket, first=self._first_held, realtime_to_mono_ns=self._realtime_to_mono_ns
            )
            self._is_held, self._first_held = True, MOST_EVENTS

    def _take_held(self) -> None:
        assert self._shared_reads is not None
        assert self._on_event is not None
        reads, error = self._shared_reads.take(self._socket)
        for data, kernel_ns, read_ns, is_event in reads:
            self._last_read_ns = read_ns
            if is_event:
                self._reads += 1
                self._on_event(ServerEvent(data, kernel_ns, read_ns, self._reads))
            else:
                self._is_held = False
                self._take_any(data, kernel_ns)
        if error and not self._parser.complete:
            raise OSError(error, os.strerror(error))

    def _read(self) -> None:
        count, ancillary, _, _ = self._receive_into(self._buffers, self._ancillary_bytes)
        data = bytes(self._buffer[:count])
        self._last_read_ns = time.monotonic_ns()
        self._take_any(data, kernel_stamp(ancillary, self._realtime_to_mono_ns))

    def _take(self, data: bytes, kernel_ns: int) -> None:
        self._reads += 1
        self._last_kernel_ns = kernel_ns
        events = self._parser.feed(data)
        if events:
            self._tokens_come = True
            if not kernel_ns:
                self._stamps_this_answer = False
        if len(events) > 1 and not self._parser.complete and self._shared_reads is not None:
            self._shared_reads.note_merged()
        if self._on_event is not None:
            for event in events:
                self._on_event(ServerEvent(event, kernel_ns, self._last_read_ns, self._reads))

    def _take_any(self, data: bytes, kernel_ns: int) -> None:
        """Take in what one read brought, decrypted first where need be; no `data` is the connection's end."""
        is_end = not data
        if self._tls is not None and data:
            data = self._tls.decrypt(data)
            is_end = self._tls.is_closed
        if data:  # nothing where only the beginning of a TLS record has come: its last bytes give the time
            self._take(data, kernel_ns)
        if is_end and not self._parser.complete:
            self._parser.close()

    def _end_idle(self) -> None:
        """The engine closed a connection that nobody uses, or sent what nobody asked for."""
        if self._idle_in is not None and self in self._idle_in:
            self._idle_in.remove(self)
            self.close()
        else:
            self._is_spent = True
            self._stop_reading()

    def _stop_reading(self) -> None:
        if self._shared_reads is not None:
            self._shared_reads.remove(self._socket)
        else:
            self._loop.remove_reader(self._socket)

    def _finish(self, error: Exception | None) -> None:
        if self._done is None or self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._stop_reading()
            self._done.set_exception(error)


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
