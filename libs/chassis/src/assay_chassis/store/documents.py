"""Collections of documents."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar
from uuid import uuid4

from motor.motor_asyncio import AsyncIOMotorCollection
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import DuplicateKeyError

from assay_chassis.errors import Unavailable
from assay_chassis.identifiers import first_id, made_at
from assay_chassis.store.answering import TRANSIENT
from assay_chassis.store.changes import Change, Document, DuplicateKey, Index, OutboxEntry, Page

Result = TypeVar("Result")

HIGHEST_KEY = "\U0010ffff"
_FIRST_STEP_MS = 60_000
_FIRST_MOMENT_MS = 1_577_836_800_000
"""The year 2020: nothing is older than the project."""


class Collection:
    """One collection. Every operation is tried again while the server does not answer, for ``patience`` s.

    A write that is tried again after an unanswered attempt recognises its own earlier success by
    ``write_id``, so it is applied once.

    Raises (all methods): Unavailable after ``patience`` seconds.
    """

    def __init__(
        self,
        collection: AsyncIOMotorCollection[Document],
        *,
        patience: float,
        on_events: Callable[[], None],
    ) -> None:
        self._collection = collection
        self._patience = patience
        self._on_events = on_events
        self.name: str = collection.name

    async def _persist(self, attempt: Callable[[int], Awaitable[Result]]) -> Result:
        deadline = time.monotonic() + self._patience
        delay = 0.05
        tries = 0
        while True:
            try:
                return await attempt(tries)
            except TRANSIENT as error:
                if time.monotonic() + delay > deadline:
                    raise Unavailable(f"the store does not answer: {error}") from error
                await asyncio.sleep(delay)
                delay = min(delay * 2, 1.0)
                tries += 1

    async def create_indexes(self, indexes: Sequence[Index]) -> None:
        """Create the declared indexes and the outbox's; existing ones are left alone."""
        for index in (*indexes, Index(("outbox_pending",), sparse=True)):
            keys = [(key, ASCENDING) for key in index.keys]

            async def attempt(_: int, keys: list[tuple[str, int]] = keys, index: Index = index) -> None:
                await self._collection.create_index(keys, unique=index.unique, sparse=index.sparse)

            await self._persist(attempt)

    async def insert(self, document: Mapping[str, Any], *, events: Sequence[OutboxEntry] = ()) -> Document:
        """Insert a document, together with the events that tell of it.

        Returns:
            The document as stored.

        Raises:
            DuplicateKey: its ``_id`` or another unique key is taken.
        """
        write_id = uuid4().hex
        stored: Document = {**document, "rev": 1, "write_id": write_id}
        if events:
            stored["outbox"] = [event.as_document() for event in events]
            stored["outbox_pending"] = True

        async def attempt(tries: int) -> None:
            try:
                await self._collection.insert_one(dict(stored))
            except DuplicateKeyError as error:
                if tries and await self._is_ours(stored["_id"], write_id):
                    return
                raise DuplicateKey(_fields_of(error)) from error

        await self._persist(attempt)
        if events:
            self._on_events()
        return stored

    async def _is_ours(self, document_id: str, write_id: str) -> bool:
        found = await self._collection.find_one({"_id": document_id}, {"write_id": 1})
        return found is not None and found.get("write_id") == write_id

    async def get(self, document_id: str) -> Document | None:
        """The document, or ``None``."""
        return await self.find_one({"_id": document_id})

    async def find_one(self, query: Mapping[str, Any]) -> Document | None:
        """The document with these values of a unique key, or ``None``."""

        async def attempt(_: int) -> Document | None:
            return await self._collection.find_one(dict(query))

        return await self._persist(attempt)

    async def find_many(
        self,
        query: Mapping[str, Any],
        *,
        order_by: str | None = None,
        limit: int,
        fields: Sequence[str] | None = None,
    ) -> list[Document]:
        """Up to ``limit`` documents that match an equality prefix of an index, ascending by ``order_by``."""
        projection = dict.fromkeys(fields, 1) if fields else None

        async def attempt(_: int) -> list[Document]:
            cursor = self._collection.find(dict(query), projection)
            if order_by:
                cursor = cursor.sort(order_by, ASCENDING)
            found: list[Document] = await cursor.limit(limit).to_list(length=limit)
            return found

        return await self._persist(attempt)

    async def update(
        self, document_id: str, change: Change, *, guard: Mapping[str, Any] | None = None
    ) -> bool:
        """Apply ``change`` if the document still has the values of ``guard``.

        Returns:
            Whether it was applied; ``False`` when the document is gone or the guard does not hold.
        """
        write_id = uuid4().hex
        query = {**(guard or {}), "_id": document_id}
        update = change.as_update(write_id)

        async def attempt(tries: int) -> bool:
            outcome = await self._collection.update_one(query, update)
            if outcome.matched_count:
                return True
            return bool(tries) and await self._is_ours(document_id, write_id)

        try:
            applied = await self._persist(attempt)
        except DuplicateKeyError as error:
            raise DuplicateKey(_fields_of(error)) from error
        if applied and change.events:
            self._on_events()
        return applied

    async def modify(
        self, document_id: str, decide: Callable[[Document], Change | None], *, tries: int = 20
    ) -> Document | None:
        """Read, decide, write guarded by ``rev``; again when somebody got in between.

        Args:
            document_id: the document.
            decide: gets the document, returns the change, or ``None`` to leave it. May raise.
            tries: how often to start over.

        Returns:
            The document after the change, or as it was left; ``None`` when it does not exist.

        Raises:
            Unavailable: somebody got in between at every try.
        """
        for _ in range(tries):
            document = await self.get(document_id)
            if document is None:
                return None
            change = decide(document)
            if change is None:
                return document
            if await self.update(document_id, change, guard={"rev": document["rev"]}):
                return await self.get(document_id)
            await asyncio.sleep(0.01)
        raise Unavailable(f"{self.name} {document_id} is changing too quickly; try again")

    async def delete(self, document_id: str, *, guard: Mapping[str, Any] | None = None) -> bool:
        """Delete the document if the guard holds; whether one was deleted."""

        async def attempt(_: int) -> bool:
            outcome = await self._collection.delete_one({**(guard or {}), "_id": document_id})
            return bool(outcome.deleted_count)

        return await self._persist(attempt)

    async def page(
        self,
        query: Mapping[str, Any],
        *,
        cursor: str | None,
        limit: int,
        key: str = "sort_key",
        descending: bool = True,
    ) -> Page:
        """A page by keyset.

        Args:
            query: equality prefix of an index that ends in ``key``.
            cursor: ``next_cursor`` of the page before; ``None`` for the first.
            limit: items on the page.
            key: field with unique string values; time-ordered identifiers give a list by age.
            descending: newest first.
        """
        low, high = ("", cursor or HIGHEST_KEY) if descending else (cursor or "", HIGHEST_KEY)
        order = DESCENDING if descending else ASCENDING
        bounded = {**query, key: {"$gt": low, "$lt": high}}
        found = await self._ordered(bounded, key, order=order, limit=limit + 1)
        return _page_of(found, key=key, limit=limit)

    async def newest(self, query: Mapping[str, Any], *, prefix: str, cursor: str | None, limit: int) -> Page:
        """A page of a long list, newest first, whose ``sort_key`` are identifiers ``new_id(prefix)``.

        Gives what ``page`` gives. A server may read all that a query matches before it takes the first few;
        so this looks back in steps of time that double until there are enough, and reads few more than those.
        """
        found: list[Document] = []
        high = cursor or HIGHEST_KEY
        begin = made_at(cursor or "") or time.time_ns() // 1_000_000
        step = _FIRST_STEP_MS
        while len(found) <= limit and high:
            low = first_id(prefix, unix_ms=begin - step) if begin - step > _FIRST_MOMENT_MS else ""
            bounded = {**query, "sort_key": {"$gte": low, "$lt": high}}
            found += await self._ordered(bounded, "sort_key", order=DESCENDING, limit=limit + 1 - len(found))
            high, step = low, step * 2
        return _page_of(found, key="sort_key", limit=limit)

    async def _ordered(self, query: Document, key: str, *, order: int, limit: int) -> list[Document]:
        """The first ``limit`` documents by ``key``."""

        async def attempt(_: int) -> list[Document]:
            cursor = self._collection.find(query).sort(key, order).limit(limit)
            documents: list[Document] = await cursor.to_list(length=limit)
            return documents

        return await self._persist(attempt)

    async def pending_outboxes(self, *, limit: int) -> list[Document]:
        """Documents with unpublished events; only ``_id`` and ``outbox``."""
        return await self.find_many({"outbox_pending": True}, limit=limit, fields=("outbox",))

    async def outbox_sent(self, document_id: str, event_id: str) -> None:
        """Remove a published event; the document leaves the relay's list when none is left."""

        async def attempt(_: int) -> None:
            await self._collection.update_one({"_id": document_id}, {"$pull": {"outbox": {"id": event_id}}})
            await self._collection.update_one(
                {"_id": document_id, "outbox": {"$size": 0}},
                {"$unset": {"outbox": "", "outbox_pending": ""}},
            )

        await self._persist(attempt)


def _page_of(found: list[Document], *, key: str, limit: int) -> Page:
    """A page of up to ``limit`` documents; one more tells that there is a next page."""
    items = found[:limit]
    return Page(items=items, next_cursor=str(items[-1][key]) if len(found) > limit else None)


def _fields_of(error: DuplicateKeyError) -> tuple[str, ...]:
    details = error.details or {}
    return tuple(details.get("keyPattern") or details.get("keyValue") or ())
