"""Sensors of a host: the processor's energy counters and CPU time of a process tree. No estimates."""

from dataclasses import dataclass
from pathlib import Path

import psutil

from assay_serving.power.source import PowerSource
from assay_serving.types import Reading, SensorKind

POWERCAP = Path("/sys/class/powercap")


@dataclass(slots=True)
class _Zone:
    """One energy counter, which wraps at `range_uj`."""

    path: Path
    name: str
    range_uj: int
    last_uj: int
    total_uj: int = 0

    def advance(self) -> float:
        now = int((self.path / "energy_uj").read_text())
        step = now - self.last_uj
        self.total_uj += step if step >= 0 else step + self.range_uj
        self.last_uj = now
        return self.total_uj / 1e6


class RaplMeter(PowerSource):
    """Energy of the processor packages since this meter was made, from Linux' powercap counters.

    Only packages are read, not the cores and memory inside them, so that nothing counts twice. Read it at
    least once a minute: a counter that wraps twice between two reads looks like one that wrapped once.
    """

    def __init__(self, root: Path = POWERCAP) -> None:
        self._zones: list[_Zone] = []
        self._unavailable: dict[str, str] = {}
        if not root.is_dir():
            self._unavailable[""] = f"rapl: no {root}"
            return
        for path in sorted(root.glob("*-rapl:*")):
            if path.name.count(":") == 1:
                self._open(path)
        if not self._zones and not self._unavailable:
            self._unavailable[""] = f"rapl: no package counter under {root}"

    def _open(self, path: Path) -> None:
        try:
            self._zones.append(
                _Zone(
                    path=path,
                    name=(path / "name").read_text().strip(),
                    range_uj=int((path / "max_energy_range_uj").read_text()),
                    last_uj=int((path / "energy_uj").read_text()),
                )
            )
        except (OSError, ValueError) as error:
            self._unavailable[path.name] = f"rapl: {path.name}: {error}"

    @property
    def sensors(self) -> tuple[SensorKind, ...]:
        """The kinds of reading that this host gives."""
        readable = any(zone.path.name not in self._unavailable for zone in self._zones)
        return (SensorKind.RAPL_ENERGY,) if readable else ()

    @property
    def unavailable(self) -> tuple[str, ...]:
        """Why counters cannot be read; empty if all can."""
        return tuple(self._unavailable.values())

    def read(self) -> tuple[Reading, ...]:
        """One reading per package. A counter that fails is left out and tried again the next time."""
        readings = []
        for zone in self._zones:
            try:
                joules = zone.advance()
            except (OSError, ValueError) as error:
                self._unavailable[zone.path.name] = f"rapl: {zone.path.name}: {error}"
                continue
            self._unavailable.pop(zone.path.name, None)
            readings.append(
                Reading(
                    kind=SensorKind.RAPL_ENERGY,
                    device_id=f"{zone.path.name}/{zone.name}",
                    scope="package",
                    joules_total=joules,
                )
            )
        return tuple(readings)


class ProcessTreeCpu:
    """CPU seconds (user and system) that a process and its descendants have used, ended ones included."""

    def __init__(self, process_id: int) -> None:
        self._root = process_id
        self._last: dict[tuple[int, float], float] = {}

    def read(self) -> Reading:
        """The total so far; it never falls, and stays where it was once the process has ended."""
        try:
            root = psutil.Process(self._root)
            alive = [root, *root.children(recursive=True)]
        except psutil.Error:
            alive = []
        for process in alive:
            try:
                times = process.cpu_times()
                self._last[process.pid, process.create_time()] = times.user + times.system
            except psutil.Error:
                continue
        return Reading(
            kind=SensorKind.CPU_TIME,
            device_id=f"pid {self._root}",
            scope="process tree",
            cpu_seconds_total=sum(self._last.values()),
        )
