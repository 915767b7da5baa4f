"""What dataset-svc keeps: datasets, snapshots, and the snapshots' files by digest."""

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from assay_chassis.infrastructure import Infrastructure
from dataset_svc.domain.snapshots import Snapshot, SnapshotContent
from dataset_svc.store.datasets import DatasetStore
from dataset_svc.store.files import SnapshotFiles
from dataset_svc.store.removals import RemovalStore
from dataset_svc.store.snapshots import SnapshotStore
from dataset_svc.store.statistics import StatisticsStore


@dataclass(frozen=True, slots=True)
class Stores:
    """This service's data, by kind."""

    datasets: DatasetStore
    snapshots: SnapshotStore
    files: SnapshotFiles
    statistics: StatisticsStore
    removals: RemovalStore

    async def publish(self, dataset_id: str, content: SnapshotContent, parquet: BinaryIO) -> Snapshot:
        """Store a canonical file and make its content the dataset's current snapshot.

        Args:
            dataset_id: the dataset.
            content: what the file holds.
            parquet: the file; read from its start.

        Raises:
            DatasetNotFound: there is no such dataset.
            BeingDeleted: it is being deleted.
        """

        async def keep_file() -> None:
            await self.files.keep(content.digest, parquet)

        await self.files.put(content.digest, parquet)
        return await self.snapshots.publish(dataset_id, content, keep_file=keep_file)


async def open_stores(infrastructure: Infrastructure, *, cache: Path) -> Stores:
    """The stores on this service's database, indexes created; ``cache`` keeps files by digest."""
    store, events = infrastructure.store, infrastructure.events
    removals = await RemovalStore.open(store)
    datasets = await DatasetStore.open(store, events=events)
    return Stores(
        datasets=datasets,
        snapshots=await SnapshotStore.open(store, datasets=datasets, events=events),
        files=SnapshotFiles(store.files("snapshots"), cache=cache, removals=removals),
        statistics=await StatisticsStore.open(store),
        removals=removals,
    )
