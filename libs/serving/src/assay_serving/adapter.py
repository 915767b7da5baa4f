"""The gRPC server of an adapter: everything that does not depend on the backend."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import replace
from typing import Any

import grpc
from opentelemetry.trace import TracerProvider

from assay_serving.backend import ServingBackend
from assay_serving.convert import from_proto, to_proto
from assay_serving.errors import ServingError
from assay_serving.instances import InstanceTable
from assay_serving.power.host import ProcessTreeCpu, RaplMeter
from assay_serving.request_stream import GenerateStream, RequestStream, ScoreStream
from assay_serving.session import ERROR_TRAILER
from assay_serving.tracing import CallTracer
from assay_serving.types import ErrorCode, ProvisionSpec, TelemetrySample
from assay_serving.v1 import serving_pb2 as pb
from assay_serving.v1 import serving_pb2_grpc

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
        self._rapl = RaplMeter()

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
            view = self._table.keep_alive(request.instance_id, lease=request.lease_ms / 1000)
            return pb.KeepAliveResponse(lease_expires_unix_ns=view.lease_expires_unix_ns)

    async def Release(self, request: pb.ReleaseRequest, context: Context) -> pb.ReleaseResponse:
        existed = await self._table.release(request.instance_id, reason=request.reason)
        return pb.ReleaseResponse(existed=existed)

    async def Telemetry(
        self, request: pb.TelemetryRequest, context: Context
    ) -> AsyncIterator[pb.TelemetryEvent]:
        async with self._serving(context, "Telemetry"):
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
        async with self._serving(context, "Generate"):
            async for reply in _replies(GenerateStream(self._table), request_iterator):
                yield reply

    async def Score(
        self, request_iterator: AsyncIterator[pb.ScoreCall], context: Context
    ) -> AsyncIterator[pb.ScoreReply]:
        async with self._serving(context, "Score"):
            async for reply in _replies(ScoreStream(self._table), request_iterator):
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


async def _replies(stream: RequestStream, calls: AsyncIterator[Any]) -> AsyncIterator[Any]:
    async with aclosing(stream.replies(calls)) as replies:  # type: ignore[type-var]
        async for reply in replies:
            yield reply
