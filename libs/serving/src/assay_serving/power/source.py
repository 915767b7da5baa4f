"""What every power sensor offers."""

from abc import ABC, abstractmethod

from assay_serving.types import Reading, SensorKind


class PowerSource(ABC):
    """Sensors of one kind. Used from one thread at a time; `read` may block for some milliseconds."""

    @property
    @abstractmethod
    def sensors(self) -> tuple[SensorKind, ...]:
        """The kinds of reading that it gives now; empty if it gives none."""

    @property
    @abstractmethod
    def unavailable(self) -> tuple[str, ...]:
        """Why sensors cannot be read, as ``<source>: <reason>``; empty if all can."""

    @abstractmethod
    def read(self) -> tuple[Reading, ...]:
        """One reading per sensor. One that has become unreadable is left out and told in `unavailable`.

        An energy counter that restarts or wraps is continued: `joules_total` never falls.
        """

    def close(self) -> None:  # noqa: B027 - most have nothing to give back
        """Give back what was opened. Idempotent."""
