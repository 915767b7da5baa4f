"""What method-svc asks dataset-svc."""

from pathlib import Path
from typing import Any

from assay_chassis.errors import Fault, NotFound
from assay_chassis.service_client import ServiceClient
from method_svc.domain.snapshots import Snapshot, read_snapshot
from method_svc.errors import InvalidMethod


class SnapshotReader:
    """Reads snapshots; what cannot be used is refused by the field of the request that named it.

    Args:
        datasets: client of dataset-svc.
        cache: directory of snapshot files by digest.
    """

    def __init__(self, *, datasets: ServiceClient, cache: Path) -> None:
        self._datasets = datasets
        self._cache = cache

    async def current(self, dataset_id: str, *, field: str = "dataset_id") -> Snapshot:
        """The current snapshot of a dataset; raises InvalidMethod, Unavailable."""
        dataset = await self._get(f"/v1/datasets/{dataset_id}", field=field)
        snapshot = dataset["current_snapshot"]
        if not isinstance(snapshot, dict):
            message = f"dataset {dataset['name']!r} has no data yet; add rows and wait until it is Ready"
            raise InvalidMethod([Fault(message=message, field=field)])
        return read_snapshot(snapshot)

    async def snapshot(self, snapshot_id: str, *, field: str = "snapshot_id") -> Snapshot:
        """A snapshot; raises InvalidMethod, Unavailable."""
        return read_snapshot(await self._get(f"/v1/snapshots/{snapshot_id}", field=field))

    async def either(self, *, dataset_id: str | None, snapshot_id: str | None, prefix: str = "") -> Snapshot:
        """The snapshot, or the dataset's current one; ``prefix`` is that of the fields that named them."""
        if snapshot_id is not None:
            return await self.snapshot(snapshot_id, field=f"{prefix}snapshot_id")
        return await self.current(str(dataset_id), field=f"{prefix}dataset_id")

    async def file(self, snapshot: Snapshot) -> Path:
        """The rows as a Parquet file on this machine; raises Unavailable, NotFound."""
        return await self._datasets.download(
            f"/v1/snapshots/{snapshot.id}/content.parquet", sha256=snapshot.digest, directory=self._cache
        )

    async def _get(self, path: str, *, field: str) -> dict[str, Any]:
        try:
            found: dict[str, Any] = await self._datasets.get(path)
        except NotFound as error:
            raise InvalidMethod([Fault(message=error.detail, field=field)]) from None
        return found
