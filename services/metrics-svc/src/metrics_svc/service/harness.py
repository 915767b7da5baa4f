"""The harness on the rows that a run was planned with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from assay_chassis.service_client import ServiceClient
from assay_harness.index import TaskIndex
from assay_harness.process import HarnessProcess
from assay_harness.spec import GroupRows, RowFiles, Rows, Scoring
from metrics_svc.domain.plans import HarnessInputs, RowReferences, SnapshotReference


class HarnessOpener:
    """Opens harness processes; row files that are not on this machine are fetched."""

    def __init__(self, *, datasets: ServiceClient, cache: Path, index: "asyncio.Future[TaskIndex]") -> None:
        self._datasets = datasets
        self._cache = cache
        self._index = index

    @asynccontextmanager
    async def open(
        self, inputs: HarnessInputs, *, scoring: Scoring | None = None
    ) -> AsyncIterator[HarnessProcess]:
        """The harness on ``inputs``, which scores as ``scoring`` says.

        Raises:
            HarnessError: the task cannot stand on these rows, or cannot be scored so.
            NotFound, DigestMismatch, Unavailable: the rows cannot be had.
        """
        rows: Rows
        if inputs.members:
            members = {member.task: await self._row_files(member) for member in inputs.members}
            rows = GroupRows(members=members)
        else:
            assert inputs.evaluation is not None, "checked when the plan was read"
            rows = await self._row_files(RowReferences(evaluation=inputs.evaluation, fewshot=inputs.fewshot))
        index = await asyncio.shield(self._index)
        async with HarnessProcess.open(
            inputs.recipe, inputs.options, rows, index=index, scoring=scoring
        ) as harness:
            yield harness

    async def _row_files(self, references: RowReferences) -> RowFiles:
        evaluation, fewshot = references.evaluation, references.fewshot
        return RowFiles(
            evaluation=await self.download(evaluation),
            evaluation_split=evaluation.split,
            evaluation_origin=evaluation.origin,
            fewshot=await self.download(fewshot) if fewshot else None,
            fewshot_split=fewshot.split if fewshot else None,
            fewshot_origin=fewshot.origin if fewshot else None,
        )

    async def download(self, snapshot: SnapshotReference) -> Path:
        """The snapshot's file on this machine.

        Raises:
            NotFound, DigestMismatch, Unavailable: it cannot be had.
        """
        return await self._datasets.download(
            f"/v1/snapshots/{snapshot.snapshot_id}/content.parquet",
            sha256=snapshot.digest,
            directory=self._cache,
        )
