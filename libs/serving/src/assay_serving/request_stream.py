"""The adapter's side of one Generate or Score stream: many requests, each answered when it is done."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from assay_serving.backend import Engine
from assay_serving.convert import to_proto
from assay_serving.errors import (
    EngineError,
    InvalidRequest,
    RequestCancelled,
    ServingError,
    UnknownInstance,
)
from assay_serving.instances import InstanceTable
from assay_serving.message_codecs import (
    decode_generate_request,
    decode_score_request,
    encode_generate_result,
    encode_score_result,
)
from assay_serving.multiplex import Multiplexer
from assay_serving.serving_instance import ServingInstance
from assay_serving.stops import cut_at_earliest_stop
from assay_serving.types import ErrorCode, FinishReason, SamplingParameters
from assay_serving.v1 import serving_pb2 as pb
from assay_serving.validation import check_generate, check_sampling, check_score

_STARTED_AT_ONCE = 8


class RequestStream(ABC):
    """Answers the requests of one stream; what belongs to one kind of request is in the subclasses."""

    _reply_type: Any

    def __init__(self, table: InstanceTable) -> None:
        self._table = table
        self._instance: ServingInstance | None = None

    async def replies(
        self, calls: AsyncIterator[Any], *, accepted: Callable[[], Awaitable[None]]
    ) -> AsyncIterator[Any]:
        """Read calls and yield reply messages; those that are ready together share one.

        `accepted` is called once it is known that the stream's instance can be asked.

        Raises:
            ServingError: the stream as a whole is refused or broken off.
        """
        first = await anext(aiter(calls), None)
        if first is None or first.WhichOneof("call") != "instance_id":
            raise InvalidRequest("the first message of the stream must name the instance")
        self._instance = self._table.get(first.instance_id)
        _ = self._instance.ready_engine  # refuses the stream at once if there is none
        await accepted()
        multiplexer = Multiplexer[Any](
            cancelled=lambda request_id: self._failed(request_id, RequestCancelled("cancelled by the caller"))
        )
        reader = asyncio.get_running_loop().create_task(self._read(calls, multiplexer))
        try:
            async with aclosing(multiplexer.replies()) as batches:  # type: ignore[type-var]
                async for batch in batches:
                    reply = batch[0]
                    if len(batch) > 1:
                        reply.more.extend(batch[1:])
                    yield reply
        finally:
            reader.cancel()

    async def _read(self, calls: AsyncIterator[Any], multiplexer: Multiplexer[Any]) -> None:
        """Feed the stream's messages to the multiplexer until the caller closes its side."""
        try:
            async for call in calls:
                received = time.monotonic_ns()
                match call.WhichOneof("call"):
                    case "request":
                        self._start(call.request, received, multiplexer)
                    case "requests":
                        for number, request in enumerate(call.requests.items, start=1):
                            self._start(request, received, multiplexer)
                            if number % _STARTED_AT_ONCE == 0:
                                await asyncio.sleep(0)  # tokens of other requests are read meanwhile
                    case "cancel_request_id":
                        multiplexer.cancel(call.cancel_request_id)
                    case other:
                        raise ValueError(f"unexpected {other or 'empty message'} in the middle of the stream")
            multiplexer.finish()
        except ValueError as error:
            multiplexer.finish(InvalidRequest(str(error)))
        except Exception as error:  # noqa: BLE001 - the stream broke: end it, so that its requests are cancelled
            multiplexer.finish(error)

    def _start(self, message: Any, received: int, multiplexer: Multiplexer[Any]) -> None:
        multiplexer.start(message.request_id, self._answer(message, received))

    async def _answer(self, message: Any, received: int) -> Any:
        instance = self._instance
        assert instance is not None, "requests come after the instance"
        try:
            result = await self._ask(instance, instance.ready_engine, message, received)
        except ServingError as error:
            return self._failed(message.request_id, _as_seen(error, instance))
        except Exception as error:  # noqa: BLE001 - one request's bug must not end the others
            return self._failed(message.request_id, EngineError(f"the adapter failed: {error!r}"))
        return self._reply_type(request_id=message.request_id, result=result)

    def _failed(self, request_id: str, error: ServingError) -> Any:
        return self._reply_type(request_id=request_id, error=to_proto(error.to_failure()))

    @abstractmethod
    async def _ask(self, instance: ServingInstance, engine: Engine, message: Any, received: int) -> Any:
        """Check and answer one request; returns the result's message."""


class GenerateStream(RequestStream):
    """Generation requests."""

    _reply_type = pb.GenerateReply

    def __init__(self, table: InstanceTable) -> None:
        super().__init__(table)
        self._checked: SamplingParameters | None = None

    async def _ask(self, instance: ServingInstance, engine: Engine, message: Any, received: int) -> Any:
        request = decode_generate_request(message)
        capabilities = instance.view.capabilities
        check_generate(request, capabilities)
        # The decoder gives the same object for equal parameters, which are checked once.
        if request.sampling is not self._checked:
            check_sampling(request.sampling, capabilities)
            self._checked = request.sampling
        result = await engine.generate(request, received_mono_ns=received)
        # Engines stop at stop strings to save work; where the text ends is decided here, for all backends.
        cut = cut_at_earliest_stop(result.text, request.sampling.stop)
        if cut.match:
            result = replace(
                result, text=cut.text, stop_match=cut.match, finish_reason=FinishReason.STOP_STRING
            )
        return encode_generate_result(result)


class ScoreStream(RequestStream):
    """Scoring requests."""

    _reply_type = pb.ScoreReply

    async def _ask(self, instance: ServingInstance, engine: Engine, message: Any, received: int) -> Any:
        request = decode_score_request(message)
        check_score(request, instance.view.capabilities)
        return encode_score_result(await engine.score(request, received_mono_ns=received))


def _as_seen(error: ServingError, instance: ServingInstance) -> ServingError:
    """An engine that was ended on purpose did not die."""
    ending = instance.ending
    if error.code is ErrorCode.ENGINE_DIED and ending is not None and ending.error is None:
        return UnknownInstance(
            f"instance {instance.instance_id} was {ending.message}",
            tokens_before_error=error.tokens_before_error,
        )
    return error
