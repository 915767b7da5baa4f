"""What goes over one stream: several requests in a message, back-pressure, traces, log-probabilities."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind

from assay_serving.adapter import serve_adapter
from assay_serving.client import MetadataSource, ModelServer
from assay_serving.testing.adapter import SCRIPTED_URI, ScriptedBackend
from assay_serving.testing.answers import answer_text, score
from assay_serving.types import (
    Artifact,
    ChatMessage,
    GenerateRequest,
    ProvisionSpec,
    SamplingParameters,
    ScoreRequest,
)
from assay_serving.v1 import serving_pb2 as pb
from assay_serving.v1 import serving_pb2_grpc

SPEC = ProvisionSpec(
    idempotency_key="streams", artifact=Artifact(uri=SCRIPTED_URI, format="scripted"), max_concurrency=64
)


def asking(text: str, **sampling: Any) -> GenerateRequest:
    return GenerateRequest(text=text, sampling=SamplingParameters(**{"max_tokens": 64, **sampling}))


@asynccontextmanager
async def served(
    directory: Path, *, metadata: MetadataSource | None = None, tracer_provider: TracerProvider | None = None
) -> AsyncIterator[tuple[ModelServer, str]]:
    """A client, and an instance that is ready."""
    backend = ScriptedBackend(directory=directory)
    serving = serve_adapter(backend, listen="127.0.0.1:0", max_instances=2, tracer_provider=tracer_provider)
    async with serving as address, ModelServer.connect(address, metadata=metadata) as server:
        instance = await server.provision(SPEC)
        await server.wait_ready(instance.instance_id, timeout=60)
        yield server, instance.instance_id


async def test_requests_that_are_sent_together_are_answered_each_for_itself(tmp_path: Path) -> None:
    prompts = [f"Prompt {number} of many" for number in range(500)]
    async with served(tmp_path) as (server, instance), server.generate_session(instance) as session:
        results = await asyncio.gather(*(session.generate(asking(prompt)) for prompt in prompts))
        assert session.backlog == 0
    assert [result.text for result in results] == [answer_text(prompt, max_tokens=64) for prompt in prompts]


async def test_large_prompts_are_spread_over_several_messages(tmp_path: Path) -> None:
    prompts = [
        f"{number} " + "x" * 3_000_000 for number in range(24)
    ]  # together more than a message may have
    async with served(tmp_path) as (server, instance), server.generate_session(instance) as session:
        results = await asyncio.gather(*(session.generate(asking(prompt)) for prompt in prompts))
    assert [result.text for result in results] == [answer_text(prompt, max_tokens=64) for prompt in prompts]


async def test_a_chat_is_answered_like_its_prompt(tmp_path: Path) -> None:
    chat = (ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Hello?"))
    sampling = SamplingParameters(max_tokens=64)
    async with served(tmp_path) as (server, instance), server.generate_session(instance) as session:
        result = await session.generate(GenerateRequest(chat=chat, sampling=sampling))
    assert result.text == answer_text("system: Be brief.\nuser: Hello?\nassistant:", max_tokens=64)


async def test_scores_are_those_of_the_fixed_model_bit_by_bit(tmp_path: Path) -> None:
    generator = random.Random(5)
    words = ["the", "sum", "is", "3", "answer:", "\n\n", "Rome", "  ", "naïve", "句子", "."]

    def text(most: int) -> str:
        return " ".join(generator.choice(words) for _ in range(generator.randint(0, most)))

    pairs = [(text(12), " " + text(5) + "end") for _ in range(300)]
    pairs += [("", "A whole document, to be scored rolling."), ("Blank at the end ", "word")]
    async with served(tmp_path) as (server, instance), server.score_session(instance) as session:
        results = await asyncio.gather(
            *(session.score(ScoreRequest(context=context, continuation=tail)) for context, tail in pairs)
        )
    for (context, continuation), result in zip(pairs, results, strict=True):
        expected = score(context, continuation)
        assert (result.log_probability, result.is_greedy) == expected[:2], (context, continuation)
        assert (result.context_tokens, result.continuation_tokens) == expected[2:]


class _DeafServicer(serving_pb2_grpc.ServingAdapterServicer):
    """Takes the name of the instance and then reads nothing more."""

    async def Generate(
        self, request_iterator: AsyncIterator[pb.GenerateCall], context: Any
    ) -> AsyncIterator[pb.GenerateReply]:
        await anext(aiter(request_iterator))
        await asyncio.Event().wait()
        yield pb.GenerateReply()


async def test_an_adapter_that_does_not_read_holds_its_callers_and_no_memory() -> None:
    """Callers that give up and ask again leave nothing behind, however long the adapter does not read."""
    server = grpc.aio.server()
    serving_pb2_grpc.add_ServingAdapterServicer_to_server(_DeafServicer(), server)  # type: ignore[no-untyped-call]
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    prompt = "x" * 100_000
    backlogs = []
    try:
        async with (
            ModelServer.connect(f"127.0.0.1:{port}") as client,
            client.generate_session("any") as session,
        ):
            for _ in range(30):
                asked = [asyncio.create_task(session.generate(asking(prompt))) for _ in range(16)]
                await asyncio.wait(asked, timeout=0.02)
                for task in asked:
                    task.cancel()
                await asyncio.gather(*asked, return_exceptions=True)
                backlogs.append(session.backlog)
    finally:
        await server.stop(0)
    # 480 requests of 100 kB were made; only cancellations of those that were already on their way may wait.
    assert max(backlogs) <= 64, backlogs


async def test_spans_of_the_adapter_belong_to_the_callers_trace(tmp_path: Path) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace_id, parent_id = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
    header = {"traceparent": f"00-{trace_id:032x}-{parent_id:016x}-01"}
    serving = served(tmp_path, metadata=lambda: header, tracer_provider=provider)
    async with serving as (server, instance):
        async with server.generate_session(instance) as session:
            await session.generate(asking("Traced?"))
        await server.release(instance, reason="test")
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert {"ServingAdapter/Provision", "ServingAdapter/Generate"} <= set(spans)
    for span in spans.values():
        assert span.context is not None
        assert span.parent is not None
        assert (span.context.trace_id, span.parent.span_id) == (trace_id, parent_id)
        assert span.kind is SpanKind.SERVER
