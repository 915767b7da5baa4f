"""Checks of generating: order, ends, times, texts, refusals, repeatability, cancelling."""

import asyncio
from dataclasses import replace
from typing import Any

from assay_serving.conformance.subject import CONTEXT_TOKENS, Subject, expect, greedy
from assay_serving.errors import ContextTooLong, EngineError, InvalidRequest, UnsupportedField
from assay_serving.types import (
    ChatMessage,
    Determinism,
    FinishReason,
    GenerateRequest,
    GenerateResult,
    InstanceState,
    SamplingParameters,
    Support,
)

# Mostly words that are one token each, so that prompts cut from it have the lengths that they seem to have.
_STORY = (
    "Anna sold 48 clips to her friends in April and then half as many in May . How many clips did she sell "
    "in all ? A baker has 12 trays with 6 loaves each , sells a third of them before noon and gives 5 away . "
    "How many are left in the evening ?"
)


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
        await expect(InvalidRequest, session.generate(greedy("")))
        await expect(InvalidRequest, session.generate(greedy(subject.prompt, max_tokens=0)))
        await expect(InvalidRequest, session.generate(greedy(subject.prompt, stop=("",))))
        await expect(ContextTooLong, session.generate(greedy(subject.prompt, max_tokens=limit)))
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
                await expect(UnsupportedField, session.generate(changed))


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
    tokens = CONTEXT_TOKENS - 64
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


async def answers_chats(subject: Subject) -> None:
    """A conversation is put into the model's own form, where that is declared, and refused elsewhere."""
    instance = await subject.shared()
    request = GenerateRequest(
        chat=(ChatMessage(role="user", content=subject.prompt),),
        sampling=SamplingParameters(max_tokens=4, temperature=0.0),
    )
    async with subject.server.generate_session(instance.instance_id) as session:
        if instance.capabilities.chat is not Support.YES:
            await expect(UnsupportedField, session.generate(request))
            return
        plain = await session.generate(greedy(subject.prompt, max_tokens=4))
        chat = await session.generate(request)
        turns = (*request.chat, ChatMessage(role="assistant", content="Rome ."), *request.chat)
        longer = await session.generate(replace(request, chat=turns))
        limit = instance.capabilities.max_context_tokens
        sampling = replace(request.sampling, max_tokens=limit)
        await expect(ContextTooLong, session.generate(replace(request, sampling=sampling)))
    assert chat.completion_tokens >= 1
    assert plain.prompt_tokens < chat.prompt_tokens, "the turns' marks are missing"
    assert chat.prompt_tokens < longer.prompt_tokens, "a turn is missing"


async def bounds_its_concurrency(subject: Subject) -> None:
    """Several requests are with the engine at once, but never more than the instance was asked for."""
    instance = await subject.shared()
    limit = instance.capabilities.max_concurrency
    async with subject.server.generate_session(instance.instance_id) as session:
        results = await asyncio.gather(
            *(session.generate(greedy(f"{number} . {subject.prompt}")) for number in range(3 * limit))
        )
    changes = [(each.times.sent_mono_ns, 1) for each in results]
    changes += [(each.times.done_mono_ns, -1) for each in results]
    most = running = 0
    for _, change in sorted(changes):
        running += change
        most = max(most, running)
    assert most <= limit, f"{most} requests at once where {limit} were declared"
    assert most > 1 or limit == 1, "requests of one stream were answered one after the other"


async def maps_engine_errors(subject: Subject) -> None:
    """An engine that fails on one request fails that request alone, and tells how far it came."""
    if not subject.failing_prompt:
        return
    instance = await subject.shared()
    async with subject.server.generate_session(instance.instance_id) as session:
        error = await expect(EngineError, session.generate(greedy(subject.failing_prompt, max_tokens=32)))
        assert 0 < error.tokens_before_error < 32, f"{error.tokens_before_error} tokens before the error"
        assert (await session.generate(greedy(subject.prompt))).completion_tokens
    again = await subject.shared()
    assert again.instance_id == instance.instance_id
    assert again.state is InstanceState.READY
