"""What metrics-svc refuses, and why a run cannot be scored."""

from assay_chassis.errors import Conflict, InvalidRequest, NotFound


class UnknownRun(NotFound):
    """There is no run of this id."""


class UnknownComparison(NotFound):
    """There is no comparison of this id."""


class UnknownScoring(NotFound):
    """There is no scored view of this id."""


class UnknownPolicy(NotFound):
    """There is no policy of this name, no such version of it, or none of this id."""


class UnknownDecision(NotFound):
    """There is no decision of this id."""


class RunNotFinal(Conflict):
    """The run has no final metrics, so it cannot be compared or re-scored; the message names its state."""


class NotExportable(Conflict):
    """lm-eval's files of the run need its task as it was planned, which this release does not have."""


class InvalidScoring(InvalidRequest):
    """The responses of the run cannot be scored in this way; nothing was stored."""


class RepeatedRun(InvalidRequest):
    """A run is named twice in a comparison; nothing was compared."""


class UnknownColumn(InvalidRequest):
    """The rows of the baseline have no such column; the message lists those they have."""


class EvidenceTooLarge(InvalidRequest):
    """The runs have more evidence than one bundle holds; nothing was decided."""


class UnknownMetric(InvalidRequest):
    """The run or the comparison has no metric of this name; the message lists those it has."""


class InvalidFilter(InvalidRequest):
    """The list cannot be filtered in this way."""


class Unscorable(Exception):
    """The responses of a run can never be scored. Ends as ``ScoringFailed``.

    Attributes:
        code: short name, stable for programs.
        reason: what is wrong and what to do.
    """

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(f"{code}: {reason}")
        self.code = code
        self.reason = reason
