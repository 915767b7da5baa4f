"""The faithful servers do what they are there for."""

import json
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

import httpx
import psutil
import pytest

from engines.fixtures import (
    FURIOSA_PROGRAM,
    VLLM_PROGRAM,
    EngineStarter,
    RunningEngine,
    engines,
    furiosa_server,
    script_environment,
    vllm_server,
)
from engines.model import Model, position_after
from engines.tokenizer import Tokenizer

__all__ = ["engines", "furiosa_server", "vllm_server"]

PROMPT = "The capital of France is Paris. The capital of Italy is"
# What a careful client sends so that no default of the model counts.
GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0, "presence_penalty": 0.0, "frequency_penalty": 0.0}
BOTH = pytest.mark.parametrize("program", [VLLM_PROGRAM, FURIOSA_PROGRAM], ids=["vllm", "furiosa"])


def post(engine: RunningEngine, path: str, **body: Any) -> httpx.Response:
    return httpx.post(engine.url + path, json={"model": "test-model", **body}, timeout=20)


def complete(engine: RunningEngine, **body: Any) -> dict[str, Any]:
    reply = post(engine, "/v1/completions", **{"prompt": PROMPT, "max_tokens": 8, **body})
    assert reply.status_code == 200, reply.text
    content: dict[str, Any] = reply.json()
    return content


def events(reply: httpx.Response) -> list[Any]:
    lines = [line.removeprefix("data: ") for line in reply.text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def greedy_ids(tokens: int) -> list[int]:
    tokenizer = Tokenizer()
    model = Model(tokenizer)
    position = position_after(tokenizer.encode(PROMPT, add_special_tokens=True))
    found = []
    for _ in range(tokens):
        found.append(model.token(position, 0))
        position = position.after(found[-1])
    return found


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "never happened"
        time.sleep(0.01)


@BOTH
@pytest.mark.parametrize("words", [("--no-such-flag", "1"), ("--port", "eighty")])
def test_refuses_command_lines_as_argparse_does(program: Sequence[str], words: Sequence[str]) -> None:
    command = [*program, "serve", "m", *words]
    ended = subprocess.run(command, env=script_environment(), capture_output=True, text=True, timeout=20)
    assert ended.returncode == 2
    assert "usage:" in ended.stderr


def test_the_greedy_answer_is_the_models_and_unsent_fields_are_not_greedy(
    vllm_server: RunningEngine, furiosa_server: RunningEngine, engines: EngineStarter
) -> None:
    expected = Tokenizer().decode(greedy_ids(40), skip_special_tokens=True)
    plain = engines(VLLM_PROGRAM, "--generation-config", "vllm")
    for engine in (vllm_server, furiosa_server, plain):
        assert complete(engine, max_tokens=40, **GREEDY)["choices"][0]["text"] == expected
        assert len({complete(engine, max_tokens=40)["choices"][0]["text"] for _ in range(3)}) > 1
    for engine in (vllm_server, furiosa_server):
        # The model's own repetition penalty counts where none is sent; the arrow comes twice in 40 tokens.
        assert complete(engine, max_tokens=40, temperature=0.0)["choices"][0]["text"] != expected
    assert complete(plain, max_tokens=40, temperature=0.0)["choices"][0]["text"] == expected


def test_only_vllm_honours_a_seed(vllm_server: RunningEngine, furiosa_server: RunningEngine) -> None:
    for engine, count in ((vllm_server, 1), (furiosa_server, 3)):
        texts = {
            complete(engine, max_tokens=30, temperature=1.0, seed=7)["choices"][0]["text"] for _ in range(3)
        }
        assert len(texts) == count


def test_prompt_logprobs_are_the_models(vllm_server: RunningEngine, furiosa_server: RunningEngine) -> None:
    tokenizer = Tokenizer()
    model = Model(tokenizer)
    ids = tokenizer.encode(PROMPT + " Rome", add_special_tokens=True)
    for engine in (vllm_server, furiosa_server):
        first, *others = complete(engine, prompt=ids, max_tokens=1, prompt_logprobs=0)["choices"][0][
            "prompt_logprobs"
        ]
        assert first is None
        for index, here in enumerate(others, start=1):
            rank = model.rank(position_after(ids[:index]), ids[index])
            told = here[str(ids[index])]
            assert told["rank"] == rank + 1
            assert told["logprob"] == pytest.approx(model.log_probability(rank))


def test_streams_tell_ids_usage_and_characters_when_they_are_whole(
    vllm_server: RunningEngine, furiosa_server: RunningEngine
) -> None:
    asked = {
        **GREEDY,
        "prompt": PROMPT,
        "max_tokens": 40,
        "stream": True,
        "return_token_ids": True,
        "stream_options": {"include_usage": True},
    }
    for engine in (vllm_server, furiosa_server):
        *chunks, usage, done = events(post(engine, "/v1/completions", **asked))
        assert done == "[DONE]"
        assert usage["choices"] == []
        assert usage["usage"]["completion_tokens"] == len(chunks) == 40
        choices = [chunk["choices"][0] for chunk in chunks]
        assert [token for choice in choices for token in choice["token_ids"]] == greedy_ids(40)
        assert [choice["prompt_token_ids"] is None for choice in choices] == [False] + [True] * 39
        assert any(choice["text"] == "" for choice in choices), "no character was spread over tokens"
        assert "→" in "".join(choice["text"] for choice in choices)


def test_errors_differ_in_form(vllm_server: RunningEngine, furiosa_server: RunningEngine) -> None:
    refused = post(vllm_server, "/v1/completions", prompt=PROMPT, max_tokens=0)
    assert refused.status_code == 400
    assert refused.json()["error"]["param"] == "max_tokens"
    refused = post(furiosa_server, "/v1/completions", prompt=PROMPT, max_tokens=0)
    assert refused.status_code == 400
    assert refused.json()["message"] == "max_tokens must be at least 1, got 0."
    assert "detail" in post(furiosa_server, "/v1/completions").json()


def test_only_vllm_cuts_answers_at_the_context(
    vllm_server: RunningEngine, furiosa_server: RunningEngine
) -> None:
    asked = {**GREEDY, "prompt": PROMPT, "max_tokens": 512, "ignore_eos": True}
    cut = post(vllm_server, "/v1/completions", **asked).json()
    assert cut["usage"]["total_tokens"] == 512
    assert cut["choices"][0]["finish_reason"] == "length"
    refused = post(furiosa_server, "/v1/completions", **asked)
    assert refused.status_code == 400
    assert "maximum context length is 512" in refused.json()["message"]


@BOTH
def test_faults_come_as_scripted(program: Sequence[str], engines: EngineStarter) -> None:
    engine = engines(program, faults="error~unlucky,cut~scissors,core~heart")
    stream = {"max_tokens": 8, "stream": True, "stream_options": {"include_usage": True}}
    *chunks, error, done = [
        each
        for each in events(post(engine, "/v1/completions", prompt="unlucky", **stream))
        if each == "[DONE]" or each.get("usage") is None
    ]
    assert len(chunks) == 2
    assert done == "[DONE]"
    assert error["error"]["code"] == 500
    with pytest.raises(httpx.RemoteProtocolError):
        post(engine, "/v1/completions", prompt="scissors", **stream)
    assert complete(engine)["usage"]["completion_tokens"] == 8
    told = events(post(engine, "/v1/completions", prompt="heart", **stream))
    assert any("error" in each for each in told if each != "[DONE]")
    assert engine.process.wait(timeout=10) == (0 if program == VLLM_PROGRAM else -signal.SIGTERM)


@BOTH
def test_a_client_that_goes_away_gives_its_place_back(program: Sequence[str], engines: EngineStarter) -> None:
    limit = ("--max-num-seqs", "1") if program == VLLM_PROGRAM else ("--max-concurrency", "1")
    engine = engines(program, *limit, interval_s=0.05)
    endless = {"model": "test-model", "prompt": PROMPT, "max_tokens": 400, "stream": True}
    with httpx.stream("POST", engine.url + "/v1/completions", json=endless) as reply:
        next(reply.iter_bytes())
    assert complete(engine, max_tokens=1)["usage"]["completion_tokens"] == 1
    assert [end["outcome"] for end in engine.journal("end")] == ["abort", "length"]


def test_sigterm_ends_all_processes_and_sigkill_leaves_the_core(engines: EngineStarter) -> None:
    for number, remains in ((signal.SIGTERM, False), (signal.SIGKILL, True)):
        engine = engines(VLLM_PROGRAM, "--tensor-parallel-size", "2")
        cores = engine.core_processes()
        assert len(cores) == 3
        engine.process.send_signal(number)
        engine.process.wait(timeout=10)
        _, alive = psutil.wait_procs(cores, timeout=0.2 if remains else 5)
        assert len(alive) == (3 if remains else 0)


def test_keys_loads_and_refusals_to_start(engines: EngineStarter) -> None:
    engine = engines(VLLM_PROGRAM, "--api-key", "secret", load_s=0.1)
    assert post(engine, "/v1/completions", prompt="a").json() == {"error": "Unauthorized"}
    assert httpx.get(engine.url + "/health").status_code == 200
    ended = subprocess.run(
        [*FURIOSA_PROGRAM, "serve", "m"],
        env=script_environment(refusal="no device npu:0"),
        capture_output=True,
        text=True,
        timeout=20,
    )
    assert ended.returncode == 1
    assert "no device npu:0" in ended.stderr


def test_several_tokens_come_together_when_scripted(engines: EngineStarter) -> None:
    engine = engines(FURIOSA_PROGRAM, tokens_per_step=3)
    asked = {**GREEDY, "prompt": PROMPT, "max_tokens": 8, "stream": True, "return_token_ids": True}
    chunks = events(post(engine, "/v1/completions", **asked))[:-1]
    assert [len(chunk["choices"][0]["token_ids"]) for chunk in chunks] == [1, 3, 3, 1]
