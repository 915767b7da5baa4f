"""The registry's documents."""

from assay_chassis.outbox import EventWriter
from assay_chassis.store import Change, Collection, DuplicateKey, Index, Store, by_name
from assay_contracts.dataset_events import DatasetCreated, DatasetDeleted
from dataset_svc.domain.datasets import Dataset, Listing
from dataset_svc.errors import DatasetNotFound, NameTaken
from dataset_svc.store.deletion import DELETION_INDEX, Deletions, is_alive
from dataset_svc.store.documents import dataset_of

_INDEXES = (
    Index(("name", "version"), unique=True),
    Index(("sort_key",)),
    Index(("name", "sort_key")),
    DELETION_INDEX,
)


class DatasetStore:
    """Datasets, each with a copy of its current snapshot."""

    def __init__(self, collection: Collection, *, events: EventWriter) -> None:
        self.collection = collection
        self._events = events
        self.deletions = Deletions(collection)

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
            "latest_ingest_id": None,
        }
        try:
            await self.collection.insert(document, events=self._events(event))
        except DuplicateKey:
            key = {"name": dataset.name, "version": dataset.version}
            found = await self.collection.find_one(key)
            raise NameTaken(**key, dataset_id=found["_id"] if found else "unknown") from None

    async def dataset(self, dataset_id: str) -> Dataset:
        """The dataset.

        Raises:
            DatasetNotFound: there is no such dataset.
            BeingDeleted: it is being deleted, or not.
        """
        document = await self.collection.get(dataset_id)
        if document is None or not is_alive(document, f"dataset {dataset_id!r}"):
            raise DatasetNotFound(dataset_id)
        return dataset_of(document)

    async def claim_ingest(self, dataset_id: str, ingest_id: str, *, instead_of: str | None) -> bool:
        """Name a job as the dataset's latest, if ``instead_of`` still is; whether it was done."""
        guard = {"latest_ingest_id": instead_of, "deletion": None}
        return await self.collection.update(
            dataset_id, Change(set={"latest_ingest_id": ingest_id}), guard=guard
        )

    async def delete(self, dataset: Dataset) -> None:
        """Delete a marked dataset; its name is free, its snapshots are to be removed."""
        event = DatasetDeleted(dataset_id=dataset.id, name=dataset.name, version=dataset.version)
        # No dataset can have this name.
        await self.deletions.delete(
            dataset.id, frees={"name": f"deleted:{dataset.id}"}, events=self._events(event)
        )

    async def datasets(
        self, *, name: str | None, search: str | None, cursor: str | None, limit: int
    ) -> Listing:
        """Datasets, newest first; only those of that name, and with ``search`` in their name."""
        page = await self.collection.page(by_name(name, search=search), cursor=cursor, limit=limit)
        return Listing([dataset_of(document) for document in page.items], page.next_cursor)
