"""What eval-svc recorded of a run's serving instances beside their telemetry: cost and calibration."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, FiniteFloat, JsonValue, ValidationError

from assay_evidence.runtime.measured import Measured
from metrics_svc.domain.runtime.details import InstanceCalibration

ENDPOINT = "endpoint"
"""Launcher of instances that somebody else runs: nothing is started, their devices are not known."""


class InstanceLedger(BaseModel):
    """Seconds of one instance; ``None``: not known."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    cold_start_s: FiniteFloat | None = None
    accelerator_seconds: FiniteFloat | None = None


class CalibrationErrors(BaseModel):
    """The errors of a calibration that bear on a run's numbers, in seconds, and its share of merged gaps."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    ttft_error_p99: FiniteFloat
    itl_error_p99: FiniteFloat
    merged_gap_share: FiniteFloat


@dataclass(frozen=True, slots=True)
class ServedInstance:
    """One serving instance of a run; ``ledger`` is ``None`` where there is none that can be read."""

    launcher: str
    ledger: InstanceLedger | None
    calibration: InstanceCalibration

    def errors(self) -> list[CalibrationErrors]:
        """Of its calibrations, those that can be read."""
        found = []
        for one in (self.calibration.before, self.calibration.after):
            try:
                found.append(CalibrationErrors.model_validate(one))
            except ValidationError:
                continue
        return found


@dataclass(frozen=True, slots=True)
class Serving:
    """How a run was served. ``ledger``: sums over the instances, as eval-svc made them."""

    instances: Sequence[ServedInstance] = ()
    ledger: dict[str, JsonValue] | None = None

    @classmethod
    def of(cls, run: Mapping[str, Any]) -> "Serving":
        """From a run as eval-svc returns it; what older runs do not have is missing here."""
        instances = [
            ServedInstance(
                launcher=str(one.get("launcher") or ""),
                ledger=_ledger(one.get("ledger")),
                calibration=_calibration(one),
            )
            for one in run.get("serving") or ()
        ]
        return cls(instances, run.get("ledger"))

    def cold_start(self) -> Measured:
        """Mean time from asking for an instance to its first completion."""
        known = self._known("cold_start_s")
        if not known:
            return self._nothing()
        note = "one start" if len(known) == 1 else f"mean of {len(known)} starts"
        return Measured(sum(known) / len(known), n=len(known), note=note)

    def accelerator_seconds(self) -> Measured:
        """How long accelerators were held, times their number, over all instances."""
        known = self._known("accelerator_seconds")
        if not known:
            return self._nothing()
        missing = len(self._started) - len(known)
        note = f"{missing} of {len(self._started)} instances are not in it" if missing else None
        return Measured(sum(known), n=len(known), note=note, at_least=missing > 0)

    @property
    def _started(self) -> list[ServedInstance]:
        return [one for one in self.instances if one.launcher != ENDPOINT]

    def _known(self, name: str) -> list[float]:
        ledgers = [one.ledger for one in self._started if one.ledger is not None]
        return [value for ledger in ledgers if (value := getattr(ledger, name)) is not None]

    def _nothing(self) -> Measured:
        if self.instances and not self._started:
            return Measured(None, note="not applicable: an endpoint that was running already served the run")
        return Measured(None, note="not recorded: no serving instance of the run has it in a ledger")


def _ledger(record: JsonValue) -> InstanceLedger | None:
    try:
        return InstanceLedger.model_validate(record)
    except ValidationError:
        return None


def _calibration(instance: Mapping[str, Any]) -> InstanceCalibration:
    record = instance.get("calibration")
    name = str(instance.get("instance_id"))
    if not isinstance(record, dict):
        return InstanceCalibration(instance_id=name, note="not calibrated")
    try:
        return InstanceCalibration.model_validate({**record, "instance_id": name})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        return InstanceCalibration(instance_id=name, note=f"the record is malformed: {place}: {first['msg']}")
