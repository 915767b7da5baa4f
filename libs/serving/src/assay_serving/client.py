"""The caller's side of one adapter."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, Generic, NoReturn, Protocol, Self, TypeVar

import grpc

from assay_serving.adapter import ERROR_TRAILER, MAX_MESSAGE_BYTES
from assay_serving.convert import from_proto, to_proto
from assay_serving.errors import (
    AdapterUnavailable,
    DeadlineExceeded,
    EngineError,
    InvalidRequest,
    RequestCancelled,
    ServingError,
    StartFailed,
    error_of,
)
from assay_serving.types import (
    AdapterDescription,
    Failure,
    GenerateRequest,
    GenerateResult,
    Instance,
    InstanceEvent,
    InstanceState,
    ProvisionSpec,
    ScoreRequest,
    ScoreResult,
    TelemetrySample,
)
from assay_serving.v1 import serving_pb2 as pb
from assay_serving.v1 import serving_pb2_grpc

_CALL_SECONDS = 30.0
# An adapter that restarts should be found again within a second, not after gRPC's default two minutes.
_CHANNEL_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    ("grpc.keepalive_time_ms", 30_000),
)

MetadataSource = Callable[[], dict[str, str]]
OnChange = Callable[[Instance, str], Awaitable[None]]


class _Identified(Protocol):
    @property
    def request_id(self) -> str: ...


Request = TypeVar("Request", bound=_Identified)
Result = TypeVar("Result")


class ModelServer:
    """Client of one adapter. Every method raises a ServingError; `AdapterUnavailable` if none answers."""

    def __init__(self, channel: grpc.aio.Channel, *, metadata: MetadataSource | None = None) -> None:
        self._stub: Any = serving_pb2_grpc.ServingAdapterStub(channel)  # type: ignore[no-untyped-call]
        self._metadata_source = metadata

    @classmethod
    @asynccontextmanager
    async def connect(cls, address: str, *, metadata: MetadataSource | None = None) -> AsyncIterator[Self]:
        """Open a channel to the adapter at `address` (``host:port``); it connects with the first call.

        `metadata` is asked before every call for headers (lower-case names) to send with it, such as
        `traceparent`.
        """
        async with grpc.aio.insecure_channel(address, options=_CHANNEL_OPTIONS) as channel:
            yield cls(channel, metadata=metadata)

    async def describe(self) -> AdapterDescription:
        """What the adapter can run."""
        reply = await self._unary(self._stub.Describe, pb.DescribeRequest())
        return from_proto(reply, AdapterDescription)

    async def provision(self, spec: ProvisionSpec) -> Instance:
        """Start an instance, or find the living one with the same key; returns at once.

        Raises:
            InvalidRequest, NoCapacity, ArtifactNotFound: refused before anything was started.
        """
        return from_proto(await self._unary(self._stub.Provision, to_proto(spec)), Instance)

    async def wait_ready(
        self, instance_id: str, *, timeout: float, on_change: OnChange | None = None
    ) -> Instance:
        """Wait until the instance is READY and return it; `on_change` is told of each state on the way.

        Raises:
            StartFailed, ArtifactNotFound, ArtifactMismatch: it failed; `engine_detail` is the log's end.
            DeadlineExceeded: not ready after `timeout` seconds; the instance is still there.
        """
        try:
            async with asyncio.timeout(timeout):
                return await self._watch_until_ready(instance_id, on_change)
        except TimeoutError:
            raise DeadlineExceeded(f"instance {instance_id} not ready after {timeout:g} s") from None

    async def watch(self, instance_id: str) -> AsyncIterator[InstanceEvent]:
        """The state now, then every change; ends after a final one."""
        call = self._stub.Watch(pb.WatchRequest(instance_id=instance_id), metadata=self._metadata())
        try:
            async for event in call:
                yield from_proto(event, InstanceEvent)
        except grpc.aio.AioRpcError as error:
            _raise(error)
        finally:
            call.cancel()

    async def keep_alive(self, instance_id: str, *, lease: float) -> None:
        """Renew the lease to `lease` seconds from now."""
        request = pb.KeepAliveRequest(instance_id=instance_id, lease_ms=round(lease * 1000))
        await self._unary(self._stub.KeepAlive, request)

    async def release(self, instance_id: str, *, reason: str) -> bool:
        """End the instance; False where the adapter has no such living instance. Returns when it is gone."""
        reply = await self._unary(
            self._stub.Release, pb.ReleaseRequest(instance_id=instance_id, reason=reason)
        )
        return bool(reply.existed)

    @asynccontextmanager
    async def generate_session(self, instance_id: str) -> "AsyncIterator[GenerateSession]":
        """Open one stream for any number of generation requests."""
        call = self._stub.Generate(metadata=self._metadata())
        async with GenerateSession(call, instance_id) as session:
            yield session

    @asynccontextmanager
    async def score_session(self, instance_id: str) -> "AsyncIterator[ScoreSession]":
        """Open one stream for any number of scoring requests."""
        call = self._stub.Score(metadata=self._metadata())
        async with ScoreSession(call, instance_id) as session:
            yield session

    async def telemetry(self, instance_id: str, *, period: float) -> AsyncIterator[TelemetrySample]:
        """Sensor readings every `period` seconds until the instance ends or the caller stops iterating."""
        request = pb.TelemetryRequest(instance_id=instance_id, period_ms=max(1, round(period * 1000)))
        call = self._stub.Telemetry(request, metadata=self._metadata())
        try:
            async for event in call:
                yield from_proto(event, TelemetrySample)
        except grpc.aio.AioRpcError as error:
            _raise(error)
        finally:
            call.cancel()

    async def _watch_until_ready(self, instance_id: str, on_change: OnChange | None) -> Instance:
        async with contextlib.aclosing(self.watch(instance_id)) as events:  # type: ignore[type-var]
            async for event in events:
                if on_change is not None:
                    await on_change(event.instance, event.message)
                match event.instance.state:
                    case InstanceState.READY:
                        return event.instance
                    case InstanceState.FAILED if event.instance.error is not None:
                        raise error_of(event.instance.error)
                    case InstanceState.RELEASED:
                        raise StartFailed(f"instance {instance_id} was released before it was ready")
        raise AdapterUnavailable(f"the adapter stopped telling of instance {instance_id}")

    async def _unary(self, method: Any, request: Any) -> Any:
        try:
            return await method(request, metadata=self._metadata(), timeout=_CALL_SECONDS)
        except grpc.aio.AioRpcError as error:
            _raise(error)

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._metadata_source().items()) if self._metadata_source else ()


class _Session(Generic[Request, Result]):
    """One bidirectional stream that carries many requests at once."""

    _call_type: Any
    _result_type: Any

    def __init__(self, call: Any, instance_id: str) -> None:
        self._call = call
        self._outgoing: asyncio.Queue[Any] = asyncio.Queue()
        self._outgoing.put_nowait(self._call_type(instance_id=instance_id))
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

    async def _ask(self, request: Any) -> Result:
        if self._broken is not None:
            raise self._broken
        request_id = request.request_id or f"auto-{next(self._numbers)}"
        if request_id in self._waiting:
            raise InvalidRequest(f"request_id {request_id!r} is already in flight in this session")
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting[request_id] = future
        self._outgoing.put_nowait(self._call_type(request=to_proto(replace(request, request_id=request_id))))
        try:
            return await future
        except asyncio.CancelledError:
            self._outgoing.put_nowait(self._call_type(cancel_request_id=request_id))
            raise
        finally:
            self._waiting.pop(request_id, None)

    async def _send(self) -> None:
        # A task of its own: cancelling a write ends the whole stream, so no caller may write by itself.
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            while True:
                await self._call.write(await self._outgoing.get())

    async def _receive(self) -> None:
        # Also what remains when gRPC reports a cancellation, its own or the adapter's, as CancelledError.
        error: ServingError = AdapterUnavailable("the adapter ended the stream")
        try:
            async for reply in self._call:
                self._settle(reply)
        except grpc.aio.AioRpcError as failure:
            error = _error_of_rpc(failure)
        except ValueError as failure:
            error = EngineError(f"the adapter answered with something unknown: {failure}")
        finally:
            self._break(error)

    def _settle(self, reply: Any) -> None:
        future = self._waiting.get(reply.request_id)
        if future is None or future.done():
            return  # cancelled meanwhile
        if reply.WhichOneof("outcome") == "result":
            future.set_result(from_proto(reply.result, self._result_type))
        else:
            future.set_exception(error_of(from_proto(reply.error, Failure)))

    def _break(self, error: ServingError) -> None:
        self._broken = self._broken or error
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(self._broken)


class GenerateSession(_Session[GenerateRequest, GenerateResult]):
    """A stream of generation requests; use it as many times and as concurrently as you like."""

    _call_type = pb.GenerateCall
    _result_type = GenerateResult

    async def generate(self, request: GenerateRequest) -> GenerateResult:
        """Answer one request. Cancelling the awaiting task cancels it at the adapter.

        Raises:
            ServingError: of this request, or, if the stream broke, of all in flight (then retryable).
        """
        return await self._ask(request)


class ScoreSession(_Session[ScoreRequest, ScoreResult]):
    """A stream of scoring requests."""

    _call_type = pb.ScoreCall
    _result_type = ScoreResult

    async def score(self, request: ScoreRequest) -> ScoreResult:
        """Score one continuation. Cancelling the awaiting task cancels it at the adapter.

        Raises:
            ServingError: of this request, or, if the stream broke, of all in flight (then retryable).
        """
        return await self._ask(request)


def _error_of_rpc(error: grpc.aio.AioRpcError) -> ServingError:
    trailers: Any = error.trailing_metadata() or ()
    for key, value in trailers:
        if key == ERROR_TRAILER:
            return error_of(from_proto(pb.Error.FromString(value), Failure))
    if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded("the adapter did not answer in time")
    if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED):
        return AdapterUnavailable(f"the adapter cannot be reached: {error.details()}")
    return EngineError(f"the adapter failed: {error.code().name}: {error.details()}")


def _raise(error: grpc.aio.AioRpcError) -> NoReturn:
    raise _error_of_rpc(error) from error
