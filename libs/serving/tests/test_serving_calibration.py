import asyncio
import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import psutil
import pytest

from assay_serving import calibration, calibration_endpoint
from assay_serving.calibration import calibrate
from assay_serving.errors import EngineError
from assay_serving.event_loop import LoopLag
from assay_serving.types import StampSource


def endpoints() -> list[psutil.Process]:
    script = str(calibration_endpoint.__file__)
    return [child for child in psutil.Process().children() if script in child.cmdline()]


async def test_a_calibration_measures_every_chunk_and_leaves_no_process() -> None:
    before = time.monotonic_ns()
    found = await calibrate(other_instances=3)
    assert endpoints() == []
    assert found.other_instances == 3
    assert before <= found.mono_ns <= time.monotonic_ns()
    assert found.chunks == found.streams * 64
    assert 0.0 <= found.merged_gap_share <= 1.0
    assert 0.0 < found.event_loop_lag_p50 <= found.event_loop_lag_p99
    assert abs(found.itl_error_p50) <= found.itl_error_p99
    assert math.isfinite(found.ttft_error_p50)
    assert abs(found.ttft_error_p50) <= found.ttft_error_p99


@pytest.mark.skipif(sys.platform != "linux", reason="kernel receive times are Linux'")
async def test_a_blocked_loop_shows_as_lag_and_merged_gaps_and_not_as_a_shift_of_the_first_token() -> None:
    async def block() -> None:
        while True:
            await asyncio.sleep(0.001)
            time.sleep(0.025)  # noqa: ASYNC251 - five chunks of each stream come meanwhile

    blocking = asyncio.create_task(block())
    found = await calibrate(other_instances=0)
    blocking.cancel()
    assert found.stamp_source is StampSource.KERNEL
    assert found.event_loop_lag_p99 > 0.01
    assert found.merged_gap_share > 0.5


async def test_a_cancelled_calibration_leaves_no_process() -> None:
    running = asyncio.create_task(calibrate(other_instances=0))
    while not endpoints():
        await asyncio.sleep(0.005)
    await asyncio.sleep(0.1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert endpoints() == []


async def test_an_endpoint_that_does_not_start_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calibration, "_INTERVAL_SECONDS", "never")
    with pytest.raises(EngineError, match="calibration endpoint"):
        await calibrate(other_instances=0)
    assert endpoints() == []


def test_the_endpoint_ends_with_whoever_started_it() -> None:
    command = [sys.executable, "-I", "-S", str(calibration_endpoint.__file__), "1", "0.001"]
    endpoint = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert endpoint.stdin is not None
    assert endpoint.stdout is not None
    assert int(endpoint.stdout.readline()) > 0
    endpoint.stdin.close()
    assert endpoint.wait(timeout=10) == 0
    endpoint.stdout.close()


async def test_a_blocked_loop_is_seen_and_counted_once() -> None:
    lag = LoopLag(period=0.005)
    lag.start()
    await asyncio.sleep(0.02)
    time.sleep(0.1)  # noqa: ASYNC251 - this is the delay
    await asyncio.sleep(0.02)
    largest = lag.largest_since()
    assert largest > 0.08
    assert lag.largest_since() < largest
    lag.stop()
    assert lag.largest_since() == 0.0


async def test_another_thread_sees_a_delay_that_is_not_over() -> None:
    lag = LoopLag(period=0.005)
    lag.start()
    seen = []

    def look(wait: Callable[[], bool]) -> None:
        wait()
        time.sleep(0.1)
        seen.append(lag.largest_since())

    begin = threading.Event()
    watcher = threading.Thread(target=look, args=(begin.wait,))
    watcher.start()
    await asyncio.sleep(0.02)
    begin.set()
    watcher.join()  # this blocks the loop until the watcher has looked
    lag.stop()
    assert seen[0] > 0.05
