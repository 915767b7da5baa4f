"""How a document is deleted whose event has to be published.

First it is *marked*: readers are refused, and everything can still be taken back. Then it is *deleted*: out
of every list, with its event in its outbox. It is removed when the event is published.
"""

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum

from assay_chassis.store import Change, Collection, Document, Index, OutboxEntry
from dataset_svc.domain.snapshots import now
from dataset_svc.errors import BeingDeleted

DELETION_INDEX = Index(("deletion",), sparse=True)
_MOST_AT_ONCE = 100
_MARK_AGE = timedelta(minutes=5)


class Deletion(StrEnum):
    """How far a deletion is; a document without one is alive."""

    MARKED = "marked"
    DELETED = "deleted"


def is_alive(document: Document | None, what: str) -> bool:
    """Whether a document is there for readers; ``what`` names it.

    Raises:
        BeingDeleted: it is marked.
    """
    if document is None:
        return False
    if document.get("deletion") == Deletion.MARKED:
        raise BeingDeleted(what)
    return document.get("deletion") is None


class Deletions:
    """Deletes documents of one collection."""

    def __init__(self, collection: Collection) -> None:
        self._collection = collection

    async def mark(self, document_id: str) -> bool:
        """Refuse readers from now on; whether this call did it."""
        change = Change(set={"deletion": Deletion.MARKED.value, "deletion_at": now()})
        return await self._collection.update(document_id, change, guard={"deletion": None})

    async def unmark(self, document_id: str) -> None:
        """Take the mark back."""
        change = Change(unset=("deletion", "deletion_at"))
        await self._collection.update(document_id, change, guard={"deletion": Deletion.MARKED.value})

    async def delete(self, document_id: str, *, frees: dict[str, str], events: Sequence[OutboxEntry]) -> bool:
        """Take a marked document out of every list, and say so; whether this call did it.

        Args:
            document_id: the document.
            frees: values that a unique index holds for others to use again, and what to put there.
            events: what tells of it.
        """
        change = Change(set={"deletion": Deletion.DELETED.value, **frees}, unset=("sort_key",), events=events)
        return await self._collection.update(document_id, change, guard={"deletion": Deletion.MARKED.value})

    async def deleted(self) -> list[Document]:
        """Some documents that are deleted and still there."""
        return await self._collection.find_many({"deletion": Deletion.DELETED.value}, limit=_MOST_AT_ONCE)

    async def remove(self, document_id: str) -> bool:
        """Remove a deleted document for good, unless its event is not published yet."""
        guard = {"deletion": Deletion.DELETED.value, "outbox_pending": None}
        return await self._collection.delete(document_id, guard=guard)

    async def take_back_old_marks(self) -> None:
        """Unmark what a crash has left marked."""
        for document in await self._collection.find_many(
            {"deletion": Deletion.MARKED.value}, limit=_MOST_AT_ONCE
        ):
            if document["deletion_at"].replace(tzinfo=now().tzinfo) < now() - _MARK_AGE:
                await self.unmark(document["_id"])
