"""The gRPC server of an adapter: everything that does not depend on the backend."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, TypeVar

import grpc

from assay_serving.backend import Engine, ServingBackend
from assay_serving.convert import from_proto, to_proto
from assay_serving.errors import (
    EngineError,
    InvalidRequest,
    RequestCancelled,
    ServingError,
    UnknownInstance,
)
from assay_serving.instances import InstanceTable, ServingInstance
from assay_serving.multiplex import Multiplexer
from assay_serving.power import ProcessTreeCpu, RaplMeter
from assay_serving.stops import cut_at_earliest_stop
from assay_serving.types import (
    ErrorCode,
    FinishReason,
    GenerateRequest,
    GenerateResult,
    ProvisionSpec,
    ScoreRequest,
    TelemetrySample,
)
from assay_serving.v1 import serving_pb2 as pb
from assay_serving.v1 import serving_pb2_grpc
from assay_serving.validation import check_generate, check_score

Request = TypeVar("Request")
Reply = TypeVar("Reply")
Context = grpc.aio.ServicerContext[Any, Any]

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
ERROR_TRAILER = "assay-error-bin"
_SHUTDOWN_GRACE_SECONDS = 1.0
_STATUS_OF_CODE = {
    ErrorCode.INVALID_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.UNSUPPORTED_FIELD: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.CONTEXT_TOO_LONG: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.NO_CAPACITY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.ARTIFACT_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.UNKNOWN_INSTANCE: grpc.StatusCode.NOT_FOUND,
    ErrorCode.NOT_READY: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.ARTIFACT_MISMATCH: grpc.StatusCode.FAILED_PRECONDITION,
}


@asynccontextmanager
async def serve_adapter(backend: ServingBackend, *, listen: str, max_instances: int) -> AsyncIterator[str]:
    """Serve `backend` on `listen` (``host:port``, port 0 for any free one) and yield the bound address.

    On the way out every instance is released and its engine ended. Enter it on the main thread's event loop:
    the engines of process launchers are tied to the thread that starts them.

    Raises:
        OSError: the address cannot be bound.
    """
    host, _, _ = listen.rpartition(":")
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ]
    )
    table = InstanceTable(backend, max_instances=max_instances)
    serving_pb2_grpc.add_ServingAdapterServicer_to_server(_Servicer(backend, table), server)  # type: ignore[no-untyped-call]
    try:
        try:
            port = server.add_insecure_port(listen)
        except RuntimeError as error:
            raise OSError(f"cannot listen on {listen}: {error}") from error
        await server.start()
        yield f"{host}:{port}"
    finally:
        # Instances first: their watchers and streams then end by themselves with a final state.
        await table.close()
        await server.stop(_SHUTDOWN_GRACE_SECONDS)


class _Servicer(serving_pb2_grpc.ServingAdapterServicer):
    """One method per RPC; each converts, calls the table or the engine, and maps errors."""

    def __init__(self, backend: ServingBackend, table: InstanceTable) -> None:
        self._backend = backend
        self._table = table
        self._rapl = RaplMeter()

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        return to_proto(await self._backend.describe())  # type: ignore[no-any-return]

    async def Provision(self, request: pb.ProvisionRequest, context: Context) -> pb.Instance:
        async with _aborting(context):
            spec = from_proto(request, ProvisionSpec)
            # 0 is "one at a time" on the wire.
            spec = replace(spec, max_concurrency=spec.max_concurrency or 1)
            return to_proto(await self._table.provision(spec))  # type: ignore[no-any-return]

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.InstanceEvent]:
        async with _aborting(context):
            async for event in self._table.watch(request.instance_id):
                yield to_proto(event)

    async def KeepAlive(self, request: pb.KeepAliveRequest, context: Context) -> pb.KeepAliveResponse:
        async with _aborting(context):
            view = self._table.keep_alive(request.instance_id, lease=request.lease_ms / 1000)
            return pb.KeepAliveResponse(lease_expires_unix_ns=view.lease_expires_unix_ns)

    async def Release(self, request: pb.ReleaseRequest, context: Context) -> pb.ReleaseResponse:
        existed = await self._table.release(request.instance_id, reason=request.reason)
        return pb.ReleaseResponse(existed=existed)

    async def Telemetry(
        self, request: pb.TelemetryRequest, context: Context
    ) -> AsyncIterator[pb.TelemetryEvent]:
        async with _aborting(context):
            instance = self._table.get(request.instance_id)
            engine = instance.ready_engine
            cpu = ProcessTreeCpu(engine.process_id) if engine.process_id else None
            while not instance.view.state.is_final:
                now = time.monotonic_ns()
                readings = self._rapl.read() + ((cpu.read(),) if cpu else ())
                yield to_proto(
                    TelemetrySample(mono_ns=now, readings=readings, unavailable=self._rapl.unavailable)
                )
                await asyncio.sleep((request.period_ms or 1000) / 1000)

    async def Generate(
        self, request_iterator: AsyncIterator[pb.GenerateCall], context: Context
    ) -> AsyncIterator[pb.GenerateReply]:
        async with _aborting(context):
            async for reply in self._multiplexed(request_iterator, _generate, pb.GenerateReply):
                yield reply

    async def Score(
        self, request_iterator: AsyncIterator[pb.ScoreCall], context: Context
    ) -> AsyncIterator[pb.ScoreReply]:
        async with _aborting(context):
            async for reply in self._multiplexed(request_iterator, _score, pb.ScoreReply):
                yield reply

    async def _multiplexed(
        self,
        calls: AsyncIterator[Any],
        answer: Callable[[Engine, Any, int], Awaitable[Any]],
        reply_type: Callable[..., Reply],
    ) -> AsyncIterator[Reply]:
        first = await anext(aiter(calls), None)
        if first is None or first.WhichOneof("call") != "instance_id":
            raise InvalidRequest("the first message of the stream must name the instance")
        instance = self._table.get(first.instance_id)
        _ = instance.ready_engine  # refuses the stream at once if there is none

        def failed(request_id: str, error: ServingError) -> Reply:
            return reply_type(request_id=request_id, error=to_proto(error.to_failure()))

        multiplexer = Multiplexer[Reply](
            cancelled=lambda request_id: failed(request_id, RequestCancelled("cancelled by the caller"))
        )

        async def run(message: Any, received: int) -> Reply:
            try:
                result = await answer(instance.ready_engine, message, received)
            except ServingError as error:
                return failed(message.request_id, _as_seen(error, instance))
            except Exception as error:  # noqa: BLE001 - one request's bug must not end the others
                return failed(message.request_id, EngineError(f"the adapter failed: {error!r}"))
            return reply_type(request_id=message.request_id, result=to_proto(result))

        reader = asyncio.get_running_loop().create_task(_read(calls, multiplexer, run))
        replies = multiplexer.replies()
        try:
            async for reply in replies:
                yield reply
        finally:
            reader.cancel()
            await replies.aclose()  # type: ignore[attr-defined]


async def _read(
    calls: AsyncIterator[Any],
    multiplexer: Multiplexer[Any],
    run: Callable[[Any, int], Coroutine[Any, Any, Any]],
) -> None:
    """Feed a stream's messages to the multiplexer until the caller closes its side."""
    try:
        async for call in calls:
            received = time.monotonic_ns()
            match call.WhichOneof("call"):
                case "request":
                    multiplexer.start(call.request.request_id, run(call.request, received))
                case "cancel_request_id":
                    multiplexer.cancel(call.cancel_request_id)
                case other:
                    raise ValueError(f"unexpected {other or 'empty message'} in the middle of the stream")
        multiplexer.finish()
    except ValueError as error:
        multiplexer.finish(InvalidRequest(str(error)))
    except Exception as error:  # noqa: BLE001 - the stream broke: end it, so that its requests are cancelled
        multiplexer.finish(error)


async def _generate(engine: Engine, message: pb.GenerateRequest, received: int) -> GenerateResult:
    request = from_proto(message, GenerateRequest)
    check_generate(request, engine.capabilities)
    result = await engine.generate(request, received_mono_ns=received)
    # The engine stops at stop strings to save work; where the text ends is decided here, for all backends.
    cut = cut_at_earliest_stop(result.text, request.sampling.stop)
    if not cut.match:
        return result
    return replace(result, text=cut.text, stop_match=cut.match, finish_reason=FinishReason.STOP_STRING)


async def _score(engine: Engine, message: pb.ScoreRequest, received: int) -> Any:
    request = from_proto(message, ScoreRequest)
    check_score(request, engine.capabilities)
    return await engine.score(request, received_mono_ns=received)


def _as_seen(error: ServingError, instance: ServingInstance) -> ServingError:
    """An engine that was ended on purpose did not die."""
    if error.code is ErrorCode.ENGINE_DIED and instance.release_reason:
        return UnknownInstance(
            f"instance {instance.view.instance_id} was released: {instance.release_reason}",
            tokens_before_error=error.tokens_before_error,
        )
    return error


@asynccontextmanager
async def _aborting(context: Context) -> AsyncIterator[None]:
    """Turn a ServingError into a gRPC status that carries it whole."""
    try:
        yield
    except ServingError as error:
        trailer = to_proto(error.to_failure()).SerializeToString()
        status = _STATUS_OF_CODE.get(error.code, grpc.StatusCode.INTERNAL)
        await context.abort(status, error.message, trailing_metadata=((ERROR_TRAILER, trailer),))
