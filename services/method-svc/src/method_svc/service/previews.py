"""Renders rows as a run would ask them: in a harness process, as the run does."""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from assay_chassis.errors import Fault, Unavailable
from assay_harness.errors import HarnessError, HarnessFailed, HarnessProcessDied
from assay_harness.process import HarnessProcess
from assay_harness.results import Document
from assay_harness.spec import BuiltinTask, GroupRows, RowFiles, RowOrigin, Rows
from method_svc.domain.previews import Preview, PreviewWish, RowSource
from method_svc.domain.snapshots import Snapshot, SourceKind
from method_svc.errors import InvalidMethod, PreviewTimedOut, faults_of
from method_svc.service.catalogue import TaskCatalogue
from method_svc.service.datasets import SnapshotReader
from method_svc.service.row_sources import RowSourceResolver, without_unused

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
        members = await self._members_of(wish)
        sources = await RowSourceResolver(wish, self._snapshots).resolve(members)
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

    async def _members_of(self, wish: PreviewWish) -> list[str]:
        """The tasks of the recipe's group; empty where it is one task."""
        if not isinstance(wish.recipe, BuiltinTask):
            return []
        entry = await self._tasks.runnable(wish.recipe.task)
        return [member.name for member in await self._tasks.members(entry)]

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
        return Preview(documents=documents, facts=facts, sources=without_unused(sources, facts))

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


def _origin(snapshot: Snapshot) -> RowOrigin | None:
    source = snapshot.source
    match source.get("kind"):
        case SourceKind.HUGGINGFACE:
            return RowOrigin(
                kind="huggingface",
                repo_id=source.get("repo_id"),
                subset=source.get("subset"),
                split=source.get("split"),
            )
        case SourceKind.JSONL:
            return RowOrigin(kind="jsonl")
        case _:
            return None
