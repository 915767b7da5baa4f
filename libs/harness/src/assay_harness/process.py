"""The asyncio client of a harness process: one fresh process per evaluation, lm-eval never in the caller.

The first process of a program waits some seconds for lm-eval to be imported into the fork server; call
`warm_up` at start-up to have that behind you. Later ones start in a fraction of a second.
"""

import asyncio
import multiprocessing
import multiprocessing.forkserver
import tempfile
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess
from typing import Any

from pydantic import JsonValue

from assay_harness.errors import HarnessProcessDied
from assay_harness.index import TaskIndex, load_task_index
from assay_harness.results import (
    Aggregate,
    Document,
    DocumentScore,
    LoggedDocument,
    RenderReport,
    ScoreInput,
    TaskFacts,
)
from assay_harness.spec import BuiltinTask, Recipe, Rows, Scoring, TaskOptions
from assay_harness.worker import Reply, serve

_EXIT_SECONDS = 5.0


async def warm_up() -> None:
    """Start the fork server, which then imports lm-eval by itself; returns at once."""
    _context()
    await asyncio.to_thread(multiprocessing.forkserver.ensure_running)


def _context() -> ForkServerContext:
    """Return the process context whose fork server holds lm-eval."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["assay_harness.preload"])
    return context


class HarnessProcess:
    """A task on its rows in a process of its own; make one with `open`.

    Calls run one after the other in the order they are made; none blocks the event loop. A call raises the
    typed error that the engine raised, `HarnessFailed` for anything unforeseen, or `HarnessProcessDied`.
    """

    def __init__(self, channel: "_Channel", facts: TaskFacts) -> None:
        self._channel = channel
        self._iteration = 0
        self.facts = facts

    @classmethod
    @asynccontextmanager
    async def open(
        cls,
        recipe: Recipe,
        options: TaskOptions,
        rows: Rows,
        *,
        index: TaskIndex | None = None,
        scoring: Scoring | None = None,
    ) -> AsyncIterator["HarnessProcess"]:
        """Construct the task, or all tasks of a group, and yield it; the process ends with the context.

        A group takes `GroupRows`, or `RowFiles` that serve every task. `index` is for built-in tasks; without
        it the default cache is read once (or built, 10-20 s). `scoring` replaces filters or metrics. Raises
        `UnknownTask`, `TaskRefused`, `GroupRowsMismatch`, `UnmappedColumn`, `TemplateError`,
        `FewshotPoolTooSmall`, `InvalidOptions`, `RowFileProblem`.
        """
        definition = None
        if isinstance(recipe, BuiltinTask):
            if index is None:
                index = await asyncio.to_thread(load_task_index)
            definition = index.definition(recipe.task)
        channel = _Channel()
        try:
            await channel.start()
            facts: TaskFacts = await channel.call(
                "open", recipe, options, rows.absolute(), definition, scoring
            )
            yield cls(channel, facts)
        finally:
            # Shielded: a cancelled caller must not leave the process behind.
            await asyncio.shield(asyncio.to_thread(channel.stop))

    async def dry_render(self) -> RenderReport:
        """Render every row up to the limit; nothing is raised for a row, the report tells."""
        report: RenderReport = await self._channel.call("dry_render")
        return report

    async def documents(
        self, *, batch_size: int = 64, skip: Collection[int] = ()
    ) -> AsyncIterator[list[Document]]:
        """Yield the documents in order, leaving out the indices in `skip`, in lists of at most `batch_size`.

        Examples are drawn from document 0 on, whatever is skipped, so a resumed run has the same prompts.
        Starting a second iteration ends the first. Raises `RowProblem` at a row that cannot be rendered.
        """
        await self._channel.call("start", batch_size, frozenset(skip))
        batch: list[Document]
        async for batch in self._batches():
            yield batch

    async def logged_documents(self, *, batch_size: int = 64) -> AsyncIterator[list[LoggedDocument]]:
        """Yield all documents as lm-eval's sample log shows them; an iteration as `documents` is one."""
        await self._channel.call("start_log", batch_size)
        batch: list[LoggedDocument]
        async for batch in self._batches():
            yield batch

    async def _batches(self) -> AsyncIterator[list[Any]]:
        """Yield the batches of the iteration that was just started, but the empty ones."""
        self._iteration += 1
        iteration = self._iteration
        while True:
            if iteration != self._iteration:
                raise RuntimeError("another iteration over the documents was started")
            batch: list[Any] | None = await self._channel.call("next")
            if batch is None:
                return
            if batch:
                yield batch

    async def score(self, answers: Sequence[ScoreInput]) -> list[DocumentScore]:
        """Score documents, in any order and without having asked for them here; batches of 64 are good.

        Each answer is a document's index and its responses, aligned with its requests. Raises `RowProblem`.
        """
        scores: list[DocumentScore] = await self._channel.call("score", list(answers))
        return scores

    async def aggregate(self, scores: Iterable[DocumentScore]) -> Aggregate:
        """Return lm-eval's numbers over the scores; raises `InvalidScores`."""
        result: Aggregate = await self._channel.call("aggregate", list(scores))
        return result

    async def results(
        self, metrics: Mapping[str, float | None], sample_counts: Mapping[str, int]
    ) -> dict[str, JsonValue]:
        """Return stored numbers in the layout of lm-eval's results file.

        `metrics` go by `Aggregate.metrics`' names; `sample_counts` has the number of scored documents of
        every task. The answer has `results`, `groups`, `group_subtasks`, `configs`, `versions`, `n-shot`,
        `higher_is_better` and `n-samples`; what is None in `metrics` is "N/A".
        """
        document: dict[str, JsonValue] = await self._channel.call(
            "results", dict(metrics), dict(sample_counts)
        )
        return document


class _Channel:
    """The process, its pipe, and the one thread that blocks on it.

    One thread makes each exchange whole: a caller that is cancelled in the middle leaves no stale reply.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="harness")
        self._directory = tempfile.TemporaryDirectory(prefix="assay-harness-", ignore_cleanup_errors=True)
        self._process: ForkServerProcess | None = None
        self._connection: Connection | None = None

    async def start(self) -> None:
        """Start the process."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._start)

    async def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the worker's session and return its value or raise its error."""
        loop = asyncio.get_running_loop()
        reply: Reply = await loop.run_in_executor(self._thread, self._exchange, method, arguments)
        if reply.error is not None:
            raise reply.error
        return reply.value

    def stop(self) -> None:
        """Kill the process and wait until it is gone; blocks for a moment."""
        if self._process is not None:
            self._process.kill()
        self._thread.shutdown(wait=True, cancel_futures=True)
        # A start that was under way when its caller was cancelled has finished by now.
        if self._process is not None:
            self._process.kill()
            self._process.join(_EXIT_SECONDS)
        if self._connection is not None:
            self._connection.close()
        self._directory.cleanup()

    def _start(self) -> None:
        """Fork off the prepared server and close our copy of its end of the pipe."""
        context = _context()
        ours, theirs = context.Pipe()
        process = context.Process(
            target=serve, args=(theirs, self._directory.name), name="assay-harness", daemon=True
        )
        process.start()
        theirs.close()
        self._connection, self._process = ours, process

    def _exchange(self, method: str, arguments: tuple[Any, ...]) -> Reply:
        """Send one call and wait for its reply."""
        if self._connection is None or self._process is None:
            raise RuntimeError("the harness process was not started")
        try:
            self._connection.send((method, arguments))
            reply: Reply = self._connection.recv()
        except (EOFError, OSError) as error:
            self._process.join(_EXIT_SECONDS)
            raise HarnessProcessDied(exit_code=self._process.exitcode) from error
        return reply
