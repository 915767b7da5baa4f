"""What is asked of a collection and what it answers: indexes, changes, pages."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Document = dict[str, Any]


class DuplicateKey(Exception):
    """A document with the same unique key exists.

    Attributes:
        fields: the fields of the violated index; empty if the server does not say.
    """

    def __init__(self, fields: tuple[str, ...]) -> None:
        super().__init__(f"duplicate value for {', '.join(fields) or 'a unique index'}")
        self.fields = fields


@dataclass(frozen=True, slots=True)
class Index:
    """An index, declared in code. ``keys`` are ascending; a list is read in either direction."""

    keys: tuple[str, ...]
    unique: bool = False
    sparse: bool = False


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """An event that waits to be published, as it lies in its document."""

    id: str
    subject: str
    payload: str
    created_at: float
    traceparent: str | None = None

    def as_document(self) -> Document:
        """The entry as it is stored."""
        return {
            "id": self.id,
            "subject": self.subject,
            "payload": self.payload,
            "created_at": self.created_at,
            "traceparent": self.traceparent,
        }


@dataclass(frozen=True, slots=True)
class Change:
    """What one guarded write does to a document. Paths are dotted field names.

    Attributes:
        set: paths to new values.
        unset: paths to remove.
        increment: paths to amounts.
        push: array paths to the value that is appended.
        events: outbox entries that are appended in the same write.
        bump: whether ``rev`` counts this change. A lease's heartbeat does not count.
    """

    set: Mapping[str, Any] = field(default_factory=dict)
    unset: Sequence[str] = ()
    increment: Mapping[str, int | float] = field(default_factory=dict)
    push: Mapping[str, Any] = field(default_factory=dict)
    events: Sequence[OutboxEntry] = ()
    bump: bool = True

    def as_update(self, write_id: str) -> Document:
        """The MongoDB update document."""
        setting = {**self.set, "write_id": write_id}
        incrementing = dict(self.increment)
        pushing: Document = dict(self.push)
        if self.bump:
            incrementing["rev"] = 1
        if self.events:
            setting["outbox_pending"] = True
            pushing["outbox"] = {"$each": [event.as_document() for event in self.events]}
        update: Document = {"$set": setting}
        if incrementing:
            update["$inc"] = incrementing
        if pushing:
            update["$push"] = pushing
        if self.unset:
            update["$unset"] = dict.fromkeys(self.unset, "")
        return update


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list. ``next_cursor`` is ``None`` on the last page."""

    items: list[Document]
    next_cursor: str | None
