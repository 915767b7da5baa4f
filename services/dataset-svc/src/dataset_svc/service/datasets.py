"""Registering datasets and finding them."""

from dataclasses import replace

from assay_chassis.identifiers import new_id
from dataset_svc.domain.datasets import Dataset, Listing
from dataset_svc.domain.snapshots import now
from dataset_svc.store import Stores


class DatasetService:
    """The registry."""

    def __init__(self, stores: Stores) -> None:
        self._stores = stores

    async def create_dataset(self, *, name: str, version: str, description: str) -> Dataset:
        """Register a dataset without data.

        Raises:
            NameTaken: one of that name and version exists.
        """
        dataset = Dataset(
            id=new_id("ds"), name=name, version=version, description=description, created_at=now()
        )
        await self._stores.datasets.add(dataset)
        return dataset

    async def dataset(self, dataset_id: str) -> Dataset:
        """The dataset; raises DatasetNotFound."""
        return (await self._with_ingests([await self._stores.datasets.dataset(dataset_id)]))[0]

    async def datasets(
        self, *, name: str | None, search: str | None, cursor: str | None, limit: int
    ) -> Listing:
        """Datasets, newest first."""
        page = await self._stores.datasets.datasets(name=name, search=search, cursor=cursor, limit=limit)
        return replace(page, items=await self._with_ingests(page.items))

    async def _with_ingests(self, datasets: list[Dataset]) -> list[Dataset]:
        named = [dataset.latest_ingest_id for dataset in datasets if dataset.latest_ingest_id is not None]
        if not named:
            return datasets
        found = await self._stores.ingests.some(named)
        return [
            replace(dataset, latest_ingest=found.get(dataset.latest_ingest_id or "")) for dataset in datasets
        ]
