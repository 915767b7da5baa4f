"""What eval-svc refuses, and how a run fails."""

from assay_chassis.errors import Conflict, InvalidRequest, NotFound


class UnknownArtifact(NotFound):
    """No artifact has this id."""


class UnknownInstanceLog(NotFound):
    """The run keeps no log of this serving instance."""


class UnknownRun(NotFound):
    """No run has this id."""


class UnknownBlock(NotFound):
    """The sample log of the run has no such block."""


class NameTaken(Conflict):
    """Another artifact has this name."""


class IdempotencyKeyReused(Conflict):
    """The idempotency key was used before, for a different request."""


class WrongState(Conflict):
    """The run is in a state that rules the request out."""


class BackendNotConfigured(InvalidRequest):
    """No serving adapter is configured for the backend."""


class InvalidArtifact(InvalidRequest):
    """The adapter cannot serve the artifact as described."""


class InvalidCursor(InvalidRequest):
    """The cursor is not one that the list gave."""


class InvalidPlan(InvalidRequest):
    """The run cannot work as asked for; nothing was queued."""


class RunFailure(Exception):
    """The run cannot go on. Ends as the run's ``error``.

    Attributes:
        code: short name, stable for programs.
        reason: what happened and what to do.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
