"""Waiting for what the platform does by itself."""

import time
from collections.abc import Callable
from typing import Protocol, TypeVar


class Pending(Protocol):
    """Something that ends some day."""

    @property
    def id(self) -> str:
        """The id."""
        ...

    @property
    def state(self) -> str:
        """The state in words."""
        ...

    @property
    def is_over(self) -> bool:
        """Whether it has ended, well or not."""
        ...


Work = TypeVar("Work", bound=Pending)


def wait_until_over(
    look: Callable[[], Work],
    *,
    on_progress: Callable[[Work], None] | None,
    poll_s: float,
    timeout_s: float | None,
) -> Work:
    """Look again and again until it is over, whatever its end, and return it.

    ``on_progress`` hears of every look, the last one included. Raises TimeoutError after ``timeout_s``
    seconds; what was waited for goes on.
    """
    end = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        work = look()
        if on_progress is not None:
            on_progress(work)
        if work.is_over:
            return work
        if end is not None and time.monotonic() >= end:
            raise TimeoutError(f"{work.id} is still {work.state} after {timeout_s} s; it goes on")
        time.sleep(poll_s)
