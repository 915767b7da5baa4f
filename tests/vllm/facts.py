"""What answers mean, as statements that are true or false of a server: both must say the same."""

import contextlib
import time
from collections.abc import Callable
from typing import Any

import httpx
from servers import CONTEXT, NAME, Server
from shapes import events

_TEXT = "The capital of France is Paris. The capital of Italy is"
_CHAT = [{"role": "user", "content": "Name one city in Italy."}]
_GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0}
_LONG = {**_GREEDY, "max_tokens": 24, "ignore_eos": True}

Fact = Callable[[Server], Any]


def _stream(server: Server, **fields: Any) -> list[dict[str, Any]]:
    body = {"model": NAME, "prompt": _TEXT, "stream": True, "return_token_ids": True, **fields}
    found: list[dict[str, Any]] = events(server.post("/v1/completions", body))[:-1]
    return found


def _choice(server: Server, **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = server.complete(**{"prompt": _TEXT, **fields})["choices"][0]
    return found


def stream_and_whole_answer_agree(server: Server) -> bool:
    """Text and ids of a stream are those of the answer that is not streamed."""
    whole = _choice(server, **_LONG, return_token_ids=True)
    choices = [chunk["choices"][0] for chunk in _stream(server, **_LONG)]
    ids = [token for choice in choices for token in choice["token_ids"]]
    text = "".join(choice["text"] for choice in choices)
    return bool(ids == whole["token_ids"] and text == whole["text"])


def tokens_of_each_chunk(server: Server) -> list[int]:
    """How many tokens the chunks of a plain stream have."""
    return [len(chunk["choices"][0]["token_ids"]) for chunk in _stream(server, **_LONG)]


def chunks_in_threes(server: Server) -> list[int]:
    """The same with a stream interval of 3."""
    chunks = _stream(server, **{**_LONG, "max_tokens": 8}, stream_interval=3)
    return [len(chunk["choices"][0]["token_ids"]) for chunk in chunks]


def usage_counts_the_ids(server: Server) -> bool:
    """Usage has as many tokens as the stream had ids, and the prompt's as the first chunk told."""
    *chunks, last = _stream(server, **_LONG, stream_options={"include_usage": True})
    ids = sum(len(chunk["choices"][0]["token_ids"]) for chunk in chunks)
    prompt = len(chunks[0]["choices"][0]["prompt_token_ids"])
    return (last["usage"]["completion_tokens"], last["usage"]["prompt_tokens"]) == (ids, prompt)


def prompt_ids_come_once(server: Server) -> bool:
    """The prompt's ids are in the first chunk alone."""
    given = [chunk["choices"][0]["prompt_token_ids"] is not None for chunk in _stream(server, **_LONG)]
    return given == [True] + [False] * (len(given) - 1)


def a_greedy_token_has_rank_one(server: Server) -> bool:
    """prompt_logprobs gives the most probable token the rank 1, and the first token of all nothing.

    One token only: where two are nearly as probable, a prompt's numbers need not order them as a decode's do.
    """
    first = _choice(server, **{**_LONG, "max_tokens": 1}, return_token_ids=True)
    ids = first["prompt_token_ids"] + first["token_ids"]
    scored = _choice(server, prompt=ids, **_GREEDY, max_tokens=1, prompt_logprobs=0)["prompt_logprobs"]
    return scored[0] is None and len(scored) == len(ids) and scored[-1][str(ids[-1])]["rank"] == 1


def echo_and_prompt_logprobs_agree(server: Server) -> bool:
    """Both ways to score a prompt give the same numbers."""
    ids = server.post("/tokenize", {"model": NAME, "prompt": _TEXT}).json()["tokens"]
    echoed = _choice(server, prompt=ids, echo=True, logprobs=1, max_tokens=0)["logprobs"]["token_logprobs"]
    scored = _choice(server, prompt=ids, prompt_logprobs=0, max_tokens=1, **_GREEDY)["prompt_logprobs"]
    told = [None] + [here[str(token)]["logprob"] for token, here in zip(ids[1:], scored[1:], strict=True)]
    return len(echoed) == len(told) and all(
        one is other is None or abs(one - other) < 0.05 for one, other in zip(echoed, told, strict=True)
    )


def scores_of_tokens_alone_may_be_asked(server: Server) -> int:
    """Entries that prompt_logprobs 0 has per token."""
    scored = _choice(server, prompt_logprobs=0, max_tokens=1, **_GREEDY)["prompt_logprobs"]
    return max(len(here) for here in scored[1:])


def chat_prompt_is_the_tokenized_chat(server: Server) -> bool:
    """/tokenize of messages gives what the chat endpoint prompts the model with."""
    asked = {"model": NAME, "messages": _CHAT, "max_tokens": 1, "return_token_ids": True}
    chat = server.post("/v1/chat/completions", asked).json()["prompt_token_ids"]
    tokens: list[int] = server.post("/tokenize", {"model": NAME, "messages": _CHAT}).json()["tokens"]
    return bool(chat == tokens)


def a_chat_is_answered_as_its_tokens(server: Server) -> bool:
    """/v1/completions of these tokens gives the chat endpoint's answer."""
    asked = {"model": NAME, "messages": _CHAT, **_LONG}
    chat = server.post("/v1/chat/completions", asked).json()["choices"][0]["message"]["content"]
    tokens = server.post("/tokenize", {"model": NAME, "messages": _CHAT}).json()["tokens"]
    return bool(_choice(server, prompt=tokens, **_LONG)["text"] == chat)


def max_tokens_is_cut_at_the_context(server: Server) -> tuple[int, str]:
    """Tokens in all, and the reason, where prompt and max_tokens together are over the context."""
    found = server.complete(prompt=_TEXT, **{**_LONG, "max_tokens": CONTEXT})
    return found["usage"]["total_tokens"], found["choices"][0]["finish_reason"]


def unsent_repetition_penalty_is_the_models(server: Server) -> bool:
    """Greedy answers differ between no penalty sent and 1.0 sent: the model's directory sets another."""
    sent = {**_LONG, "max_tokens": 64}
    unsent = {name: value for name, value in sent.items() if name != "repetition_penalty"}
    return bool(_choice(server, **unsent)["text"] != _choice(server, **sent)["text"])


def unsent_temperature_samples(server: Server) -> bool:
    """Without a temperature answers differ."""
    return len({_choice(server, max_tokens=24)["text"] for _ in range(4)}) > 1


def seeds_repeat(server: Server) -> bool:
    """The same seed gives the same sampled answer, another seed another one."""
    same = {_choice(server, seed=5, temperature=1.0, max_tokens=24)["text"] for _ in range(2)}
    other = _choice(server, seed=6, temperature=1.0, max_tokens=24)["text"]
    return len(same) == 1 and other not in same


def stop_strings_are_cut_and_told(server: Server) -> tuple[bool, str, bool]:
    """Text before the stop string; the reason; whether stop_reason is the string."""
    whole = _choice(server, **_LONG)["text"]
    stop = whole[len(whole) // 2 :][:5]
    cut = _choice(server, **_LONG, stop=["\x00never", stop])
    return cut["text"] == whole[: whole.index(stop)], cut["finish_reason"], cut["stop_reason"] == stop


def stop_strings_hold_text_back(server: Server) -> bool:
    """With a stop string of some length, text comes later than its tokens, and whole at the end."""
    plain = [chunk["choices"][0]["text"] for chunk in _stream(server, **_LONG)]
    held = [chunk["choices"][0]["text"] for chunk in _stream(server, **_LONG, stop=["\x00" * 12])]
    return "".join(plain) == "".join(held) and len("".join(held[:6])) < len("".join(plain[:6]))


def texts_of_half_characters(server: Server) -> tuple[list[str], bool]:
    """What comes for each byte of a character of three tokens, of which the prompt has those before.

    Of the last one only whether the character is its end: the real server repeats the text of a prompt that
    ends in half a character.
    """
    text = {"model": NAME, "prompt": "\ua4d0", "add_special_tokens": False}
    tokens = server.post("/tokenize", text).json()["tokens"]
    prompt = server.post("/tokenize", {"model": NAME, "prompt": _TEXT}).json()["tokens"]
    texts = []
    for position, token in enumerate(tokens):
        asked = {"prompt": [*prompt, *tokens[:position]], "logit_bias": {str(token): 100}}
        texts.append(_choice(server, **asked, **_GREEDY, max_tokens=1)["text"])
    return texts[:-1], texts[-1].endswith("\ua4d0")


def the_tokenizer_tells_its_end(server: Server) -> bool:
    """/tokenizer_info names the class and the end-of-sequence token."""
    told = server.client.get("/tokenizer_info").json()
    return bool(told.get("tokenizer_class")) and told.get("eos_token") == "<|im_end|>"


def end_of_sequence_is_told(server: Server) -> tuple[str, str, str | None, int]:
    """Text, reasons and tokens of an answer that is made to end at once."""
    end = server.post("/tokenize", {"model": NAME, "prompt": "<|im_end|>", "add_special_tokens": False})
    bias = {str(end.json()["tokens"][0]): 100}
    found = server.complete(prompt=_TEXT, **_GREEDY, max_tokens=5, logit_bias=bias)
    choice = found["choices"][0]
    return choice["text"], choice["finish_reason"], choice["stop_reason"], found["usage"]["completion_tokens"]


def ignored_end_goes_on(server: Server) -> tuple[str, int]:
    """The same with ignore_eos: reason and tokens."""
    end = server.post("/tokenize", {"model": NAME, "prompt": "<|im_end|>", "add_special_tokens": False})
    bias = {str(end.json()["tokens"][0]): 100}
    found = server.complete(prompt=_TEXT, **_GREEDY, max_tokens=3, logit_bias=bias, ignore_eos=True)
    return found["choices"][0]["finish_reason"], found["usage"]["completion_tokens"]


def a_client_that_goes_away_is_noticed(server: Server) -> bool:
    """After a stream is left, nothing runs any more, long before it would have ended."""
    body = {"model": NAME, "prompt": _TEXT, **_LONG, "max_tokens": CONTEXT - 64, "stream": True}
    with server.client.stream("POST", "/v1/completions", json=body) as reply:
        next(reply.iter_bytes())
    return _comes_true(lambda: _gauge(server, "vllm:num_requests_running") == 0)


def more_requests_than_places_wait(server: Server) -> bool:
    """With four places and six streams, some wait, and all are answered."""
    body = {"model": NAME, "prompt": _TEXT, **_LONG, "max_tokens": 200, "stream": True}
    streams = [server.client.stream("POST", "/v1/completions", json=body) for _ in range(6)]
    with contextlib.ExitStack() as stack:
        replies = [stack.enter_context(stream) for stream in streams]
        waited = _comes_true(lambda: _gauge(server, "vllm:num_requests_waiting") > 0)
        for reply in replies:
            reply.read()
    return waited and all("[DONE]" in reply.text for reply in replies)


def idle_connections_are_closed(server: Server) -> bool:
    """A kept connection that is not used for seven seconds is closed by the server."""
    with httpx.Client(base_url=server.url, timeout=20) as client:
        stream = client.get("/health").extensions["network_stream"]
        raw = stream.get_extra_info("socket")
        time.sleep(7)
        raw.setblocking(False)
        try:
            return bool(raw.recv(1) == b"")
        except BlockingIOError:
            return False


def _comes_true(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 3
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.05)
    return False


def _gauge(server: Server, name: str) -> float:
    lines = server.client.get("/metrics").text.splitlines()
    return float(next(line for line in lines if line.startswith(name + "{")).rsplit(" ", 1)[1])


FACTS: tuple[Fact, ...] = (
    stream_and_whole_answer_agree,
    tokens_of_each_chunk,
    chunks_in_threes,
    usage_counts_the_ids,
    prompt_ids_come_once,
    a_greedy_token_has_rank_one,
    echo_and_prompt_logprobs_agree,
    scores_of_tokens_alone_may_be_asked,
    chat_prompt_is_the_tokenized_chat,
    a_chat_is_answered_as_its_tokens,
    max_tokens_is_cut_at_the_context,
    unsent_repetition_penalty_is_the_models,
    unsent_temperature_samples,
    seeds_repeat,
    stop_strings_are_cut_and_told,
    stop_strings_hold_text_back,
    texts_of_half_characters,
    the_tokenizer_tells_its_end,
    end_of_sequence_is_told,
    ignored_end_goes_on,
    a_client_that_goes_away_is_noticed,
    more_requests_than_places_wait,
    idle_connections_are_closed,
)
