"""What events do to the scoring of a run: pure decisions over its document.

The document of a run has these fields.

- ``state``: a ``ScoringState``; ``active``: whether a scorer should look at it.
- ``known_blocks``: blocks that are known to be in the sample log, which is numbered without gaps.
- ``scored_blocks``: how many of them a scorer reported as scored.
- ``final_blocks``, ``expected_samples``: size of the complete log; ``None`` until the run has all responses.
- ``run_event``: identifier and time (s since the epoch) of the newest event about the run's life.
- ``failed_by``: ``run`` or ``scoring`` when ``state`` is ``failed``; ``error``: why.
- ``attempts``, ``retry_at``: unexpected failures in a row, and when to try again (s since the epoch).
- ``metrics``: ``RunMetrics`` as JSON text.
"""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from metrics_svc.domain.runs import ScoringState

Fields = dict[str, Any]


class FailedBy(StrEnum):
    """Who ended a scoring without a result."""

    RUN = "run"
    SCORING = "scoring"


class Occurrence(NamedTuple):
    """Which event, and when the run's owner wrote it."""

    id: str
    time: datetime


def new_scoring(run_id: str) -> Fields:
    """The document of a run that nothing is known of yet."""
    return {
        "_id": run_id,
        "sort_key": run_id,
        "state": ScoringState.SCORING.value,
        "active": True,
        "known_blocks": 0,
        "scored_blocks": 0,
        "final_blocks": None,
        "expected_samples": None,
        "run_event": None,
        "failed_by": None,
        "error": None,
        "attempts": 0,
        "retry_at": 0.0,
        "metrics": None,
    }


def after_block(scoring: Mapping[str, Any], *, block: int, when: Occurrence) -> Fields | None:
    """Fields to set when block number ``block`` was appended; ``None`` where that changes nothing."""
    if scoring["state"] == ScoringState.FINAL or block < scoring["known_blocks"]:
        return None
    fields: Fields = {"known_blocks": block + 1}
    if scoring["failed_by"] == FailedBy.RUN and _is_newer(scoring, when):
        fields |= _reopened()  # the run was resumed
    return fields


def after_responses(
    scoring: Mapping[str, Any], *, blocks: int, samples: int, when: Occurrence
) -> Fields | None:
    """Fields to set when the log is complete; ``None`` for a repeated or overtaken event.

    Reopens a scoring that had failed: a resumed run is told to be complete once more.
    """
    if scoring["state"] == ScoringState.FINAL or not _is_newer(scoring, when):
        return None
    return _reopened() | {
        "known_blocks": max(blocks, scoring["known_blocks"]),
        "final_blocks": blocks,
        "expected_samples": samples,
        "run_event": _stored(when),
    }


def after_end(scoring: Mapping[str, Any], *, code: str, reason: str, when: Occurrence) -> Fields | None:
    """Fields to set when the run failed or was cancelled; ``None`` for a repeated or overtaken event."""
    if scoring["state"] == ScoringState.FINAL or not _is_newer(scoring, when):
        return None
    fields: Fields = {
        "run_event": _stored(when),
        "active": False,
        "final_blocks": None,
        "expected_samples": None,
    }
    if scoring["state"] == ScoringState.FAILED:
        return fields  # the run failed because its scoring did, whose error says more
    return fields | {
        "state": ScoringState.FAILED.value,
        "failed_by": FailedBy.RUN.value,
        "error": {"code": code, "message": reason},
    }


def has_work(scoring: Mapping[str, Any], *, now: float) -> bool:
    """Whether a scorer could do something at ``now`` (s since the epoch)."""
    if not scoring["active"] or scoring["retry_at"] > now:
        return False
    return scoring["final_blocks"] is not None or scoring["known_blocks"] > scoring["scored_blocks"]


def _reopened() -> Fields:
    return {
        "state": ScoringState.SCORING.value,
        "active": True,
        "failed_by": None,
        "error": None,
        "attempts": 0,
        "retry_at": 0.0,
    }


def _stored(when: Occurrence) -> Fields:
    return {"id": when.id, "time": when.time.timestamp()}


def _is_newer(scoring: Mapping[str, Any], when: Occurrence) -> bool:
    newest = scoring["run_event"]
    if newest is None:
        return True
    return bool(newest["id"] != when.id and newest["time"] <= when.time.timestamp())
