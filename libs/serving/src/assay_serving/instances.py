"""The instances of one adapter: their leases, who may have them, and that nothing is left of them."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import replace

from assay_serving.backend import Engine, ServingBackend
from assay_serving.errors import (
    EngineDied,
    Fenced,
    InvalidRequest,
    NoCapacity,
    ServingError,
    StartFailed,
    UnknownInstance,
)
from assay_serving.fencing import Fences
from assay_serving.launchers.server import Progress
from assay_serving.ledger import Phase
from assay_serving.power.sampler import IdleMeter
from assay_serving.serving_instance import Ending, ServingInstance
from assay_serving.types import Instance, InstanceEvent, InstanceLog, InstanceState, ProvisionSpec
from assay_serving.validation import check_lease, check_provision

_logger = logging.getLogger(__name__)
_LEASE_CHECK_SECONDS = 0.1
# Heartbeats that came while this process could not run are not yet read when it runs again.
_STALL_SECONDS = 0.5
_SWEEP_SECONDS = 10.0
_IDLE_SECONDS = 2.0
# Ended instances stay visible to late watchers, with the end of their logs; the oldest go first.
_KEPT_ENDED = 256
_KEPT_LOG_BYTES = 65536
_PHASE_OF_STATE = {
    InstanceState.PENDING: Phase.SCHEDULE,
    InstanceState.PULLING: Phase.PULL,
    InstanceState.STARTING: Phase.LOAD,
}


class InstanceTable:
    """All instances of an adapter. Used from one event loop; `close` ends every engine."""

    def __init__(self, backend: ServingBackend, *, max_instances: int) -> None:
        self._backend = backend
        self._max_instances = max_instances
        self._instances: dict[str, ServingInstance] = {}
        self._fences = Fences()
        self._is_closed = False
        self._has_swept = asyncio.Event()
        loop = asyncio.get_running_loop()
        self._keepers = (loop.create_task(self._check_leases()), loop.create_task(self._sweep()))

    async def provision(self, spec: ProvisionSpec) -> Instance:
        """Accept `spec`, or return the living instance that its key already has.

        Instances of the same owner under lower fencing tokens end; the new one is started after them.

        Raises:
            InvalidRequest: a value is wrong, or the key belongs to a different specification.
            Fenced: the owner has shown a higher token.
            NoCapacity: as many instances live as this adapter may run, or it is shutting down.
        """
        description = await self._backend.describe()
        check_provision(spec, description)
        self._backend.check(spec)
        # From here to the insertion nothing awaits, so that two calls with one key cannot both insert.
        if self._is_closed:
            raise NoCapacity("this adapter is shutting down")
        self._fences.pass_through(spec.owner, spec.fencing_token)
        living = [each for each in self._instances.values() if not each.view.state.is_final]
        superseded = [each for each in living if _is_superseded(each.spec, by=spec)]
        reason = f"{spec.owner} was taken over under fencing token {spec.fencing_token}"
        ends = [self._begin_end(each, Ending.of_release(reason)) for each in superseded]
        for instance in living:
            if instance.spec.idempotency_key == spec.idempotency_key and not instance.is_over:
                return _same(instance, spec)
        count = len(living) - len(superseded)
        if count >= self._max_instances:
            raise NoCapacity(f"{count} instances run here and {self._max_instances} are allowed")
        self._forget_oldest()
        instance = ServingInstance.accept(spec, description)
        self._instances[instance.instance_id] = instance
        instance.life = asyncio.get_running_loop().create_task(self._live(instance, after=ends))
        return instance.view

    def get(self, instance_id: str) -> ServingInstance:
        """The instance with this id; raises UnknownInstance."""
        try:
            return self._instances[instance_id]
        except KeyError:
            raise UnknownInstance(
                f"no instance {instance_id!r} here; the adapter may have been restarted"
            ) from None

    def others_serving(self, instance_id: str) -> int:
        """How many instances serve beside this one."""
        ready = [key for key, each in self._instances.items() if each.view.state is InstanceState.READY]
        return len(set(ready) - {instance_id})

    def keep_alive(self, instance_id: str, *, lease: float, fencing_token: int) -> Instance:
        """Let the lease end `lease` seconds from now.

        Raises:
            InvalidRequest: the lease is no time that a lease may have.
            Fenced: the token, if there is one, is not that of the instance, or its owner was taken over.
            UnknownInstance: the instance ends or has ended.
        """
        check_lease(lease)
        instance = self.get(instance_id)
        if fencing_token:
            _check_own_token(instance, fencing_token)
            self._fences.check(instance.spec.owner, fencing_token)
        if instance.ending is not None:
            raise UnknownInstance(f"instance {instance_id} has ended: {instance.ending.message}")
        instance.renew_lease(lease)
        # One that is under way has nearly the same news.
        if instance.engine is not None and (instance.renewal is None or instance.renewal.done()):
            instance.renewal = asyncio.get_running_loop().create_task(_renew(instance.engine, lease))
        return instance.view

    async def release(self, instance_id: str, *, reason: str) -> bool:
        """End an instance and return when nothing is left of it; False where there was none, or it ended.

        Whoever is cancelled here leaves, and the instance ends nevertheless.
        """
        instance = self._instances.get(instance_id)
        if instance is None:
            return False
        existed = not instance.is_over
        await asyncio.shield(self._begin_end(instance, Ending.of_release(reason)))
        return existed

    async def read_log(self, instance_id: str, *, max_bytes: int) -> InstanceLog:
        """The end of what the engine has logged; after its end of what was kept.

        Raises:
            UnknownInstance: it was forgotten, or never there.
        """
        instance = self.get(instance_id)
        if instance.engine is not None and not instance.view.state.is_final:
            return await instance.engine.read_log(max_bytes)
        return _last_bytes(instance.log, max_bytes)

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
        """Take no more instances and release all; returns when no engine is left."""
        self._is_closed = True
        ending = Ending.of_release("the adapter is shutting down")
        ends = [self._begin_end(each, ending) for each in self._instances.values()]
        await asyncio.gather(*ends)
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.wait(self._keepers)

    def _forget_oldest(self) -> None:
        ended = [key for key, each in self._instances.items() if each.view.state.is_final]
        for key in ended[: max(0, len(ended) - _KEPT_ENDED)]:
            del self._instances[key]

    async def _live(self, instance: ServingInstance, *, after: Sequence[asyncio.Task[None]]) -> None:
        """Lead an instance from PENDING to READY and, if its engine dies, to its end."""
        waiting = asyncio.timeout(instance.spec.ready_timeout)
        error: ServingError
        try:
            async with waiting:
                # What runs on the devices now would be in this instance's way.
                await asyncio.gather(self._has_swept.wait(), *map(asyncio.shield, after))
                engine = await self._start(instance)
            end = await engine.wait_dead()
            error = EngineDied(end, engine_detail=engine.log_tail())
        except ServingError as failure:
            error = failure
        except Exception as failure:
            if waiting.expired():
                error = StartFailed(f"not ready within {instance.spec.ready_timeout:g} s")
            else:
                _logger.exception("instance %s could not start", instance.instance_id)
                error = StartFailed(f"the adapter failed: {failure!r}")
        if not error.engine_detail and instance.engine is not None:
            error.engine_detail = instance.engine.log_tail()
        self._begin_end(instance, Ending.of_failure(error))

    async def _start(self, instance: ServingInstance) -> Engine:
        spec, ledger = instance.spec, instance.ledger
        prepared = await self._backend.prepare(spec, progress=self._progress(instance, takes_place=False))
        with ledger.paused():
            await self._measure_idle_power(instance)
        engine = await self._backend.launch(
            spec,
            prepared,
            instance_id=instance.instance_id,
            progress=self._progress(instance, takes_place=True),
        )
        instance.engine = engine
        ledger.enter(Phase.READY)
        await engine.warm_up()
        ledger.enter(Phase.SERVING)
        instance.become_ready(engine)
        return engine

    async def _measure_idle_power(self, instance: ServingInstance) -> None:
        """Power of the devices that the instance will get; after preparing, which is work for a processor."""
        meter = IdleMeter(self._backend.idle_sources(instance.spec))
        meter.start()
        try:
            baselines = await meter.finish(at_least=_IDLE_SECONDS)
        finally:
            await meter.stop()
        instance.view = replace(instance.view, idle_baselines=baselines)

    def _progress(self, instance: ServingInstance, *, takes_place: bool) -> Progress:
        def enter(state: InstanceState, message: str) -> None:
            if instance.is_over:
                return
            instance.ledger.enter(_PHASE_OF_STATE[state])
            if takes_place and state is not InstanceState.PENDING:
                instance.ledger.take_place()
            instance.enter(state, message)

        return enter

    def _begin_end(self, instance: ServingInstance, ending: Ending) -> asyncio.Task[None]:
        """The task that ends the instance: the one that runs already, or has run, or a new one."""
        if instance.end is None:
            instance.ending = ending
            instance.over.set()
            instance.ledger.enter(Phase.DRAIN)
            # At once, so that it does not become ready meanwhile.
            if instance.life is not None and instance.life is not asyncio.current_task():
                instance.life.cancel()
            instance.end = asyncio.get_running_loop().create_task(self._end(instance, ending))
        return instance.end

    async def _end(self, instance: ServingInstance, ending: Ending) -> None:
        if instance.renewal is not None:
            instance.renewal.cancel()
        if tasks := [task for task in (instance.life, instance.renewal) if task is not None]:
            await asyncio.wait(tasks)
        if ending.error is not None:
            instance.log = InstanceLog(text=ending.error.engine_detail)
        if instance.engine is not None:
            try:
                await instance.engine.stop()
                instance.log = await instance.engine.read_log(_KEPT_LOG_BYTES)
            except Exception:
                _logger.exception("the engine of instance %s did not stop", instance.instance_id)
        instance.ledger.close()
        instance.finish(ending)

    async def _check_leases(self) -> None:
        """Release what nobody keeps alive."""
        due = time.monotonic()
        while True:
            due += _LEASE_CHECK_SECONDS
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            now = time.monotonic()
            living = [each for each in self._instances.values() if not each.is_over]
            if now - due > _STALL_SECONDS:
                _logger.warning("this adapter could not run for %.1f s; all leases get them back", now - due)
                for instance in living:
                    instance.lease_deadline += now - due
                due = now
            for instance in living:
                if instance.lease_deadline < now:
                    self._begin_end(instance, Ending.of_release("its lease lapsed"))

    async def _sweep(self) -> None:
        """Remove what instances have left behind that are not here: those of earlier lives, at first."""
        while True:
            try:
                for instance_id in await self._backend.reap(_Living(self._instances)):
                    _logger.warning("removed what was left of instance %s", instance_id)
            except Exception:
                _logger.exception("looking for orphans failed")
            self._has_swept.set()
            await asyncio.sleep(_SWEEP_SECONDS)


class _Living(Collection[str]):
    """Ids of the instances that have not ended, as they are when asked, which any thread may do."""

    def __init__(self, instances: Mapping[str, ServingInstance]) -> None:
        self._instances = instances

    def __contains__(self, item: object) -> bool:
        instance = self._instances.get(item) if isinstance(item, str) else None
        return instance is not None and not instance.view.state.is_final

    def __iter__(self) -> Iterator[str]:
        return (each for each in tuple(self._instances) if each in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def _is_superseded(spec: ProvisionSpec, *, by: ProvisionSpec) -> bool:
    return bool(by.owner) and spec.owner == by.owner and spec.fencing_token < by.fencing_token


def _same(instance: ServingInstance, spec: ProvisionSpec) -> Instance:
    if replace(spec, lease=1, labels={}) != replace(instance.spec, lease=1, labels={}):
        raise InvalidRequest(
            f"idempotency_key {spec.idempotency_key!r}: a living instance has another specification"
        )
    return instance.current()


def _check_own_token(instance: ServingInstance, token: int) -> None:
    if token != instance.spec.fencing_token:
        raise Fenced(
            f"instance {instance.instance_id} was asked for under fencing token "
            f"{instance.spec.fencing_token}, not {token}"
        )


async def _renew(engine: Engine, lease: float) -> None:
    try:
        await engine.renew(lease)
    except Exception:
        _logger.exception("a lease could not be passed on to the engine's place")


def _last_bytes(log: InstanceLog, max_bytes: int) -> InstanceLog:
    content = log.text.encode()
    if len(content) <= max_bytes:
        return log
    return InstanceLog(text=content[-max_bytes:].decode(errors="ignore"), is_cut=True)
