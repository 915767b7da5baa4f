"""Sensors read by a clock of their own: what is delivered, in which order, and what is told when not."""

import asyncio
import os
import threading
import time
from contextlib import aclosing

import pytest
from hypothesis import given
from hypothesis.strategies import floats, lists

from assay_serving.event_loop import LoopLag
from assay_serving.power.host import ProcessTreeCpu
from assay_serving.power.sampler import IdleMeter, next_deadline, sample
from assay_serving.power.source import PowerSource
from assay_serving.types import Reading, SensorKind, TelemetrySample

CARD = SensorKind.NVML_POWER


class Scripted(PowerSource):
    """A card of 60 W that does at each read what the script says.

    `hold`: reads wait until it is set. `fails`: after so many reads. `gone`: no reading after so many.
    """

    def __init__(self, name: str, *, gone: int | None = None, fails: int | None = None) -> None:
        self.name = name
        self.reads: list[int] = []
        self.threads: set[int] = set()
        self.closed = threading.Event()
        self.hold = threading.Event()
        self.hold.set()
        self.reading = threading.Event()
        self._gone = gone
        self._fails = fails

    @property
    def sensors(self) -> tuple[SensorKind, ...]:
        return () if self._has_gone else (CARD,)

    @property
    def unavailable(self) -> tuple[str, ...]:
        return (f"{self.name}: lost",) if self._has_gone else ()

    @property
    def _has_gone(self) -> bool:
        return self._gone is not None and len(self.reads) > self._gone

    def read(self) -> tuple[Reading, ...]:
        self.threads.add(threading.get_ident())
        before = time.monotonic_ns()
        self.reading.set()
        self.hold.wait()
        self.reads.append((before + time.monotonic_ns()) // 2)
        if self._fails is not None and len(self.reads) > self._fails:
            raise RuntimeError("a defect")
        return () if self._has_gone else (Reading(kind=CARD, device_id=self.name, scope="card", watts=60.0),)

    def close(self) -> None:
        self.closed.set()


@pytest.fixture
async def lag() -> LoopLag:
    made = LoopLag()
    made.start()
    return made


async def samples_of(
    count: int, *sources: PowerSource, lag: LoopLag, cpu: ProcessTreeCpu | None = None, period: float = 0.02
) -> list[TelemetrySample]:
    async with aclosing(sample(sources, cpu, period=period, lag=lag)) as stream:  # type: ignore[type-var]
        taken: list[TelemetrySample] = []
        async for one in stream:
            taken.append(one)
            if len(taken) == count:
                return taken
    raise AssertionError("the stream has ended")


async def test_readings_come_in_order_with_the_middle_of_their_read(lag: LoopLag) -> None:
    source = Scripted("a")
    taken = await samples_of(5, source, lag=lag)
    stamps = [one.mono_ns for one in taken]
    assert stamps == sorted(stamps)
    assert source.closed.is_set()
    # The source notes the middle of its read as well, without what the call itself takes.
    for stamp, read in zip(stamps, source.reads, strict=False):
        assert abs(stamp - read) < 1_000_000_000
    assert all(one.readings[0].watts == 60.0 and one.event_loop_lag >= 0 for one in taken)
    assert len(source.threads) == 1
    assert threading.get_ident() not in source.threads


@given(started=floats(0, 1e7), lateness=lists(floats(0, 5), min_size=1, max_size=30), period=floats(0.02, 30))
def test_deadlines_do_not_drift_and_what_is_missed_is_not_made_up_for(
    started: float, lateness: list[float], period: float
) -> None:
    now = started
    for late in lateness:
        due = next_deadline(started, now=now, period=period)
        assert now - 1e-6 <= due <= now + period + 1e-6
        multiple = (due - started) / period
        assert multiple == pytest.approx(round(multiple), abs=1e-6)
        now = due + late


async def test_reads_are_no_closer_than_the_period(lag: LoopLag) -> None:
    taken = await samples_of(6, Scripted("a"), lag=lag, period=0.03)
    # Multiples of the period apart, of which the first read may be late by nearly one.
    assert taken[-1].mono_ns - taken[0].mono_ns >= 4 * 30_000_000


async def test_a_source_that_hangs_delays_no_other(lag: LoopLag) -> None:
    hanging, quick = Scripted("hanging"), Scripted("quick")
    hanging.hold.clear()
    taken = await samples_of(5, hanging, quick, lag=lag)
    assert {one.readings[0].device_id for one in taken} == {"quick"}
    assert hanging.reading.is_set()
    assert not hanging.closed.is_set(), "it is closed by its own thread, after its read"
    hanging.hold.set()
    await asyncio.to_thread(hanging.closed.wait, 30)
    assert hanging.closed.is_set()


async def test_a_read_that_takes_longer_than_the_period_is_told(lag: LoopLag) -> None:
    source = Scripted("slow")
    source.hold.clear()
    releasing = asyncio.create_task(asyncio.to_thread(release_after, 0.05, source))
    first = (await samples_of(1, source, lag=lag))[0]
    await releasing
    assert "Scripted: a read took" in first.unavailable[0]
    assert first.readings, "it is a reading all the same, stamped in the middle"


def release_after(seconds: float, source: Scripted) -> None:
    """Let the read that has begun take at least so long."""
    source.reading.wait()
    time.sleep(seconds)
    source.hold.set()


async def test_a_sensor_that_vanishes_is_told_once_and_no_reading_is_made_up(lag: LoopLag) -> None:
    taken = await samples_of(4, Scripted("a", gone=3), lag=lag)
    assert [len(one.readings) for one in taken] == [1, 1, 1, 0]
    assert [one.unavailable for one in taken] == [(), (), (), ("a: lost",)]


async def test_a_defect_in_a_source_ends_that_source_alone(lag: LoopLag) -> None:
    broken, sound = Scripted("broken", fails=0), Scripted("sound")
    taken = await samples_of(6, broken, sound, lag=lag)
    assert taken[-1].readings
    assert any("a defect" in reason for reason in taken[-1].unavailable)
    assert broken.closed.is_set()


async def test_every_sample_says_of_all_sources_why_they_cannot_be_read(lag: LoopLag) -> None:
    taken = await samples_of(6, Scripted("a", gone=0), Scripted("b"), lag=lag)
    assert taken[-1].readings[0].device_id == "b"
    assert taken[-1].unavailable == ("a: lost",)


async def test_without_a_source_the_cpu_is_read_and_the_absence_told(lag: LoopLag) -> None:
    taken = await samples_of(3, lag=lag, cpu=ProcessTreeCpu(os.getpid()))
    assert all(one.unavailable for one in taken)
    assert taken[-1].readings[0].kind is SensorKind.CPU_TIME
    assert [one.unavailable for one in await samples_of(1, lag=lag)] == [taken[0].unavailable]


async def test_what_nobody_takes_is_dropped_and_told(lag: LoopLag) -> None:
    source = Scripted("a")
    async with aclosing(  # type: ignore[type-var]
        sample([source], None, period=0.02, lag=lag, capacity=3)
    ) as stream:
        first = await anext(stream)
        read = len(source.reads)
        await asyncio.to_thread(wait_for_reads, source, read + 8)
        late = await anext(stream)
    dropped = int(late.unavailable[0].removeprefix("sampler: ").split()[0])
    assert dropped >= 4
    assert first.unavailable == ()
    assert late.mono_ns > first.mono_ns


def wait_for_reads(source: Scripted, count: int) -> None:
    deadline = time.monotonic() + 30
    while len(source.reads) < count and time.monotonic() < deadline:
        time.sleep(0.005)


async def test_the_largest_lag_of_the_loop_is_in_the_samples(lag: LoopLag) -> None:
    async with aclosing(sample([Scripted("a")], None, period=0.02, lag=lag)) as stream:  # type: ignore[type-var]
        await anext(stream)
        time.sleep(0.1)  # noqa: ASYNC251 - the loop is to be late
        lags = [(await anext(stream)).event_loop_lag for _ in range(4)]
    assert max(lags) > 0.03


async def test_idle_power_is_the_mean_of_what_was_read() -> None:
    source = Scripted("a")
    meter = IdleMeter([source], period=0.02)
    meter.start()
    (found,) = await meter.finish(at_least=0.15)
    assert (found.kind, found.device_id, found.scope, found.watts) == (CARD, "a", "card", pytest.approx(60.0))
    assert found.readings == len(source.reads) >= 2
    assert found.seconds == pytest.approx((source.reads[-1] - source.reads[0]) / 1e9, abs=0.05)
    assert source.closed.is_set()


async def test_without_sensors_nothing_is_waited_for() -> None:
    absent = Scripted("a", gone=0)
    meter = IdleMeter([absent], period=3600)
    meter.start()
    assert await meter.finish(at_least=3600) == ()
    assert absent.closed.is_set()
    nothing = IdleMeter([])
    nothing.start()
    assert await nothing.finish(at_least=3600) == ()


async def test_an_idle_meter_can_be_stopped_before_its_time() -> None:
    source = Scripted("a")
    meter = IdleMeter([source], period=0.02)
    meter.start()
    finishing = asyncio.create_task(meter.finish(at_least=3600))
    await asyncio.to_thread(wait_for_reads, source, 2)
    finishing.cancel()
    await asyncio.gather(finishing, return_exceptions=True)
    assert source.closed.is_set()
    await meter.stop()


async def test_one_reading_has_no_mean() -> None:
    meter = IdleMeter([Scripted("a")], period=3600)
    meter.start()
    assert await meter.finish(at_least=0.01) == ()
