"""Jobs that bring rows of the Hugging Face Hub into datasets: starting, watching and ending them."""

from collections.abc import Callable

from assay_chassis.identifiers import new_id
from dataset_svc.domain.ingests import HubSource, Ingest, IngestListing, IngestState
from dataset_svc.domain.snapshots import now
from dataset_svc.errors import IngestUnderWay
from dataset_svc.store import Stores


class IngestService:
    """The jobs.

    Args:
        stores: this service's data.
        wake: called when a job has changed that a worker of this process may have.
    """

    def __init__(self, stores: Stores, *, wake: Callable[[], None]) -> None:
        self._stores = stores
        self._wake = wake

    async def start(self, dataset_id: str, source: HubSource) -> Ingest:
        """Queue a job. Until it has succeeded, the dataset keeps the snapshot that it has.

        Raises:
            DatasetNotFound: there is no such dataset.
            BeingDeleted: it is being deleted.
            IngestUnderWay: another job of the dataset is not over.
        """
        job = Ingest(
            id=new_id("ing"),
            dataset_id=dataset_id,
            state=IngestState.QUEUED,
            source=source,
            created_at=now(),
        )
        datasets = self._stores.datasets
        while True:
            dataset = await datasets.dataset(dataset_id)
            latest = await self.latest(dataset.latest_ingest_id)
            if latest is not None and not latest.is_over:
                raise IngestUnderWay(latest.id, dataset_id=dataset_id)
            # The claim comes first: of two that start at the same time one sees the other's.
            if await datasets.claim_ingest(dataset_id, job.id, instead_of=dataset.latest_ingest_id):
                break
        await self._stores.ingests.add(job)
        self._wake()
        return job

    async def latest(self, ingest_id: str | None) -> Ingest | None:
        """The job that a dataset names as its latest; ``None`` if there is none."""
        found = await self._stores.ingests.some([ingest_id] if ingest_id else [])
        return found.get(ingest_id or "")

    async def ingest(self, ingest_id: str) -> Ingest:
        """The job; raises IngestNotFound."""
        return await self._stores.ingests.ingest(ingest_id)

    async def ingests(self, dataset_id: str, *, cursor: str | None, limit: int) -> IngestListing:
        """Jobs of a dataset, newest first; raises DatasetNotFound."""
        await self._stores.datasets.dataset(dataset_id)
        return await self._stores.ingests.ingests(dataset_id, cursor=cursor, limit=limit)

    async def cancel(self, ingest_id: str, *, by: str) -> Ingest:
        """End a job. One that is being worked on is Cancelled some moments later.

        Raises:
            IngestNotFound: there is no such job.
            IngestOver: it has succeeded or failed.
        """
        job = await self._stores.ingests.request_cancel(ingest_id, by=by)
        self._wake()
        return job
