"""Requests whose answers must have the same shape from the real server and from the faithful one."""

from dataclasses import dataclass, field
from typing import Any

from servers import CONTEXT, NAME

_TEXT = "The capital of France is Paris. The capital of Italy is"
_CHAT = [{"role": "user", "content": "Name one city in Italy."}]
_GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0, "max_tokens": 4, "ignore_eos": True}
_USAGE = {"include_usage": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """One request. `content` is sent instead of `body` where the request is not JSON."""

    name: str
    path: str
    method: str = "POST"
    body: dict[str, Any] | None = None
    content: bytes | None = None
    headers: dict[str, str] = field(default_factory=dict)


def _completion(name: str, **fields: Any) -> Probe:
    return Probe(
        name=name, path="/v1/completions", body={"model": NAME, "prompt": _TEXT, **_GREEDY, **fields}
    )


def _chat(name: str, **fields: Any) -> Probe:
    body = {"model": NAME, "messages": _CHAT, **_GREEDY, **fields}
    return Probe(name=name, path="/v1/chat/completions", body=body)


def _post(name: str, path: str, **body: Any) -> Probe:
    return Probe(name=name, path=path, body=body)


PROBES: tuple[Probe, ...] = (
    Probe(name="health", path="/health", method="GET"),
    Probe(name="version", path="/version", method="GET"),
    Probe(name="models", path="/v1/models", method="GET"),
    Probe(name="load", path="/load", method="GET"),
    Probe(name="ping", path="/ping", method="GET"),
    Probe(name="unknown path", path="/ready", method="GET"),
    Probe(name="wrong method", path="/v1/completions", method="GET"),
    Probe(name="no key", path="/v1/models", method="GET", headers={"Authorization": ""}),
    Probe(name="wrong key", path="/v1/models", method="GET", headers={"Authorization": "Bearer no"}),
    Probe(name="no key needed", path="/health", method="GET", headers={"Authorization": ""}),
    Probe(
        name="not JSON",
        path="/v1/completions",
        content=b'{"model": ',
        headers={"Content-Type": "application/json"},
    ),
    Probe(
        name="no content type", path="/v1/completions", content=b"{}", headers={"Content-Type": "text/plain"}
    ),
    _completion("completion"),
    _completion("token ids returned", return_token_ids=True),
    _completion("token ids as prompt", prompt=[1, 2, 3]),
    _completion("two prompts", prompt=[_TEXT, "One , two"]),
    _completion("logprobs", logprobs=2),
    _completion("logprobs 0", logprobs=0),
    _completion("prompt logprobs 0", prompt_logprobs=0, max_tokens=1),
    _completion("prompt logprobs 2", prompt_logprobs=2, max_tokens=1),
    _completion("echo with logprobs", echo=True, logprobs=1),
    _completion("echo of the prompt alone", echo=True, logprobs=1, max_tokens=0),
    _completion("stream", stream=True),
    _completion("stream with usage", stream=True, stream_options=_USAGE),
    _completion("stream with ids", stream=True, return_token_ids=True, stream_options=_USAGE),
    _completion("stream with logprobs", stream=True, logprobs=1),
    _completion("stream with echo", stream=True, echo=True, logprobs=1),
    _completion(
        "stream with continuous usage",
        stream=True,
        stream_options={"include_usage": True, "continuous_usage_stats": True},
    ),
    _completion("stream in threes", stream=True, stream_interval=3, return_token_ids=True, max_tokens=8),
    _completion("two answers", n=2, temperature=1.0),
    _completion("two answers, streamed", n=2, temperature=1.0, stream=True),
    _completion("ignored fields", best_of=4, user="somebody", suffix=None, nonsense={"a": 1}),
    _completion("seed", seed=3, temperature=1.0),
    _completion("least tokens", min_tokens=2),
    _completion("model not named", model=None),
    _completion("prompt logprobs in a stream", prompt_logprobs=1, stream=True),
    _completion("prompt logprobs 0 in a stream", prompt_logprobs=0, stream=True),
    _completion("empty prompt", prompt=""),
    _completion("no ids in the prompt", prompt=[]),
    _completion("no prompt", prompt=None),
    _completion("unknown token", prompt=[1, 99_999_999]),
    _completion("prompt that fills the context", prompt=[5] * CONTEXT),
    _completion("prompt over the context", prompt=[5] * (CONTEXT + 1)),
    _completion("text over the context", prompt="one " * (CONTEXT + 50)),
    _completion("as many tokens as the context", max_tokens=CONTEXT + 1),
    _completion("no tokens", max_tokens=0),
    _completion("tokens as a word", max_tokens="many"),
    _completion("tokens as text", max_tokens="2"),
    _completion("more least tokens than tokens", min_tokens=9),
    _completion("two greedy answers", n=2),
    _completion("no answers", n=0),
    _completion("21 logprobs", logprobs=21),
    _completion("21 prompt logprobs", prompt_logprobs=21),
    _completion("logprobs below 0", logprobs=-5),
    _completion("logprobs as a word", logprobs="two"),
    _completion("temperature below 0", temperature=-1.0),
    _completion("temperature over 2", temperature=2.5),
    _completion("top_p 0", top_p=0.0),
    _completion("top_p over 1", top_p=1.5),
    _completion("top_k below -1", top_k=-2),
    _completion("top_k -1", top_k=-1),
    _completion("min_p over 1", min_p=1.5),
    _completion("repetition penalty 0", repetition_penalty=0.0),
    _completion("presence penalty over 2", presence_penalty=3.0),
    _completion("empty stop string", stop=[""]),
    _completion("stop of a wrong kind", stop=5),
    _completion("stream options without a stream", stream_options=_USAGE),
    _completion("another model", model="somebody-else"),
    _chat("chat"),
    _chat("chat with ids", return_token_ids=True),
    _chat("chat with logprobs", logprobs=True, top_logprobs=2),
    _chat("chat stream", stream=True),
    _chat("chat stream with usage and ids", stream=True, stream_options=_USAGE, return_token_ids=True),
    _chat("chat without turns", messages=[]),
    _chat("chat over the context", max_tokens=CONTEXT + 1),
    _post("tokenize", "/tokenize", model=NAME, prompt=_TEXT),
    _post("tokenize with names", "/tokenize", model=NAME, prompt=_TEXT, return_token_strs=True),
    _post("tokenize without special tokens", "/tokenize", prompt=_TEXT, add_special_tokens=False),
    _post("tokenize a chat", "/tokenize", model=NAME, messages=_CHAT),
    _post("tokenize a chat without prompt", "/tokenize", messages=_CHAT, add_generation_prompt=False),
    _post("tokenize for another model", "/tokenize", model="somebody-else", prompt=_TEXT),
    _post("detokenize", "/detokenize", model=NAME, tokens=[1, 40, 41]),
    _post("detokenize an unknown token", "/detokenize", model=NAME, tokens=[99_999_999]),
    _post("detokenize nothing", "/detokenize", model=NAME, tokens=[]),
)
