"""Carries out the requests of one run: builds them lazily, keeps them in flight, appends what is finished.

The builder replays the task from its first document every time, because lm-eval draws few-shot examples from
one sequence of random numbers; documents that the log already has are skipped only after they were built.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from assay_harness.process import HarnessProcess
from assay_harness.results import Document, ModelRequest
from eval_svc.domain import RunOptions, SampleRecord
from eval_svc.errors import RunFailure
from eval_svc.serving import Answer, RequestFailed, ServingSession

logger = logging.getLogger(__name__)

RETRY_DELAYS = (0.1, 0.5, 2.0, 5.0)

Append = Callable[[list[dict[str, Any]]], Awaitable[None]]


@dataclass(slots=True)
class _Open:
    """A document with requests in flight."""

    document: Document
    answers: list[dict[str, Any] | None]
    error: dict[str, Any] | None = None
    missing: int = field(init=False)

    def __post_init__(self) -> None:
        self.missing = len(self.answers)


class _Unit(NamedTuple):
    """A request to send; ``position`` is its place in the document's list (repeats share an ``index``)."""

    opened: _Open
    position: int
    request: ModelRequest


class Engine:
    """Runs the requests of one run against one serving session.

    Args:
        harness: opened on the run's plan.
        serving: generates and scores; survives the loss of an instance.
        options: concurrency, burst size, retries and what a failure means.
        finished: indexes of documents that the log already has.
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
    ) -> None:
        self._harness = harness
        self._serving = serving
        self._options = options
        self._finished = finished
        self._append = append
        self._block_samples = block_samples
        self._block_interval = block_interval
        self._units: asyncio.Queue[_Unit | None] = asyncio.Queue(
            maxsize=max(2 * options.concurrency, options.batch_size)
        )
        self._samples: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(maxsize=4 * block_samples)

    async def run(self) -> None:
        """Work until every document is in the log.

        Raises:
            RunFailure: a sample failed and the run's policy is "fail", or serving was lost for good.
            LeaseLost: from ``append``.
            HarnessError: requests cannot be built.
        """
        # A TaskGroup would wrap the first failure in a group; the callers need the failure itself.
        writer = asyncio.create_task(self._write())
        jobs = [
            asyncio.create_task(self._feed()),
            *(asyncio.create_task(self._serve()) for _ in range(self._options.concurrency)),
        ]
        try:
            await _all_or_first_failure([writer, *jobs], until=jobs)
            await self._samples.put(None)
            await writer
        finally:
            for task in (writer, *jobs):
                task.cancel()
            await asyncio.gather(writer, *jobs, return_exceptions=True)

    async def _feed(self) -> None:
        async for batch in self._harness.documents(batch_size=16, skip=self._finished):
            for document in batch:
                if not document.requests:
                    raise RunFailure("nothing-to-ask", f"document {document.index} gives no request")
                opened = _Open(document=document, answers=[None] * len(document.requests))
                for position, request in enumerate(document.requests):
                    await self._units.put(_Unit(opened, position, request))
        for _ in range(self._options.concurrency):
            await self._units.put(None)

    async def _serve(self) -> None:
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
        answer, error = await self._ask(unit.request)
        opened.answers[unit.position] = _request_record(unit.request, answer, error)
        if error is not None and opened.error is None:
            opened.error = _error_record(error)
        opened.missing -= 1
        if opened.missing == 0:
            await self._samples.put(_sample_record(opened))

    async def _ask(self, request: ModelRequest) -> tuple[Answer | None, RequestFailed | None]:
        """Ask until there is an answer or the retries are used up."""
        waited = time.monotonic()
        for retry in range(self._options.max_retries + 1):
            try:
                answer = await self._serving.ask(request)
            except RequestFailed as error:
                failure = error
                if not error.retryable:
                    break
                logger.info("request failed, try %d: %s", retry + 1, error)
                await asyncio.sleep(RETRY_DELAYS[min(retry, len(RETRY_DELAYS) - 1)])
            else:
                answer.retries = retry
                answer.waited_s = time.monotonic() - waited
                return answer, None
        if self._options.on_failure == "fail":
            raise RunFailure("sample-failed", f"a request failed after its retries: {failure}")
        return None, failure

    async def _write(self) -> None:
        block: list[dict[str, Any]] = []
        deadline = 0.0
        ended = False
        while not ended:
            timeout = max(0.0, deadline - time.monotonic()) if block else None
            try:
                async with asyncio.timeout(timeout):
                    sample = await self._samples.get()
            except TimeoutError:
                sample = None
            else:
                ended = sample is None
                if sample is not None:
                    if not block:
                        deadline = time.monotonic() + self._block_interval
                    block.append(sample)
            if block and (ended or len(block) == self._block_samples or time.monotonic() >= deadline):
                await self._append(block)
                block = []


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
    document = opened.document
    return SampleRecord(
        index=document.index,
        task=document.task,
        doc_hash=document.doc_hash,
        prompt_hash=document.prompt_hash,
        target_hash=document.target_hash,
        target=document.target,
        status="failed" if opened.error else "ok",
        error=opened.error,
        requests=[answer for answer in opened.answers if answer is not None],
    ).model_dump(mode="json")


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
    return record if answer is None else {**record, **answer.record()}
