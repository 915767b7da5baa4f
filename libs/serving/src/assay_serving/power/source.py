"""What every power sensor offers."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from assay_serving.types import Device, Reading, SensorKind

RESTARTED = "the energy counter has started again; what it counted between two readings is lost"


class FoundDevices(NamedTuple):
    """Devices of a host, and why others, or all, cannot be seen."""

    devices: tuple[Device, ...]
    unavailable: tuple[str, ...]


class PowerSource(ABC):
    """Sensors of one kind. Used from one thread at a time.

    Making one is cheap; it is opened by the first use of anything else, which may block, as `read` may.
    """

    @property
    @abstractmethod
    def sensors(self) -> tuple[SensorKind, ...]:
        """The kinds of reading that it gives now; empty if it gives none."""

    @property
    @abstractmethod
    def unavailable(self) -> tuple[str, ...]:
        """Why sensors cannot be read, as ``<source>: <reason>``; empty if all can."""

    @property
    def period(self) -> float:
        """Seconds between two reads below which a read brings nothing new; 0 where every read does."""
        return 0.0

    @abstractmethod
    def read(self) -> tuple[Reading, ...]:
        """One reading per sensor that has a new one.

        A sensor that has become unreadable is left out and told in `unavailable`. An energy counter that
        wraps is continued: `joules_total` never falls. One that starts again has lost what it counted since
        the reading before: it goes on from there, which is told in `unavailable`.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing to give back
        """Give back what was opened. Idempotent."""


class GrowingCounter:
    """An energy counter of a device, continued over its own restarts."""

    def __init__(self) -> None:
        self.restarts = 0
        self._last: float | None = None
        self._joules = 0.0

    def advance(self, joules: float) -> float:
        """Take the device's count and return the joules since the first one; never less than before.

        A count below the one before has started again from 0; what was used until then is not known.
        """
        if self._last is not None:
            has_restarted = joules < self._last
            self.restarts += has_restarted
            self._joules += joules if has_restarted else joules - self._last
        self._last = joules
        return self._joules
