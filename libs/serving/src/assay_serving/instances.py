"""The instances of one adapter: their states, their leases and who watches them."""

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from functools import partial

from assay_serving.backend import Engine, ServingBackend
from assay_serving.errors import (
    EngineDied,
    InvalidRequest,
    NoCapacity,
    NotReady,
    ServingError,
    StartFailed,
    UnknownInstance,
)
from assay_serving.types import Instance, InstanceEvent, InstanceState, PhaseTimes, Provenance, ProvisionSpec
from assay_serving.validation import check_provision

_logger = logging.getLogger(__name__)
_REAPER_SECONDS = 0.1
# Ended instances stay visible to late watchers; the oldest go first.
_KEPT_ENDED = 256


@dataclass(slots=True, eq=False)
class ServingInstance:
    """One instance: what was asked for, what it is now, and the task that leads it through its life."""

    spec: ProvisionSpec
    view: Instance
    lease_deadline: float  # time.monotonic() seconds
    phase_started: float
    engine: Engine | None = None
    life: asyncio.Task[None] | None = None
    last_event: InstanceEvent | None = None
    watchers: set[asyncio.Queue[InstanceEvent]] = field(default_factory=set)
    ending: asyncio.Lock = field(default_factory=asyncio.Lock)
    release_reason: str = ""

    @property
    def ready_engine(self) -> Engine:
        """The engine of an instance that is ready.

        Raises:
            NotReady, UnknownInstance, EngineDied: the state is another one.
        """
        match self.view.state:
            case InstanceState.READY if self.engine is not None and not self.release_reason:
                return self.engine
            case InstanceState.FAILED:
                failure = self.view.error
                raise EngineDied(
                    f"instance {self.view.instance_id} has failed: {failure.message if failure else ''}"
                )
            case InstanceState.RELEASED | InstanceState.READY:
                raise UnknownInstance(f"instance {self.view.instance_id} was released: {self.release_reason}")
            case state:
                raise NotReady(f"instance {self.view.instance_id} is {state}; wait until it is ready")

    def publish(self, message: str, *, log_tail: str = "") -> None:
        """Tell every watcher of the state as it is now."""
        event = InstanceEvent(instance=self.view, message=message, log_tail=log_tail)
        self.last_event = event
        for queue in self.watchers:
            queue.put_nowait(event)
        _logger.info("instance %s %s: %s", self.view.instance_id, self.view.state, message)


class InstanceTable:
    """All instances of an adapter. Used from one event loop; `close` ends every engine."""

    def __init__(self, backend: ServingBackend, *, max_instances: int) -> None:
        self._backend = backend
        self._max_instances = max_instances
        self._instances: dict[str, ServingInstance] = {}
        self._reaper = asyncio.get_running_loop().create_task(self._reap())

    async def provision(self, spec: ProvisionSpec) -> Instance:
        """Accept `spec`, or return the living instance that its key already has.

        Raises:
            InvalidRequest: a value is wrong, or the key belongs to a different specification.
            NoCapacity: as many instances live as this adapter may run.
        """
        description = await self._backend.describe()
        check_provision(spec, description)
        self._backend.check(spec)
        # From here to the insertion nothing awaits, so that two calls with one key cannot both insert.
        living = [each for each in self._instances.values() if not each.view.state.is_final]
        for instance in living:
            if instance.spec.idempotency_key == spec.idempotency_key:
                return self._same(instance, spec)
        if len(living) >= self._max_instances:
            raise NoCapacity(f"{len(living)} instances run here and {self._max_instances} are allowed")
        instance = ServingInstance(
            spec=spec,
            view=Instance(
                instance_id=uuid.uuid4().hex,
                state=InstanceState.PENDING,
                backend=description.backend,
                capabilities=description.capabilities,
                provenance=Provenance(),
                created_unix_ns=time.time_ns(),
                lease_expires_unix_ns=time.time_ns() + round(spec.lease * 1e9),
            ),
            lease_deadline=time.monotonic() + spec.lease,
            phase_started=time.monotonic(),
        )
        self._forget_oldest()
        self._instances[instance.view.instance_id] = instance
        instance.publish("accepted")
        instance.life = asyncio.get_running_loop().create_task(self._live(instance))
        return instance.view

    def get(self, instance_id: str) -> ServingInstance:
        """The instance with this id; raises UnknownInstance."""
        try:
            return self._instances[instance_id]
        except KeyError:
            raise UnknownInstance(
                f"no instance {instance_id!r} here; the adapter may have been restarted"
            ) from None

    def keep_alive(self, instance_id: str, *, lease: float) -> Instance:
        """Let the lease end `lease` seconds from now; raises UnknownInstance if it has ended already."""
        if lease <= 0:
            raise InvalidRequest("lease_ms: must be above 0")
        instance = self.get(instance_id)
        if instance.view.state.is_final:
            raise UnknownInstance(f"instance {instance_id} is {instance.view.state}")
        instance.lease_deadline = time.monotonic() + lease
        instance.view = replace(instance.view, lease_expires_unix_ns=time.time_ns() + round(lease * 1e9))
        return instance.view

    async def release(self, instance_id: str, *, reason: str) -> bool:
        """End an instance; False where there was none, or it had ended."""
        instance = self._instances.get(instance_id)
        if instance is None:
            return False
        async with instance.ending:
            if instance.view.state.is_final:
                return False
            instance.release_reason = reason or "no reason given"
            if instance.life is not None:
                instance.life.cancel()
                await asyncio.wait([instance.life])
            if instance.view.state.is_final:  # it failed in the same moment
                return False
            await self._stop_engine(instance)
            instance.view = replace(instance.view, state=InstanceState.RELEASED)
            instance.publish(f"released: {instance.release_reason}")
            return True

    async def watch(self, instance_id: str) -> AsyncIterator[InstanceEvent]:
        """The state now, then every change until a final one."""
        instance = self.get(instance_id)
        queue: asyncio.Queue[InstanceEvent] = asyncio.Queue()
        if instance.last_event is not None:
            queue.put_nowait(instance.last_event)
        instance.watchers.add(queue)
        try:
            while True:
                event = await queue.get()
                yield event
                if event.instance.state.is_final:
                    return
        finally:
            instance.watchers.discard(queue)

    async def close(self) -> None:
        """Release everything; returns when no engine is left."""
        self._reaper.cancel()
        await asyncio.wait([self._reaper])
        await asyncio.gather(
            *(
                self.release(instance_id, reason="the adapter is shutting down")
                for instance_id in self._instances
            )
        )

    def _same(self, instance: ServingInstance, spec: ProvisionSpec) -> Instance:
        if replace(spec, lease=1, labels={}) != replace(instance.spec, lease=1, labels={}):
            raise InvalidRequest(
                f"idempotency_key {spec.idempotency_key!r}: a living instance has another specification"
            )
        return instance.view

    def _forget_oldest(self) -> None:
        ended = [key for key, each in self._instances.items() if each.view.state.is_final]
        for key in ended[: max(0, len(ended) - _KEPT_ENDED)]:
            del self._instances[key]

    async def _live(self, instance: ServingInstance) -> None:
        """Lead an instance from PENDING to READY and, if its engine dies, to FAILED."""
        try:
            async with asyncio.timeout(instance.spec.ready_timeout):
                engine = await self._start(instance)
            await self._fail(instance, EngineDied(await engine.wait_dead(), engine_detail=engine.log_tail()))
        except TimeoutError:
            await self._fail(instance, StartFailed(f"not ready within {instance.spec.ready_timeout:g} s"))
        except ServingError as error:
            await self._fail(instance, error)
        except Exception as error:
            _logger.exception("instance %s could not start", instance.view.instance_id)
            await self._fail(instance, StartFailed(f"the adapter failed: {error!r}"))

    async def _start(self, instance: ServingInstance) -> Engine:
        spec = instance.spec
        progress = partial(self._enter, instance)
        prepared = await self._backend.prepare(spec, progress=progress)
        engine = await self._backend.launch(
            spec, prepared, instance_id=instance.view.instance_id, progress=progress
        )
        instance.engine = engine
        now = time.monotonic()
        load = now - instance.phase_started
        await engine.warm_up()
        instance.view = replace(
            instance.view,
            state=InstanceState.READY,
            capabilities=engine.capabilities,
            provenance=engine.provenance,
            launcher=engine.launcher,
            accelerators=engine.accelerators,
            ready_unix_ns=time.time_ns(),
            phase_times=replace(instance.view.phase_times, load=load, ready=time.monotonic() - now),
        )
        instance.publish("ready")
        return engine

    def _enter(self, instance: ServingInstance, state: InstanceState, message: str) -> None:
        now = time.monotonic()
        spent = now - instance.phase_started
        times = (
            PhaseTimes(schedule=spent)
            if state is InstanceState.PULLING
            else replace(instance.view.phase_times, pull=spent)
        )
        instance.phase_started = now
        instance.view = replace(instance.view, state=state, phase_times=times)
        instance.publish(message)

    async def _fail(self, instance: ServingInstance, error: ServingError) -> None:
        tail = error.engine_detail or (instance.engine.log_tail() if instance.engine else "")
        await self._stop_engine(instance)
        failure = replace(error.to_failure(), engine_detail=tail)
        instance.view = replace(instance.view, state=InstanceState.FAILED, error=failure)
        instance.publish(error.message, log_tail=tail)

    async def _stop_engine(self, instance: ServingInstance) -> None:
        if instance.engine is not None:
            with contextlib.suppress(Exception):
                await instance.engine.stop()

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(_REAPER_SECONDS)
            now = time.monotonic()
            for instance_id, instance in tuple(self._instances.items()):
                if not instance.view.state.is_final and instance.lease_deadline < now:
                    await self.release(instance_id, reason="its lease lapsed")
