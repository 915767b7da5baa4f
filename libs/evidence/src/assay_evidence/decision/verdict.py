"""The words of a decision. docs/decisions.md lists every code that a reason may have."""

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, JsonValue


class Verdict(StrEnum):
    """May the candidate replace the baseline?"""

    ACCEPT = "ACCEPT"
    REJECT = "REJECT"
    INCONCLUSIVE = "INCONCLUSIVE"


class Reason(BaseModel):
    """One thing that bore on the verdict.

    Attributes:
        code: stable for programs, such as ``non-inferior``, ``inferior``, ``not-shown``, ``floor-effect``.
        effect: ``supports`` an ACCEPT, ``blocks`` it, ``rejects``, or is only ``noted``.
        message: one sentence for people, with the numbers.
        metric: the metric; ``None`` where it is about the whole.
        samples_needed: pairs in all that would settle it with the policy's power at the observed churn, if
            the candidate is as good as the baseline or, where it looks worse, as bad as it looks; ``None``
            where more samples do not help.
    """

    code: str
    effect: Literal["supports", "blocks", "rejects", "noted"]
    message: str
    metric: str | None = None
    samples_needed: int | None = None
    details: dict[str, JsonValue] = {}


class Judgement(BaseModel):
    """The verdict and its reasons, those that decided it first.

    Attributes:
        valid: whether the evidence may be judged at all; an invalid one is always INCONCLUSIVE.
        summary: one sentence.
        samples_needed: the largest number of the reasons that block; what blocks without a number stays.
        early_stop: whether a sequential stopping rule was used, and so its adjusted bounds.
    """

    verdict: Verdict
    valid: bool
    summary: str
    reasons: list[Reason]
    samples_needed: int | None
    early_stop: bool
