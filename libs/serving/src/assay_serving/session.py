"""The caller's side of one bidirectional stream that carries many requests at once."""

import asyncio
import contextlib
import itertools
from abc import ABC, abstractmethod
from typing import Any, Generic, NoReturn, Protocol, Self, TypeVar

import grpc

from assay_serving.convert import from_proto
from assay_serving.errors import (
    AdapterUnavailable,
    DeadlineExceeded,
    EngineError,
    InvalidRequest,
    RequestCancelled,
    ServingError,
    error_of,
)
from assay_serving.message_codecs import (
    decode_generate_result,
    decode_score_result,
    encode_generate_request,
    encode_score_request,
)
from assay_serving.types import Failure, GenerateRequest, GenerateResult, ScoreRequest, ScoreResult
from assay_serving.v1 import serving_pb2 as pb

ERROR_TRAILER = "assay-error-bin"
ACCEPTED_HEADER = "assay-accepted"
"""The adapter's initial metadata once it has taken the instance that a stream names."""
# A message should stay far below the limit on its size, whatever the prompts.
_MAX_REQUESTS_PER_MESSAGE = 64
_MAX_BYTES_PER_MESSAGE = 4 * 1024 * 1024


class _Identified(Protocol):
    @property
    def request_id(self) -> str: ...


Request = TypeVar("Request", bound=_Identified)
Result = TypeVar("Result")


class Session(ABC, Generic[Request, Result]):
    """One stream. What waits to be sent is never more than what callers wait for an answer to."""

    _call_type: Any
    _requests_type: Any

    def __init__(self, call: Any, instance_id: str) -> None:
        self._call = call
        self._instance_id = instance_id
        self._unsent: dict[str, Any] = {}
        self._cancelled: list[str] = []
        self._wakeup = asyncio.Event()
        self._waiting: dict[str, asyncio.Future[Result]] = {}
        self._numbers = itertools.count(1)
        self._broken: ServingError | None = None
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._tasks = [loop.create_task(self._send()), loop.create_task(self._receive())]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._break(RequestCancelled("the session was closed"))
        self._call.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)

    @property
    def backlog(self) -> int:
        """Requests and cancellations that the adapter has not taken yet."""
        return len(self._unsent) + len(self._cancelled)

    @abstractmethod
    def _encode(self, request: Request, request_id: str) -> Any:
        """The request's message, under `request_id`."""

    @abstractmethod
    def _decode(self, message: Any) -> Result:
        """The result of its message."""

    async def _ask(self, request: Request) -> Result:
        if self._broken is not None:
            raise self._broken
        request_id = request.request_id or f"auto-{next(self._numbers)}"
        if request_id in self._waiting:
            raise InvalidRequest(f"request_id {request_id!r} is already in flight in this session")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        self._unsent[request_id] = self._encode(request, request_id)
        self._wakeup.set()
        try:
            return await future
        except asyncio.CancelledError:
            if self._unsent.pop(request_id, None) is None:
                self._cancelled.append(request_id)
                self._wakeup.set()
            raise
        finally:
            self._waiting.pop(request_id, None)

    async def _send(self) -> None:
        # A task of its own: cancelling a write ends the whole stream, so no caller may write by itself.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self._call.write(self._call_type(instance_id=self._instance_id))
            if ACCEPTED_HEADER not in await self._call.initial_metadata():
                return  # refused: the status says why, and grpc.aio loses it when a write meets it
            while True:
                await self._wakeup.wait()
                self._wakeup.clear()
                while self._unsent or self._cancelled:
                    if self._unsent:
                        await self._call.write(self._next_message())
                    if self._cancelled:
                        call = self._call_type(cancel_request_id=self._cancelled.pop(0))
                        await self._call.write(call)

    def _next_message(self) -> Any:
        """As many of the waiting requests as belong into one message, the oldest first."""
        taken: list[str] = []
        size = 0
        for request_id, request in self._unsent.items():
            size += request.ByteSize()
            if taken and (size > _MAX_BYTES_PER_MESSAGE or len(taken) == _MAX_REQUESTS_PER_MESSAGE):
                break
            taken.append(request_id)
        requests = [self._unsent.pop(request_id) for request_id in taken]
        if len(requests) == 1:
            return self._call_type(request=requests[0])
        return self._call_type(requests=self._requests_type(items=requests))

    async def _receive(self) -> None:
        # Also what remains when gRPC reports a cancellation, its own or the adapter's, as CancelledError.
        error: ServingError = AdapterUnavailable("the adapter ended the stream")
        try:
            async for reply in self._call:
                self._settle(reply)
                for other in reply.more:
                    self._settle(other)
        except grpc.aio.AioRpcError as failure:
            error = error_of_rpc(failure)
        except ValueError as failure:
            error = EngineError(f"the adapter answered with something unknown: {failure}")
        finally:
            self._break(error)

    def _settle(self, reply: Any) -> None:
        future = self._waiting.get(reply.request_id)
        if future is None or future.done():
            return  # cancelled meanwhile
        if reply.WhichOneof("outcome") == "result":
            future.set_result(self._decode(reply.result))
        else:
            future.set_exception(error_of(from_proto(reply.error, Failure)))

    def _break(self, error: ServingError) -> None:
        self._broken = self._broken or error
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(self._broken)


class GenerateSession(Session[GenerateRequest, GenerateResult]):
    """A stream of generation requests; use it as many times and as concurrently as you like."""

    _call_type = pb.GenerateCall
    _requests_type = pb.GenerateRequests

    async def generate(self, request: GenerateRequest) -> GenerateResult:
        """Answer one request. Cancelling the awaiting task cancels it at the adapter.

        Raises:
            ServingError: of this request, or, if the stream broke, of all in flight (then retryable).
        """
        return await self._ask(request)

    def _encode(self, request: GenerateRequest, request_id: str) -> pb.GenerateRequest:
        return encode_generate_request(request, request_id)

    def _decode(self, message: Any) -> GenerateResult:
        return decode_generate_result(message)


class ScoreSession(Session[ScoreRequest, ScoreResult]):
    """A stream of scoring requests."""

    _call_type = pb.ScoreCall
    _requests_type = pb.ScoreRequests

    async def score(self, request: ScoreRequest) -> ScoreResult:
        """Score one continuation. Cancelling the awaiting task cancels it at the adapter.

        Raises:
            ServingError: of this request, or, if the stream broke, of all in flight (then retryable).
        """
        return await self._ask(request)

    def _encode(self, request: ScoreRequest, request_id: str) -> pb.ScoreRequest:
        return encode_score_request(request, request_id)

    def _decode(self, message: Any) -> ScoreResult:
        return decode_score_result(message)


_STATUS_LOST = "Internal error from Core"
"""What grpc.aio reports when a write meets the end of the stream before the stream's status has come."""


def error_of_rpc(error: grpc.aio.AioRpcError) -> ServingError:
    """What a failed call means: the adapter's own error where it sent one, else by gRPC's status."""
    trailers: Any = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == ERROR_TRAILER:
            return error_of(from_proto(pb.Error.FromString(value), Failure))
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded("the adapter did not answer in time")
    if error.code() is grpc.StatusCode.INTERNAL and error.details() == _STATUS_LOST:
        return AdapterUnavailable("the adapter ended the stream while a request was being sent")
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return AdapterUnavailable(f"the adapter cannot be reached: {error.details()}")
    return EngineError(f"the adapter failed: {error.code().name}: {error.details()}")


def raise_rpc(error: grpc.aio.AioRpcError) -> NoReturn:
    """Raise what a failed call means."""
    raise error_of_rpc(error) from error
