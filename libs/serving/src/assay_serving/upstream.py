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
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from assay_serving.types import StampSource

# Linux' number on every architecture that an adapter runs on; the socket module does not name it.
_SO_TIMESTAMPNS = 35
_TIMESPEC = struct.Struct("@ll")
_READ_BYTES = 65536
_MAX_HEAD_BYTES = 65536
# A wall-clock step larger than this between the two ends of a request makes its kernel stamps useless.
_MAX_CLOCK_STEP_NS = 1_000_000


class UpstreamError(Exception):
    """The engine could not be reached, or broke off or garbled its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamAddress:
    """Where an engine listens: `host` and `port`, or `unix_path`."""

    host: str = "127.0.0.1"
    port: int = 0
    unix_path: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerEvent:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamReply:
    """A finished answer. `body` is empty where the answer was an event stream."""

    status: int
    body: bytes
    sent_mono_ns: int
    done_mono_ns: int
    stamp_source: StampSource


@dataclass(slots=True)
class ResponseParser:
    """Incremental parser of one HTTP/1.1 answer with length, chunked or until-close framing.

    `feed` returns the `data:` fields that became complete; other bodies collect in `body`. A response is
    `complete` when its framing says so.
    """

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    complete: bool = False
    _raw: bytearray = field(default_factory=bytearray)
    _lines: bytearray = field(default_factory=bytearray)
    _remaining: int = -1  # bytes left of the current chunk or of the body; -1: until close
    _chunked: bool = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take bytes as they came; return the completed `data:` fields.

        Raises:
            UpstreamError: what came is no HTTP/1.1 answer.
        """
        self._raw += data
        if not self.status and not self._parse_head():
            return []
        before = len(self.body)
        self._take_chunks() if self._chunked else self._take_plain()
        if not self.is_event_stream or len(self.body) == before:
            return []
        self._lines += self.body[before:]
        del self.body[before:]
        return self._complete_events()

    def close(self) -> None:
        """The other side has closed: right only where the framing allows it.

        Raises:
            UpstreamError: the answer is cut off.
        """
        if self.status and not self._chunked and self._remaining < 0:
            self.complete = True
        if not self.complete:
            raise UpstreamError("the engine closed the connection before its answer was complete")

    @property
    def is_event_stream(self) -> bool:
        """Whether the answer is a server-sent event stream."""
        return self.headers.get("content-type", "").startswith("text/event-stream")

    def _parse_head(self) -> bool:
        end = self._raw.find(b"\r\n\r\n")
        if end < 0:
            if len(self._raw) > _MAX_HEAD_BYTES:
                raise UpstreamError("the engine's answer has no end of its head")
            return False
        first, *lines = bytes(self._raw[:end]).decode("latin-1").split("\r\n")
        del self._raw[: end + 4]
        parts = first.split(" ", 2)
        if not parts[0].startswith("HTTP/1.") or len(parts) < 2 or not parts[1].isdecimal():
            raise UpstreamError(f"not an HTTP/1.1 answer: {first[:80]!r}")
        self.status = int(parts[1])
        for line in lines:
            name, _, value = line.partition(":")
            self.headers[name.strip().lower()] = value.strip()
        self._chunked = "chunked" in self.headers.get("transfer-encoding", "").lower()
        if not self._chunked and "content-length" in self.headers:
            self._remaining = int(self.headers["content-length"])
            self.complete = self._remaining == 0
        return True

    def _take_plain(self) -> None:
        taken = len(self._raw) if self._remaining < 0 else min(self._remaining, len(self._raw))
        self.body += self._raw[:taken]
        del self._raw[:taken]
        if self._remaining >= 0:
            self._remaining -= taken
            self.complete = self._remaining == 0

    def _take_chunks(self) -> None:
        while not self.complete:
            if self._remaining < 0:
                end = self._raw.find(b"\r\n")
                if end < 0:
                    return
                self._remaining = _chunk_size(bytes(self._raw[:end]))
                del self._raw[: end + 2]
            if self._remaining == 0:
                self.complete = True  # trailers are not read: the connection is closed after each answer
                return
            if len(self._raw) < self._remaining + 2:
                return
            self.body += self._raw[: self._remaining]
            del self._raw[: self._remaining + 2]
            self._remaining = -1

    def _complete_events(self) -> list[bytes]:
        *lines, rest = bytes(self._lines).split(b"\n")
        self._lines[:] = rest
        return [line[5:].strip() for line in lines if line.startswith(b"data:")]


def _chunk_size(line: bytes) -> int:
    try:
        return int(line.split(b";")[0], 16)
    except ValueError:
        raise UpstreamError(f"not a chunk size: {line[:40]!r}") from None


class _Exchange:
    """One connection for one request; closed at the end, which also cancels what the engine still does."""

    def __init__(self, address: UpstreamAddress, on_event: Callable[[ServerEvent], None] | None) -> None:
        self._loop = asyncio.get_running_loop()
        self._address = address
        self._on_event = on_event
        self._parser = ResponseParser()
        self._done: asyncio.Future[None] = self._loop.create_future()
        self._reads = 0
        self._stamps_by_kernel = False
        self._realtime_to_mono_ns = 0
        family = socket.AF_UNIX if address.unix_path else _family_of(address.host)
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setblocking(False)

    async def __aenter__(self) -> Self:
        target = self._address.unix_path or (self._address.host, self._address.port)
        try:
            await self._loop.sock_connect(self._socket, target)
        except OSError as error:
            self._socket.close()
            raise UpstreamError(f"cannot connect to the engine at {target}: {error.strerror}") from error
        except BaseException:
            self._socket.close()
            raise
        if not self._address.unix_path:
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if sys.platform == "linux":
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
                self._stamps_by_kernel = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.remove_reader(self._socket)
        self._socket.close()
        if self._done.done() and not self._done.cancelled():
            self._done.exception()  # seen: it may have lost against an error of the sending side

    async def run(self, request: bytes) -> UpstreamReply:
        self._realtime_to_mono_ns = _realtime_to_mono_ns()
        self._loop.add_reader(self._socket, self._on_readable)
        try:
            await self._loop.sock_sendall(self._socket, request)
        except OSError as error:
            # The engine may have answered (refusing a body) before it closed: that answer counts.
            if not self._parser.status:
                raise UpstreamError(f"the engine closed the connection: {error.strerror}") from error
        sent = time.monotonic_ns()
        await self._done
        done = time.monotonic_ns()
        # Kernel stamps are wall-clock times: they are void if somebody set the clock meanwhile.
        step = abs(_realtime_to_mono_ns() - self._realtime_to_mono_ns)
        by_kernel = self._stamps_by_kernel and step <= _MAX_CLOCK_STEP_NS
        return UpstreamReply(
            status=self._parser.status,
            body=bytes(self._parser.body),
            sent_mono_ns=sent,
            done_mono_ns=done,
            stamp_source=StampSource.KERNEL if by_kernel else StampSource.USER_SPACE,
        )

    def _on_readable(self) -> None:
        try:
            data, ancillary, _, _ = self._socket.recvmsg(_READ_BYTES, 64 if self._stamps_by_kernel else 0)
            now = time.monotonic_ns()
            self._reads += 1
            if data:
                self._dispatch(self._parser.feed(data), self._kernel_stamp(ancillary), now)
            else:
                self._parser.close()
        except BlockingIOError:
            return
        except OSError as error:
            self._finish(UpstreamError(f"the engine closed the connection: {error.strerror}"))
        except Exception as error:  # noqa: BLE001 - whatever a callback raises belongs to the waiting request
            self._finish(error)
        else:
            if self._parser.complete:
                self._finish(None)

    def _dispatch(self, events: list[bytes], kernel: int, read: int) -> None:
        if events and not kernel:
            self._stamps_by_kernel = False
        if self._on_event is None:
            return
        for data in events:
            self._on_event(
                ServerEvent(data=data, kernel_mono_ns=kernel, read_mono_ns=read, read_number=self._reads)
            )

    def _kernel_stamp(self, ancillary: list[tuple[int, int, bytes]]) -> int:
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
                seconds, nanoseconds = _TIMESPEC.unpack(content[: _TIMESPEC.size])
                return int(seconds) * 1_000_000_000 + int(nanoseconds) + self._realtime_to_mono_ns
        return 0

    def _finish(self, error: Exception | None) -> None:
        self._loop.remove_reader(self._socket)
        if self._done.done():
            return
        if error is None:
            self._done.set_result(None)
        else:
            self._done.set_exception(error)


async def exchange(
    address: UpstreamAddress,
    method: str,
    path: str,
    *,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    on_event: Callable[[ServerEvent], None] | None = None,
) -> UpstreamReply:
    """Send one request over a connection of its own and wait for the whole answer.

    `on_event` is called from the reader callback, in order, for each server-sent event; it must be quick. An
    exception in it ends the exchange and is raised here. Cancelling closes the connection.

    Raises:
        UpstreamError: no connection, or a cut-off or malformed answer.
    """
    lines = [f"{method} {path} HTTP/1.1", f"Host: {address.host}", "Connection: close"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    lines += [f"Content-Length: {len(body)}"]
    head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
    async with _Exchange(address, on_event) as connection:
        return await connection.run(head + body)


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
