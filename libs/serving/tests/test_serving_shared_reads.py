"""Sockets that share wake-ups. Nothing here depends on how fast this machine is."""

import asyncio
import socket
from collections.abc import Iterator

import pytest

from assay_serving.ready_sockets import ReadySockets
from assay_serving.shared_reads import SharedReads
from assay_serving.testing.socket_kinds import socket_kinds

KINDS = socket_kinds()
pytestmark = pytest.mark.skipif(not KINDS, reason="the kernel notes arrivals on Linux only")
SOCKETS = 32
ROUNDS = 40


@pytest.fixture
def pairs() -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    """Each with the end that is read, which does not block, and the end that is written to."""
    made = [socket.socketpair() for _ in range(SOCKETS)]
    for reading, _ in made:
        reading.setblocking(False)
    yield made
    for pair in made:
        for end in pair:
            end.close()


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> type[ReadySockets]:
    return KINDS[str(request.param)]


class Readers:
    """Reads everything, and notes what came and in which wake-up."""

    def __init__(self, shared: SharedReads, sockets: list[socket.socket]) -> None:
        self.came: list[bytes] = [b""] * len(sockets)
        self.wakeups: set[int] = set()
        self._wakeup = 0
        for number, sock in enumerate(sockets):
            shared.add(sock, lambda number=number, sock=sock: self._read(number, sock))  # type: ignore[misc]

    def _read(self, number: int, sock: socket.socket) -> None:
        self.came[number] += sock.recv(65536)
        # All reads of one wake-up come before what is called soon.
        self.wakeups.add(self._wakeup)
        asyncio.get_running_loop().call_soon(self._next)

    def _next(self) -> None:
        self._wakeup += 1

    async def have(self, length: int) -> None:
        while any(len(one) < length for one in self.came):
            await asyncio.sleep(0.001)


async def keep_busy(shared: SharedReads, pairs: list[tuple[socket.socket, socket.socket]]) -> Readers:
    """Send `ROUNDS` bytes over each pair, one after the other, until reads are shared."""
    readers = Readers(shared, [reading for reading, _ in pairs])
    for number in range(ROUNDS):
        for _, writing in pairs:
            writing.send(bytes([number]))
            await asyncio.sleep(0)
    await readers.have(ROUNDS)
    return readers


async def test_everything_comes_in_order_at_fewer_wakeups(
    pairs: list[tuple[socket.socket, socket.socket]], kind: type[ReadySockets]
) -> None:
    at_once, sharing = SharedReads(kind), SharedReads(kind)
    at_once.period_ms = 0
    alone = await keep_busy(at_once, pairs)
    for reading, _ in pairs:
        at_once.remove(reading)
    together = await keep_busy(sharing, pairs)
    assert alone.came == together.came == [bytes(range(ROUNDS))] * SOCKETS
    assert len(together.wakeups) < len(alone.wakeups) / 2


async def test_a_quiet_socket_is_read_after_busy_times(
    pairs: list[tuple[socket.socket, socket.socket]], kind: type[ReadySockets]
) -> None:
    shared = SharedReads(kind)
    readers = await keep_busy(shared, pairs)
    await asyncio.sleep(0.05)
    pairs[0][1].send(b"z")
    async with asyncio.timeout(10):
        while not readers.came[0].endswith(b"z"):
            await asyncio.sleep(0.001)


async def test_the_end_of_a_connection_wakes_its_reader(
    pairs: list[tuple[socket.socket, socket.socket]], kind: type[ReadySockets]
) -> None:
    shared, ended = SharedReads(kind), asyncio.Event()
    shared.add(pairs[0][0], lambda: ended.set() if pairs[0][0].recv(10) == b"" else None)
    pairs[0][1].shutdown(socket.SHUT_WR)
    async with asyncio.timeout(10):
        await ended.wait()


async def test_removed_sockets_are_not_read_and_others_can_follow(
    pairs: list[tuple[socket.socket, socket.socket]], kind: type[ReadySockets]
) -> None:
    shared, called = SharedReads(kind), asyncio.Event()
    (one, to_one), (other, to_other) = pairs[:2]
    shared.add(one, lambda: pytest.fail("it was removed"))
    shared.remove(one)
    shared.remove(one)
    to_one.send(b"x")
    shared.add(other, lambda: called.set() if other.recv(10) else None)
    to_other.send(b"x")
    async with asyncio.timeout(10):
        await called.wait()


async def test_reads_that_bring_several_chunks_shorten_the_period_and_clean_ones_lengthen_it(
    pairs: list[tuple[socket.socket, socket.socket]], kind: type[ReadySockets]
) -> None:
    shared = SharedReads(kind)
    longest, periods = shared.period_ms, []

    def merge(sock: socket.socket) -> None:
        sock.recv(10)
        shared.note_merged()
        periods.append(shared.period_ms)

    for reading, _ in pairs:
        shared.add(reading, lambda reading=reading: merge(reading))  # type: ignore[misc]
    while shared.period_ms:
        for _, writing in pairs:
            writing.send(b"x")
            await asyncio.sleep(0)
    assert periods == sorted(periods, reverse=True)
    assert periods[0] == longest
    for reading, _ in pairs:
        shared.remove(reading)

    for reading, _ in pairs:
        shared.add(reading, lambda reading=reading: reading.recv(10))  # type: ignore[misc]
    async with asyncio.timeout(60):
        while not shared.period_ms:
            for _, writing in pairs:
                writing.send(b"x")
            await asyncio.sleep(0)
    for reading, _ in pairs:
        shared.remove(reading)
