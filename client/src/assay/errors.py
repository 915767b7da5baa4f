"""Errors of the client. Every one is an ``AssayError``; its text is what a person should read."""

from collections.abc import Sequence
from typing import ClassVar

from assay.models import Fault, Problem

SHOWN_FAULTS = 20
"""Faults that the text of an error lists; ``AssayError.faults`` has all that the platform sent."""


class AssayError(Exception):
    """Something was refused, failed, or could not be reached.

    Attributes:
        status: HTTP status; ``None`` where no answer came.
        problem: the problem document of the platform; ``None`` where there was none.
        faults: the single things that are wrong, with field, row, or line and column.
        exit_code: what the command line ends with.
    """

    exit_code: ClassVar[int] = 3

    def __init__(self, message: str, *, status: int | None = None, problem: Problem | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.problem = problem
        self.faults: tuple[Fault, ...] = tuple(problem.errors) if problem is not None else ()

    def __str__(self) -> str:
        lines = [self.message, *_fault_lines(self.faults, message=self.message)]
        return "\n".join(lines)


class RequestRefused(AssayError):
    """The platform refuses the request (4xx), or the client sees that it would."""

    exit_code = 2


class NotFound(RequestRefused):
    """There is no such thing."""


class Conflict(RequestRefused):
    """The name is taken, or the thing is in a state that rules the request out."""


class PlatformFailed(AssayError):
    """The platform answered with a failure of its own (5xx)."""


class PlatformUnreachable(AssayError):
    """Nobody answers, or it is not known where to ask."""


class RunDisappointed(AssayError):
    """A run or import that was waited for ended as Failed or Cancelled."""

    exit_code = 1


def place(fault: Fault) -> str:
    """Where a fault is, in words: ``line 17, column 4``; empty where it names no place."""
    parts = [
        f"{name} {value}"
        for name, value in (("line", fault.line), ("column", fault.column), ("row", fault.row))
        if value is not None
    ]
    if fault.field is not None:
        parts.insert(0, fault.field)
    return ", ".join(parts)


def _fault_lines(faults: Sequence[Fault], *, message: str) -> list[str]:
    lines = []
    for fault in faults[:SHOWN_FAULTS]:
        where = place(fault)
        # A single fault is often what the message says already; then only its place is news.
        news = "" if len(faults) == 1 and fault.message in message else fault.message
        line = ": ".join(part for part in (where, news) if part)
        if line and line not in message:
            lines.append(f"  {line}" if news else f"  in {line}")
    if len(faults) > SHOWN_FAULTS:
        lines.append(f"  ... and {len(faults) - SHOWN_FAULTS} more")
    return lines
