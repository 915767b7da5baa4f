"""Artifacts, runs and the sample log in eval-svc's own database."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, NamedTuple

from assay_chassis.leases import LeaseLost
from assay_chassis.store import (
    Collection,
    Document,
    DuplicateKey,
    Index,
    OutboxEntry,
    Page,
    Store,
    by_name,
)
from assay_serving.types import InstanceLog
from eval_svc.domain import NEEDS_WORKER, RunFilter, is_settled

_ARTIFACT_ID = "plan.artifact.id"


@dataclass(frozen=True, slots=True)
class EvalStore:
    """The collections of eval-svc."""

    artifacts: Collection
    runs: Collection
    blocks: Collection
    endpoint_keys: Collection
    """Secrets of artifacts that are endpoints, by artifact; apart from all that is ever shown."""
    instance_logs: Collection
    """The end of what the engine of each serving instance of a run has logged."""

    @classmethod
    async def open(cls, store: Store) -> "EvalStore":
        """Open the collections and create their indexes."""
        return cls(
            artifacts=await store.collection(
                "artifacts", (Index(("name",), unique=True), Index(("sort_key",)))
            ),
            runs=await store.collection(
                "runs",
                (
                    Index(("idempotency_key",), unique=True, sparse=True),
                    Index(("state", "sort_key")),
                    Index(("dataset_id", "sort_key")),
                    Index((_ARTIFACT_ID, "sort_key")),
                    Index(("uses", "sort_key")),
                    Index(("name", "sort_key")),
                    Index(("sort_key",)),
                ),
            ),
            blocks=await store.collection("sample_blocks", (Index(("run_id", "sort_key")),)),
            endpoint_keys=await store.collection("endpoint_keys"),
            instance_logs=await store.collection("instance_logs", (Index(("run_id", "sort_key")),)),
        )

    async def waiting_runs(self, *, limit: int) -> list[Document]:
        """Runs that need a worker, the oldest first; some may be under a lease.

        Runs that are settled come before all others: they need their end only.
        """
        found: list[Document] = []
        for state in NEEDS_WORKER:
            found += await self.runs.find_many({"state": state.value}, order_by="sort_key", limit=limit)
        return sorted(found, key=lambda run: (not is_settled(run), str(run["sort_key"])))[:limit]

    async def keep_instance_log(self, run_id: str, instance_id: str, *, log: InstanceLog, at: str) -> None:
        """Keep the end of an instance's log with the run; the first one is kept where it comes twice."""
        log_id = f"{run_id}:{at}:{instance_id}"
        document = {
            "_id": f"{run_id}:{instance_id}",
            "sort_key": log_id,
            "run_id": run_id,
            "instance_id": instance_id,
            "text": log.text,
            "is_cut": log.is_cut,
            "kept_at": at,
        }
        with suppress(DuplicateKey):
            await self.instance_logs.insert(document)

    async def instance_log(self, run_id: str, instance_id: str) -> InstanceLog | None:
        """The kept end of an instance's log; ``None`` where there is none."""
        found = await self.instance_logs.get(f"{run_id}:{instance_id}")
        return None if found is None else InstanceLog(text=found["text"], is_cut=found["is_cut"])


def run_query(wanted: RunFilter) -> Document:
    """What the collection of runs is asked for."""
    query = by_name(wanted.name, search=wanted.search)
    if wanted.uses:
        query["uses"] = wanted.uses[0] if len(wanted.uses) == 1 else {"$all": list(wanted.uses)}
    if wanted.state is not None:
        query["state"] = wanted.state.value
    if wanted.dataset_id is not None:
        query["dataset_id"] = wanted.dataset_id
    if wanted.artifact_id is not None:
        query[_ARTIFACT_ID] = wanted.artifact_id
    return query


class LogSummary(NamedTuple):
    """Number of blocks of a log, indexes of the documents in them, and of those that failed."""

    blocks: int
    finished: set[int]
    failed: set[int]


class SampleLog:
    """Append-only log of a run's finished samples, in blocks numbered from 0.

    Block N can be written only once, by somebody who has read all blocks before it. A worker that was
    overtaken finds its next number taken; so no sample is ever in the log twice.

    A sealed log ends with a document that is no block but takes the number of the next one, so that even a
    worker which does not know of it appends nothing more.
    """

    def __init__(self, blocks: Collection, *, run_id: str) -> None:
        self._blocks = blocks
        self._run_id = run_id

    @staticmethod
    def block_id(run_id: str, block: int) -> str:
        """Identifier of a block's document; sorts by number."""
        return f"{run_id}:{block:08d}"

    async def block(self, block: int) -> Document | None:
        """One block, or ``None``."""
        found = await self._blocks.get(self.block_id(self._run_id, block))
        return None if found is None or _is_seal(found) else found

    async def page(self, *, after: str | None, limit: int) -> Page:
        """Blocks in the order of their numbers; of a sealed log, its seal comes last."""
        return await self._blocks.page({"run_id": self._run_id}, cursor=after, limit=limit, descending=False)

    async def summary(self) -> LogSummary:
        """What is in the log."""
        blocks, finished, failed = 0, set[int](), set[int]()
        cursor = None
        while True:
            page = await self.page(after=cursor, limit=50)
            for block in page.items:
                if _is_seal(block):
                    return LogSummary(blocks, finished, failed)
                blocks += 1
                finished.update(sample["index"] for sample in block["samples"])
                failed.update(sample["index"] for sample in block["samples"] if sample["status"] == "failed")
            cursor = page.next_cursor
            if cursor is None:
                return LogSummary(blocks, finished, failed)

    async def append(
        self, block: int, samples: Sequence[dict[str, Any]], *, events: Sequence[OutboxEntry]
    ) -> None:
        """Write block number ``block`` with the event that tells of it.

        Raises:
            LeaseLost: another worker has written it or sealed the log; read it again before going on.
        """
        block_id = self.block_id(self._run_id, block)
        document = {
            "_id": block_id,
            "sort_key": block_id,
            "run_id": self._run_id,
            "block": block,
            "failed_samples": sum(sample["status"] == "failed" for sample in samples),
            "samples": list(samples),
        }
        try:
            await self._blocks.insert(document, events=events)
        except DuplicateKey as error:
            raise LeaseLost(f"block {block} of {self._run_id} was written by another worker") from error

    async def seal(self) -> LogSummary:
        """End the log for good, whatever is still on its way to it; again does no harm.

        Returns:
            ``summary``, which does not change any more.
        """
        while True:
            summary = await self.summary()
            seal_id = self.block_id(self._run_id, summary.blocks)
            seal = {"_id": seal_id, "sort_key": seal_id, "run_id": self._run_id, "sealed": True}
            try:
                await self._blocks.insert(seal)
            except DuplicateKey:
                taken = await self._blocks.get(seal_id)
                if taken is None or not _is_seal(taken):
                    continue  # a block that was on its way
            return summary


def _is_seal(document: Document) -> bool:
    return bool(document.get("sealed"))
