"""What the outcome of a rule means for the verdict, by the rule's role."""

from enum import StrEnum
from typing import Literal

from assay_evidence.policy import Role

Effect = Literal["supports", "blocks", "rejects", "noted"]


class Outcome(StrEnum):
    """What became of a rule."""

    SHOWN = "shown"
    FAILED = "failed"  # proven to fail
    OPEN = "open"  # neither
    HELD = "held"  # something speaks against judging it


def effect_of(role: Role, outcome: Outcome) -> Effect:
    """A critical rule must be shown, and rejects when it is proven to fail; a supporting one that is proven
    to fail holds an ACCEPT back; an advisory one is only reported."""
    match role, outcome:
        case ("advisory", _):
            return "noted"
        case (_, Outcome.SHOWN):
            return "supports"
        case ("critical", Outcome.FAILED):
            return "rejects"
        case ("critical", _) | ("supporting", Outcome.FAILED):
            return "blocks"
        case _:
            return "noted"
