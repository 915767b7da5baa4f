import asyncio
from itertools import pairwise

import pytest

from assay_adapter_cpu.testing import CpuAdapterProcess
from assay_serving.client import ModelServer
from assay_serving.types import (
    Artifact,
    ChatMessage,
    FinishReason,
    GenerateRequest,
    ProvisionSpec,
    Resources,
    SamplingParameters,
    StampSource,
)

pytestmark = pytest.mark.model


async def test_prompts_are_evaluated_one_at_a_time_while_others_decode(
    cpu_adapter: CpuAdapterProcess, cpu_model: Artifact
) -> None:
    sampling = SamplingParameters(max_tokens=24, ignore_eos=True)
    prompts = [f"Number {number} is" + " a good number and" * (number % 3) for number in range(12)]
    async with ModelServer.connect(cpu_adapter.address) as server:
        instance = await server.provision(
            ProvisionSpec(
                idempotency_key="one-prompt-at-a-time",
                artifact=cpu_model,
                max_concurrency=4,
                max_context_tokens=512,
                resources=Resources(cpus=1),
                lease=600.0,
            )
        )
        await server.wait_ready(instance.instance_id, timeout=120)
        async with server.generate_session(instance.instance_id) as session:
            requests = [GenerateRequest(text=prompt, sampling=sampling) for prompt in prompts]
            results = await asyncio.gather(*map(session.generate, requests))
        await server.release(instance.instance_id, reason="test")
    times = sorted((result.times for result in results), key=lambda each: each.sent_mono_ns)
    assert all(each.stamp_source is StampSource.KERNEL and each.exact_token_times for each in times)
    for earlier, later in pairwise(times):
        assert earlier.first_token_mono_ns <= later.sent_mono_ns, "two prompts were with the engine at once"
    assert any(earlier.done_mono_ns > later.first_token_mono_ns for earlier, later in pairwise(times))
    # Four sequences: the fifth request had to wait, and the wait shows before its sending.
    assert max(each.sent_mono_ns - each.received_mono_ns for each in times) > min(
        each.done_mono_ns - each.sent_mono_ns for each in times
    )


async def test_chat_sampling_and_the_end_of_the_sequence(
    cpu_adapter: CpuAdapterProcess, cpu_model: Artifact
) -> None:
    async with ModelServer.connect(cpu_adapter.address) as server:
        instance = await server.provision(
            ProvisionSpec(
                idempotency_key="chat", artifact=cpu_model, resources=Resources(cpus=1), lease=600.0
            )
        )
        await server.wait_ready(instance.instance_id, timeout=120)
        async with server.generate_session(instance.instance_id) as session:
            question, sampling = "What is 2+2?", SamplingParameters(max_tokens=48)
            chat = await session.generate(
                GenerateRequest(chat=(ChatMessage(role="user", content=question),), sampling=sampling)
            )
            plain = await session.generate(GenerateRequest(text=question, sampling=sampling))
            assert chat.finish_reason is FinishReason.END_OF_SEQUENCE
            assert chat.prompt_tokens > plain.prompt_tokens
            assert chat.text != plain.text
            # The end-of-sequence token is counted and has its time, though it has no text.
            assert len(chat.times.token_offsets_us) == chat.completion_tokens > 1
            assert chat.times.exact_token_times
            assert len(chat.token_text_lengths) == chat.completion_tokens
            assert chat.token_text_lengths[-1] == 0
            assert sum(chat.token_text_lengths) == len(chat.text)

            async def sampled(seed: int) -> str:
                sampling = SamplingParameters(max_tokens=16, temperature=1.0, seed=seed, top_p=0.95)
                return (await session.generate(GenerateRequest(text="Once upon", sampling=sampling))).text

            first = await sampled(1)
            assert await sampled(1) == first
            assert {await sampled(seed) for seed in range(2, 6)} != {first}
        await server.release(instance.instance_id, reason="test")
