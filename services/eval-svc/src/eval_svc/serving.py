"""The serving side of a run, through the adapters. Hides that an instance may die and be replaced."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Any, Self

from assay_chassis.errors import Unavailable
from assay_chassis.leases import LeaseLost
from assay_harness.results import ModelRequest, RequestKind
from assay_serving.errors import AdapterUnavailable, Fenced, NoCapacity, ServingError, StartFailed
from assay_serving.types import (
    Artifact,
    ErrorCode,
    GenerateResult,
    Instance,
    ProvisionSpec,
    Resources,
    ScoreRequest,
    ScoreResult,
)
from eval_svc.errors import RunFailure
from eval_svc.exchanges import Answer, RequestBuilder, RequestFailed
from eval_svc.fleet import ServingFleet
from eval_svc.leased_instance import ClosedInstance, LeasedInstance, close_abandoned

logger = logging.getLogger(__name__)

INSTANCE_IS_GONE = frozenset(
    {
        ErrorCode.ENGINE_DIED,
        ErrorCode.UNKNOWN_INSTANCE,
        ErrorCode.NOT_READY,
        ErrorCode.ADAPTER_UNAVAILABLE,
    }
)
_PATIENCE_S = 0.5


@dataclass(frozen=True, slots=True)
class ServingTerms:
    """What a run asks of its serving instance.

    Attributes:
        idempotency_key: prefix of the keys under which instances are asked for.
        resources: ``domain.ServingResources`` as stored in the plan.
        concurrency: requests in flight at the same time.
        lease_s: seconds after which the adapter releases an instance that nobody keeps alive.
        ready_timeout_s: seconds that an instance may take to become ready, or the adapter to come back.
        attempts: instances that may be lost in a row without an answer in between.
        labels: names for people who look at the adapter.
        owner: whom the instances serve: the run.
        fencing_token: of the lease on the owner; the adapter ends what has an older one.
        calibrates: whether the adapter measures its own errors before the first request and after the last.
        endpoint_key: secret of an artifact that is an endpoint; shows nowhere.
    """

    idempotency_key: str
    resources: Mapping[str, Any]
    concurrency: int
    lease_s: float
    ready_timeout_s: float
    attempts: int
    labels: Mapping[str, str]
    owner: str = ""
    fencing_token: int = 0
    calibrates: bool = False
    endpoint_key: str = field(default="", repr=False)

    def clean(self, text: str) -> str:
        """``text`` without the secret, which a server may have repeated in an error or its log."""
        return text.replace(self.endpoint_key, "[endpoint key]") if self.endpoint_key else text


class ServingSession:
    """A run's serving instance: provisioned on entry, kept alive, replaced when it dies, released on exit.

    Args:
        fleet: the adapters.
        artifact: artifact part of the plan.
        terms: what the run asks for.
        on_accepted: called with the record of every instance as soon as the adapter has taken it on, JSON.
        on_ready: called with its record once it is ready.
        on_closed: called with what is left of an instance when it is given up; also of one that never
            became ready.
    """

    def __init__(
        self,
        *,
        fleet: ServingFleet,
        artifact: Mapping[str, Any],
        terms: ServingTerms,
        on_accepted: Callable[[dict[str, Any]], Awaitable[None]],
        on_ready: Callable[[dict[str, Any]], Awaitable[None]],
        on_closed: Callable[[ClosedInstance], Awaitable[None]],
    ) -> None:
        self._server = fleet.server(artifact["backend"])
        self._artifact = artifact
        self._terms = terms
        self._on_accepted = on_accepted
        self._on_ready = on_ready
        self._on_closed = on_closed
        self._requests = RequestBuilder()
        self._lock = asyncio.Lock()
        self._live: LeasedInstance | None = None
        self._provisioned = 0
        self._lost_in_a_row = 0

    async def __aenter__(self) -> Self:
        """Provision and wait until the instance has answered a real request.

        Raises:
            RunFailure: it does not start.
            LeaseLost: a newer lease on the run has the adapter.
        """
        await self._usable()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Release the instance. The adapter's lease does it where this cannot."""
        async with self._lock:
            await self._give_up(
                reason="run ended" if exc_type else "run finished", is_finished=exc_type is None
            )

    async def close_abandoned(self, record: Mapping[str, Any]) -> ClosedInstance:
        """End an instance that an earlier worker has left; see ``leased_instance.close_abandoned``."""
        return await close_abandoned(self._server, record, clean=self._terms.clean)

    async def ask(self, request: ModelRequest) -> Answer:
        """Send one request and wait for its answer.

        Raises:
            RequestFailed: there is none; the session can be used further.
            RunFailure: no instance can be had any more.
            LeaseLost: a newer lease on the run has taken the instance.
        """
        live = await self._usable()
        live.usage.request_sent()
        try:
            result: GenerateResult | ScoreResult
            if request.kind is RequestKind.GENERATE:
                result = await live.generate.generate(self._requests.generation(request))
            else:
                result = await live.score.score(
                    ScoreRequest(context=request.context, continuation=request.continuation)
                )
        except ServingError as error:
            if error.code in INSTANCE_IS_GONE:
                live.is_broken = True
            raise RequestFailed(
                code=error.code.value,
                message=self._terms.clean(error.message),
                retryable=error.retryable or live.is_broken,
            ) from error
        finally:
            live.usage.request_done()
        self._lost_in_a_row = 0
        return Answer(kind=request.kind, result=result, instance_id=live.instance.instance_id)

    async def instance(self) -> Instance:
        """The instance that the next request goes to, unless it is lost meanwhile.

        Raises:
            RunFailure: no instance can be had any more.
        """
        return (await self._usable()).instance

    async def _usable(self) -> LeasedInstance:
        live = self._live
        if live is not None and not live.is_broken:
            return live
        async with self._lock:
            if self._live is not None and not self._live.is_broken:
                return self._live
            if self._live is not None:
                await self._replaceable(self._live)
            self._live = await self._provision()
            return self._live

    async def _replaceable(self, lost: LeasedInstance) -> None:
        """Give up an instance that answers no more; raises where no other may take its place."""
        logger.warning("serving instance %s is lost", lost.instance.instance_id)
        self._lost_in_a_row += 1
        await self._give_up(reason="instance lost", is_finished=False)
        if lost.is_taken_over:
            raise LeaseLost("a newer lease on the run has taken its serving instance")
        if self._lost_in_a_row >= self._terms.attempts:
            raise RunFailure(
                "serving-lost",
                f"{self._lost_in_a_row} serving instances were lost in a row; see the run's log, "
                "then resume the run",
            )

    async def _provision(self) -> LeasedInstance:
        """An instance that answers. The adapter may be restarting, or busy with other runs, for a while."""
        self._provisioned += 1
        spec = self._spec(f"{self._terms.idempotency_key}:{self._provisioned}")
        clock = asyncio.get_running_loop()
        began = clock.time()
        while True:
            try:
                return await self._start(spec, waited=clock.time() - began)
            except Fenced as error:
                raise LeaseLost(f"a newer lease on the run has the adapter: {error.message}") from error
            except AdapterUnavailable as error:
                # Its supervisor brings it back.
                if clock.time() - began > self._terms.ready_timeout_s:
                    raise RunFailure("adapter-unavailable", self._terms.clean(str(error))) from error
            except NoCapacity as error:
                # Other runs have it; the run goes back into the line rather than holding a worker's slot.
                if clock.time() - began > self._terms.ready_timeout_s:
                    message = f"the adapter has no room for another instance: {error.message}"
                    raise Unavailable(self._terms.clean(message)) from error
            except ServingError as error:
                detail = f"\n{error.engine_detail}" if error.engine_detail else ""
                reason = self._terms.clean(f"{error.message}{detail}")
                # From None: the cause's text may have the key, and tracebacks are logged.
                raise RunFailure("serving-failed", reason) from None
            await asyncio.sleep(_PATIENCE_S)

    async def _start(self, spec: ProvisionSpec, *, waited: float) -> LeasedInstance:
        """One try; raises what the adapter says."""
        accepted = await self._server.provision(spec)
        instance = LeasedInstance(self._server, accepted, spec=spec, waited=waited, clean=self._terms.clean)
        try:
            await self._on_accepted(instance.record())
            await instance.become_ready(calibrates=self._terms.calibrates)
            await self._on_ready(instance.record())
        except BaseException as error:
            closed = await instance.close(reason="it did not start", is_finished=False)
            with suppress(LeaseLost):
                await self._on_closed(replace(closed, had_room=not isinstance(error, NoCapacity)))
            if isinstance(error, StartFailed) and closed.record["ended"]["state"] == "released":
                # By somebody else. If that is a newer lease, the next try hears so; else it may well succeed.
                raise AdapterUnavailable(error.message) from error
            raise
        return instance

    def _spec(self, idempotency_key: str) -> ProvisionSpec:
        resources = self._terms.resources
        return ProvisionSpec(
            idempotency_key=idempotency_key,
            artifact=Artifact(
                uri=self._artifact["uri"],
                format=self._artifact["format"],
                sha256=self._artifact["sha256"] or "",
                revision=self._artifact["revision"] or "",
            ),
            resources=Resources(
                cpus=resources["cpus"] or 0.0,
                memory_bytes=resources["memory_bytes"] or 0,
                accelerators=resources["accelerators"] or 0,
            ),
            max_context_tokens=resources["max_context_tokens"] or 0,
            max_concurrency=self._terms.concurrency,
            serving_parameters=dict(self._artifact["serving_parameters"]),
            lease=self._terms.lease_s,
            ready_timeout=self._terms.ready_timeout_s,
            labels=dict(self._terms.labels),
            owner=self._terms.owner,
            fencing_token=self._terms.fencing_token,
            endpoint_key=self._terms.endpoint_key,
        )

    async def _give_up(self, *, reason: str, is_finished: bool) -> None:
        if self._live is None:
            return
        live, self._live = self._live, None
        await self._on_closed(await live.close(reason=reason, is_finished=is_finished))
