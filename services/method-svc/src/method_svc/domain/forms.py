"""Forms: JSON Schema and hints from which any client can draw the fields of a method for a snapshot.

The schema is that of the body of ``POST /v1/methods``. Its constraints are those of the recipes themselves;
what the snapshot adds are the columns to choose from and the guessed defaults. Every field is named by the
dotted path that a refusal of that body would name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from assay_harness.index import IndexEntry
from method_svc.domain.guesses import Guess
from method_svc.domain.snapshots import Snapshot
from method_svc.domain.templates import TemplateName


class Widget(StrEnum):
    """How a field is best asked for."""

    TEXT = "text"
    TEXTAREA = "textarea"
    SELECT = "select"
    SEARCH = "search"
    TEMPLATE = "template"
    NUMBER = "number"
    LIST = "list"
    HIDDEN = "hidden"


@dataclass(frozen=True, slots=True)
class Choice:
    """A value to choose: a column, with its type and an example, or a task, with why it may be meant."""

    value: str
    hint: str


@dataclass(frozen=True, slots=True)
class Search:
    """Where values of a field are searched: GET ``endpoint`` with the text as ``query_parameter``."""

    endpoint: str
    query_parameter: str
    value: str
    parameters: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FormField:
    """How one field is shown; ``advanced`` ones may be folded away, their defaults do."""

    path: str
    label: str
    widget: Widget
    help: str = ""
    advanced: bool = False
    choices: tuple[Choice, ...] = ()
    search: Search | None = None
    placeholders: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Offer:
    """A template as it is offered for a snapshot, the best first; ``reason`` says why it fits or does not."""

    template: TemplateName
    title: str
    fits: bool
    reason: str


@dataclass(frozen=True, slots=True)
class ColumnMapping:
    """Which column of the rows holds what a task reads, guessed; for a preview's or a run's column_mapping.

    ``complete`` is whether every column was found, ``None`` where only the task's own code knows its columns.
    ``mapping`` holds only what differs in name: it is what to send.
    """

    complete: bool | None
    reason: str
    guesses: tuple[Guess, ...] = ()
    choices: tuple[Choice, ...] = ()

    @property
    def mapping(self) -> dict[str, str]:
        """Column that the task reads to the column that holds it, where the names differ."""
        return {guess.field: guess.value for guess in self.guesses if guess.value not in (None, guess.field)}


@dataclass(frozen=True, slots=True)
class Form:
    """Everything that is needed to draw the form of one template for one snapshot.

    Attributes:
        template, title, description: the template.
        snapshot: the snapshot.
        offers: all templates, the one to offer first first.
        fits: whether a method of this template can be used on these rows; ``reason`` says why or why not.
        schema: JSON Schema (draft 2020-12) of the body of ``POST /v1/methods``.
        fields: the fields in the order in which they are shown.
        defaults: the body as far as it is known.
        guesses: the defaults that were guessed, each with its reason.
        task: the entry of the task that was named or guessed.
        column_mapping: for a built-in task, where its columns are found; else ``None``.
    """

    template: TemplateName
    title: str
    description: str
    snapshot: Snapshot
    offers: tuple[Offer, ...]
    fits: bool
    reason: str
    schema: dict[str, Any]
    fields: tuple[FormField, ...]
    defaults: dict[str, Any]
    guesses: tuple[Guess, ...]
    task: IndexEntry | None
    column_mapping: ColumnMapping | None


@dataclass(frozen=True, slots=True)
class TaskChoice:
    """The task of a built-in form.

    Attributes:
        entry: the task that was named, or the best guess; ``None`` where there is neither.
        guess: why it was guessed; ``None`` where it was named.
        candidates: further tasks that are defined on the same data.
        members: the tasks of a group.
    """

    entry: IndexEntry | None = None
    guess: Guess | None = None
    candidates: tuple[Choice, ...] = ()
    members: tuple[IndexEntry, ...] = ()
