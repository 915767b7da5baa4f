"""Connections to an engine that serve more than one request."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest

from assay_serving.upstream import ServerEvent, Upstream, UpstreamAddress, UpstreamError

ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"9\r\ndata: 1\n\n\r\n0\r\n\r\n"
)


@dataclass
class CountingServer:
    """Answers requests; closes a connection after `requests_per_connection` of them."""

    requests_per_connection: int
    requests: int = 0
    connections: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            for _ in range(self.requests_per_connection):
                await reader.readuntil(b"\r\n\r\n")
                self.requests += 1
                await self.answer(writer)
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()
            self.closed.set()

    async def answer(self, writer: asyncio.StreamWriter) -> None:
        writer.write(ANSWER)
        await writer.drain()

    @asynccontextmanager
    async def running(self, *, keep_alive: bool = True) -> AsyncIterator[Upstream]:
        server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        async with server:
            port = server.sockets[0].getsockname()[1]
            upstream = Upstream(UpstreamAddress(port=port), keep_alive=keep_alive)
            try:
                yield upstream
            finally:
                upstream.close()


async def ask(upstream: Upstream) -> list[bytes]:
    events: list[ServerEvent] = []
    reply = await upstream.exchange("GET", "/", on_event=events.append)
    assert reply.status == 200
    return [event.data for event in events]


async def test_a_kept_connection_serves_the_next_request() -> None:
    server = CountingServer(requests_per_connection=100)
    async with server.running() as upstream:
        for _ in range(5):
            assert await ask(upstream) == [b"1"]
        assert (server.requests, server.connections) == (5, 1)


async def test_requests_at_the_same_time_have_connections_of_their_own() -> None:
    server = CountingServer(requests_per_connection=100)
    async with server.running() as upstream:
        for _ in range(3):
            assert await asyncio.gather(*(ask(upstream) for _ in range(4))) == [[b"1"]] * 4
        assert (server.requests, server.connections) == (12, 4)


async def test_without_keep_alive_every_request_has_its_own_connection() -> None:
    server = CountingServer(requests_per_connection=100)
    async with server.running(keep_alive=False) as upstream:
        for _ in range(3):
            assert await ask(upstream) == [b"1"]
        assert server.connections == 3


async def test_an_idle_connection_that_the_engine_closed_is_not_used_again() -> None:
    server = CountingServer(requests_per_connection=1)
    async with server.running() as upstream:
        for expected in (1, 2, 3):
            assert await ask(upstream) == [b"1"]
            await server.closed.wait()
            server.closed.clear()
            assert server.requests == expected
        assert server.connections == 3


async def test_a_connection_that_closes_under_a_request_is_replaced_once_nothing_had_come() -> None:
    class Closing(CountingServer):
        async def answer(self, writer: asyncio.StreamWriter) -> None:
            if self.requests == 2:
                writer.close()  # the second request meets a connection that has just timed out
            else:
                await super().answer(writer)

    server = Closing(requests_per_connection=100)
    async with server.running() as upstream:
        assert await ask(upstream) == [b"1"]
        assert await ask(upstream) == [b"1"]
        assert (server.requests, server.connections) == (3, 2)


async def test_a_half_answered_request_is_not_sent_again() -> None:
    class Breaking(CountingServer):
        async def answer(self, writer: asyncio.StreamWriter) -> None:
            if self.requests == 2:
                writer.write(ANSWER[:-20])
                await writer.drain()
                writer.close()
            else:
                await super().answer(writer)

    server = Breaking(requests_per_connection=100)
    async with server.running() as upstream:
        assert await ask(upstream) == [b"1"]
        with pytest.raises(UpstreamError, match="before its answer was complete"):
            await ask(upstream)
        assert server.requests == 2
        assert await ask(upstream) == [b"1"]
