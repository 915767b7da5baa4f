"""What every adapter must do, as a suite that runs against a live one.

Each check is a coroutine function of a `Subject` and raises AssertionError with a sentence. `ALL_CHECKS` has
them all; an adapter's tests parametrise over it. Times are compared with each other only, never with a limit.
"""

import asyncio
import contextlib
import os
import signal
import uuid
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

from assay_serving.client import ModelServer
from assay_serving.errors import (
    AdapterUnavailable,
    ArtifactMismatch,
    ArtifactNotFound,
    ContextTooLong,
    EngineDied,
    InvalidRequest,
    ServingError,
    UnknownInstance,
    UnsupportedField,
)
from assay_serving.types import (
    Artifact,
    Determinism,
    FinishReason,
    GenerateRequest,
    GenerateResult,
    Instance,
    InstanceState,
    ProvisionSpec,
    Resources,
    SamplingParameters,
    ScoreRequest,
    Support,
)

_READY_SECONDS = 120.0
_CONTEXT_TOKENS = 512
# Mostly words that are one token each, so that prompts cut from it have the lengths that they seem to have.
_STORY = (
    "Anna sold 48 clips to her friends in April and then half as many in May . How many clips did she sell "
    "in all ? A baker has 12 trays with 6 loaves each , sells a third of them before noon and gives 5 away . "
    "How many are left in the evening ?"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The adapter under test and what it can be asked to serve.

    `prompt` should have an obvious continuation. `score_tolerance` (nats) is how far two ways of computing
    one log-probability may lie apart on this backend.
    """

    server: ModelServer
    artifact: Artifact
    missing_artifact: Artifact
    serving_parameters: dict[str, str] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    prompt: str = "The capital of France is Paris. The capital of Italy is"
    score_tolerance: float = 0.5
    shared_key: str = field(default_factory=lambda: uuid.uuid4().hex)

    def spec(self, **changes: Any) -> ProvisionSpec:
        """A specification with a key of its own."""
        defaults: dict[str, Any] = {
            "idempotency_key": uuid.uuid4().hex,
            "artifact": self.artifact,
            "max_context_tokens": _CONTEXT_TOKENS,
            "max_concurrency": 4,
            "serving_parameters": self.serving_parameters,
            "resources": self.resources,
            "lease": 600.0,
            "ready_timeout": _READY_SECONDS,
        }
        return ProvisionSpec(**(defaults | changes))

    async def start(self, spec: ProvisionSpec) -> Instance:
        """Provision and wait until it is ready."""
        instance = await self.server.provision(spec)
        return await self.server.wait_ready(instance.instance_id, timeout=_READY_SECONDS)

    async def shared(self) -> Instance:
        """The one instance that checks share which leave it as it was."""
        return await self.start(self.spec(idempotency_key=self.shared_key))


def greedy(text: str, *, max_tokens: int = 8, stop: tuple[str, ...] = ()) -> GenerateRequest:
    """A request for the most probable continuation."""
    return GenerateRequest(
        text=text, sampling=SamplingParameters(max_tokens=max_tokens, temperature=0.0, stop=stop)
    )


async def describes_itself(subject: Subject) -> None:
    """Describe is complete and healthy, and lists the format of the artifact under test."""
    description = await subject.server.describe()
    assert description.healthy, description.unhealthy_reason
    assert description.adapter
    assert description.adapter_version
    assert description.engine_version
    assert description.devices, "no device named"
    assert not subject.artifact.format or subject.artifact.format in description.artifact_formats


async def provisions_once_per_key(subject: Subject) -> None:
    """The same key gives the same instance; another specification under it is refused."""
    first = await subject.shared()
    again = await subject.server.provision(subject.spec(idempotency_key=subject.shared_key))
    assert again.instance_id == first.instance_id
    await _expect(
        InvalidRequest,
        subject.server.provision(subject.spec(idempotency_key=subject.shared_key, max_concurrency=1)),
    )


async def tells_states_in_order(subject: Subject) -> None:
    """Watch goes forward through the states to READY; phase times and provenance are filled in by then."""
    seen: list[InstanceState] = []

    async def note(instance: Instance, _: str) -> None:
        seen.append(instance.state)

    pending = await subject.server.provision(subject.spec(max_concurrency=1))
    ready = await subject.server.wait_ready(pending.instance_id, timeout=_READY_SECONDS, on_change=note)
    await subject.server.release(pending.instance_id, reason="conformance")
    order = list(InstanceState)
    assert seen == sorted(seen, key=order.index), f"states went back: {seen}"
    assert seen[-1] is InstanceState.READY
    assert ready.phase_times.load > 0
    assert ready.ready_unix_ns >= ready.created_unix_ns
    assert ready.provenance.engine_version
    assert ready.provenance.artifact_sha256


async def answers_in_any_order(subject: Subject) -> None:
    """Requests of one stream do not wait for each other, and each gets its own answer."""
    instance = await subject.shared()
    finished: list[str] = []
    async with subject.server.generate_session(instance.instance_id) as session:

        async def ask(name: str, tokens: int) -> GenerateResult:
            request = replace(greedy(subject.prompt, max_tokens=tokens), request_id=name)
            sampling = replace(request.sampling, ignore_eos=instance.capabilities.ignore_eos is Support.YES)
            result = await session.generate(replace(request, sampling=sampling))
            finished.append(name)
            return result

        long, short = await asyncio.gather(ask("long", 96), ask("short", 2))
    assert finished == ["short", "long"], "the short request waited for the long one"
    assert short.completion_tokens == 2
    assert long.completion_tokens > 2
    assert long.text.startswith(short.text)


async def cuts_at_stop_strings(subject: Subject) -> None:
    """Text ends before the earliest stop string, also one that begins in the middle of a token."""
    instance = await subject.shared()
    async with subject.server.generate_session(instance.instance_id) as session:
        whole = await session.generate(greedy(subject.prompt, max_tokens=16))
        stop = whole.text[len(whole.text) // 2 :][:3]
        cut = await session.generate(greedy(subject.prompt, max_tokens=16, stop=("\x00never", stop)))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason is FinishReason.STOP_STRING
    assert cut.stop_match == stop


async def stops_at_max_tokens(subject: Subject) -> None:
    """`max_tokens` bounds the tokens and is reported as LENGTH; one token is possible."""
    instance = await subject.shared()
    async with subject.server.generate_session(instance.instance_id) as session:
        for tokens in (1, 3):
            result = await session.generate(greedy(subject.prompt, max_tokens=tokens))
            assert result.completion_tokens == tokens
            assert result.finish_reason is FinishReason.LENGTH


async def times_are_monotonic(subject: Subject) -> None:
    """received <= sent <= first token <= done, and one ascending offset per token where times are exact."""
    instance = await subject.shared()
    async with subject.server.generate_session(instance.instance_id) as session:
        result = await session.generate(greedy(subject.prompt, max_tokens=12))
    times = result.times
    assert times.received_mono_ns <= times.sent_mono_ns <= times.first_token_mono_ns <= times.done_mono_ns
    assert list(times.token_offsets_us) == sorted(times.token_offsets_us)
    assert times.exact_token_times == (len(times.token_offsets_us) == result.completion_tokens)
    last = times.sent_mono_ns + 1000 * max(times.token_offsets_us, default=0)
    assert last <= times.done_mono_ns


async def tells_the_text_of_tokens(subject: Subject) -> None:
    """Lengths of the tokens' texts: none, or one per token; together at least the text that is left."""
    instance = await subject.shared()
    async with subject.server.generate_session(instance.instance_id) as session:
        whole = await session.generate(greedy(subject.prompt, max_tokens=16))
        stop = whole.text[len(whole.text) // 2 :][:3]
        cut = await session.generate(greedy(subject.prompt, max_tokens=16, stop=(stop,)))
    for result in (whole, cut):
        lengths = result.token_text_lengths
        assert len(lengths) in (0, result.completion_tokens), "neither none nor one length per token"
        assert not lengths or sum(lengths) >= len(result.text), f"{sum(lengths)} < {len(result.text)}"
    if whole.token_text_lengths and whole.finish_reason is FinishReason.LENGTH:
        assert sum(whole.token_text_lengths) == len(whole.text), "nothing was cut, so nothing may be missing"


async def refuses_bad_requests(subject: Subject) -> None:
    """Empty prompts, values out of range, prompts over the context and unsupported fields: typed errors."""
    instance = await subject.shared()
    limit = instance.capabilities.max_context_tokens
    async with subject.server.generate_session(instance.instance_id) as session:
        await _expect(InvalidRequest, session.generate(greedy("")))
        await _expect(InvalidRequest, session.generate(greedy(subject.prompt, max_tokens=0)))
        await _expect(InvalidRequest, session.generate(greedy(subject.prompt, stop=("",))))
        await _expect(ContextTooLong, session.generate(greedy(subject.prompt, max_tokens=limit)))
        fields: tuple[tuple[str, Any], ...] = (
            ("seed", 1),
            ("top_k", 5),
            ("min_p", 0.1),
            ("repetition_penalty", 1.1),
            ("presence_penalty", 0.5),
            ("frequency_penalty", 0.5),
        )
        for name, value in fields:
            request = greedy(subject.prompt, max_tokens=1)
            changed = replace(request, sampling=replace(request.sampling, **{name: value}))
            if getattr(instance.capabilities, name) is Support.YES:
                await session.generate(changed)
            else:
                await _expect(UnsupportedField, session.generate(changed))


async def repeats_itself(subject: Subject) -> None:
    """Greedy text repeats as far as declared: in series, or at any concurrency.

    Where batching changes results it shows first on short prompts whose lengths differ by one token, and
    which are evaluated together. A long prompt before them makes an engine collect them for its next batch.
    """
    instance = await subject.shared()
    declared = instance.capabilities.greedy_determinism
    if declared is Determinism.NOT_REPEATABLE:
        return
    words = _STORY.split()
    rounds = [
        [" ".join(words[start + 2 * each : start + 2 * each + 4 + each]) for each in range(3)]
        for start in range(6, 30, 6)
    ]
    async with subject.server.generate_session(instance.instance_id) as session:

        async def ask(prompt: str) -> str:
            return (await session.generate(greedy(prompt, max_tokens=12))).text

        expected = [[await ask(prompt) for prompt in prompts] for prompts in rounds]
        assert [await ask(prompt) for prompt in rounds[0]] == expected[0], "differs in series"
        if declared is Determinism.REPEATABLE_SERIAL:
            return
        for prompts, texts in zip(rounds, expected, strict=True):
            together = await asyncio.gather(ask(_STORY), *map(ask, prompts))
            assert together[1:] == texts, f"differ when asked together: {prompts}"


async def frees_cancelled_sequences(subject: Subject) -> None:
    """Cancelling a request ends its work: the next one need not wait as long as it would have taken."""
    instance = await subject.start(subject.spec(max_concurrency=1))
    tokens = _CONTEXT_TOKENS - 64
    endless = GenerateRequest(
        text=subject.prompt,
        sampling=SamplingParameters(
            max_tokens=tokens, ignore_eos=instance.capabilities.ignore_eos is Support.YES
        ),
    )
    async with subject.server.generate_session(instance.instance_id) as session:
        reference = (await session.generate(greedy(subject.prompt, max_tokens=16))).times
        per_token = (reference.done_mono_ns - reference.sent_mono_ns) / 16
        cancelled = asyncio.create_task(session.generate(endless))
        waiting = asyncio.create_task(session.generate(greedy(subject.prompt, max_tokens=1)))
        await asyncio.sleep(per_token * 10 / 1e9)
        cancelled.cancel()
        times = (await waiting).times
        assert times.sent_mono_ns - times.received_mono_ns < per_token * tokens / 2, (
            "the sequence was not freed"
        )
    await subject.server.release(instance.instance_id, reason="conformance")


async def scores_sanely(subject: Subject) -> None:
    """Scores repeat, add up over a split continuation, and call the greedy continuation greedy."""
    instance = await subject.shared()
    if instance.capabilities.score is not Support.YES:
        return
    async with (
        subject.server.generate_session(instance.instance_id) as generation,
        subject.server.score_session(instance.instance_id) as scoring,
    ):
        best = (await generation.generate(greedy(subject.prompt, max_tokens=1))).text

        async def score(context: str, continuation: str) -> float:
            request = ScoreRequest(context=context, continuation=continuation)
            result = await scoring.score(request)
            assert result.log_probability < 0
            assert result.continuation_tokens >= 1
            assert result.times.received_mono_ns <= result.times.sent_mono_ns <= result.times.done_mono_ns
            assert result.is_greedy == (continuation == best) or continuation != best
            return result.log_probability

        top = await score(subject.prompt, best)
        assert await score(subject.prompt, best) == top, "the same score twice differs"
        assert await score(subject.prompt, " zebra") < top
        assert await score(subject.prompt, best) == top, "a score depends on what was scored before it"
        whole = await score(subject.prompt, best + " and it")
        parts = top + await score(subject.prompt + best, " and it")
        assert abs(whole - parts) <= subject.score_tolerance, f"{whole} in one, {parts} in two"
        assert await score(subject.prompt + " ", best.lstrip()) == top, "blanks did not move over"
        await score("", "Hello world")
        await _expect(InvalidRequest, scoring.score(ScoreRequest(context="a", continuation="")))


async def refuses_wrong_artifacts(subject: Subject) -> None:
    """A missing artifact, a wrong digest and unknown serving parameters are told apart."""
    await _expect(ArtifactNotFound, subject.start(subject.spec(artifact=subject.missing_artifact)))
    wrong = replace(subject.artifact, sha256="0" * 64)
    await _expect(ArtifactMismatch, subject.start(subject.spec(artifact=wrong)))
    await _expect(InvalidRequest, subject.start(subject.spec(serving_parameters={"no-such": "1"})))


async def ends_with_its_lease(subject: Subject) -> None:
    """A lease ends when KeepAlive last said, which releases the instance; KeepAlive is refused afterwards."""
    instance = await subject.server.provision(subject.spec(max_concurrency=1))
    await subject.server.keep_alive(instance.instance_id, lease=0.3)
    async with aclosing(subject.server.watch(instance.instance_id)) as events:  # type: ignore[type-var]
        states = [event.instance.state async for event in events]
    assert states[-1] is InstanceState.RELEASED, states
    await _expect(UnknownInstance, subject.server.keep_alive(instance.instance_id, lease=1.0))


async def releases_idempotently(subject: Subject) -> None:
    """Releasing twice, or what never was, is no error; requests to a released instance are."""
    instance = await subject.start(subject.spec(max_concurrency=1))
    assert await subject.server.release(instance.instance_id, reason="conformance")
    assert not await subject.server.release(instance.instance_id, reason="conformance")
    assert not await subject.server.release("never-was", reason="conformance")
    await _expect(UnknownInstance, _generate_in_new_session(subject, instance.instance_id))


async def _generate_in_new_session(subject: Subject, instance_id: str) -> Any:
    """A stream may end while the request is being sent, and then does not say why: another one is asked."""
    for _ in range(5):
        async with subject.server.generate_session(instance_id) as session:
            with contextlib.suppress(AdapterUnavailable):
                return await session.generate(greedy(subject.prompt))
    raise AssertionError("five streams in a row ended without saying why")


async def survives_its_engine(subject: Subject) -> None:
    """kill -9 of the engine: requests fail as retryable, the instance FAILED, and a new one works."""
    spec = subject.spec(max_concurrency=2)
    instance = await subject.start(spec)
    if not instance.provenance.engine_pid:
        return
    async with subject.server.generate_session(instance.instance_id) as session:
        running = [
            asyncio.create_task(session.generate(greedy(subject.prompt, max_tokens=400))) for _ in range(3)
        ]
        await session.generate(greedy(subject.prompt, max_tokens=1))
        os.kill(instance.provenance.engine_pid, signal.SIGKILL)
        outcomes = await asyncio.gather(*running, return_exceptions=True)
    errors = [each for each in outcomes if isinstance(each, BaseException)]
    assert errors, "no request was in flight; give the subject a prompt with a long continuation"
    assert all(isinstance(each, EngineDied) and each.retryable for each in errors), errors
    async with aclosing(subject.server.watch(instance.instance_id)) as events:  # type: ignore[type-var]
        states = [event.instance.state async for event in events]
    assert states[-1] is InstanceState.FAILED
    assert (await subject.server.describe()).healthy
    again = await subject.start(spec)
    assert again.instance_id != instance.instance_id
    await subject.server.release(again.instance_id, reason="conformance")


ALL_CHECKS: tuple[Callable[[Subject], Awaitable[None]], ...] = (
    describes_itself,
    provisions_once_per_key,
    tells_states_in_order,
    answers_in_any_order,
    cuts_at_stop_strings,
    stops_at_max_tokens,
    times_are_monotonic,
    tells_the_text_of_tokens,
    refuses_bad_requests,
    repeats_itself,
    frees_cancelled_sequences,
    scores_sanely,
    refuses_wrong_artifacts,
    ends_with_its_lease,
    releases_idempotently,
    survives_its_engine,
)


async def _expect(kind: type[ServingError], action: Awaitable[Any]) -> None:
    try:
        result = await action
    except kind:
        return
    except ServingError as error:
        raise AssertionError(f"expected {kind.__name__}, got {type(error).__name__}: {error}") from error
    raise AssertionError(f"expected {kind.__name__}, got {result!r}")
