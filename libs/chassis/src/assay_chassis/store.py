"""MongoDB behind a narrow interface. The only module that knows the driver (docs/adr/0003-mongo-driver.md).

Every document has ``_id`` (string), ``rev`` (counts its changes from 1), ``write_id`` (names the last write)
and, while it has unpublished events, ``outbox`` (entries) and ``outbox_pending`` (true). A change and the
events that tell of it are one write of one document; there are no transactions.

Queries stay inside what both MongoDB and the embedded server answer from an index: by ``_id``, by a unique
key, or by an equality prefix with a bounded range.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

from motor.motor_asyncio import (
    AsyncIOMotorClient,
    AsyncIOMotorCollection,
    AsyncIOMotorDatabase,
    AsyncIOMotorGridFSBucket,
)
from pymongo import ASCENDING, DESCENDING
from pymongo.errors import (
    AutoReconnect,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    NetworkTimeout,
    OperationFailure,
    ServerSelectionTimeoutError,
)

from assay_chassis.errors import Unavailable

Document = dict[str, Any]
Result = TypeVar("Result")

TRANSIENT = (
    AutoReconnect,
    ConnectionFailure,
    NetworkTimeout,
    ServerSelectionTimeoutError,
    ExecutionTimeout,
)
HIGHEST_KEY = "\U0010ffff"


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
        bounds = {key: {"$gt": low, "$lt": high}}

        async def attempt(_: int) -> list[Document]:
            found = self._collection.find({**query, **bounds})
            found = found.sort(key, DESCENDING if descending else ASCENDING).limit(limit + 1)
            documents: list[Document] = await found.to_list(length=limit + 1)
            return documents

        documents = await self._persist(attempt)
        more = len(documents) > limit
        items = documents[:limit]
        return Page(items=items, next_cursor=str(items[-1][key]) if more else None)

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


class FileStore:
    """Immutable files under a name, in GridFS. A name is usually the content's digest.

    Raises (all methods): Unavailable when the server does not answer.
    """

    def __init__(self, bucket: AsyncIOMotorGridFSBucket) -> None:
        self._bucket = bucket

    async def put(self, name: str, chunks: AsyncIterator[bytes], *, metadata: Document | None = None) -> None:
        """Store a file unless one of that name exists. An interrupted upload leaves nothing visible."""
        if await self.exists(name):
            return
        with _answering():
            upload = self._bucket.open_upload_stream(name, metadata=metadata)
            try:
                async for chunk in chunks:
                    await upload.write(chunk)
            except BaseException:
                with suppress(*TRANSIENT):
                    await upload.abort()
                raise
            await upload.close()

    async def exists(self, name: str) -> bool:
        """Whether a file of that name is complete."""
        return await self._find(name) is not None

    async def size(self, name: str) -> int | None:
        """Bytes, or ``None`` when there is no such file."""
        found = await self._find(name)
        return None if found is None else int(found["length"])

    async def chunks(self, name: str) -> AsyncIterator[bytes]:
        """The content, in pieces.

        Raises:
            FileNotFoundError: no such file.
        """
        found = await self._find(name)
        if found is None:
            raise FileNotFoundError(name)
        with _answering():
            stream = await self._bucket.open_download_stream(found["_id"])
            while chunk := await stream.readchunk():
                yield chunk

    async def _find(self, name: str) -> Document | None:
        with _answering():
            found: list[Document] = await self._bucket.find({"filename": name}).to_list(length=1)
        return found[0] if found else None


@contextmanager
def _answering() -> Iterator[None]:
    try:
        yield
    except TRANSIENT as error:
        raise Unavailable(f"the store does not answer: {error}") from error


class Store:
    """A service's own database."""

    def __init__(self, database: AsyncIOMotorDatabase[Document], *, patience: float) -> None:
        self._database = database
        self._patience = patience
        self._listeners: list[Callable[[], None]] = []
        self.collections: dict[str, Collection] = {}

    async def collection(self, name: str, indexes: Sequence[Index] = ()) -> Collection:
        """The collection, with its indexes created."""
        collection = Collection(
            self._database[name], patience=self._patience, on_events=self._notify_listeners
        )
        await collection.create_indexes(indexes)
        self.collections[name] = collection
        return collection

    def files(self, bucket: str) -> FileStore:
        """A file store inside this database."""
        return FileStore(AsyncIOMotorGridFSBucket(self._database, bucket_name=bucket))

    def on_events(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after every write that left events in an outbox."""
        self._listeners.append(listener)

    def _notify_listeners(self) -> None:
        for listener in self._listeners:
            listener()

    async def ping(self) -> None:
        """Ask the server for a sign of life.

        Raises:
            Unavailable: there is none.
        """
        try:
            await self._database.command("ping")
        except (*TRANSIENT, OperationFailure) as error:
            raise Unavailable(f"the store does not answer: {error}") from error


@asynccontextmanager
async def open_store(uri: str, *, database: str, patience: float) -> AsyncIterator[Store]:
    """Connect to a database.

    Args:
        uri: MongoDB connection string. The embedded server wants ``retryWrites=false``.
        database: name of the database that this service owns.
        patience: seconds for which an operation is tried again while the server does not answer.
    """
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
        uri, serverSelectionTimeoutMS=2000, connectTimeoutMS=2000, socketTimeoutMS=20000, tz_aware=True
    )
    try:
        yield Store(client[database], patience=patience)
    finally:
        client.close()


def _fields_of(error: DuplicateKeyError) -> tuple[str, ...]:
    details = error.details or {}
    return tuple(details.get("keyPattern") or details.get("keyValue") or ())
