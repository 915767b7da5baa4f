"""Scored views of runs, and what events do to them: pure decisions over their documents.

A view is one way to score the samples of a run. Every run has its own, with the task's filters and metrics,
under the run's id; it follows the run while that goes on. Others are asked for once it is final.

The document of a view has these fields.

- ``run_id``, ``scoring`` (``Scoring`` as JSON text), ``name``, ``created_at``, ``created_by``: of a view that
  was asked for; a run's own view has none of them.

- ``state``: a ``ScoringState``; ``active``: whether a scorer should look at it.
- ``known_blocks``: blocks that are known to be in the sample log, which is numbered without gaps.
- ``scored_blocks``: how many of them a scorer reported as scored.
- ``final_blocks``, ``expected_samples``: size of the complete log; ``None`` until the run has all responses.
- ``run_event``: identifier and time (s since the epoch) of the newest event about the run's life.
- ``failed_by``: ``run`` or ``scoring`` when ``state`` is ``failed``; ``error``: why.
- ``attempts``, ``retry_at``: unexpected failures in a row, and when to try again (s since the epoch).
- ``metrics``: ``RunMetrics`` as JSON text; without runtime metrics but in a run's own view.
- ``evidence_id``: of a final view, what comparisons read of it; where an earlier release ended the view, set
  on first use.
- ``method_id``, ``dataset_id``, ``artifact_id``, ``finished_at``, ``finished_key`` (unique, sorts by
  ``finished_at``): of a run's own view that is final; see ``trend_fields``.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from assay_harness.spec import Scoring
from metrics_svc.domain.runs import RunMetrics, ScoringState

Fields = dict[str, Any]

WORK_FIELDS = ("rev", "lease", "active", "retry_at", "known_blocks", "scored_blocks", "final_blocks")
"""What decides whether a view needs work, and whether it can be taken."""


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


@dataclass(frozen=True, slots=True)
class ViewRequest:
    """A view as somebody asked for it. The same scoring of the same run is the same view."""

    run_id: str
    scoring: Scoring
    name: str | None
    client: str

    @property
    def view_id(self) -> str:
        """Made from run and scoring, so that asking twice cannot make two."""
        content = f"{self.run_id}:{self.scoring.model_dump_json()}"
        return f"scr_{hashlib.sha256(content.encode()).hexdigest()[:26]}"


def new_view(request: ViewRequest, *, own: Mapping[str, Any], sort_key: str, created_at: str) -> Fields:
    """The document of a view of a run whose ``own`` view is final, so that its sample log is complete."""
    return new_scoring(request.view_id) | {
        "sort_key": sort_key,
        "run_id": request.run_id,
        "scoring": request.scoring.model_dump_json(),
        "name": request.name or request.view_id,
        "created_at": created_at,
        "created_by": request.client,
        "known_blocks": own["final_blocks"],
        "final_blocks": own["final_blocks"],
        "expected_samples": own["expected_samples"],
    }


def run_of(view: Mapping[str, Any]) -> str:
    """The run whose samples the view scores."""
    return str(view.get("run_id") or view["_id"])


def is_own(view: Mapping[str, Any]) -> bool:
    """Whether it is the run's own view."""
    return view.get("run_id") is None


def after_request(view: Mapping[str, Any]) -> Fields | None:
    """Fields to set when a view is asked for again: one that had failed is tried again."""
    return reopened() if view["state"] == ScoringState.FAILED else None


def after_block(scoring: Mapping[str, Any], *, block: int, when: Occurrence) -> Fields | None:
    """Fields to set when block number ``block`` was appended; ``None`` where that changes nothing."""
    if scoring["state"] == ScoringState.FINAL or block < scoring["known_blocks"]:
        return None
    fields: Fields = {"known_blocks": block + 1}
    if scoring["failed_by"] == FailedBy.RUN and _is_newer(scoring, when):
        fields |= reopened()  # the run was resumed
    return fields


def after_responses(
    scoring: Mapping[str, Any], *, blocks: int, samples: int, when: Occurrence
) -> Fields | None:
    """Fields to set when the log is complete; ``None`` for a repeated or overtaken event.

    Reopens a scoring that had failed: a resumed run is told to be complete once more.
    """
    if scoring["state"] == ScoringState.FINAL or not _is_newer(scoring, when):
        return None
    return reopened() | {
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


def reopened() -> Fields:
    """Fields of a view that is to be worked on again."""
    return {
        "state": ScoringState.SCORING.value,
        "active": True,
        "failed_by": None,
        "error": None,
        "attempts": 0,
        "retry_at": 0.0,
    }


def trend_fields(metrics: RunMetrics) -> Fields:
    """Fields by which final runs of a method are listed in the order in which they finished."""
    subject = metrics.subject
    assert subject is not None, "known once anything was scored"
    return {
        "method_id": subject.method_id,
        "dataset_id": subject.dataset_id,
        "artifact_id": subject.artifact.id,
        "finished_at": metrics.finished_at,
        "finished_key": f"{metrics.finished_at}:{metrics.run_id}",
    }


def _stored(when: Occurrence) -> Fields:
    return {"id": when.id, "time": when.time.timestamp()}


def _is_newer(scoring: Mapping[str, Any], when: Occurrence) -> bool:
    newest = scoring["run_event"]
    if newest is None:
        return True
    return bool(newest["id"] != when.id and newest["time"] <= when.time.timestamp())
