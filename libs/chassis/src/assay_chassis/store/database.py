"""A service's own database and the connection to it."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorDatabase, AsyncIOMotorGridFSBucket
from pymongo.errors import OperationFailure

from assay_chassis.errors import Unavailable
from assay_chassis.store.answering import TRANSIENT
from assay_chassis.store.changes import Document, Index
from assay_chassis.store.documents import Collection
from assay_chassis.store.files import FileStore


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
