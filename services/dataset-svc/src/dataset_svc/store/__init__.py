"""What dataset-svc keeps: datasets, snapshots, the snapshots' files by digest, ingest jobs."""

from dataclasses import dataclass
from pathlib import Path

from assay_chassis.infrastructure import Infrastructure
from dataset_svc.domain.snapshots import Snapshot
from dataset_svc.store.datasets import DatasetStore
from dataset_svc.store.files import SnapshotFiles
from dataset_svc.store.ingests import IngestStore
from dataset_svc.store.removals import RemovalStore
from dataset_svc.store.snapshots import Publication, SnapshotStore
from dataset_svc.store.statistics import StatisticsStore

__all__ = ["Publication", "Stores", "open_stores"]


@dataclass(frozen=True, slots=True)
class Stores:
    """This service's data, by kind."""

    datasets: DatasetStore
    snapshots: SnapshotStore
    files: SnapshotFiles
    statistics: StatisticsStore
    removals: RemovalStore
    ingests: IngestStore

    async def publish(self, dataset_id: str, publication: Publication) -> Snapshot:
        """Store canonical files and make the rows the dataset's current snapshot.

        Raises:
            DatasetNotFound: there is no such dataset.
            BeingDeleted: it is being deleted.
            Exception: what ``publication.still_wanted`` raises.
        """
        files = {publication.content.digest: publication.file}
        if publication.fewshot is not None and publication.fewshot_file is not None:
            files[publication.fewshot.digest] = publication.fewshot_file

        async def keep_files() -> None:
            for digest, file in files.items():
                await self.files.keep(digest, file)

        for digest, file in files.items():
            await self.files.put(digest, file)
        return await self.snapshots.publish(dataset_id, publication, keep_files=keep_files)


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
        ingests=await IngestStore.open(store, events=events),
    )
