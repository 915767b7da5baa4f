"""The engine over OpenAI-compatible servers, against the faithful vLLM and furiosa-llm servers."""

import asyncio
import math
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from engines.fixtures import (
    FURIOSA_PROGRAM,
    VLLM_PROGRAM,
    EngineStarter,
    RunningEngine,
    engines,
    start_engine,
)
from engines.model import Model, position_after
from engines.tokenizer import Tokenizer

from assay_serving.backend import PreparedArtifact
from assay_serving.errors import (
    ContextTooLong,
    EngineError,
    InvalidRequest,
    StartFailed,
)
from assay_serving.launchers.endpoint import connect_endpoint
from assay_serving.openai.engine import EnginePlan, OpenAIEngine
from assay_serving.openai.scoring import RecentEncodings
from assay_serving.types import (
    Capabilities,
    ChatMessage,
    FinishReason,
    GenerateRequest,
    GenerateResult,
    SamplingParameters,
    ScoreRequest,
    Support,
)

__all__ = ["engines"]
pytestmark = pytest.mark.xdist_group("openai-engine")

PROGRAMS = {"vllm": VLLM_PROGRAM, "furiosa": FURIOSA_PROGRAM}
PROMPT = "The capital of France is Paris. The capital of Italy is"


@pytest.fixture(scope="module", params=PROGRAMS)
def server(request: pytest.FixtureRequest) -> Iterator[RunningEngine]:
    """One faithful server of each kind, whose model has a generation_config that asks for other sampling."""
    program = PROGRAMS[request.param]
    running = start_engine(program, "--max-model-len", "512", faults="error~Lisbon,cut~Berlin", fault_after=3)
    with running as engine:
        yield engine


@asynccontextmanager
async def engine_at(
    server: RunningEngine, *, concurrency: int = 4, warm: bool = True, **plan: Any
) -> AsyncIterator[OpenAIEngine]:
    connected = await connect_endpoint(
        server.url, key="", allowed_hosts=("127.0.0.1",), health_path="/health"
    )
    engine = OpenAIEngine(
        connected,
        EnginePlan(
            engine="server",
            artifact=PreparedArtifact(sha256="", model_name="test"),
            capabilities=Capabilities(score=Support.YES),
            concurrency=concurrency,
            launcher="endpoint",
            **plan,
        ),
    )
    try:
        if warm:
            await engine.warm_up()
        yield engine
    finally:
        await engine.stop()


async def ask(engine: OpenAIEngine, text: str = PROMPT, **sampling: Any) -> GenerateResult:
    chosen = SamplingParameters(**{"max_tokens": 12, **sampling})
    return await engine.generate(GenerateRequest(text=text, sampling=chosen), received_mono_ns=0)


async def test_every_sampling_field_is_sent_and_no_default_decides(server: RunningEngine) -> None:
    async with engine_at(server) as engine:
        first, again = await ask(engine), await ask(engine)
        chosen = await ask(engine, temperature=0.7, top_p=0.5, top_k=3, min_p=0.1, repetition_penalty=1.2)
    assert first.text == again.text, "greedy is greedy, whatever the model's defaults are"
    greedy, sampled = [each["body"] for each in server.journal("http")][-2:]
    unset = {"temperature": 0.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0}
    assert {name: greedy[name] for name in unset} == unset
    assert (greedy["stop"], greedy["presence_penalty"], greedy["frequency_penalty"]) == ([], 0.0, 0.0)
    assert "stop_token_ids" not in greedy, "the model's own ends of a sequence count"
    set_ = {"temperature": 0.7, "top_p": 0.5, "top_k": 3, "min_p": 0.1, "repetition_penalty": 1.2}
    assert {name: sampled[name] for name in set_} == set_
    assert chosen.completion_tokens == 12


async def test_tokens_are_counted_by_their_ids(server: RunningEngine) -> None:
    async with engine_at(server) as engine:
        result = await ask(engine, max_tokens=40, ignore_eos=True)
    assert result.completion_tokens == 40
    assert result.finish_reason is FinishReason.LENGTH
    assert result.times.exact_token_times
    assert len(result.times.token_offsets_us) == len(result.token_text_lengths) == 40
    assert sum(result.token_text_lengths) == len(result.text)


async def test_tokens_that_come_together_are_told(engines: EngineStarter) -> None:
    async with engine_at(engines(VLLM_PROGRAM, tokens_per_step=4)) as engine:
        grouped = await ask(engine, max_tokens=40, ignore_eos=True)
    assert grouped.completion_tokens == 40
    assert len(grouped.times.token_offsets_us) == 40
    reads = len(set(grouped.times.token_offsets_us))
    assert reads <= 11
    assert grouped.times.merged_reads >= reads - 2, "tokens that come together are told"


async def test_the_stop_string_that_begins_first_ends_the_text(server: RunningEngine) -> None:
    async with engine_at(server) as engine:
        whole = await ask(engine, max_tokens=30, ignore_eos=True)
        late, early = whole.text[14:19], whole.text[12:17]
        cut = await ask(engine, max_tokens=30, ignore_eos=True, stop=(late, early))
    assert cut.text == whole.text[: whole.text.index(early)]
    assert (cut.stop_match, cut.finish_reason) == (early, FinishReason.STOP_STRING)
    first = cut.times.sent_mono_ns + 1000 * cut.times.token_offsets_us[0]
    assert abs(cut.times.first_token_mono_ns - first) <= 1000, "no text is held back for a stop string"


async def test_a_conversation_is_a_prompt_of_the_models_template(server: RunningEngine) -> None:
    chat = (ChatMessage(role="user", content="What is the capital of Italy?"),)
    async with engine_at(server) as engine:
        request = GenerateRequest(chat=chat, sampling=SamplingParameters(max_tokens=5))
        result = await engine.generate(request, received_mono_ns=0)
    prompt = server.journal("http")[-1]["body"]["prompt"]
    text = Tokenizer().decode(prompt, skip_special_tokens=False)
    assert "What is the capital of Italy?" in text
    assert "assistant" in text
    assert result.prompt_tokens == len(prompt)


async def test_a_context_that_is_too_short_is_told_from_other_refusals(server: RunningEngine) -> None:
    async with engine_at(server) as engine:
        assert engine.capabilities.max_context_tokens == 512
        with pytest.raises(ContextTooLong, match="max_tokens 510 exceed the context of 512"):
            await ask(engine, max_tokens=510)
        with pytest.raises(ContextTooLong):
            await ask(engine, text="the end " * 400, max_tokens=1)
        chat = (ChatMessage(role="user", content="the end " * 400),)
        with pytest.raises(ContextTooLong):
            await engine.generate(
                GenerateRequest(chat=chat, sampling=SamplingParameters(max_tokens=1)), received_mono_ns=0
            )
        with pytest.raises(ContextTooLong):
            await engine.score(
                ScoreRequest(context="the end " * 400, continuation=" the"), received_mono_ns=0
            )
        with pytest.raises(InvalidRequest, match="refused the request") as refused:
            await ask(engine, top_p=0.0, max_tokens=1)
        assert not isinstance(refused.value, ContextTooLong)
    with pytest.raises(StartFailed, match="513 are asked for, and the server has 512"):
        async with engine_at(server, context_tokens=513):
            pass


def expected_score(
    tokenizer: Tokenizer, context: Sequence[int], continuation: Sequence[int]
) -> tuple[float, bool]:
    """Worked out from the faithful servers' model, which is a function of the tokens before."""
    model, tokens = Model(tokenizer), [*context]
    total, is_greedy = 0.0, True
    for token in continuation:
        rank = model.rank(position_after(tokens), token)
        total += model.log_probability(rank)
        is_greedy = is_greedy and rank == 0
        tokens.append(token)
    return total, is_greedy


async def test_scores_are_those_of_the_continuation(server: RunningEngine) -> None:
    tokenizer = Tokenizer()

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=True)

    async with engine_at(server) as engine:
        for context, continuation in (
            (PROMPT, " Rome and"),
            (PROMPT + "  ", "Rome"),
            ("a b", "c"),
            ("", "Hi"),
        ):
            result = await engine.score(
                ScoreRequest(context=context, continuation=continuation), received_mono_ns=0
            )
            head, whole = encode(context.rstrip()), encode(context + continuation)
            total, is_greedy = expected_score(tokenizer, head, whole[len(head) :])
            assert math.isclose(result.log_probability, total, abs_tol=1e-3), (context, continuation)
            assert result.is_greedy == is_greedy
            assert result.context_tokens + result.continuation_tokens == len(whole)
        best = (await ask(engine, max_tokens=1)).text
        greedy = await engine.score(ScoreRequest(context=PROMPT, continuation=best), received_mono_ns=0)
        assert greedy.is_greedy


async def test_contexts_are_tokenised_once_and_few_are_kept() -> None:
    asked: list[str] = []
    answers = asyncio.Event()

    async def encode(text: str) -> list[int]:
        asked.append(text)
        await answers.wait()
        if text == "bad":
            raise EngineError("no")
        return [len(text)]

    recent = RecentEncodings(encode, kept=2)
    waiting = [asyncio.create_task(recent.encode("one")) for _ in range(3)]
    await asyncio.sleep(0)
    waiting[0].cancel()
    answers.set()
    assert await asyncio.gather(*waiting[1:]) == [[3], [3]]
    assert asked == ["one"]
    for _ in range(2):
        with pytest.raises(EngineError):
            await recent.encode("bad")
    assert asked == ["one", "bad", "bad"], "an error is not kept"
    await recent.encode("two")
    await recent.encode("one")
    assert asked[-2:] == ["two", "one"], "the oldest was forgotten"


async def test_an_error_inside_a_stream_says_how_far_it_came(server: RunningEngine) -> None:
    async with engine_at(server) as engine:
        for text in ("Lisbon", "Berlin"):
            with pytest.raises(EngineError) as failed:
                await ask(engine, text=text, max_tokens=20)
            assert failed.value.retryable
            assert failed.value.tokens_before_error == 3
        assert (await ask(engine, text="Once", max_tokens=3)).completion_tokens == 3


async def test_requests_go_on_after_the_server_has_closed_idle_connections(engines: EngineStarter) -> None:
    async with engine_at(engines(VLLM_PROGRAM, idle_s=0.05)) as engine:
        await asyncio.sleep(0.2)
        assert (await ask(engine, max_tokens=2)).completion_tokens == 2


async def test_no_more_requests_are_in_flight_than_the_instance_may_have(server: RunningEngine) -> None:
    before = len(server.journal())
    async with engine_at(server, concurrency=2) as engine:
        await asyncio.gather(*(ask(engine, text=f"{number}", max_tokens=4) for number in range(8)))
    running, most = 0, 0
    for entry in server.journal()[before:]:
        running += {"request": 1, "end": -1}.get(entry["event"], 0)
        most = max(most, running)
    assert most == 2


async def test_what_a_server_lacks_is_said_before_it_is_used(engines: EngineStarter) -> None:
    two = engines(VLLM_PROGRAM, "--served-model-name", "first", "second")
    with pytest.raises(StartFailed, match=r"2 models; name one by .*served_model.*first, second"):
        async with engine_at(two):
            pass
    with pytest.raises(StartFailed, match="no model 'third'"):
        async with engine_at(two, model="third"):
            pass
    async with engine_at(two, model="second") as engine:
        await ask(engine)
    assert two.journal("http")[-1]["body"]["model"] == "second"


async def test_a_server_that_does_not_score_is_not_asked_to(engines: EngineStarter) -> None:
    speculating = engines(
        FURIOSA_PROGRAM, "--experimental-speculative-config", '{"num_speculative_tokens": 2}'
    )
    async with engine_at(speculating) as engine:
        assert engine.capabilities.score is Support.REFUSED
        assert (await ask(engine)).completion_tokens == 12
