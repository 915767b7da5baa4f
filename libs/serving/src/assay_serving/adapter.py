"""The gRPC server of an adapter: everything that does not depend on the backend."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import grpc
from opentelemetry.trace import TracerProvider

from assay_serving.backend import ServingBackend
from assay_serving.calibration import calibrate
from assay_serving.convert import from_proto, to_proto
from assay_serving.errors import ServingError, UnknownInstance
from assay_serving.event_loop import LoopLag
from assay_serving.instances import InstanceTable
from assay_serving.power.host import ProcessTreeCpu
from assay_serving.power.sampler import sample
from assay_serving.request_stream import GenerateStream, RequestStream, ScoreStream
from assay_serving.serving_instance import ServingInstance
from assay_serving.session import ACCEPTED_HEADER, ERROR_TRAILER
from assay_serving.tracing import CallTracer
from assay_serving.types import ErrorCode, ProvisionSpec, TelemetrySample
from assay_serving.v1 import serving_pb2 as pb
from assay_serving.v1 import serving_pb2_grpc
from assay_serving.validation import check_log_bytes

Context = grpc.aio.ServicerContext[Any, Any]

MAX_MESSAGE_BYTES = 64 * 1024 * 1024
_SHUTDOWN_GRACE_SECONDS = 1.0
_STATUS_OF_CODE = {
    ErrorCode.INVALID_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.UNSUPPORTED_FIELD: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.CONTEXT_TOO_LONG: grpc.StatusCode.INVALID_ARGUMENT,
    ErrorCode.NO_CAPACITY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    ErrorCode.ARTIFACT_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    ErrorCode.UNKNOWN_INSTANCE: grpc.StatusCode.NOT_FOUND,
    ErrorCode.NOT_READY: grpc.StatusCode.FAILED_PRECONDITION,
    ErrorCode.FENCED: grpc.StatusCode.PERMISSION_DENIED,
    ErrorCode.ARTIFACT_MISMATCH: grpc.StatusCode.FAILED_PRECONDITION,
}


@asynccontextmanager
async def serve_adapter(
    backend: ServingBackend,
    *,
    listen: str,
    max_instances: int,
    tracer_provider: TracerProvider | None = None,
) -> AsyncIterator[str]:
    """Serve `backend` on `listen` (``host:port``, port 0 for any free one) and yield the bound address.

    Each call gets a span of `tracer_provider` (OpenTelemetry's global one by default), below the caller's.

    On the way out no instance is taken any more, all are released, and their engines ended.

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
    serving_pb2_grpc.add_ServingAdapterServicer_to_server(
        _Servicer(backend, table, CallTracer(tracer_provider)), server
    )  # type: ignore[no-untyped-call]
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

    def __init__(self, backend: ServingBackend, table: InstanceTable, tracer: CallTracer) -> None:
        self._backend = backend
        self._table = table
        self._tracer = tracer
        self._calibrating = asyncio.Lock()

    async def Describe(self, request: pb.DescribeRequest, context: Context) -> pb.DescribeResponse:
        return to_proto(await self._backend.describe())  # type: ignore[no-any-return]

    async def Provision(self, request: pb.ProvisionRequest, context: Context) -> pb.Instance:
        async with self._serving(context, "Provision"):
            spec = from_proto(request, ProvisionSpec)
            # 0 is "one at a time" on the wire.
            spec = replace(spec, max_concurrency=spec.max_concurrency or 1)
            return to_proto(await self._table.provision(spec))  # type: ignore[no-any-return]

    async def Watch(self, request: pb.WatchRequest, context: Context) -> AsyncIterator[pb.InstanceEvent]:
        async with self._serving(context, "Watch"):
            async for event in self._table.watch(request.instance_id):
                yield to_proto(event)

    async def KeepAlive(self, request: pb.KeepAliveRequest, context: Context) -> pb.KeepAliveResponse:
        async with self._serving(context, "KeepAlive"):
            view = self._table.keep_alive(
                request.instance_id,
                lease=request.lease_ms / 1000,
                fencing_token=request.fencing_token,
            )
            return pb.KeepAliveResponse(lease_expires_unix_ns=view.lease_expires_unix_ns)

    async def Calibrate(self, request: pb.CalibrateRequest, context: Context) -> pb.Calibration:
        async with self._serving(context, "Calibrate"):
            _ = self._table.get(request.instance_id).ready_engine
            others = self._table.others_serving(request.instance_id)
            async with self._calibrating:  # two at once would measure each other
                return to_proto(await calibrate(other_instances=others))  # type: ignore[no-any-return]

    async def Logs(self, request: pb.LogsRequest, context: Context) -> pb.LogsResponse:
        async with self._serving(context, "Logs"):
            max_bytes = check_log_bytes(request.max_bytes)
            return to_proto(  # type: ignore[no-any-return]
                await self._table.read_log(request.instance_id, max_bytes=max_bytes)
            )

    async def Release(self, request: pb.ReleaseRequest, context: Context) -> pb.ReleaseResponse:
        existed = await self._table.release(request.instance_id, reason=request.reason)
        reply = pb.ReleaseResponse(existed=existed)
        with suppress(UnknownInstance):
            reply.instance.CopyFrom(to_proto(self._table.get(request.instance_id).current()))
        return reply

    async def Telemetry(
        self, request: pb.TelemetryRequest, context: Context
    ) -> AsyncIterator[pb.TelemetryEvent]:
        async with self._serving(context, "Telemetry"):
            instance = self._table.get(request.instance_id)
            async with aclosing(_telemetry(instance, period=request.period_ms / 1000 or None)) as samples:
                async for one in samples:
                    yield to_proto(one)

    async def Generate(
        self, request_iterator: AsyncIterator[pb.GenerateCall], context: Context
    ) -> AsyncIterator[pb.GenerateReply]:
        async with self._serving(context, "Generate"):
            async for reply in _replies(GenerateStream(self._table), request_iterator, context):
                yield reply

    async def Score(
        self, request_iterator: AsyncIterator[pb.ScoreCall], context: Context
    ) -> AsyncIterator[pb.ScoreReply]:
        async with self._serving(context, "Score"):
            async for reply in _replies(ScoreStream(self._table), request_iterator, context):
                yield reply

    @asynccontextmanager
    async def _serving(self, context: Context, method: str) -> AsyncIterator[None]:
        """A span for the call; a ServingError becomes a gRPC status that carries it whole."""
        with self._tracer.span(method, context.invocation_metadata() or ()):
            try:
                yield
            except ServingError as error:
                trailer = to_proto(error.to_failure()).SerializeToString()
                status = _STATUS_OF_CODE.get(error.code, grpc.StatusCode.INTERNAL)
                await context.abort(status, error.message, trailing_metadata=((ERROR_TRAILER, trailer),))


async def _telemetry(
    instance: ServingInstance, *, period: float | None
) -> AsyncGenerator[TelemetrySample, None]:
    """Samples of a ready instance until it ends."""
    engine = instance.ready_engine
    cpu = ProcessTreeCpu(engine.process_id) if engine.process_id else None
    lag = LoopLag()  # of this stream alone, as a reading begins the next
    lag.start()
    over = asyncio.create_task(instance.over.wait())
    following: asyncio.Future[TelemetrySample] = asyncio.Future()
    try:
        async with aclosing(sample(engine.power_sources(), cpu, period=period, lag=lag)) as samples:  # type: ignore[type-var]
            try:
                while True:
                    following = asyncio.ensure_future(anext(samples))
                    await asyncio.wait({over, following}, return_when=asyncio.FIRST_COMPLETED)
                    if not following.done():
                        return
                    yield following.result()
            finally:  # the iterator can be closed once nobody waits for its next item
                over.cancel()
                following.cancel()
                await asyncio.gather(over, following, return_exceptions=True)
    finally:
        lag.stop()


async def _replies(stream: RequestStream, calls: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
    async def accepted() -> None:
        await context.send_initial_metadata(((ACCEPTED_HEADER, "1"),))

    async with aclosing(stream.replies(calls, accepted=accepted)) as replies:  # type: ignore[type-var]
        async for reply in replies:
            yield reply
