"""Serving instances of runs, through the adapters. Hides that an instance may die and be replaced."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import asdict, dataclass
from types import TracebackType
from typing import Any, Self

from assay_chassis.errors import Unavailable
from assay_harness.results import ModelRequest, RequestKind
from assay_serving.errors import AdapterUnavailable, NoCapacity, ServingError
from assay_serving.session import GenerateSession, ScoreSession
from assay_serving.types import (
    Artifact,
    ChatMessage,
    ErrorCode,
    GenerateRequest,
    GenerateResult,
    Instance,
    ProvisionSpec,
    RequestTimes,
    Resources,
    SamplingParameters,
    ScoreRequest,
    ScoreResult,
)
from eval_svc.errors import RunFailure
from eval_svc.fleet import SAMPLING, ServingFleet
from eval_svc.usage import Usage

logger = logging.getLogger(__name__)

INSTANCE_IS_GONE = frozenset(
    {
        ErrorCode.ENGINE_DIED,
        ErrorCode.UNKNOWN_INSTANCE,
        ErrorCode.NOT_READY,
        ErrorCode.ADAPTER_UNAVAILABLE,
    }
)


@dataclass(slots=True)
class Answer:
    """The answer to one request, with where and when it was produced.

    ``reused_from`` names the document and request that it was given to first; a reused answer has no times of
    its own, since nothing was asked.
    """

    kind: RequestKind
    result: GenerateResult | ScoreResult
    instance_id: str
    retries: int = 0
    reused_from: dict[str, int] | None = None

    def record(self) -> dict[str, Any]:
        """The part of a sample record that the answer fills."""
        times = self.result.times
        is_reused = self.reused_from is not None
        record: dict[str, Any] = {
            "instance_id": self.instance_id,
            "retries": self.retries,
            "reused_from": self.reused_from,
            "times": None if is_reused else _times_record(times),
            "schedule_delay_s": None if is_reused else (times.sent_mono_ns - times.received_mono_ns) / 1e9,
        }
        if isinstance(self.result, GenerateResult):
            return record | {
                "response": self.result.text,
                "finish_reason": self.result.finish_reason.value,
                "stop_match": self.result.stop_match,
                "prompt_tokens": self.result.prompt_tokens,
                "completion_tokens": self.result.completion_tokens,
                "token_text_lengths": list(self.result.token_text_lengths),
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
        self._last_arguments: Mapping[str, Any] | None = None
        self._last_sampling: SamplingParameters | None = None

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
        live.usage.request_sent()
        try:
            result: GenerateResult | ScoreResult
            if request.kind is RequestKind.GENERATE:
                result = await live.generate.generate(self._generate_request(request))
            else:
                result = await live.score.score(
                    ScoreRequest(context=request.context, continuation=request.continuation)
                )
        except ServingError as error:
            if error.code in INSTANCE_IS_GONE:
                live.broken = True
            raise RequestFailed(
                code=error.code.value, message=error.message, retryable=error.retryable or live.broken
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

    def _generate_request(self, request: ModelRequest) -> GenerateRequest:
        # The arguments are those of the task, so nearly always the same as those of the request before.
        if request.generation_kwargs != self._last_arguments:
            self._last_sampling = _sampling(request.generation_kwargs)
            self._last_arguments = request.generation_kwargs
        assert self._last_sampling is not None
        if request.messages is not None:
            chat = tuple(ChatMessage(role=each["role"], content=each["content"]) for each in request.messages)
            return GenerateRequest(chat=chat, sampling=self._last_sampling)
        return GenerateRequest(text=request.context, sampling=self._last_sampling)

    async def _usable(self) -> _Live:
        live = self._live
        if live is not None and not live.broken:
            return live
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
            except NoCapacity as error:
                # Other runs have it; the run goes back into the line rather than holding a worker's slot.
                if asyncio.get_running_loop().time() > deadline:
                    raise Unavailable(f"the adapter has no room for another instance: {error}") from error
                await asyncio.sleep(0.5)
            except ServingError as error:
                detail = f"\n{error.engine_detail}" if error.engine_detail else ""
                raise RunFailure("serving-failed", f"{error.message}{detail}") from error

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


def _times_record(times: RequestTimes) -> dict[str, Any]:
    return {
        "received_ns": times.received_mono_ns,
        "sent_ns": times.sent_mono_ns,
        "first_token_ns": times.first_token_mono_ns,
        "done_ns": times.done_mono_ns,
        "token_offsets_us": list(times.token_offsets_us),
        "exact_token_times": times.exact_token_times,
        "stamp_source": times.stamp_source.value,
        "merged_reads": times.merged_reads,
    }


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _describe(instance: Instance) -> dict[str, Any]:
    kept = ("instance_id", "phase_times", "provenance")
    described = asdict(instance)
    return {**{name: described[name] for name in kept}, "telemetry": None}


def _sampling(arguments: Mapping[str, Any]) -> SamplingParameters:
    named = {
        field: arguments[name] for name, (field, _) in SAMPLING.items() if arguments.get(name) is not None
    }
    if arguments.get("do_sample") is False:
        named["temperature"] = 0.0  # greedy, whatever the model's own defaults are
    return SamplingParameters(**named, max_tokens=arguments["max_gen_toks"], stop=tuple(arguments["until"]))
