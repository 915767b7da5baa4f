"""The registry's documents."""

from assay_chassis.outbox import EventWriter
from assay_chassis.store import Collection, DuplicateKey, Index, Store
from assay_contracts.dataset_events import DatasetCreated
from dataset_svc.domain.datasets import Dataset, Listing
from dataset_svc.errors import DatasetNotFound, NameTaken
from dataset_svc.store.documents import dataset_of

_INDEXES = (
    Index(("name", "version"), unique=True),
    Index(("sort_key",)),
    Index(("name", "sort_key")),
)


class DatasetStore:
    """Datasets, each with a copy of its current snapshot."""

    def __init__(self, collection: Collection, *, events: EventWriter) -> None:
        self.collection = collection
        self._events = events

    @classmethod
    async def open(cls, store: Store, *, events: EventWriter) -> "DatasetStore":
        """The datasets of this database, their indexes created."""
        return cls(await store.collection("datasets", _INDEXES), events=events)

    async def add(self, dataset: Dataset) -> None:
        """Register a dataset.

        Raises:
            NameTaken: one of that name and version exists.
        """
        event = DatasetCreated(dataset_id=dataset.id, name=dataset.name, version=dataset.version)
        document = {
            "_id": dataset.id,
            "sort_key": dataset.id,
            "name": dataset.name,
            "version": dataset.version,
            "description": dataset.description,
            "created_at": dataset.created_at,
            "current_snapshot": None,
            "current_snapshot_id": None,
        }
        try:
            await self.collection.insert(document, events=self._events(event))
        except DuplicateKey:
            key = {"name": dataset.name, "version": dataset.version}
            found = await self.collection.find_one(key)
            raise NameTaken(**key, dataset_id=found["_id"] if found else "unknown") from None

    async def dataset(self, dataset_id: str) -> Dataset:
        """The dataset; raises DatasetNotFound."""
        document = await self.collection.get(dataset_id)
        if document is None:
            raise DatasetNotFound(dataset_id)
        return dataset_of(document)

    async def datasets(self, *, name: str | None, cursor: str | None, limit: int) -> Listing:
        """Datasets, newest first; only those of that name if one is given."""
        query = {} if name is None else {"name": name}
        page = await self.collection.page(query, cursor=cursor, limit=limit)
        return Listing([dataset_of(document) for document in page.items], page.next_cursor)
