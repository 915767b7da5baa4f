"""Previews: which rows are wanted, on which data, and what came of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from assay_harness.results import Document, TaskFacts
from assay_harness.spec import BuiltinTask, JsonlQuestionAnswer, TaskOptions
from method_svc.domain.snapshots import Snapshot

MAX_PREVIEW_ROWS = 50


class FewshotOrigin(StrEnum):
    """Why few-shot examples come from where they come from."""

    NAMED = "named"
    COMPANION = "companion"
    NOT_NAMED = "not-named"


@dataclass(frozen=True, slots=True)
class RowSelection:
    """Rows to render: their indices in ascending order, each once.

    A range that goes beyond the last row ends there; named rows must exist, ``named`` says which it is.
    """

    indices: tuple[int, ...]
    named: bool

    def within(self, total: int) -> tuple[int, ...]:
        """The rows that there are when there are ``total``; empty where a named one is not there."""
        found = tuple(index for index in self.indices if index < total)
        return () if self.named and len(found) < len(self.indices) else found


@dataclass(frozen=True, slots=True)
class PreviewWish:
    """What is to be rendered.

    Attributes:
        recipe: template and parameters.
        options: the options of the run that this is a preview of.
        rows: which rows.
        dataset_id: its current snapshot is used; or
        snapshot_id: the snapshot. At most one of the two; neither where every member has its own.
        fewshot_dataset_id: where examples are drawn from, likewise; or
        fewshot_snapshot_id: likewise.
        member_datasets: for a group, the dataset of a member in place of ``dataset_id``.
        member_fewshot_datasets: for a group, the dataset that a member's examples are drawn from.
    """

    recipe: BuiltinTask | JsonlQuestionAnswer
    options: TaskOptions
    rows: RowSelection
    dataset_id: str | None = None
    snapshot_id: str | None = None
    fewshot_dataset_id: str | None = None
    fewshot_snapshot_id: str | None = None
    member_datasets: Mapping[str, str] = field(default_factory=dict)
    member_fewshot_datasets: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RowSource:
    """The rows of one task: those that are evaluated, and those that examples are drawn from.

    ``fewshot`` is ``None`` where no rows are set aside for examples: then the task's own examples, the other
    evaluated rows, or none are used; the facts of the task say which.
    """

    task: str
    evaluation: Snapshot
    fewshot: Snapshot | None
    fewshot_origin: FewshotOrigin


@dataclass(frozen=True, slots=True)
class Preview:
    """Rows as they would be asked, and what is known of the task that asks them."""

    documents: list[Document]
    facts: TaskFacts
    sources: list[RowSource]
