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
    """Energy since the sensor's first reading, at moments of the host's monotonic clock, ascending."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    mono_ns: list[int]
    joules: list[FiniteFloat]

    @model_validator(mode="after")
    def _check(self) -> "EnergySeries":
        if len(self.mono_ns) != len(self.joules) or any(b <= a for a, b in pairwise(self.mono_ns)):
            raise ValueError("a series has one moment for each energy, ascending")
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
        series: how the energy grew; thinned out.
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


class InstanceTelemetry(BaseModel):
    """What eval-svc recorded about one serving instance.

    ``unavailable`` says why there is no sensor; ``cpu_seconds`` are those of the engine's processes.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    instance_id: str
    power: list[SensorEnergy] | None = None
    unavailable: list[str] = []
    cpu_seconds: float | None = None

    def counted(self) -> list[SensorEnergy]:
        """The sensors that make up the instance's power.

        One per device, an energy counter before an integration, so that nothing counts twice; accelerator
        cards where there are any, so that hosts with and without a CPU sensor can be compared.
        """
        usable = [sensor for sensor in self.power or () if sensor.seconds > 0]
        cards = [sensor for sensor in usable if sensor.scope == "card"]
        by_device: dict[str, SensorEnergy] = {}
        for sensor in sorted(cards or usable, key=lambda sensor: sensor.method != "counter"):
            by_device.setdefault(sensor.device_id, sensor)
        return list(by_device.values())


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
