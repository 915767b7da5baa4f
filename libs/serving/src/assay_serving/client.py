"""The caller's side of one adapter."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

import grpc

from assay_serving.adapter import MAX_MESSAGE_BYTES
from assay_serving.convert import from_proto, to_proto
from assay_serving.errors import AdapterUnavailable, DeadlineExceeded, StartFailed, error_of
from assay_serving.session import GenerateSession, ScoreSession, raise_rpc
from assay_serving.types import (
    AdapterDescription,
    Calibration,
    Instance,
    InstanceEvent,
    InstanceLog,
    InstanceState,
    ProvisionSpec,
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


@dataclass(frozen=True, slots=True)
class ReleasedInstance:
    """Whether a living instance was ended, and its last state where the adapter knows it."""

    existed: bool
    instance: Instance | None


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
            raise_rpc(error)
        finally:
            call.cancel()

    async def keep_alive(self, instance_id: str, *, lease: float, fencing_token: int = 0) -> None:
        """Renew the lease to `lease` seconds from now.

        Raises:
            Fenced: the instance was asked for under another token.
            UnknownInstance: it has ended.
        """
        request = pb.KeepAliveRequest(
            instance_id=instance_id, lease_ms=round(lease * 1000), fencing_token=fencing_token
        )
        await self._unary(self._stub.KeepAlive, request)

    async def calibrate(self, instance_id: str) -> Calibration:
        """Have the adapter measure its own errors; takes about a second and loads the adapter.

        Raises:
            NotReady, UnknownInstance: the instance is not serving.
        """
        reply = await self._unary(self._stub.Calibrate, pb.CalibrateRequest(instance_id=instance_id))
        return from_proto(reply, Calibration)

    async def logs(self, instance_id: str, *, max_bytes: int = 65536) -> InstanceLog:
        """The end of what the engine has logged; also after its end, for a while.

        Raises:
            UnknownInstance: the adapter does not know it any more.
        """
        request = pb.LogsRequest(instance_id=instance_id, max_bytes=max_bytes)
        return from_proto(await self._unary(self._stub.Logs, request), InstanceLog)

    async def release(self, instance_id: str, *, reason: str) -> bool:
        """End the instance; False where the adapter has no such living instance. Returns when it is gone."""
        return (await self.end(instance_id, reason=reason)).existed

    async def end(self, instance_id: str, *, reason: str) -> ReleasedInstance:
        """As `release`, with the instance's last state and all its times."""
        reply = await self._unary(
            self._stub.Release, pb.ReleaseRequest(instance_id=instance_id, reason=reason)
        )
        last = from_proto(reply.instance, Instance) if reply.HasField("instance") else None
        return ReleasedInstance(existed=bool(reply.existed), instance=last)

    @asynccontextmanager
    async def generate_session(self, instance_id: str) -> AsyncIterator[GenerateSession]:
        """Open one stream for any number of generation requests."""
        call = self._stub.Generate(metadata=self._metadata())
        async with GenerateSession(call, instance_id) as session:
            yield session

    @asynccontextmanager
    async def score_session(self, instance_id: str) -> AsyncIterator[ScoreSession]:
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
            raise_rpc(error)
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
            raise_rpc(error)

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return tuple(self._metadata_source().items()) if self._metadata_source else ()
