"""What was measured on a serving instance, as eval-svc recorded it."""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    FiniteFloat,
    JsonValue,
    ValidationError,
    model_validator,
)


class EnergySeries(BaseModel):
    """Energy since the sensor's first reading, at moments of the host's monotonic clock, ascending.

    ``spacing_s``: of readings that are closer together some are left out; points further apart than this are
    successive readings. ``None`` in what was recorded before this was.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    mono_ns: list[int]
    joules: list[FiniteFloat]
    spacing_s: FiniteFloat | None = None

    @model_validator(mode="after")
    def _check(self) -> "EnergySeries":
        if len(self.mono_ns) != len(self.joules) or any(b <= a for a, b in pairwise(self.mono_ns)):
            raise ValueError("a series has one moment for each energy, ascending")
        if any(b < a for a, b in pairwise(self.joules)):
            raise ValueError("energy never falls")
        return self


class SensorEnergy(BaseModel):
    """What one sensor saw, as eval-svc recorded it.

    Attributes:
        joules: in ``seconds``, read off a counter or integrated over power readings.
        method: ``counter`` or ``integrated``.
        first_mono_ns, last_mono_ns: first and last reading; ``None`` in what was recorded before these were.
        largest_gap_s: longest time between two readings.
        sparse_s: time between readings that were more than a second apart.
        idle_joules, idle_seconds: between readings with no request in flight.
        series: how the energy grew.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    sensor: str
    device_id: str
    scope: str
    joules: FiniteFloat = Field(ge=0)
    seconds: FiniteFloat
    readings: int
    method: str
    first_mono_ns: int | None = None
    last_mono_ns: int | None = None
    largest_gap_s: FiniteFloat | None = None
    sparse_s: FiniteFloat | None = None
    idle_joules: FiniteFloat = 0.0
    idle_seconds: FiniteFloat = 0.0
    series: EnergySeries | None = None

    @property
    def watts(self) -> float:
        """Mean power."""
        return self.joules / self.seconds


class IdleReading(BaseModel):
    """Mean power of a device over ``seconds`` before the engine was started on it; ``kind`` is the sensor."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str
    device_id: str
    watts: FiniteFloat


class EventLoopLag(BaseModel):
    """How late the adapter's event loop ran: the largest lag, and the 99th percentile of each sample's."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    max_s: FiniteFloat
    p99_s: FiniteFloat
    samples: int


class InstanceTelemetry(BaseModel):
    """What eval-svc recorded about one serving instance.

    Attributes:
        unavailable: why there is no sensor, or what else there is to say about those there are.
        cpu_seconds: of the engine's processes.
        accelerators: devices that the instance occupied, 0 for a processor; ``None``: was not recorded.
        idle_baselines: of its devices, before the engine was started.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    instance_id: str
    power: list[SensorEnergy] | None = None
    unavailable: list[str] = []
    cpu_seconds: float | None = None
    accelerators: int | None = None
    idle_baselines: list[IdleReading] = []
    event_loop_lag: EventLoopLag | None = None

    def by_device(self) -> dict[str, list[SensorEnergy]]:
        """The sensors of each device that makes up the instance's power; usually one device has several.

        Accelerator cards where there are any, so that hosts with and without a CPU sensor can be compared; an
        instance that occupies cards has no power but theirs.
        """
        usable = [sensor for sensor in self.power or () if sensor.seconds > 0]
        cards = [sensor for sensor in usable if sensor.scope == "card"]
        found: dict[str, list[SensorEnergy]] = {}
        for sensor in cards if cards or self.accelerators else usable:
            found.setdefault(sensor.device_id, []).append(sensor)
        return found

    def counted(self) -> list[SensorEnergy]:
        """One sensor of each device that makes up the instance's power, an energy counter before readings.

        Which of them a run's power was taken from depends on what each covers: see ``runtime.power``.
        """
        devices = self.by_device().values()
        return [min(sensors, key=lambda sensor: sensor.method != "counter") for sensors in devices]


def read_telemetry(records: Sequence[Mapping[str, JsonValue]]) -> dict[str, InstanceTelemetry]:
    """``RunFacts.telemetry`` by instance. A record that is not as eval-svc makes them has no sensor."""
    return {str(record.get("instance_id")): _read_record(record) for record in records}


def _read_record(record: Mapping[str, JsonValue]) -> InstanceTelemetry:
    try:
        return InstanceTelemetry.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return InstanceTelemetry(
            instance_id=str(record.get("instance_id")),
            unavailable=[f"the telemetry record is malformed: {place}: {first['msg']}"],
        )
