import asyncio
import socket
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay_serving.http_parser import lone_event
from assay_serving.testing.socket_kinds import stamping_kernel
from assay_serving.types import StampSource
from assay_serving.upstream import ResponseParser, ServerEvent, UpstreamAddress, UpstreamError, exchange

STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    b'c\r\ndata: {"a":1\r\n4\r\n}\n\n:\r\n10;x=y\r\n comment\n\ndata:2\r\n2\r\n\n\n\r\n'
    b"d\r\ndata: three\n\n\r\n0\r\n\r\n"
)
HEAD = STREAM[: STREAM.index(b"\r\n\r\n") + 4]
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@given(st.lists(st.integers(1, len(STREAM) - 1), max_size=8))
def test_events_do_not_depend_on_how_the_bytes_are_cut(cuts: list[int]) -> None:
    parser, events, last = ResponseParser(), [], 0
    for cut in [*sorted(set(cuts)), len(STREAM)]:
        events += parser.feed(STREAM[last:cut])
        last = cut
    assert events == [b'{"a":1}', b"2", b"three"]
    assert parser.complete
    assert parser.status == 200


def test_a_whole_chunk_with_one_event_is_taken_as_it_is() -> None:
    parser = ResponseParser()
    parser.feed(HEAD)
    assert parser.is_between_events
    assert lone_event(b"b\r\ndata: one\n\n\r\n") == b"one"
    assert parser.feed(b"b\r\ndata: two\n\n\r\n") == [b"two"]


@pytest.mark.parametrize(
    ("came", "raw"),
    [
        (b"", b"b\r\ndata: one\n\n\r\n"),  # before the head
        (HEAD + b"3\r\nda", b"ta: one\n\n\r\n"),
        (HEAD + b"3\r\ndat\r\n", b"8\r\na: one\n\n\r\n"),  # within a line
        (HEAD, b"12\r\ndata: 1\n\ndata: 2\n\n\r\n"),
        (HEAD, b"d\r\ndata: 1\r\n\r\n\r\n"),
        (HEAD, b"bx\ndata: one\n\n\r\n"),
        (HEAD, b"+b\r\ndata: one\n\n\r\n"),
        (HEAD, b"\ndata: one\n\n\r\n"),
        (HEAD, b"c\r\ndata: one\n\n\r\n"),  # a byte is missing
        (HEAD, b"b;x=y\r\ndata: one\n\n\r\n"),
        (HEAD, b"b\r\ndata: one\n\n\r\n0\r\n\r\n"),
        (HEAD, b"0\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n", b"b\r\ndata: one\n\n\r\n"),
    ],
)
def test_anything_else_is_no_lone_event(came: bytes, raw: bytes) -> None:
    parser = ResponseParser()
    if came:
        parser.feed(came)
    assert not parser.is_between_events or lone_event(raw) is None


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        (b"HTTP/1.1 400 Bad\r\nContent-Length: 3\r\n\r\nabc", b"abc"),
        (b"HTTP/1.1 204 None\r\nContent-Length: 0\r\n\r\n", b""),
    ],
)
def test_bodies_with_a_length(raw: bytes, body: bytes) -> None:
    parser = ResponseParser()
    assert parser.feed(raw) == []
    assert parser.complete
    assert bytes(parser.body) == body


@pytest.mark.parametrize("cut", [10, 60, len(STREAM) - 6])
def test_a_cut_off_answer_is_an_error(cut: int) -> None:
    parser = ResponseParser()
    parser.feed(STREAM[:cut])
    with pytest.raises(UpstreamError, match="before its answer was complete"):
        parser.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-x\r\n\r\n",
        *(STREAM.replace(b"c\r\n", size + b"\r\n", 1) for size in (b"zz", b"-8", b"+c", b"0xc", b"1_0", b"")),
    ],
)
def test_garbage_is_an_error(raw: bytes) -> None:
    with pytest.raises(UpstreamError, match="not a"):
        ResponseParser().feed(raw)


@asynccontextmanager
async def serving(handler: Handler, *, unix: Path | None = None) -> AsyncIterator[UpstreamAddress]:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await handler(reader, writer)
        finally:
            writer.close()

    if unix:
        server = await asyncio.start_unix_server(answer, unix)
        address = UpstreamAddress(unix_path=str(unix))
    else:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address = UpstreamAddress(port=server.sockets[0].getsockname()[1])
    async with server:
        yield address


async def stream_two(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    for text in (b"data: 1\n\n", b"data: 2\n\n"):
        writer.write(b"%x\r\n%s\r\n" % (len(text), text))
        await writer.drain()
        await asyncio.sleep(0.02)
    writer.write(b"0\r\n\r\n")
    await writer.drain()


@pytest.fixture
def stamping() -> Iterator[None]:
    with stamping_kernel():
        yield


@pytest.mark.skipif(sys.platform != "linux", reason="kernel receive times are Linux'")
@pytest.mark.usefixtures("stamping")
async def test_tcp_reads_carry_the_kernels_time_even_when_this_loop_is_late() -> None:
    events: list[ServerEvent] = []
    async with serving(stream_two) as address:
        before = time.monotonic_ns()

        def late(event: ServerEvent) -> None:
            time.sleep(0.1)
            events.append(event)

        reply = await exchange(address, "POST", "/", body=b"x", on_event=late)
    assert reply.stamp_source is StampSource.KERNEL
    assert [event.data for event in events] == [b"1", b"2"]
    first, second = events
    assert before <= first.kernel_mono_ns <= first.read_mono_ns
    assert first.kernel_mono_ns <= second.kernel_mono_ns <= second.read_mono_ns <= reply.done_mono_ns
    assert first.read_number < second.read_number
    assert reply.sent_mono_ns <= first.kernel_mono_ns


async def test_unix_sockets_say_that_their_times_are_user_space(tmp_path: Path) -> None:
    events: list[ServerEvent] = []
    async with serving(stream_two, unix=tmp_path / "s") as address:
        reply = await exchange(address, "POST", "/", on_event=events.append)
    assert reply.stamp_source is StampSource.USER_SPACE
    assert reply.sent_mono_ns <= events[0].arrived_mono_ns(reply.stamp_source) <= reply.done_mono_ns


async def test_nobody_listening_is_an_upstream_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = UpstreamAddress(port=taken.getsockname()[1])
        with pytest.raises(UpstreamError, match="cannot connect"):
            await exchange(address, "GET", "/")


async def test_an_exception_of_the_callback_reaches_the_caller() -> None:
    def refuse(event: ServerEvent) -> None:
        raise KeyError(event.data)

    async with serving(stream_two) as address:
        with pytest.raises(KeyError):
            await exchange(address, "GET", "/", on_event=refuse)


async def test_cancelling_closes_the_connection() -> None:
    closed = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        assert await reader.read() == b""
        closed.set()

    async with serving(hang) as address:
        task = asyncio.create_task(exchange(address, "GET", "/"))
        await asyncio.sleep(0.05)
        task.cancel()
        await asyncio.wait_for(closed.wait(), 10)
        assert task.cancelled()
