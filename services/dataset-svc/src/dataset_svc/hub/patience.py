"""Coming back when the hub asks to."""

import time
from collections.abc import Callable
from typing import TypeVar

from dataset_svc.hub.failures import asked_to_wait_s

Result = TypeVar("Result")


class Patience:
    """Waits while the hub limits how often it is asked, ``seconds`` altogether."""

    def __init__(self, seconds: float) -> None:
        self._left = seconds

    def call(self, action: Callable[[], Result]) -> Result:
        """The result of ``action``, done again after every wait; raises what it raised last."""
        while True:
            try:
                return action()
            except Exception as error:
                wait = asked_to_wait_s(error)
                if wait is None or wait > self._left:
                    raise
                wait = max(wait, 0.1)
                time.sleep(wait)
                self._left -= wait
