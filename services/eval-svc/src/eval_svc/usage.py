"""Power and CPU time of a serving instance, from the adapter's telemetry."""

from dataclasses import dataclass, field
from typing import Any

from assay_serving.types import Reading, SensorKind, TelemetrySample

NANOSECONDS = 1e9
SPARSE_NS = 1_000_000_000
"""Readings further apart than this leave it open what happened in between."""
_MOST_POINTS = 64


@dataclass(slots=True)
class _Counter:
    """First and last value of a counter that only grows."""

    first: float
    last: float


@dataclass(slots=True)
class _Energy:
    """Energy that one sensor saw since its first reading, and how closely it was watched.

    ``points`` are moments and joules, at most twice ``_MOST_POINTS``: where there are more readings, only
    every ``stride``-th is kept.
    """

    method: str
    first_ns: int
    last_ns: int
    last_value: float
    joules: float = 0.0
    readings: int = 1
    largest_gap_ns: int = 0
    sparse_ns: int = 0
    idle_ns: int = 0
    idle_joules: float = 0.0
    stride: int = 1
    points: list[tuple[int, float]] = field(default_factory=list)

    def add(self, *, at_ns: int, value: float, was_idle: bool) -> None:
        """Take a reading: joules of a counter, watts otherwise (trapezoid rule)."""
        gap = at_ns - self.last_ns
        if self.method == "counter":
            joules = value - self.last_value
        else:
            joules = (self.last_value + value) / 2 * gap / NANOSECONDS
        self.joules += joules
        self.last_ns, self.last_value = at_ns, value
        self.largest_gap_ns = max(self.largest_gap_ns, gap)
        self.sparse_ns += gap if gap > SPARSE_NS else 0
        if was_idle:
            self.idle_ns += gap
            self.idle_joules += joules
        if self.readings % self.stride == 0:
            self.points.append((at_ns, self.joules))
            if len(self.points) >= 2 * _MOST_POINTS:
                self.points = self.points[1::2]
                self.stride *= 2
        self.readings += 1

    def summary(self) -> dict[str, Any]:
        """See ``Usage.summary``."""
        series = [(self.first_ns, 0.0), *self.points]
        if series[-1][0] != self.last_ns:
            series.append((self.last_ns, self.joules))
        seconds = (self.last_ns - self.first_ns) / NANOSECONDS
        return {
            "joules": self.joules,
            "seconds": seconds,
            "readings": self.readings,
            "method": self.method,
            "first_mono_ns": self.first_ns,
            "last_mono_ns": self.last_ns,
            "mean_interval_s": seconds / (self.readings - 1),
            "largest_gap_s": self.largest_gap_ns / NANOSECONDS,
            "sparse_s": self.sparse_ns / NANOSECONDS,
            "idle_seconds": self.idle_ns / NANOSECONDS,
            "idle_joules": self.idle_joules,
            "series": {"mono_ns": [at for at, _ in series], "joules": [joules for _, joules in series]},
        }


@dataclass(slots=True)
class Usage:
    """Collects telemetry of one instance while it is in use."""

    first_ns: int = 0
    last_ns: int = 0
    unavailable: list[str] = field(default_factory=list)
    _in_flight: int = 0
    _was_asked: bool = False
    _cpu_times: dict[tuple[SensorKind, str, str], _Counter] = field(default_factory=dict)
    _energies: dict[tuple[SensorKind, str, str, str], _Energy] = field(default_factory=dict)

    def request_sent(self) -> None:
        """A request goes to the instance: from here on it is not idle."""
        self._in_flight += 1
        self._was_asked = True

    def request_done(self) -> None:
        """A request has its answer, or will have none."""
        self._in_flight -= 1

    def add(self, sample: TelemetrySample) -> None:
        """Take one sample. Counters that restart are the sensor reader's business, not ours."""
        self.first_ns = self.first_ns or sample.mono_ns
        self.last_ns = sample.mono_ns
        self.unavailable = list(sample.unavailable)
        for reading in sample.readings:
            self._take(reading, at_ns=sample.mono_ns)
        self._was_asked = self._in_flight > 0

    def _take(self, reading: Reading, *, at_ns: int) -> None:
        key = (reading.kind, reading.device_id, reading.scope)
        if reading.watts is not None:
            self._take_energy((*key, "integrated"), at_ns=at_ns, value=reading.watts)
        elif reading.joules_total is not None:
            self._take_energy((*key, "counter"), at_ns=at_ns, value=reading.joules_total)
        elif (seconds := reading.cpu_seconds_total) is not None:
            counter = self._cpu_times.setdefault(key, _Counter(first=seconds, last=seconds))
            counter.last = seconds

    def _take_energy(self, key: tuple[SensorKind, str, str, str], *, at_ns: int, value: float) -> None:
        energy = self._energies.get(key)
        if energy is None:
            self._energies[key] = _Energy(method=key[-1], first_ns=at_ns, last_ns=at_ns, last_value=value)
        else:
            energy.add(at_ns=at_ns, value=value, was_idle=not self._was_asked)

    def summary(self) -> dict[str, Any]:
        """What was measured, JSON-serialisable.

        Returns:
            ``window_s``; ``cpu_seconds`` of the engine's process tree or ``None``; ``power``: ``None`` or one
            entry per sensor; ``unavailable``: why there is no sensor. A sensor's entry has ``sensor``,
            ``device_id``, ``scope``, ``method`` (``counter`` or ``integrated``), ``joules`` in ``seconds``
            from the first of its ``readings`` to the last (``first_mono_ns``, ``last_mono_ns``),
            ``mean_interval_s`` and ``largest_gap_s`` between readings, ``sparse_s``: time in gaps of more
            than a second, ``idle_joules`` in ``idle_seconds``: between readings with no request in flight,
            and ``series``: joules since the first reading, by moment, thinned out.
        """
        cpu_times = [counter.last - counter.first for counter in self._cpu_times.values()]
        sensors = [
            {"sensor": kind.value, "device_id": device, "scope": scope, **energy.summary()}
            for (kind, device, scope, _), energy in self._energies.items()
            if energy.readings > 1
        ]
        return {
            "window_s": (self.last_ns - self.first_ns) / NANOSECONDS,
            "cpu_seconds": sum(cpu_times) if cpu_times else None,
            "power": sensors or None,
            "unavailable": self.unavailable,
        }
