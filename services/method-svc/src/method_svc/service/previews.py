"""Renders rows as a run would ask them: in a harness process, as the run does."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from assay_chassis.errors import Fault, Unavailable
from assay_harness.errors import HarnessError, HarnessFailed, HarnessProcessDied
from assay_harness.index import EntryKind, IndexEntry
from assay_harness.process import HarnessProcess
from assay_harness.results import Document
from assay_harness.spec import BuiltinTask, GroupRows, RowFiles, RowOrigin, Rows
from method_svc.domain.previews import FewshotOrigin, Preview, PreviewWish, RowSource
from method_svc.domain.snapshots import Snapshot, SourceKind
from method_svc.errors import InvalidMethod, PreviewTimedOut, faults_of
from method_svc.service.catalogue import TaskCatalogue
from method_svc.service.datasets import SnapshotReader

logger = logging.getLogger(__name__)

_BATCH = 1024


class PreviewService:
    """Previews of recipes, before and after they are saved.

    Args:
        tasks: lm-eval's tasks.
        snapshots: what dataset-svc says, and the rows themselves.
        concurrent: previews that are rendered at the same time; others wait.
        timeout_s: seconds after which a preview is given up.
    """

    def __init__(
        self, *, tasks: TaskCatalogue, snapshots: SnapshotReader, concurrent: int, timeout_s: float
    ) -> None:
        self._tasks = tasks
        self._snapshots = snapshots
        self._slots = asyncio.Semaphore(concurrent)
        self._timeout = timeout_s

    async def preview(self, wish: PreviewWish) -> Preview:
        """The rows that are wished for, as lm-eval itself renders them, with the hashes that a run records.

        Raises:
            InvalidMethod: naming the field of the request, or the row, that cannot be used.
            PreviewTimedOut, IndexNotReady, Unavailable.
        """
        tasks = await self._tasks_of(wish)
        sources = [await self._source(wish, task, entry) for task, entry in tasks]
        try:
            async with asyncio.timeout(self._timeout), self._slots:
                return await self._render(wish, sources)
        except TimeoutError:
            raise PreviewTimedOut(self._timeout) from None
        except HarnessProcessDied as error:
            raise Unavailable(str(error)) from error
        except HarnessError as error:
            if isinstance(error, HarnessFailed):
                logger.warning("preview of %s failed: %s\n%s", wish.recipe, error, error.traceback_text)
            raise InvalidMethod(faults_of(error)) from error

    async def _tasks_of(self, wish: PreviewWish) -> Sequence[tuple[str, IndexEntry | None]]:
        """The task of the recipe, or the members of its group."""
        if not isinstance(wish.recipe, BuiltinTask):
            return [("", None)]
        entry = await self._tasks.runnable(wish.recipe.task)
        if entry.kind is EntryKind.TASK:
            return [("", entry)]
        members = await self._tasks.members(entry)
        known = {member.name for member in members}
        for field, named in (
            ("member_datasets", wish.member_datasets),
            ("member_fewshot_datasets", wish.member_fewshot_datasets),
        ):
            for name in named.keys() - known:
                message = f"{entry.name!r} has no member {name!r}; it has {', '.join(sorted(known))}"
                raise InvalidMethod([Fault(message=message, field=f"{field}.{name}")])
        return [(member.name, member) for member in members]

    async def _source(self, wish: PreviewWish, task: str, entry: IndexEntry | None) -> RowSource:
        """The rows of one task; ``task`` is empty unless it is a member of a group."""
        if task in wish.member_datasets:
            evaluation = await self._snapshots.current(
                wish.member_datasets[task], field=f"member_datasets.{task}"
            )
        elif wish.dataset_id is None and wish.snapshot_id is None:
            message = (
                f"task {task!r} has no dataset; name one in member_datasets, or dataset_id for all members"
            )
            raise InvalidMethod([Fault(message=message, field=f"member_datasets.{task}")])
        else:
            evaluation = await self._snapshots.either(
                dataset_id=wish.dataset_id, snapshot_id=wish.snapshot_id
            )
        fewshot, origin = await self._fewshot(wish, task, entry, evaluation)
        return RowSource(task=task, evaluation=evaluation, fewshot=fewshot, fewshot_origin=origin)

    async def _fewshot(
        self, wish: PreviewWish, task: str, entry: IndexEntry | None, evaluation: Snapshot
    ) -> tuple[Snapshot | None, FewshotOrigin]:
        if task in wish.member_fewshot_datasets:
            named = wish.member_fewshot_datasets[task]
            field = f"member_fewshot_datasets.{task}"
            return await self._snapshots.current(named, field=field), FewshotOrigin.NAMED
        if wish.fewshot_dataset_id is not None or wish.fewshot_snapshot_id is not None:
            found = await self._snapshots.either(
                dataset_id=wish.fewshot_dataset_id, snapshot_id=wish.fewshot_snapshot_id, prefix="fewshot_"
            )
            return found, FewshotOrigin.NAMED
        configured = entry.num_fewshot if entry is not None else None
        wanted = configured if wish.options.num_fewshot is None else wish.options.num_fewshot
        if wanted and evaluation.fewshot_snapshot_id is not None:
            found = await self._snapshots.snapshot(evaluation.fewshot_snapshot_id)
            return found, FewshotOrigin.COMPANION
        return None, FewshotOrigin.NOT_NAMED

    async def _render(self, wish: PreviewWish, sources: Sequence[RowSource]) -> Preview:
        async with self._open(wish, sources) as harness:
            facts = harness.facts
            wanted = wish.rows.within(facts.document_count)
            if not wanted:
                message = (
                    f"the rows are 0 to {facts.document_count - 1}; {wish.rows.indices[-1]} is not there"
                )
                field = "row_indices" if wish.rows.named else "offset"
                raise InvalidMethod([Fault(message=message, field=field)])
            count = wanted[-1] + 1
            # Examples are drawn from row 0 on, so the rows before are built too; those behind are not, as
            # they may be broken: batches of even size end where the last wanted row does, or soon after.
            batch_size = -(-count // -(-count // _BATCH))
            documents: list[Document] = []
            skip = frozenset(range(count)) - frozenset(wanted)
            async for batch in harness.documents(batch_size=batch_size, skip=skip):
                documents += [document for document in batch if document.index < count]
                if len(documents) == len(wanted):
                    break
        return Preview(documents=documents, facts=facts, sources=list(sources))

    @asynccontextmanager
    async def _open(self, wish: PreviewWish, sources: Sequence[RowSource]) -> AsyncIterator[HarnessProcess]:
        files = {source.task: await self._files(source) for source in sources}
        rows: Rows = files[""] if "" in files else GroupRows(members=files)
        index = self._tasks.index if isinstance(wish.recipe, BuiltinTask) else None
        async with HarnessProcess.open(wish.recipe, wish.options, rows, index=index) as harness:
            yield harness

    async def _files(self, source: RowSource) -> RowFiles:
        fewshot = source.fewshot
        return RowFiles(
            evaluation=await self._snapshots.file(source.evaluation),
            evaluation_split=source.evaluation.split,
            evaluation_origin=_origin(source.evaluation),
            fewshot=None if fewshot is None else await self._snapshots.file(fewshot),
            fewshot_split=None if fewshot is None else fewshot.split,
            fewshot_origin=None if fewshot is None else _origin(fewshot),
        )


def _origin(snapshot: Snapshot) -> RowOrigin:
    source = snapshot.source
    if snapshot.kind is SourceKind.JSONL:
        return RowOrigin(kind="jsonl")
    return RowOrigin(
        kind="huggingface", repo_id=source["repo_id"], subset=source.get("subset"), split=source.get("split")
    )
