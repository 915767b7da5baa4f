"""Where the seconds of a serving instance went."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from assay_serving.types import PhaseTimes


class Phase(StrEnum):
    """What an instance spends its time on; the values are the fields of `PhaseTimes`."""

    SCHEDULE = "schedule"
    PULL = "pull"
    LOAD = "load"
    READY = "ready"
    SERVING = "serving"
    DRAIN = "drain"


class Ledger:
    """Times of one instance. Every moment from its making to `close` is in one phase, or within `paused`.

    A phase may be entered several times, and its times add up. Seconds of `clock`, which never goes back.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._spent = dict.fromkeys(Phase, 0.0)
        self._phase: Phase | None = Phase.SCHEDULE
        self._entered = clock()
        self._place_taken: float | None = None
        self._occupied = 0.0

    def enter(self, phase: Phase) -> None:
        """The phase before ends now, and `phase` begins."""
        self._turn(phase)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time within the block belongs to no phase; afterwards the phase before goes on.

        Where the block ends with an exception, whoever handles it enters the phase that follows.
        """
        before = self._phase
        self._turn(None)
        try:
            yield
        finally:
            if self._phase is None:
                self._turn(before)

    def take_place(self) -> None:
        """From now on the instance occupies its devices. Later calls change nothing."""
        if self._place_taken is None:
            self._place_taken = self._clock()

    def close(self) -> None:
        """The instance has ended, and its place is given back."""
        self._turn(None)
        if self._place_taken is not None:
            self._occupied = self._entered - self._place_taken
            self._place_taken = None

    def times(self) -> PhaseTimes:
        """The seconds of every phase so far."""
        now = self._clock()
        spent = dict(self._spent)
        if self._phase is not None:
            spent[self._phase] += now - self._entered
        occupied = self._occupied if self._place_taken is None else now - self._place_taken
        return PhaseTimes(**{phase.value: seconds for phase, seconds in spent.items()}, occupied=occupied)

    def _turn(self, phase: Phase | None) -> None:
        now = self._clock()
        if self._phase is not None:
            self._spent[self._phase] += now - self._entered
        self._phase, self._entered = phase, now
