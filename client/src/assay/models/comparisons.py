"""Runs compared item by item."""

from typing import Any

from pydantic import Field

from assay.models.decisions import PolicyReference
from assay.models.documents import Document
from assay.models.evidence import CandidateReport, ComparedRun


class ComparisonSettings(Document):
    """How runs are compared: ``margin`` in the metric's unit, ``alpha`` one-sided."""

    margin: float = 0.02
    alpha: float = 0.05
    power: float = 0.8
    coverage_floor: float | None = None
    cluster_column: str | None = None


class Comparison(Document):
    """One or more candidates compared with one baseline, item by item.

    ``policy`` is the one whose margins it has, where it was made for a decision.
    """

    id: str
    policy: PolicyReference | None = None
    settings: ComparisonSettings = Field(default_factory=ComparisonSettings)
    baseline: ComparedRun
    noise_floor_run: ComparedRun | None = None
    candidates: list[CandidateReport]
    created_at: str


class FirstDifference(Document):
    """Where two responses part, counted from 0."""

    char: int | None = None
    token: int | None = None


class AnsweredItem(Document):
    """One run's side of an item."""

    index: int | None = None
    status: str = "ok"
    value: float | None = None
    response: str | None = None
    filtered: Any = None


class ComparisonItem(Document):
    """One item of a comparison, answered by both runs."""

    metric: str = ""
    flip: str | None = None
    flip_class: str | None = None
    doc_hash: str = ""
    prompt: str | None = None
    target: str | None = None
    first_difference: FirstDifference | None = None
    unstable_under_aa: bool | None = None
    baseline: AnsweredItem
    candidate: AnsweredItem
