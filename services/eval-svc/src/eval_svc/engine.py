"""Carries out the requests of one run: builds them lazily, keeps them in flight, appends what is finished.

The builder replays the task from its first document every time, because lm-eval draws few-shot examples from
one sequence of random numbers; documents that the log already has are skipped only after they were built.
Everything between the steps is bounded: a slow store or adapter stops the building, not the memory. The one
exception is a run with an order of its own, whose documents are all built before the first is sent.
"""

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple

from assay_harness.process import HarnessProcess
from assay_harness.results import Document, ModelRequest
from eval_svc.domain import RunOptions
from eval_svc.errors import RunFailure
from eval_svc.exchanges import Answer, RequestFailed
from eval_svc.reuse import ResponseMemory
from eval_svc.serving import ServingSession

logger = logging.getLogger(__name__)

RETRY_DELAYS = (0.1, 0.5, 2.0, 5.0)
_BUILT_AT_ONCE = 16
"""Documents that are built in one go: enough to make passing them on cheap, few enough to begin at once."""

Append = Callable[[list[dict[str, Any]]], Awaitable[None]]


class _Open:
    """A document with requests in flight."""

    __slots__ = ("answers", "document", "error", "is_repeated", "missing")

    def __init__(self, document: Document) -> None:
        self.document = document
        self.missing = len(document.requests)
        self.answers: list[dict[str, Any] | None] = [None] * self.missing
        self.error: dict[str, Any] | None = None
        self.is_repeated = any(request.repeat for request in document.requests)


class _Unit(NamedTuple):
    """A request to send; ``position`` is its place in the document's list (repeats share an ``index``)."""

    opened: _Open
    position: int
    request: ModelRequest


class BlockWriter:
    """Gathers samples and appends them in blocks, one block at a time.

    Args:
        append: appends a block to the log.
        block_samples: samples in a block, at most.
        block_interval: seconds after which a block is appended even if it is not full.
    """

    def __init__(self, append: Append, *, block_samples: int, block_interval: float) -> None:
        self._append = append
        self._block_samples = block_samples
        self._block_interval = block_interval
        self._pending: deque[dict[str, Any]] = deque()
        self._most_pending = 4 * block_samples
        self._loop = asyncio.get_running_loop()
        self._deadline = 0.0
        self._is_due = asyncio.Event()
        self._has_room = asyncio.Event()
        self._ended = False

    async def add(self, sample: dict[str, Any]) -> None:
        """Take a sample; waits while four blocks wait to be appended."""
        while len(self._pending) >= self._most_pending:
            self._has_room.clear()
            await self._has_room.wait()
        self._pending.append(sample)
        if len(self._pending) == 1:
            self._begin_to_wait()
        if len(self._pending) == self._block_samples:
            self._is_due.set()

    def end(self) -> None:
        """No more samples come: ``run`` appends the rest and returns."""
        self._ended = True
        self._is_due.set()

    async def run(self) -> None:
        """Append until ``end``; raises what ``append`` raises."""
        while not self._ended or self._pending:
            await self._is_due.wait()
            self._is_due.clear()
            while self._pending and self._is_block_due():
                count = min(self._block_samples, len(self._pending))
                block = [self._pending.popleft() for _ in range(count)]
                self._has_room.set()
                if self._pending:
                    self._begin_to_wait()
                await self._append(block)

    def _begin_to_wait(self) -> None:
        self._deadline = self._loop.time() + self._block_interval
        self._loop.call_at(self._deadline, self._is_due.set)

    def _is_block_due(self) -> bool:
        is_full = len(self._pending) >= self._block_samples
        return is_full or self._ended or self._loop.time() >= self._deadline


class Engine:
    """Runs the requests of one run against one serving session.

    Args:
        harness: opened on the run's plan.
        serving: generates and scores; survives the loss of an instance.
        options: concurrency, burst size, retries, reuse and what a failure means.
        finished: indexes of documents that the log already has.
        order: indexes of all documents in the order in which they are sent; lm-eval's own where ``None``.
        append: appends a block to the log; called with up to ``block_samples`` samples, one call at a time.
        block_samples: samples in a block, at most.
        block_interval: seconds after which a block is appended even if it is not full.
    """

    def __init__(
        self,
        *,
        harness: HarnessProcess,
        serving: ServingSession,
        options: RunOptions,
        finished: set[int],
        append: Append,
        block_samples: int,
        block_interval: float,
        order: Sequence[int] | None = None,
    ) -> None:
        self._harness = harness
        self._serving = serving
        self._options = options
        self._finished = finished
        self._order = order
        self._writer = BlockWriter(append, block_samples=block_samples, block_interval=block_interval)
        self._memory = ResponseMemory() if options.reuse_responses else None
        self._units: asyncio.Queue[_Unit | None] = asyncio.Queue(
            maxsize=max(2 * options.concurrency, options.batch_size)
        )

    async def run(self) -> None:
        """Work until every document is in the log.

        Raises:
            RunFailure: a sample failed and the run's policy is "fail", or serving was lost for good.
            LeaseLost: from ``append``.
            HarnessError: requests cannot be built.
        """
        # A TaskGroup would wrap the first failure in a group; the callers need the failure itself.
        writer = asyncio.create_task(self._writer.run())
        serve = self._serve if self._options.batch_size == 1 else self._serve_bursts
        jobs = [
            asyncio.create_task(self._feed()),
            *(asyncio.create_task(serve()) for _ in range(self._options.concurrency)),
        ]
        try:
            await _all_or_first_failure([writer, *jobs], until=jobs)
            self._writer.end()
            await writer
        finally:
            for task in (writer, *jobs):
                task.cancel()
            await asyncio.gather(writer, *jobs, return_exceptions=True)

    async def _feed(self) -> None:
        async for document in self._documents():
            if not document.requests:
                raise RunFailure("nothing-to-ask", f"document {document.index} gives no request")
            opened = _Open(document)
            for position, request in enumerate(document.requests):
                await self._units.put(_Unit(opened, position, request))
        for _ in range(self._options.concurrency):
            await self._units.put(None)

    async def _documents(self) -> AsyncIterator[Document]:
        """The documents that the log lacks, in the order in which they are sent."""
        batches = self._harness.documents(batch_size=_BUILT_AT_ONCE, skip=self._finished)
        if self._order is None:
            async for batch in batches:
                for document in batch:
                    yield document
            return
        built = {document.index: document async for batch in batches for document in batch}
        for index in self._order:
            if index in built:
                yield built.pop(index)  # memory is given back as the run goes on

    async def _serve(self) -> None:
        """Send one request after the other."""
        while (unit := await self._units.get()) is not None:
            await self._answer(unit)

    async def _serve_bursts(self) -> None:
        """Send bursts of ``batch_size`` requests, each burst after the one before is answered."""
        ended = False
        while not ended:
            burst: list[_Unit] = []
            while not ended and len(burst) < self._options.batch_size:
                unit = await self._units.get()
                if unit is None:
                    ended = True
                else:
                    burst.append(unit)
            await _all_or_first_failure(
                tasks := [asyncio.create_task(self._answer(unit)) for unit in burst], until=tasks
            )

    async def _answer(self, unit: _Unit) -> None:
        opened = unit.opened
        answer, error = await self._ask(unit)
        opened.answers[unit.position] = _request_record(unit.request, answer, error)
        if error is not None and opened.error is None:
            opened.error = _error_record(error)
        opened.missing -= 1
        if opened.missing == 0:
            await self._writer.add(_sample_record(opened))

    async def _ask(self, unit: _Unit) -> tuple[Answer | None, RequestFailed | None]:
        """Ask until there is an answer or the retries are used up."""
        for retry in range(self._options.max_retries + 1):
            try:
                answer = await self._ask_once(unit)
            except RequestFailed as error:
                failure = error
                if not error.retryable:
                    break
                logger.info("request failed, try %d: %s", retry + 1, error)
                await asyncio.sleep(RETRY_DELAYS[min(retry, len(RETRY_DELAYS) - 1)])
            else:
                answer.retries = retry
                return answer, None
        if self._options.on_failure == "fail":
            raise RunFailure("sample-failed", f"a request failed after its retries: {failure}")
        return None, failure

    async def _ask_once(self, unit: _Unit) -> Answer:
        if self._memory is None or unit.opened.is_repeated:
            return await self._serving.ask(unit.request)
        instance = await self._serving.instance()
        if (reused := self._memory.recall(unit.request, instance=instance)) is not None:
            return reused
        answer = await self._serving.ask(unit.request)
        self._memory.keep(unit.request, answer, instance=instance, document_index=unit.opened.document.index)
        return answer


async def _all_or_first_failure(tasks: list[asyncio.Task[None]], *, until: list[asyncio.Task[None]]) -> None:
    """Wait for all of ``until``; raise the first failure of any of ``tasks`` at once.

    Whatever still runs when this is left is cancelled, except for ``tasks`` that are not in ``until`` after a
    success.
    """
    waiting = set(tasks)
    wanted = set(until)
    try:
        while wanted & waiting:
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
    except BaseException:
        for task in waiting:
            task.cancel()
        raise


def _sample_record(opened: _Open) -> dict[str, Any]:
    """A ``domain.SampleRecord`` as it is stored; not made as one, since the log takes thousands a second."""
    document = opened.document
    return {
        "index": document.index,
        "task": document.task,
        "doc_hash": document.doc_hash,
        "prompt_hash": document.prompt_hash,
        "target_hash": document.target_hash,
        "target": document.target,
        "status": "failed" if opened.error else "ok",
        "error": opened.error,
        "requests": opened.answers,
    }


def _error_record(error: RequestFailed) -> dict[str, Any]:
    return {"code": error.code, "message": error.message, "retryable": error.retryable}


def _request_record(
    request: ModelRequest, answer: Answer | None, error: RequestFailed | None
) -> dict[str, Any]:
    record: dict[str, Any] = {
        "index": request.index,
        "repeat": request.repeat,
        "kind": request.kind.value,
        "prompt": request.context,
        "continuation": request.continuation or None,
        "response": None,
        "error": error and _error_record(error),
    }
    if answer is not None:
        record.update(answer.record())
    return record
