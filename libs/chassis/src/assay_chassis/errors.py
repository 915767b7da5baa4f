"""Errors whose class is the verdict: HTTP status on a route, acknowledge or dead-letter on a message.

A service derives its own errors from these in its ``errors.py``. Whatever is not one of these is a surprise:
500 on a route, another try on a message.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong in what the caller sent.

    Attributes:
        message: what is wrong and what to do.
        field: dotted path of the field in the request, where there is one.
        line: line of the upload, counted from 1.
        column: column in that line, counted from 1.
        row: row of the dataset, counted from 0.
    """

    message: str
    field: str | None = None
    line: int | None = None
    column: int | None = None
    row: int | None = None


class ServiceError(Exception):
    """A refusal or a failure that the caller is told about.

    Attributes:
        status: HTTP status.
        slug: short name of the problem type, stable for programs.
        title: summary of the problem type, the same for all its occurrences.
        faults: the single things that are wrong.
    """

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal-error"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str, *, faults: Sequence[Fault] = ()) -> None:
        super().__init__(detail)
        self.detail = detail
        self.faults = tuple(faults)


class InvalidRequest(ServiceError):
    """What was sent cannot be accepted; nothing was changed."""

    status = 422
    slug = "invalid-request"
    title = "The request is not valid"


class NotFound(ServiceError):
    """There is no such thing."""

    status = 404
    slug = "not-found"
    title = "Not found"


class Conflict(ServiceError):
    """The thing is in a state, or somebody got in between, that rules the change out."""

    status = 409
    slug = "conflict"
    title = "Conflict"


class TooLarge(ServiceError):
    """The body is larger than the limit."""

    status = 413
    slug = "too-large"
    title = "The body is too large"


class Unauthorized(ServiceError):
    """The request carries no valid key."""

    status = 401
    slug = "unauthorized"
    title = "The API key is missing or wrong"


class Forbidden(ServiceError):
    """The caller is known, and its role does not allow the request."""

    status = 403
    slug = "forbidden"
    title = "The role of the key does not allow this"


class Unavailable(ServiceError):
    """A component that is needed does not answer; the same request may succeed later."""

    status = 503
    slug = "unavailable"
    title = "Temporarily unavailable"


class Reject(Exception):
    """Verdict of a message handler: this message can never be handled. It goes to the dead-letter stream."""
