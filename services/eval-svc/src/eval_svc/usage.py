"""Power, energy and CPU time of a serving instance, from the adapter's telemetry."""

import asyncio
import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any

from assay_serving.types import IdleBaseline, Reading, SensorKind, TelemetrySample

NANOSECONDS = 1e9
SPARSE_NS = 1_000_000_000
"""Readings further apart than this leave it open what happened in between."""
MOST_POINTS = 6000
"""Of a series: enough for an hour with a point every second and some more where power changes."""
_ROOM = 0.9
_TOLERANCE_JOULES = 0.1
_LAG_QUANTILE = 0.99


@dataclass(slots=True)
class EnergySeries:
    """How energy grew, as moments and joules: few points where power is steady, more where it changes.

    A reading is left out where the line between its neighbours passes within ``tolerance`` joules of it and
    these are at most ``spacing_ns`` apart; so points further apart than that are successive readings. When
    there are more than ``MOST_POINTS``, the tolerance grows, and the spacing only where the run is too long
    for it.
    """

    moments: list[int] = field(default_factory=list)
    joules: list[float] = field(default_factory=list)
    spacing_ns: int = SPARSE_NS
    tolerance: float = _TOLERANCE_JOULES
    _last: tuple[int, float] | None = None

    def add(self, at_ns: int, joules: float) -> None:
        """Take a reading, later than the one before."""
        last, self._last = self._last, (at_ns, joules)
        if last is None:
            return
        if not self.moments or self._is_needed(
            (self.moments[-1], self.joules[-1]), last, self._last, tolerance=self.tolerance
        ):
            self._keep(*last)

    def document(self) -> dict[str, Any]:
        """``mono_ns`` and ``joules`` of the points, first and last reading among them, and ``spacing_s``."""
        last_moments, last_joules = ([self._last[0]], [self._last[1]]) if self._last else ([], [])
        return {
            "mono_ns": self.moments + last_moments,
            "joules": self.joules + last_joules,
            "spacing_s": self.spacing_ns / NANOSECONDS,
        }

    def _is_needed(
        self,
        before: tuple[int, float],
        reading: tuple[int, float],
        after: tuple[int, float],
        *,
        tolerance: float,
    ) -> bool:
        """Whether a reading has to stay between the last one that stays and the one after it."""
        lasts = after[0] - before[0]
        if lasts > self.spacing_ns:
            return True
        share = (reading[0] - before[0]) / lasts
        return abs(before[1] + share * (after[1] - before[1]) - reading[1]) > tolerance

    def _keep(self, at_ns: int, joules: float) -> None:
        self.moments.append(at_ns)
        self.joules.append(joules)
        if len(self.moments) > MOST_POINTS:
            self._thin_out()

    def _thin_out(self) -> None:
        points = list(zip(self.moments, self.joules, strict=True))
        most = int(_ROOM * MOST_POINTS)
        if len(self._thinned(points, tolerance=math.inf)) > most:
            self.spacing_ns *= 2
        kept = points
        while len(kept) > most:
            self.tolerance *= 2
            kept = self._thinned(points, tolerance=self.tolerance)
        self.moments, self.joules = [at for at, _ in kept], [joules for _, joules in kept]

    def _thinned(self, points: list[tuple[int, float]], *, tolerance: float) -> list[tuple[int, float]]:
        kept = points[:1]
        for point, following in pairwise(points[1:]):
            if self._is_needed(kept[-1], point, following, tolerance=tolerance):
                kept.append(point)
        return [*kept, points[-1]]


@dataclass(slots=True)
class _Counter:
    """First and last value of a counter that only grows."""

    first: float
    last: float


@dataclass(slots=True)
class _Energy:
    """Energy that one sensor saw since its first reading, and how closely it was watched.

    ``requests``: how many had been sent at the last reading; ``None``: some were in flight then.
    """

    method: str
    first_ns: int
    last_ns: int
    last_value: float
    requests: int | None
    joules: float = 0.0
    readings: int = 1
    largest_gap_ns: int = 0
    sparse_ns: int = 0
    idle_ns: int = 0
    idle_joules: float = 0.0
    series: EnergySeries = field(default_factory=EnergySeries)

    def __post_init__(self) -> None:
        self.series.add(self.first_ns, 0.0)

    def add(self, *, at_ns: int, value: float, requests: int | None) -> None:
        """Take a reading: joules of a counter, watts otherwise (trapezoid rule)."""
        gap = at_ns - self.last_ns
        if gap <= 0:
            return  # delivered twice
        if self.method == "counter":
            joules = value - self.last_value
        else:
            joules = (self.last_value + value) / 2 * gap / NANOSECONDS
        self.joules += joules
        self.last_ns, self.last_value = at_ns, value
        self.largest_gap_ns = max(self.largest_gap_ns, gap)
        self.sparse_ns += gap if gap > SPARSE_NS else 0
        if requests is not None and requests == self.requests:
            self.idle_ns += gap
            self.idle_joules += joules
        self.requests = requests
        self.series.add(at_ns, self.joules)
        self.readings += 1

    @property
    def mean_interval_s(self) -> float:
        """Between readings; infinite after the first."""
        return self._seconds / (self.readings - 1) if self.readings > 1 else math.inf

    @property
    def _seconds(self) -> float:
        return (self.last_ns - self.first_ns) / NANOSECONDS

    def summary(self) -> dict[str, Any]:
        """See ``Usage.summary``."""
        return {
            "joules": self.joules,
            "seconds": self._seconds,
            "readings": self.readings,
            "method": self.method,
            "first_mono_ns": self.first_ns,
            "last_mono_ns": self.last_ns,
            "mean_interval_s": self.mean_interval_s,
            "largest_gap_s": self.largest_gap_ns / NANOSECONDS,
            "sparse_s": self.sparse_ns / NANOSECONDS,
            "idle_seconds": self.idle_ns / NANOSECONDS,
            "idle_joules": self.idle_joules,
            "series": self.series.document(),
        }


@dataclass(slots=True)
class Usage:
    """Collects telemetry of one instance while it is in use.

    Which energy belongs to requests is decided later, from the series and the times of the requests, which
    are of one clock; the idle energy here goes by when requests were sent and answered on this side.

    Attributes:
        accelerators: devices that the instance occupies; ``None``: not known.
        idle_baselines: power of its devices before the engine was started.
        first_ns, last_ns: of all samples.
        unavailable: what the last sample said.
    """

    accelerators: int | None = None
    idle_baselines: Sequence[IdleBaseline] = ()
    first_ns: int = 0
    last_ns: int = 0
    unavailable: list[str] = field(default_factory=list)
    _in_flight: int = 0
    _requests: int = 0
    _lags: "array[float]" = field(default_factory=lambda: array("d"))
    _cpu_times: dict[tuple[SensorKind, str, str], _Counter] = field(default_factory=dict)
    _energies: dict[tuple[SensorKind, str, str, str], _Energy] = field(default_factory=dict)
    _was_read: asyncio.Event = field(default_factory=asyncio.Event)

    def request_sent(self) -> None:
        """A request goes to the instance: from here on it is not idle."""
        self._in_flight += 1
        self._requests += 1

    def request_done(self) -> None:
        """A request has its answer, or will have none."""
        self._in_flight -= 1

    def add(self, sample: TelemetrySample) -> None:
        """Take one sample. Counters that restart are the sensor reader's business, not ours."""
        self.first_ns = min(self.first_ns or sample.mono_ns, sample.mono_ns)
        self.last_ns = max(self.last_ns, sample.mono_ns)
        self.unavailable = list(sample.unavailable)
        self._lags.append(sample.event_loop_lag)
        for reading in sample.readings:
            self._take(reading, at_ns=sample.mono_ns)
        self._was_read.set()

    async def caught_up(self, *, timeout: float) -> None:
        """Wait until every power sensor was read once more, so that the last requests are covered as well.

        Returns after ``timeout`` seconds at the latest, and at once where no sensor is read that often.
        """
        due = {
            key: energy.readings
            for key, energy in self._energies.items()
            if energy.mean_interval_s * 2 < timeout
        }
        try:
            async with asyncio.timeout(timeout):
                # Twice: the first reading may have been on its way before the last request was done.
                while any(self._energies[key].readings < readings + 2 for key, readings in due.items()):
                    self._was_read.clear()
                    await self._was_read.wait()
        except TimeoutError:
            return  # the record shows what is missing

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
        requests = None if self._in_flight else self._requests
        if energy is None:
            self._energies[key] = _Energy(
                method=key[-1], first_ns=at_ns, last_ns=at_ns, last_value=value, requests=requests
            )
        else:
            energy.add(at_ns=at_ns, value=value, requests=requests)

    def summary(self) -> dict[str, Any]:
        """What was measured, JSON-serialisable.

        Returns:
            ``window_s``; ``cpu_seconds`` of the engine's process tree or ``None``; ``power``: ``None`` or one
            entry per sensor; ``unavailable``: why there is no sensor; ``accelerators`` and ``idle_baselines``
            as given; ``event_loop_lag`` of the adapter: ``max_s`` and ``p99_s`` (of the largest in each
            sample) over ``samples``, or ``None``. A sensor's entry has ``sensor``, ``device_id``, ``scope``,
            ``method`` (``counter`` or ``integrated``), ``joules`` in ``seconds`` from the first of its
            ``readings`` to the last (``first_mono_ns``, ``last_mono_ns``), ``mean_interval_s`` and
            ``largest_gap_s`` between readings, ``sparse_s``: time in gaps of more than a second,
            ``idle_joules`` in ``idle_seconds``: between readings with no request in flight, and ``series``:
            joules since the first reading, by moment, as ``EnergySeries`` keeps them; ``None`` of readings of
            power where the device's energy counter was read as well.
        """
        cpu_times = [counter.last - counter.first for counter in self._cpu_times.values()]
        sensors = [
            {
                "sensor": kind.value,
                "device_id": device,
                "scope": scope,
                **energy.summary(),
                **({"series": None} if self._is_covered(device, energy) else {}),
            }
            for (kind, device, scope, _), energy in self._energies.items()
            if energy.readings > 1
        ]
        return {
            "window_s": (self.last_ns - self.first_ns) / NANOSECONDS,
            "cpu_seconds": sum(cpu_times) if cpu_times else None,
            "power": sensors or None,
            "unavailable": self.unavailable,
            "accelerators": self.accelerators,
            "idle_baselines": [asdict(baseline) for baseline in self.idle_baselines],
            "event_loop_lag": self._event_loop_lag(),
        }

    def _is_covered(self, device: str, energy: _Energy) -> bool:
        """Whether a counter of the device saw all that these readings of power saw, so that it counts."""
        return energy.method != "counter" and any(
            counter.method == "counter"
            and of_device == device
            and counter.first_ns <= energy.first_ns
            and counter.last_ns >= energy.last_ns
            and counter.largest_gap_ns <= energy.largest_gap_ns
            for (_, of_device, _, _), counter in self._energies.items()
        )

    def _event_loop_lag(self) -> dict[str, Any] | None:
        if not self._lags:
            return None
        ordered = sorted(self._lags)
        rank = math.ceil(_LAG_QUANTILE * len(ordered))
        return {"max_s": ordered[-1], "p99_s": ordered[rank - 1], "samples": len(ordered)}


def without_series(run: Mapping[str, Any]) -> dict[str, Any]:
    """A run document for lists: without the series of its sensors, which have thousands of points each."""
    return {**run, "serving": [_record_without_series(record) for record in run["serving"]]}


def _record_without_series(record: Mapping[str, Any]) -> dict[str, Any]:
    telemetry = record.get("telemetry")
    if not telemetry or not telemetry.get("power"):
        return dict(record)
    sensors = [{**sensor, "series": None} for sensor in telemetry["power"]]
    return {**record, "telemetry": {**telemetry, "power": sensors}}
