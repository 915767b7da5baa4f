"""Reads sensors by a clock of its own and hands the readings over to an event loop.

Every source has a thread and a schedule of its own, so that one that is slow, such as an exporter across the
network, delays no other. The schedule's deadlines are multiples of the period after the start: they do not
drift, and a read that comes late is not made up for. A reading is stamped with the middle of its read, which
is off by at most half the time that the read took.
"""

import asyncio
import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from assay_serving.event_loop import LoopLag
from assay_serving.power.host import ProcessTreeCpu
from assay_serving.power.source import PowerSource
from assay_serving.types import IdleBaseline, Reading, SensorKind, TelemetrySample

_logger = logging.getLogger(__name__)

DEFAULT_PERIOD = 0.2
_SHORTEST_PERIOD = 0.02
# Looking for the processes of a tree costs milliseconds, in which hardly another thread runs.
_CPU_SHARE = 0.01
_MOST_WAITING = 4096
_END_SECONDS = 0.5
_POLL_SECONDS = 0.005
_NANOSECONDS = 1e9
_NO_SOURCE = "no power sensor is known for what this instance runs on"


@dataclass(frozen=True, slots=True)
class _Pass:
    """What one read of one source brought."""

    lane: int
    mono_ns: int
    readings: tuple[Reading, ...] = ()
    unavailable: tuple[str, ...] = ()
    has_sensors: bool = False


class _CpuSource(PowerSource):
    """CPU time of a process tree, read as sensors are, and no more often than costs 1 % of a processor."""

    def __init__(self, cpu: ProcessTreeCpu) -> None:
        self._cpu = cpu
        self._cost = 0.0

    @property
    def sensors(self) -> tuple[SensorKind, ...]:
        return (SensorKind.CPU_TIME,)

    @property
    def unavailable(self) -> tuple[str, ...]:
        return ()

    @property
    def period(self) -> float:
        return self._cost / _CPU_SHARE

    def read(self) -> tuple[Reading, ...]:
        before = time.thread_time()
        reading = self._cpu.read()
        self._cost = time.thread_time() - before
        return (reading,)


def next_deadline(started: float, *, now: float, period: float) -> float:
    """The first multiple of `period` after `started` that lies after `now`; seconds, as all of these."""
    return started + ((now - started) // period + 1) * period


class _Lane:
    """One source, read by a thread until `stop`; the thread then closes the source."""

    def __init__(
        self, number: int, source: PowerSource, *, period: float, take: Callable[[_Pass], None]
    ) -> None:
        self._number = number
        self._source = source
        self._period = max(period, _SHORTEST_PERIOD)
        self._take = take
        self._stopped = threading.Event()
        self._has_read = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"power-{number}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()

    async def first_read(self) -> None:
        """Wait until the source was read once, or has failed."""
        # No thread waits for it: one that hangs with the source would keep the program from ending.
        while not self._has_read.is_set():  # noqa: ASYNC110 - another thread sets it
            await asyncio.sleep(_POLL_SECONDS)

    def join(self, timeout: float) -> None:
        self._thread.join(timeout)

    def _run(self) -> None:
        started = time.monotonic()
        try:
            while not self._stopped.is_set():
                self._take(self._read())
                self._has_read.set()
                period = max(self._period, self._source.period)
                due = next_deadline(started, now=time.monotonic(), period=period)
                self._stopped.wait(max(0.0, due - time.monotonic()))
        except Exception as error:
            _logger.exception("a power source has failed")
            reason = f"{type(self._source).__name__}: {error!r}"
            self._take(_Pass(self._number, time.monotonic_ns(), unavailable=(reason,)))
        finally:
            self._has_read.set()
            self._source.close()

    def _read(self) -> _Pass:
        before = time.monotonic_ns()
        readings = self._source.read()
        after = time.monotonic_ns()
        unavailable = self._source.unavailable
        took = (after - before) / _NANOSECONDS
        period = max(self._period, self._source.period)
        if took > period:
            name = type(self._source).__name__
            unavailable += (f"{name}: a read took {took:.2f} s, more than the {period:g} s between two",)
        return _Pass(
            lane=self._number,
            mono_ns=(before + after) // 2,
            readings=readings,
            unavailable=unavailable,
            has_sensors=bool(self._source.sensors),
        )


class _Mailbox:
    """Passes on their way from threads to an event loop; the oldest are dropped when there are too many."""

    def __init__(self, capacity: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self._lock = threading.Lock()
        self._waiting: deque[_Pass] = deque()
        self._capacity = capacity
        self._dropped = 0

    def put(self, one: _Pass) -> None:
        """From any thread; never waits."""
        with self._lock:
            self._waiting.append(one)
            if len(self._waiting) > self._capacity:
                self._waiting.popleft()
                self._dropped += 1
        with contextlib.suppress(RuntimeError):  # once the loop is closed, nobody waits any more
            self._loop.call_soon_threadsafe(self._arrived.set)

    async def take(self) -> tuple[list[_Pass], int]:
        """All that has arrived, at least one, in the order of its stamps; how many were dropped so far."""
        await self._arrived.wait()
        self._arrived.clear()
        with self._lock:
            arrived, dropped = list(self._waiting), self._dropped
            self._waiting.clear()
        return sorted(arrived, key=lambda one: one.mono_ns), dropped


async def sample(
    sources: Sequence[PowerSource],
    cpu: ProcessTreeCpu | None,
    *,
    period: float | None,
    lag: LoopLag,
    capacity: int = _MOST_WAITING,
) -> AsyncIterator[TelemetrySample]:
    """Read sensors until the iterator is closed; then the sources are closed.

    A sample has the readings of one source, those of a pass over its sensors; stamps of one sensor ascend.
    Every sample says of all sources why they cannot be read. A pass that brought neither readings nor news of
    that is not told.

    Args:
        cpu: read less often where that would cost more than 1 % of a processor.
        period: seconds between reads; `DEFAULT_PERIOD` where it is None or 0. A source may be slower.
        lag: of the running loop, started.
        capacity: passes that may wait to be taken; then the oldest are dropped, which the following samples
            say in `unavailable`.
    """
    mailbox = _Mailbox(capacity)
    read = (*sources, *([_CpuSource(cpu)] if cpu else []))
    lanes = [
        _Lane(number, source, period=period or DEFAULT_PERIOD, take=mailbox.put)
        for number, source in enumerate(read)
    ]
    # -1: before those of every source.
    reasons: dict[int, tuple[str, ...]] = {} if sources else {-1: (_NO_SOURCE,)}
    told: tuple[str, ...] = ()
    if not sources:
        told = reasons[-1]
        yield TelemetrySample(mono_ns=time.monotonic_ns(), unavailable=told)
    try:
        for lane in lanes:
            lane.start()
        while True:
            passes, dropped = await mailbox.take()
            for one in passes:
                reasons[one.lane] = one.unavailable
                unavailable = tuple(reason for lane in sorted(reasons) for reason in reasons[lane])
                if dropped:
                    unavailable += (
                        f"sampler: {dropped} samples were dropped, because nobody took them in time",
                    )
                if one.readings or unavailable != told:
                    told = unavailable
                    yield TelemetrySample(
                        mono_ns=one.mono_ns,
                        readings=one.readings,
                        unavailable=unavailable,
                        event_loop_lag=lag.largest_since(),
                    )
    finally:
        await _end(lanes)


async def _end(lanes: Sequence[_Lane]) -> None:
    """Stop the threads. One that hangs in a read is left behind and ends after it."""
    for lane in lanes:
        lane.stop()
    until = time.monotonic() + _END_SECONDS
    for lane in lanes:
        await asyncio.to_thread(lane.join, max(0.0, until - time.monotonic()))


@dataclass(slots=True)
class _Used:
    """Energy of one sensor between its first reading and its last."""

    scope: str
    first_ns: int
    last_ns: int
    last_value: float
    joules: float = 0.0
    readings: int = 1


class IdleMeter:
    """Mean power of devices before an engine is started on them. Without sensors it costs no time.

    `start`, then `finish`; or `stop` where what was to be started has failed. Used on one event loop.
    """

    def __init__(self, sources: Sequence[PowerSource], *, period: float | None = None) -> None:
        self._sources = tuple(sources)
        self._period = period or DEFAULT_PERIOD
        self._lanes: list[_Lane] = []
        self._lock = threading.Lock()
        self._used: dict[tuple[SensorKind, str], _Used] = {}
        self._has_sensors = False
        self._started = 0.0

    def start(self) -> None:
        """Begin to read."""
        self._started = time.monotonic()
        self._lanes = [
            _Lane(number, source, period=self._period, take=self._take)
            for number, source in enumerate(self._sources)
        ]
        for lane in self._lanes:
            lane.start()

    async def finish(self, at_least: float) -> tuple[IdleBaseline, ...]:
        """End reading, not before `at_least` seconds after `start`, and return the mean of each sensor.

        Returns:
            At once, and nothing, where the sources have no sensor. A sensor with fewer than two readings has
            no mean.
        """
        try:
            for lane in self._lanes:
                await lane.first_read()
            if self._has_sensors:
                await asyncio.sleep(max(0.0, self._started + at_least - time.monotonic()))
        finally:
            await self.stop()
        with self._lock:
            found = tuple(self._used.items())
        return tuple(
            IdleBaseline(
                kind=kind,
                device_id=device,
                scope=used.scope,
                watts=used.joules / ((used.last_ns - used.first_ns) / _NANOSECONDS),
                seconds=(used.last_ns - used.first_ns) / _NANOSECONDS,
                readings=used.readings,
            )
            for (kind, device), used in found
            if used.last_ns > used.first_ns
        )

    async def stop(self) -> None:
        """End reading and close the sources. Idempotent."""
        lanes, self._lanes = self._lanes, []
        await _end(lanes)

    def _take(self, one: _Pass) -> None:
        with self._lock:
            self._has_sensors |= one.has_sensors
            for reading in one.readings:
                self._add(reading, at_ns=one.mono_ns)

    def _add(self, reading: Reading, *, at_ns: int) -> None:
        is_counter = reading.joules_total is not None
        value = reading.joules_total if is_counter else reading.watts
        if value is None:
            return
        used = self._used.get((reading.kind, reading.device_id))
        if used is None:
            self._used[reading.kind, reading.device_id] = _Used(reading.scope, at_ns, at_ns, value)
            return
        seconds = (at_ns - used.last_ns) / _NANOSECONDS
        used.joules += value - used.last_value if is_counter else (used.last_value + value) / 2 * seconds
        used.last_ns, used.last_value = at_ns, value
        used.readings += 1
