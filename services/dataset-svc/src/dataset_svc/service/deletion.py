"""Deleting datasets and snapshots that no run refers to."""

import asyncio
import logging
from datetime import timedelta

from assay_chassis.errors import ServiceError, Unavailable
from assay_chassis.service_client import ServiceClient
from assay_chassis.store import Document
from dataset_svc.domain.snapshots import now
from dataset_svc.errors import BeingDeleted, CompanionSnapshot, CurrentSnapshot, UsedByRuns
from dataset_svc.store import Stores
from dataset_svc.store.removals import Removal

logger = logging.getLogger(__name__)

_NAMED_RUNS = 20


class DeletionService:
    """Deletes, and removes the files later.

    A run that is being planned has read the snapshot and is not known to eval-svc yet. So readers are refused
    first, then eval-svc is asked, then the document goes; and the file goes only after ``grace``, when
    eval-svc was asked again.

    Args:
        stores: this service's data.
        evaluations: eval-svc.
        grace: time between a deletion and the removal of the file.
    """

    def __init__(self, stores: Stores, *, evaluations: ServiceClient, grace: timedelta) -> None:
        self._stores = stores
        self._evaluations = evaluations
        self._grace = grace

    async def delete_dataset(self, dataset_id: str) -> None:
        """Delete a dataset with all its snapshots; its name is free again.

        Raises:
            DatasetNotFound: there is no such dataset.
            UsedByRuns: a run refers to it. Nothing was changed.
            BeingDeleted: somebody else is deleting it.
            Unavailable: eval-svc does not say who refers to it. Nothing was changed.
        """
        datasets = self._stores.datasets
        dataset = await datasets.dataset(dataset_id)
        if not await datasets.deletions.mark(dataset_id):
            raise BeingDeleted(f"dataset {dataset_id!r}")
        try:
            await self._refuse_if_used(f"dataset {dataset_id!r}", uses_dataset=dataset_id)
            await datasets.delete(dataset)
        except BaseException:
            await asyncio.shield(datasets.deletions.unmark(dataset_id))
            raise
        await self._clean_up()

    async def delete_snapshot(self, snapshot_id: str) -> None:
        """Delete a snapshot that its dataset has replaced.

        Raises:
            SnapshotNotFound: there is no such snapshot.
            CurrentSnapshot: it is its dataset's data, or is about to be.
            CompanionSnapshot: another snapshot takes its few-shot examples from it.
            UsedByRuns: a run refers to it. Nothing was changed.
            BeingDeleted: somebody else is deleting it.
            Unavailable: eval-svc does not say who refers to it. Nothing was changed.
        """
        snapshots = self._stores.snapshots
        snapshot = await snapshots.snapshot(snapshot_id)
        dataset = await self._stores.datasets.dataset(snapshot.dataset_id)
        # The ids of a dataset's snapshots sort in the order in which they become current.
        if dataset.current_snapshot is None or dataset.current_snapshot.id <= snapshot_id:
            raise CurrentSnapshot(snapshot_id, dataset_id=dataset.id)
        if (needed_by := await snapshots.main_of(snapshot)) is not None:
            raise CompanionSnapshot(snapshot_id, needed_by=needed_by)
        if not await snapshots.deletions.mark(snapshot_id):
            raise BeingDeleted(f"snapshot {snapshot_id!r}")
        try:
            await self._refuse_if_used(f"snapshot {snapshot_id!r}", uses_snapshot=snapshot_id)
            await snapshots.delete(snapshot)
        except BaseException:
            await asyncio.shield(snapshots.deletions.unmark(snapshot_id))
            raise
        await self._clean_up()

    async def _refuse_if_used(self, what: str, **uses: str) -> None:
        runs = await self._runs(**uses)
        if runs:
            raise UsedByRuns(what, runs=[(run["id"], run.get("name") or "") for run in runs])

    async def _runs(self, **uses: str) -> list[Document]:
        try:
            page = await self._evaluations.get("/v1/evaluations", limit=_NAMED_RUNS, **uses)
        except ServiceError as error:
            message = f"eval-svc does not say which runs refer to this: {error.detail}. Nothing was changed."
            raise Unavailable(message) from error
        items: list[Document] = page["items"]
        return items

    async def _clean_up(self) -> None:
        """Do now what the sweep would do later; the deletion has happened whatever becomes of this."""
        try:
            await self._remove_deleted()
        except Unavailable as error:
            logger.warning("the remains of a deletion wait for the next sweep: %s", error)

    async def sweep(self, *, every_s: float) -> None:
        """Finish what was begun, for ever: old marks, deleted documents, files whose time has come."""
        while True:
            try:
                await self._stores.datasets.deletions.take_back_old_marks()
                await self._stores.snapshots.deletions.take_back_old_marks()
                await self._remove_deleted()
                for removal in await self._stores.removals.due():
                    await self._remove_file(removal)
            except (ServiceError, OSError) as error:
                logger.warning("the sweep after deletions stopped early and comes again: %s", error)
            await asyncio.sleep(every_s)

    async def _remove_deleted(self) -> None:
        snapshots = self._stores.snapshots
        for document in await snapshots.deletions.deleted():
            await self._plan_removal(document)
            await snapshots.deletions.remove(document["_id"])
        for dataset in await self._stores.datasets.deletions.deleted():
            while documents := await snapshots.documents_of(dataset["_id"]):
                for document in documents:
                    await self._plan_removal(document)
                    await snapshots.collection.delete(document["_id"])
            await self._stores.datasets.deletions.remove(dataset["_id"])

    async def _plan_removal(self, snapshot: Document) -> None:
        await self._stores.removals.add(
            snapshot["digest"], snapshot_id=snapshot["_id"], due_at=now() + self._grace
        )

    async def _remove_file(self, removal: Removal) -> None:
        removals, digest = self._stores.removals, removal.digest
        for snapshot_id in removal.snapshot_ids:
            if await self._runs(uses_snapshot=snapshot_id):
                logger.warning("a run refers to the deleted snapshot %s; its file stays", snapshot_id)
                await removals.postpone(digest, due_at=now() + self._grace)
                return
        await removals.begin(digest)
        if not await self._stores.snapshots.have_content(digest):
            await self._stores.files.remove(digest)
            await self._stores.statistics.remove(digest)
        await removals.end(digest)
