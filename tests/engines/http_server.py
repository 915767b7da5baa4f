"""A small HTTP/1.1 server on asyncio's transports, with the header names and habits of uvicorn.

One task per request; it is cancelled when the client closes its connection, by which a model server learns
that nobody waits any more. Connections are kept for the next request and closed after some idle seconds.
"""

import asyncio
import email.utils
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

_HEAD_END = b"\r\n\r\n"
_MAX_HEAD_BYTES = 65536


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request; header names are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Reply:
    """The answer to one request: `send` once, or `begin_events`, any number of `send_event`, `end_events`."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self.has_begun = False

    def send(
        self,
        status: int,
        body: bytes = b"",
        *,
        content_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Send a whole answer."""
        self.has_begun = True
        lines = {"content-length": str(len(body)), **({"content-type": content_type} if body else {})}
        self._transport.write(_head(status, lines | dict(headers or {})) + body)

    def send_json(self, status: int, content: Any, *, headers: Mapping[str, str] | None = None) -> None:
        """Send a whole answer as JSON."""
        self.send(status, dump(content).encode(), headers=headers)

    def begin_events(self) -> None:
        """Begin a stream of server-sent events."""
        self.has_begun = True
        lines = {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}
        self._transport.write(_head(200, lines))

    def send_event(self, data: str) -> None:
        """Send one event as one chunk."""
        event = f"data: {data}\n\n".encode()
        self._transport.write(b"%x\r\n%b\r\n" % (len(event), event))

    def end_events(self) -> None:
        """End the stream."""
        self._transport.write(b"0\r\n\r\n")

    def cut(self) -> None:
        """Close the connection at once, in the middle of whatever it is."""
        self._transport.abort()


Handler = Callable[[Request, Reply], Awaitable[None]]


def dump(content: Any) -> str:
    """JSON without blanks, as pydantic writes it."""
    return json.dumps(content, separators=(",", ":"), ensure_ascii=False)


class Connection(asyncio.Protocol):
    """One client's connection: one request after the other."""

    def __init__(self, handler: Handler, *, idle_seconds: float) -> None:
        self._handler = handler
        self._idle_seconds = idle_seconds
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._task: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """See Protocol."""
        self._transport = None
        self._stop_timer()
        if self._task is not None:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        """See Protocol."""
        self._stop_timer()
        self._received += data
        if self._task is None:
            self._take_request()

    def _take_request(self) -> None:
        assert self._transport is not None
        try:
            taken = _parse(self._received)
        except ValueError:
            Reply(self._transport).send(400, b"Invalid HTTP request received.", content_type="text/plain")
            self._transport.close()
            return
        if taken is None:
            return
        request, size = taken
        del self._received[:size]
        self._task = self._loop.create_task(self._answer(request))

    async def _answer(self, request: Request) -> None:
        assert self._transport is not None
        reply = Reply(self._transport)
        closes = request.headers.get("connection", "").lower() == "close"
        try:
            await self._handler(request, reply)
        except Exception:
            if not reply.has_begun:
                reply.send(500, b"Internal Server Error", content_type="text/plain; charset=utf-8")
            closes = True
            raise
        finally:
            self._task = None
            self._rest(closes=closes)

    def _rest(self, *, closes: bool) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if closes:
            self._transport.close()
        elif self._received:
            self._take_request()
        else:
            self._timer = self._loop.call_later(self._idle_seconds, self._transport.close)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def _parse(received: bytearray) -> tuple[Request, int] | None:
    """The first request and its length, or ``None`` until all of it is there; raises ValueError."""
    end = received.find(_HEAD_END)
    if end < 0:
        if len(received) > _MAX_HEAD_BYTES:
            raise ValueError("head too long")
        return None
    first, *lines = received[:end].decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    if not version.startswith("HTTP/1."):
        raise ValueError(version)
    headers = {}
    for line in lines:
        name, found, value = line.partition(":")
        if not found:
            raise ValueError(line)
        headers[name.strip().lower()] = value.strip()
    size = end + len(_HEAD_END) + int(headers.get("content-length", "0"))
    if len(received) < size:
        return None
    body = bytes(received[end + len(_HEAD_END) : size])
    return Request(method=method, path=target.partition("?")[0], headers=headers, body=body), size


def _head(status: int, headers: Mapping[str, str]) -> bytes:
    lines = {"date": email.utils.formatdate(usegmt=True), "server": "uvicorn", **headers}
    phrase = HTTPStatus(status).phrase
    text = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"HTTP/1.1 {status} {phrase}\r\n{text}\r\n".encode("latin-1")
