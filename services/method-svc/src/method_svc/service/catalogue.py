"""lm-eval's tasks: the index, loaded in the background, and what is asked of it."""

import asyncio
import logging
from collections.abc import Callable, Collection, Mapping, Sequence

from assay_harness.errors import HarnessError, HarnessFailed, UnknownTask
from assay_harness.index import EntryKind, IndexEntry, TaskIndex, TaskStatus
from method_svc.domain.snapshots import Snapshot
from method_svc.domain.tasks import TaskCandidate, TaskMatches, candidates, repository_key
from method_svc.errors import IndexNotReady, InvalidMethod, TaskNotFound, faults_of

logger = logging.getLogger(__name__)

_RETRY_SECONDS = 30.0


class IndexLoader:
    """The task index, loaded in the background: building it on a new machine takes half a minute.

    Args:
        load: reads or builds the index; blocks.
    """

    def __init__(self, load: Callable[[], TaskIndex]) -> None:
        self._load = load
        self._index: TaskIndex | None = None

    async def run(self) -> None:
        """Load the index; try again as long as that fails."""
        while self._index is None:
            try:
                self._index = await asyncio.to_thread(self._load)
            except (HarnessFailed, OSError) as error:
                details = error.traceback_text if isinstance(error, HarnessFailed) else ""
                logger.error("the task index could not be read or built: %s %s", error, details)
                await asyncio.sleep(_RETRY_SECONDS)

    def get(self) -> TaskIndex:
        """The index; raises IndexNotReady."""
        if self._index is None:
            raise IndexNotReady
        return self._index


class TaskCatalogue:
    """Looks tasks up. Every method raises IndexNotReady while the index is being built.

    Args:
        index: lm-eval's tasks.
    """

    def __init__(self, index: IndexLoader) -> None:
        self._index = index
        self._by_repository: Mapping[str, Sequence[str]] | None = None

    @property
    def index(self) -> TaskIndex:
        """The index itself, for the harness."""
        return self._index.get()

    async def search(self, *, query: str, limit: int, statuses: Collection[TaskStatus]) -> TaskMatches:
        """Tasks, groups and tags whose name, tags or groups hold every word of ``query``; closest first.

        With ``statuses`` only those that have one of them. Where no name matches, the nearest ones are told.
        """
        return await asyncio.to_thread(self._search, self._index.get(), query, limit, frozenset(statuses))

    @staticmethod
    def _search(index: TaskIndex, query: str, limit: int, statuses: Collection[TaskStatus]) -> TaskMatches:
        if len(statuses) == 1:
            [status] = statuses
            items = index.search(query, limit, status=status)
        else:
            found = index.search(query, len(index) if statuses else limit)
            items = [entry for entry in found if not statuses or entry.status in statuses][:limit]
        # Names of another status are no misspelling of what was looked for.
        misspelt = not items and not (statuses and index.search(query, 1))
        return TaskMatches(items=items, suggestions=index.nearest(query) if misspelt else [])

    async def get(self, name: str) -> IndexEntry:
        """One entry; raises TaskNotFound with the nearest names."""
        try:
            return await asyncio.to_thread(self._index.get().get, name)
        except UnknownTask as error:
            raise TaskNotFound(str(error)) from None

    async def runnable(self, name: str) -> IndexEntry:
        """The entry of a task or group that may be run; raises InvalidMethod."""
        try:
            return await asyncio.to_thread(self._index.get().runnable, name)
        except HarnessError as error:
            raise InvalidMethod(faults_of(error)) from None

    async def members(self, entry: IndexEntry) -> list[IndexEntry]:
        """The tasks of a group or tag, however deep, each once, in order; empty for a task."""
        if entry.kind is EntryKind.TASK:
            return []
        index = self._index.get()
        return await asyncio.to_thread(lambda: [index.get(name) for name in index.tasks_of(entry.name)])

    async def candidates(self, snapshot: Snapshot) -> Sequence[TaskCandidate]:
        """Tasks that are defined on the repository that a snapshot comes from, the best first."""
        return await asyncio.to_thread(self._candidates, self._index.get(), snapshot)

    def _candidates(self, index: TaskIndex, snapshot: Snapshot) -> Sequence[TaskCandidate]:
        if self._by_repository is None:
            by_repository: dict[str, list[str]] = {}
            for name in index:
                by_repository.setdefault(repository_key(index.get(name).dataset_path), []).append(name)
            self._by_repository = by_repository
        key = repository_key(str(snapshot.source.get("repo_id", "")))
        names = self._by_repository.get(key, ()) if key else ()
        return candidates(snapshot, (index.get(name) for name in names))
