"""Serving instances of runs, through the adapters. Hides that an instance may die and be replaced."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from assay_serving.client import GenerateSession, ModelServer, ScoreSession
from assay_serving.errors import AdapterUnavailable, ServingError
from assay_serving.types import (
    AdapterDescription,
    Artifact,
    Capabilities,
    GenerateRequest,
    GenerateResult,
    Instance,
    ProvisionSpec,
    Resources,
    SamplingParameters,
    ScoreRequest,
    ScoreResult,
    Support,
)

from assay_chassis.errors import Fault, Unavailable
from assay_harness.results import ModelRequest, RequestKind
from eval_svc.domain import ArtifactSpec
from eval_svc.errors import BackendNotConfigured, InvalidArtifact, RunFailure
from eval_svc.usage import Usage

logger = logging.getLogger(__name__)

INSTANCE_IS_GONE = frozenset({"ENGINE_DIED", "UNKNOWN_INSTANCE", "NOT_READY", "UNAVAILABLE"})

# lm-eval's name -> (field of SamplingParameters, capability that says whether the backend honours it)
SAMPLING: Mapping[str, tuple[str, str | None]] = {
    "temperature": ("temperature", None),
    "top_p": ("top_p", None),
    "top_k": ("top_k", "top_k"),
    "min_p": ("min_p", "min_p"),
    "seed": ("seed", "seed"),
    "repetition_penalty": ("repetition_penalty", "repetition_penalty"),
    "presence_penalty": ("presence_penalty", "presence_penalty"),
    "frequency_penalty": ("frequency_penalty", "frequency_penalty"),
}
HANDLED_APART = frozenset({"until", "max_gen_toks", "do_sample"})


def check_sampling(generation_kwargs: Mapping[str, Any]) -> str | None:
    """What is wrong with generation arguments, or ``None``. An unknown one would silently do nothing."""
    unknown = sorted(set(generation_kwargs) - set(SAMPLING) - HANDLED_APART)
    if not unknown:
        return None
    known = ", ".join(sorted((*SAMPLING, *HANDLED_APART)))
    return f"generation argument(s) {', '.join(unknown)} are not supported; known are {known}"


@dataclass(frozen=True, slots=True)
class BackendDescription:
    """What planning needs to know of a backend."""

    engine: str
    capabilities: Capabilities

    @property
    def can_score(self) -> bool:
        """Whether log-probabilities of given continuations can be had."""
        return self.capabilities.score is Support.YES

    def refused_sampling(self, generation_kwargs: Mapping[str, Any]) -> list[str]:
        """The generation arguments that the backend would refuse or ignore."""
        return [
            name
            for name, (_, capability) in SAMPLING.items()
            if name in generation_kwargs
            and capability is not None
            and getattr(self.capabilities, capability) is not Support.YES
        ]


class ServingFleet:
    """The configured adapters, one per backend."""

    def __init__(self, servers: Mapping[str, ModelServer], addresses: Mapping[str, str]) -> None:
        self._servers = servers
        self._addresses = addresses

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, addresses: Mapping[str, str], *, carrier: Callable[[], dict[str, str]]
    ) -> AsyncIterator["ServingFleet"]:
        """Open channels to the adapters; an adapter need not answer yet.

        Args:
            addresses: backend name to ``host:port``.
            carrier: gives the trace headers of the current span.
        """
        async with AsyncExitStack() as stack:
            servers = {
                backend: await stack.enter_async_context(ModelServer.connect(address, metadata=carrier))
                for backend, address in addresses.items()
            }
            yield cls(servers, addresses)

    def server(self, backend: str) -> ModelServer:
        """The adapter of a backend.

        Raises:
            BackendNotConfigured: there is none.
        """
        if backend not in self._servers:
            configured = ", ".join(self._servers) or "none"
            message = f"no serving adapter is configured for backend {backend!r}; configured: {configured}"
            raise BackendNotConfigured(message, faults=[Fault(message, field="backend")])
        return self._servers[backend]

    async def describe(self, backend: str) -> BackendDescription:
        """Ask the adapter what it can do.

        Raises:
            BackendNotConfigured: there is no adapter.
            Unavailable: it does not answer or is unhealthy.
        """
        description = await self._description(backend)
        return BackendDescription(engine=description.engine, capabilities=description.capabilities)

    async def _description(self, backend: str) -> AdapterDescription:
        try:
            description = await self.server(backend).describe()
        except ServingError as error:
            raise Unavailable(f"the {backend} adapter does not answer: {error}") from error
        if not description.healthy:
            raise Unavailable(f"the {backend} adapter is unhealthy: {description.unhealthy_reason}")
        return description

    async def describe_all(self) -> list[dict[str, Any]]:
        """What each adapter says of itself; an unreachable one is unhealthy."""

        async def one(backend: str) -> dict[str, Any]:
            address = self._addresses[backend]
            try:
                description = asdict(await self._servers[backend].describe())
            except ServingError as error:
                return {
                    "backend": backend,
                    "address": address,
                    "healthy": False,
                    "unhealthy_reason": str(error),
                }
            return {**description, "backend": backend, "address": address}

        return list(await asyncio.gather(*(one(backend) for backend in self._servers)))

    async def check_artifact(self, spec: ArtifactSpec) -> None:
        """Check format and serving parameters against what the adapter offers.

        Raises:
            BackendNotConfigured, InvalidArtifact, Unavailable: see there.
        """
        description = await self._description(spec.backend)
        faults = []
        if spec.format not in description.artifact_formats:
            formats = ", ".join(description.artifact_formats)
            faults.append(Fault(f"format {spec.format!r} is not one of {formats}", field="format"))
        known = {parameter.name: parameter.choices for parameter in description.serving_parameters}
        for name, value in spec.serving_parameters.items():
            field = f"serving_parameters.{name}"
            if name not in known:
                names = ", ".join(known) or "none"
                faults.append(Fault(f"unknown parameter; the adapter knows {names}", field=field))
            elif known[name] and value not in known[name]:
                faults.append(Fault(f"{value!r} is not one of {', '.join(known[name])}", field=field))
        if faults:
            raise InvalidArtifact(
                "; ".join(f"{fault.field}: {fault.message}" for fault in faults), faults=faults
            )


@dataclass(slots=True)
class Answer:
    """The answer to one request, with where and when it was produced."""

    kind: RequestKind
    result: GenerateResult | ScoreResult
    instance_id: str
    retries: int = 0
    waited_s: float = 0.0

    def record(self) -> dict[str, Any]:
        """The part of a sample record that the answer fills."""
        times = asdict(self.result.times)
        record: dict[str, Any] = {
            "instance_id": self.instance_id,
            "retries": self.retries,
            "waited_s": self.waited_s,
            "times": times,
            "schedule_delay_s": (self.result.times.sent_ns - self.result.times.received_ns) / 1e9,
        }
        if isinstance(self.result, GenerateResult):
            return record | {
                "response": self.result.text,
                "finish_reason": self.result.finish_reason.value,
                "stop_match": self.result.stop_match,
                "prompt_tokens": self.result.prompt_tokens,
                "completion_tokens": self.result.completion_tokens,
            }
        return record | {
            "log_probability": self.result.log_probability,
            "is_greedy": self.result.is_greedy,
            "prompt_tokens": self.result.context_tokens,
            "completion_tokens": 0,
            "continuation_tokens": self.result.continuation_tokens,
        }


class RequestFailed(Exception):
    """One request got no answer. ``retryable``: the same request may succeed later."""

    def __init__(self, *, code: str, message: str, retryable: bool) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable


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
    """

    idempotency_key: str
    resources: Mapping[str, Any]
    concurrency: int
    lease_s: float
    ready_timeout_s: float
    attempts: int
    labels: Mapping[str, str]


@dataclass(slots=True)
class _Live:
    """An instance in use."""

    instance: Instance
    generate: GenerateSession
    score: ScoreSession
    stack: AsyncExitStack
    usage: Usage
    broken: bool = False


class ServingSession:
    """A run's serving instance: provisioned on entry, kept alive, replaced when it dies, released on exit.

    Args:
        fleet: the adapters.
        artifact: artifact part of the plan.
        terms: what the run asks for.
        on_ready: called with a JSON-serialisable description of every instance that became ready.
        on_closed: called with instance id and measured usage when an instance is given up.
    """

    def __init__(
        self,
        *,
        fleet: ServingFleet,
        artifact: Mapping[str, Any],
        terms: ServingTerms,
        on_ready: Callable[[dict[str, Any]], Awaitable[None]],
        on_closed: Callable[[str, dict[str, Any]], Awaitable[None]],
    ) -> None:
        self._server = fleet.server(artifact["backend"])
        self._artifact = artifact
        self._terms = terms
        self._on_ready = on_ready
        self._on_closed = on_closed
        self._lock = asyncio.Lock()
        self._live: _Live | None = None
        self._provisioned = 0
        self._lost_in_a_row = 0

    async def __aenter__(self) -> Self:
        """Provision and wait until the instance has answered a real request.

        Raises:
            RunFailure: it does not start.
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
            await self._give_up(reason="run failed" if exc_type else "run finished")

    async def ask(self, request: ModelRequest) -> Answer:
        """Send one request and wait for its answer.

        Raises:
            RequestFailed: there is none; the session can be used further.
            RunFailure: no instance can be had any more.
        """
        live = await self._usable()
        try:
            result: GenerateResult | ScoreResult
            if request.kind is RequestKind.GENERATE:
                result = await live.generate.generate(_generate_request(request))
            else:
                result = await live.score.score(
                    ScoreRequest(context=request.context, continuation=request.continuation)
                )
        except ServingError as error:
            if error.code in INSTANCE_IS_GONE:
                live.broken = True
            raise RequestFailed(
                code=error.code, message=error.message, retryable=error.retryable or live.broken
            ) from error
        self._lost_in_a_row = 0
        return Answer(kind=request.kind, result=result, instance_id=live.instance.instance_id)

    async def _usable(self) -> _Live:
        async with self._lock:
            if self._live is not None and not self._live.broken:
                return self._live
            if self._live is not None:
                logger.warning("serving instance %s is lost", self._live.instance.instance_id)
                self._lost_in_a_row += 1
                await self._give_up(reason="instance lost")
            if self._lost_in_a_row >= self._terms.attempts:
                raise RunFailure(
                    "serving-lost",
                    f"{self._lost_in_a_row} serving instances were lost in a row; see the adapter's log, "
                    "then resume the run",
                )
            self._live = await self._provision()
            return self._live

    async def _provision(self) -> _Live:
        self._provisioned += 1
        spec = self._spec(f"{self._terms.idempotency_key}:{self._provisioned}")
        instance = await self._start(spec)
        stack = AsyncExitStack()
        try:
            live = _Live(
                instance=instance,
                generate=await stack.enter_async_context(self._server.generate_session(instance.instance_id)),
                score=await stack.enter_async_context(self._server.score_session(instance.instance_id)),
                stack=stack,
                usage=Usage(),
            )
            stack.push_async_callback(_end, asyncio.create_task(self._keep_alive(instance)))
            stack.push_async_callback(_end, asyncio.create_task(self._measure(live)))
            await self._on_ready(_describe(instance))
        except BaseException:
            await stack.aclose()
            await self._release(instance.instance_id, reason="run ended while the instance started")
            raise
        return live

    async def _start(self, spec: ProvisionSpec) -> Instance:
        deadline = asyncio.get_running_loop().time() + self._terms.ready_timeout_s
        while True:
            try:
                instance = await self._server.provision(spec)
                try:
                    return await self._server.wait_ready(
                        instance.instance_id, timeout=self._terms.ready_timeout_s
                    )
                except BaseException:
                    await self._release(instance.instance_id, reason="did not become ready")
                    raise
            except AdapterUnavailable as error:
                # The adapter itself may be restarting; its supervisor brings it back.
                if asyncio.get_running_loop().time() > deadline:
                    raise RunFailure("adapter-unavailable", str(error)) from error
                await asyncio.sleep(0.5)
            except ServingError as error:
                raise RunFailure("serving-failed", str(error)) from error

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
            lease_s=self._terms.lease_s,
            ready_timeout_s=self._terms.ready_timeout_s,
            labels=dict(self._terms.labels),
        )

    async def _keep_alive(self, instance: Instance) -> None:
        while True:
            await asyncio.sleep(self._terms.lease_s / 3)
            with suppress(ServingError):  # a dead instance shows in the requests themselves
                await self._server.keep_alive(instance.instance_id, lease=self._terms.lease_s)

    async def _measure(self, live: _Live) -> None:
        with suppress(ServingError):
            async for sample in self._server.telemetry(live.instance.instance_id, period=0.5):
                live.usage.add(sample)

    async def _give_up(self, *, reason: str) -> None:
        if self._live is None:
            return
        live, self._live = self._live, None
        await live.stack.aclose()
        await self._release(live.instance.instance_id, reason=reason)
        await self._on_closed(live.instance.instance_id, live.usage.summary())

    async def _release(self, instance_id: str, *, reason: str) -> None:
        with suppress(ServingError):
            await self._server.release(instance_id, reason=reason)


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _describe(instance: Instance) -> dict[str, Any]:
    kept = ("instance_id", "phase_times", "provenance")
    described = asdict(instance)
    return {**{name: described[name] for name in kept}, "telemetry": None}


def _generate_request(request: ModelRequest) -> GenerateRequest:
    arguments: Mapping[str, Any] = request.generation_kwargs
    sampling = {
        field: arguments[name] for name, (field, _) in SAMPLING.items() if arguments.get(name) is not None
    }
    if arguments.get("do_sample") is False:
        sampling["temperature"] = 0.0  # greedy, whatever the model's own defaults are
    return GenerateRequest(
        text=request.context,
        sampling=SamplingParameters(
            **sampling, max_tokens=arguments["max_gen_toks"], stop=tuple(arguments["until"])
        ),
    )
