"""Both kinds of `ReadySockets` over real connections: they read the same and lose nothing."""

import asyncio
import errno
import itertools
import os
import socket
import struct
import tracemalloc
from collections.abc import Iterator
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay_serving.http_connection import Connection
from assay_serving.ready_sockets import MOST_EVENTS, READ_BYTES, ReadySockets
from assay_serving.shared_reads import SharedReads
from assay_serving.testing.socket_kinds import SO_TIMESTAMPNS, socket_kinds, stamping_kernel
from assay_serving.upstream import ServerEvent, UpstreamError

KINDS = socket_kinds()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
TOKEN = b"b\r\ndata: one\n\n\r\n"
END = b"0\r\n\r\n"


class Pair(NamedTuple):
    """A loopback connection: the end that is read and stamped, and the end that is written to."""

    reading: socket.socket
    writing: socket.socket


def connected() -> Pair:
    with socket.create_server(("127.0.0.1", 0)) as server:
        writing = socket.create_connection(server.getsockname())
        reading, _ = server.accept()
    reading.setblocking(False)
    reading.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    writing.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return Pair(reading, writing)


@pytest.fixture(scope="module", autouse=True)
def stamping() -> Iterator[None]:
    with stamping_kernel():
        yield


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = connected()
    yield made
    for end in made:
        end.close()


@pytest.fixture(params=KINDS)
def sockets(request: pytest.FixtureRequest, pair: Pair) -> Iterator[ReadySockets]:
    """The pair's reading end is added and held."""
    made = KINDS[request.param]()
    made.add(pair.reading)
    made.hold(pair.reading.fileno(), first=MOST_EVENTS, realtime_to_mono_ns=0)
    yield made
    made.close()


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


_PARTS = st.one_of(
    st.binary(max_size=40).map(lambda text: chunk(b"data: " + text.replace(b"\n", b"") + b"\n\n")),
    st.sampled_from(
        [
            TOKEN,
            chunk(b"data:\n\n"),
            chunk(b"data: \t two words \x0b\n\n"),
            chunk(b"data: 1\n\ndata: 2\n\n"),
            chunk(b"data: 1\r\n\r\n"),
            chunk(b": comment\n\n"),
            chunk(b"event: x\ndata: 1\n\n"),
            chunk(b"data: with\n\n\r\n within\n\n"),
            chunk(b"data: " + b"x" * (READ_BYTES + 10) + b"\n\n"),
            b"B\r\ndata: one\n\n\r\n",
            b"0000b\r\ndata: one\n\n\r\n",
            b"00000000b\r\ndata: one\n\n\r\n",
            b"b;name=x\r\ndata: one\n\n\r\n",
            b"c\r\ndata: one\n\n\r\n",  # a byte is missing
            b"a\r\ndata: one\n\n\r\n",  # a byte too many
            b"+b\r\ndata: one\n\n\r\n",
            b"-8\r\ndata: one\n\n\r\n",
            b"0xb\r\ndata: one\n\n\r\n",
            b"bx\ndata: one\n\n\r\n",
            b"\r\n\r\n",
            b"fffffffffffffffff\r\ndata: one\n\n\r\n",
            END,
        ]
    ),
)


@st.composite
def pieces(draw: st.DrawFn) -> list[bytes]:
    """An answer as it is sent: mostly one chunk each time, as engines do, sometimes cut anywhere."""
    parts = [HEAD + TOKEN, *draw(st.lists(st.one_of(st.just(TOKEN), _PARTS), max_size=30))]
    parts += draw(st.sampled_from([[END], [END, b"HTTP/1.1"], []]))
    whole = b"".join(parts)
    starts, position = [], 0
    for part in parts:
        starts.append(position)
        position += len(part)
    joined = draw(st.sets(st.sampled_from(starts)))
    cuts = (set(starts) - joined) | set(draw(st.lists(st.integers(1, len(whole) - 1), max_size=3))) | {0}
    edges = [*sorted(cuts), len(whole)]
    return [whole[begin:end] for begin, end in itertools.pairwise(edges)]


class Outcome(NamedTuple):
    events: list[bytes]
    end: str


async def read_all(kind: type[ReadySockets], sent: list[bytes]) -> Outcome:
    """What a connection makes of `sent`, followed by the connection's end."""
    reading, writing = connected()
    writing.setblocking(False)
    shared = SharedReads(kind)
    shared.period_ms = 0
    connection = Connection(reading, bytearray(READ_BYTES), shared, stamps_by_kernel=True, tls=None)
    events: list[ServerEvent] = []
    loop = asyncio.get_running_loop()
    answer = asyncio.create_task(connection.run(b"x", events.append))
    try:
        await asyncio.sleep(0)
        for piece in sent:
            await loop.sock_sendall(writing, piece)
            await asyncio.sleep(0)
            await asyncio.sleep(0)
        writing.shutdown(socket.SHUT_WR)
        async with asyncio.timeout(60):
            reply = await answer
        end = f"{reply.status}"
    except UpstreamError as error:
        end = str(error)
    finally:
        connection.close()
        writing.close()
    stamps = [event.kernel_mono_ns for event in events]
    assert all(stamp > 0 for stamp in stamps)
    assert stamps == sorted(stamps)
    assert [event.read_number for event in events] == sorted(event.read_number for event in events)
    return Outcome([event.data for event in events], end)


@pytest.mark.skipif(len(KINDS) < 2, reason="nothing could be compiled here")
@settings(max_examples=50, deadline=None)
@given(pieces())
def test_both_kinds_read_the_same_whatever_comes(sent: list[bytes]) -> None:
    compiled, python = (asyncio.run(read_all(KINDS[name], sent)) for name in ("compiled", "python"))
    assert compiled == python


@pytest.mark.parametrize("kind", KINDS)
async def test_a_stream_of_tokens_comes_whole_and_in_order(kind: str) -> None:
    texts = [b"%d" % number for number in range(100)]
    sent = [HEAD, *(chunk(b"data: " + text + b"\n\n") for text in texts), END]
    assert await read_all(KINDS[kind], sent) == Outcome(texts, "200")


def test_events_are_held_until_there_are_enough(sockets: ReadySockets, pair: Pair) -> None:
    descriptor = pair.reading.fileno()
    for number in range(1, MOST_EVENTS + 1):
        pair.writing.send(TOKEN)
        assert sockets.poll() == (1, [descriptor] if number == MOST_EVENTS else [])
    pair.writing.send(TOKEN)
    assert sockets.poll() == (1, [descriptor]), "what was not taken is not read over"
    reads, error = sockets.take(descriptor)
    assert [data for data, *_ in reads] == [b"one"] * MOST_EVENTS
    assert all(is_event and kernel_ns > 0 for _, kernel_ns, _, is_event in reads)
    assert error == 0
    assert sockets.poll() == (1, [])
    assert len(sockets.take(descriptor)[0]) == 1


def test_anything_else_is_due_at_once_and_ends_the_holding(sockets: ReadySockets, pair: Pair) -> None:
    descriptor = pair.reading.fileno()
    for sent in (TOKEN, END):
        pair.writing.send(sent)
        _, due = sockets.poll()
    assert due == [descriptor]
    reads, _ = sockets.take(descriptor)
    assert [(data, is_event) for data, _, _, is_event in reads] == [(b"one", True), (END, False)]
    pair.writing.send(TOKEN)
    assert sockets.poll() == sockets.poll() == (1, [descriptor]), "it is read by whoever held it"
    assert sockets.take(descriptor) == ([], 0)
    assert pair.reading.recv(100) == TOKEN


def test_a_broken_connection_tells_its_error_after_what_came_before(
    sockets: ReadySockets, pair: Pair
) -> None:
    pair.writing.send(TOKEN)
    sockets.poll()
    pair.writing.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    pair.writing.close()
    assert sockets.poll()[1] == [pair.reading.fileno()]
    reads, error = sockets.take(pair.reading.fileno())
    assert [data for data, *_ in reads] == [b"one"]
    assert error == errno.ECONNRESET


def test_the_connections_end_is_a_read_of_nothing(sockets: ReadySockets, pair: Pair) -> None:
    pair.writing.close()
    sockets.poll()
    [(data, _, _, is_event)], error = sockets.take(pair.reading.fileno())
    assert (data, is_event, error) == (b"", False, 0)


def test_unstamped_reads_are_no_events(sockets: ReadySockets, pair: Pair) -> None:
    pair.reading.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 0)
    pair.writing.send(TOKEN + b"!")
    sockets.poll()
    [(data, kernel_ns, _, is_event)], _ = sockets.take(pair.reading.fileno())
    assert (data, kernel_ns, is_event) == (TOKEN + b"!", 0, False)


def test_wrong_use_is_refused(sockets: ReadySockets, pair: Pair) -> None:
    descriptor = pair.reading.fileno()
    for first in (0, MOST_EVENTS + 1):
        with pytest.raises(ValueError, match="first"):
            sockets.hold(descriptor, first=first, realtime_to_mono_ns=0)
    with pytest.raises(FileExistsError):
        sockets.add(pair.reading)
    sockets.remove(descriptor)
    for call in (sockets.remove, sockets.take):
        with pytest.raises(KeyError):
            call(descriptor)
    with pytest.raises(KeyError):
        sockets.hold(1 << 30, first=1, realtime_to_mono_ns=0)
    sockets.close()
    sockets.close()
    with pytest.raises(ValueError, match="close"):
        sockets.poll()


@pytest.mark.parametrize("kind", KINDS)
def test_many_connections_leave_nothing_behind(kind: str) -> None:
    def use(count: int) -> None:
        for number in range(count):
            sockets, pair = KINDS[kind](), connected()
            sockets.add(pair.reading)
            sockets.hold(pair.reading.fileno(), first=MOST_EVENTS, realtime_to_mono_ns=1)
            for _ in range(3):
                pair.writing.send(TOKEN)
                sockets.poll()
            if number % 3 == 0:
                sockets.take(pair.reading.fileno())
            elif number % 3 == 1:
                sockets.remove(pair.reading.fileno())
            for end in pair:
                end.close()
            if number % 2:
                sockets.close()

    use(50)
    open_before = len(os.listdir("/proc/self/fd"))
    tracemalloc.start()
    try:
        use(50)
        before, _ = tracemalloc.get_traced_memory()
        use(300)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 300 * 20, "less than one object for each"
    assert len(os.listdir("/proc/self/fd")) == open_before
