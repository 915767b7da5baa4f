"""What processes took of the processors, and how long they had to wait for one, over a window of time."""

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import psutil

_PERIOD_SECONDS = 0.05


class _Reading(NamedTuple):
    mono_ns: int
    cpu: float
    waited: float
    idle: float


class Window(NamedTuple):
    """Seconds of processor time of all the processes, seconds that their threads were ready but did not run,
    and the share of the machine's processor time that nobody used."""

    cpu: float
    waited: float
    idle_share: float


class ProcessorUse:
    """Reads the counters of some processes all the time, while its block is entered."""

    def __init__(self, processes: Sequence[psutil.Process]) -> None:
        self._processes = processes
        self._readings: list[_Reading] = []
        self._is_ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_ended.set()
        self._thread.join()

    def between(self, begin_ns: int, end_ns: int) -> Window:
        """The window between two times of CLOCK_MONOTONIC, interpolated between readings."""
        times = [each.mono_ns for each in self._readings]

        def growth(values: list[float]) -> float:
            first, last = np.interp((begin_ns, end_ns), times, values)
            return float(last - first)

        cpu = growth([each.cpu for each in self._readings])
        waited = growth([each.waited for each in self._readings])
        idle = growth([each.idle for each in self._readings])
        processors = psutil.cpu_count() or 1
        return Window(cpu, waited, idle / ((end_ns - begin_ns) / 1e9) / processors)

    def _run(self) -> None:
        while not self._is_ended.wait(_PERIOD_SECONDS):
            self._readings.append(self._read())

    def _read(self) -> _Reading:
        cpu = waited = 0.0
        for process in self._processes:
            times = process.cpu_times()
            cpu += times.user + times.system
            for task in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
                waited += int(task.read_text().split()[1]) / 1e9
        return _Reading(time.monotonic_ns(), cpu, waited, psutil.cpu_times().idle)
