"""Telling a server that does not answer from one that refuses."""

from collections.abc import Iterator
from contextlib import contextmanager

from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    ExecutionTimeout,
    NetworkTimeout,
    ServerSelectionTimeoutError,
)

from assay_chassis.errors import Unavailable

TRANSIENT = (
    AutoReconnect,
    ConnectionFailure,
    NetworkTimeout,
    ServerSelectionTimeoutError,
    ExecutionTimeout,
)
"""What the driver raises when the same operation may succeed a moment later."""


@contextmanager
def answering() -> Iterator[None]:
    """Raise Unavailable where the block meets a server that does not answer."""
    try:
        yield
    except TRANSIENT as error:
        raise Unavailable(f"the store does not answer: {error}") from error
