"""What dataset-svc keeps: datasets, snapshots, and the snapshots' files by digest."""

from dataclasses import dataclass
from pathlib import Path

from assay_chassis.infrastructure import Infrastructure
from dataset_svc.store.datasets import DatasetStore
from dataset_svc.store.files import SnapshotFiles
from dataset_svc.store.snapshots import SnapshotStore
from dataset_svc.store.statistics import StatisticsStore


@dataclass(frozen=True, slots=True)
class Stores:
    """This service's data, by kind."""

    datasets: DatasetStore
    snapshots: SnapshotStore
    files: SnapshotFiles
    statistics: StatisticsStore


async def open_stores(infrastructure: Infrastructure, *, cache: Path) -> Stores:
    """The stores on this service's database, indexes created; ``cache`` keeps files by digest."""
    store, events = infrastructure.store, infrastructure.events
    datasets = await DatasetStore.open(store, events=events)
    return Stores(
        datasets=datasets,
        snapshots=await SnapshotStore.open(store, datasets=datasets, events=events),
        files=SnapshotFiles(store.files("snapshots"), cache=cache),
        statistics=await StatisticsStore.open(store),
    )
