"""Power and CPU time of a serving instance, from the adapter's telemetry."""

from dataclasses import dataclass, field
from typing import Any

from assay_serving.types import Reading, SensorKind, TelemetrySample


@dataclass(slots=True)
class _Counter:
    """First and last value of a counter that only grows."""

    first: float
    last: float
    readings: int = 1


@dataclass(slots=True)
class _Power:
    """Energy integrated over power readings by the trapezoid rule."""

    last_ns: int
    last_watts: float
    joules: float = 0.0
    seconds: float = 0.0
    readings: int = 1

    def add(self, *, at_ns: int, watts: float) -> None:
        seconds = (at_ns - self.last_ns) / 1e9
        self.joules += (self.last_watts + watts) / 2 * seconds
        self.seconds += seconds
        self.last_ns, self.last_watts = at_ns, watts
        self.readings += 1


@dataclass(slots=True)
class Usage:
    """Collects telemetry of one instance while it is in use."""

    first_ns: int = 0
    last_ns: int = 0
    unavailable: list[str] = field(default_factory=list)
    _counters: dict[tuple[SensorKind, str, str], _Counter] = field(default_factory=dict)
    _powers: dict[tuple[SensorKind, str, str], _Power] = field(default_factory=dict)

    def add(self, sample: TelemetrySample) -> None:
        """Take one sample. Counters that restart are the sensor reader's business, not ours."""
        self.first_ns = self.first_ns or sample.mono_ns
        self.last_ns = sample.mono_ns
        self.unavailable = list(sample.unavailable)
        for reading in sample.readings:
            self._take(reading, at_ns=sample.mono_ns)

    def _take(self, reading: Reading, *, at_ns: int) -> None:
        key = (reading.kind, reading.device_id, reading.scope)
        if reading.watts is not None:
            power = self._powers.get(key)
            if power is None:
                self._powers[key] = _Power(last_ns=at_ns, last_watts=reading.watts)
            else:
                power.add(at_ns=at_ns, watts=reading.watts)
            return
        value = reading.joules_total if reading.joules_total is not None else reading.cpu_seconds_total
        if value is None:
            return
        counter = self._counters.get(key)
        if counter is None:
            self._counters[key] = _Counter(first=value, last=value)
        else:
            counter.last = value
            counter.readings += 1

    def summary(self) -> dict[str, Any]:
        """What was measured, JSON-serialisable.

        Returns:
            ``window_s``; ``cpu_seconds`` of the engine's process tree or ``None``; ``power``: ``None`` or one
            entry per sensor with ``sensor``, ``device_id``, ``scope``, ``joules``, ``seconds``, ``readings``
            and ``method`` (``counter`` or ``integrated``); ``unavailable``: why there is no sensor.
        """
        window = (self.last_ns - self.first_ns) / 1e9
        cpu_seconds = None
        sensors: list[dict[str, Any]] = []
        for (kind, device, scope), counter in self._counters.items():
            if kind is SensorKind.CPU_TIME:
                cpu_seconds = (cpu_seconds or 0.0) + counter.last - counter.first
            elif counter.readings > 1:
                sensors.append(
                    _sensor(kind, device, scope)
                    | {
                        "joules": counter.last - counter.first,
                        "seconds": window,
                        "readings": counter.readings,
                        "method": "counter",
                    }
                )
        for (kind, device, scope), power in self._powers.items():
            if power.readings > 1:
                sensors.append(
                    _sensor(kind, device, scope)
                    | {
                        "joules": power.joules,
                        "seconds": power.seconds,
                        "readings": power.readings,
                        "method": "integrated",
                    }
                )
        return {
            "window_s": window,
            "cpu_seconds": cpu_seconds,
            "power": sensors or None,
            "unavailable": self.unavailable,
        }


def _sensor(kind: SensorKind, device: str, scope: str) -> dict[str, Any]:
    return {"sensor": kind.value, "device_id": device, "scope": scope}
