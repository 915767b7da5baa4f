"""What `furiosa-llm serve` (2026.4) makes of a request: what it honours, ignores and refuses, in which words.

Taken and ignored without a word: echo, seed, frequency_penalty, presence_penalty, logit_bias, suffix, user,
and every field that it does not know, best_of among them.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engines.fields import Fields
from engines.furiosa_arguments import FuriosaArguments
from engines.generation import Wanted
from engines.model import Sampling
from engines.tokenizer import ChatMessage, Tokenizer

_SAMPLING_DEFAULTS: Mapping[str, float] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
}


@dataclass
class Refused(Exception):
    """The request is refused in the words that go out.

    With `is_detail` it was found before the request was understood, which is answered in another form.
    """

    message: str
    kind: str = "BadRequestError"
    status: int = 400
    is_detail: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that was accepted; `wanted` has one entry for each prompt."""

    wanted: tuple[Wanted, ...]
    streams: bool
    includes_usage: bool
    returns_token_ids: bool
    names_tokens_by_id: bool
    top_logprobs: int


class RequestReader:
    """Reads requests for one server."""

    def __init__(
        self, arguments: FuriosaArguments, tokenizer: Tokenizer, generation_config: Mapping[str, Any]
    ) -> None:
        self._arguments = arguments
        self._tokenizer = tokenizer
        # The model's own defaults count whenever a field is not sent; no flag turns that off.
        known = {name: value for name, value in generation_config.items() if name in _SAMPLING_DEFAULTS}
        self._defaults = {**_SAMPLING_DEFAULTS, **known}

    def completion(self, fields: Fields) -> Asked:
        """A request for `/v1/completions`; raises Refused, WrongField."""
        _require(fields, "model")
        _require(fields, "prompt")
        prompts = [
            self._tokenizer.encode(prompt, add_special_tokens=True) if isinstance(prompt, str) else prompt
            for prompt in fields.prompts()
        ]
        return self._asked(
            fields,
            prompts=prompts,
            max_tokens=fields.integer("max_tokens", 16),
            logprobs=fields.integer("logprobs"),
        )

    def chat(self, fields: Fields) -> Asked:
        """A request for `/v1/chat/completions`; raises Refused, WrongField."""
        _require(fields, "model")
        prompt = self._tokenizer.encode(self.chat_text(fields), add_special_tokens=False)
        return self._asked(
            fields,
            prompts=[prompt],
            max_tokens=fields.integer("max_completion_tokens") or fields.integer("max_tokens"),
            logprobs=fields.integer("top_logprobs", 0) if fields.flag("logprobs") else None,
        )

    def tokenize(self, fields: Fields) -> list[int]:
        """Token ids of a text or of a conversation; raises Refused, WrongField."""
        self._check_model(fields)
        if fields.raw("messages") is not None:
            text, special = self.chat_text(fields), fields.flag("add_special_tokens", False)
        else:
            _require(fields, "prompt")
            text, special = fields.text("prompt") or "", fields.flag("add_special_tokens", True)
        return self._tokenizer.encode(text, add_special_tokens=special)

    def detokenize(self, fields: Fields) -> str:
        """Text of token ids; raises Refused, WrongField."""
        _require(fields, "tokens")
        self._check_model(fields)
        known = [each for each in fields.integers("tokens") if 0 <= each < self._tokenizer.vocabulary_size]
        return self._tokenizer.decode(known)

    def chat_text(self, fields: Fields) -> str:
        """The conversation by the chat template; raises WrongField."""
        messages = [ChatMessage(str(each["role"]), _content(each)) for each in fields.messages()]
        prompted = fields.flag("add_generation_prompt", True)
        return self._tokenizer.chat_text(messages, add_generation_prompt=prompted)

    def _asked(
        self, fields: Fields, *, prompts: list[list[int]], max_tokens: int | None, logprobs: int | None
    ) -> Asked:
        sampling = self._sampling(fields)
        min_tokens = fields.integer("min_tokens", 0)
        prompt_logprobs = fields.integer("prompt_logprobs")
        _check_counts(fields, max_tokens, min_tokens, logprobs, prompt_logprobs)
        if self._arguments.speculates and (logprobs is not None or prompt_logprobs is not None):
            raise Refused("logprobs and prompt_logprobs are not supported with speculative decoding")
        wanted = []
        for prompt in prompts:
            self._check_length(prompt, max_tokens=max_tokens or 0, min_tokens=max(1, min_tokens))
            wanted.append(
                Wanted(
                    prompt=prompt,
                    sampling=sampling,
                    max_tokens=max_tokens or self._arguments.max_model_len - len(prompt),
                    min_tokens=min_tokens,
                    stop=tuple(each for each in fields.texts("stop") if each),
                    stop_token_ids=frozenset(fields.integers("stop_token_ids")),
                    include_stop=fields.flag("include_stop_str_in_output"),
                    ignore_eos=fields.flag("ignore_eos"),
                    skip_special_tokens=fields.flag("skip_special_tokens", True),
                    logprobs=logprobs,
                    prompt_logprobs=prompt_logprobs,
                )
            )
        streams = fields.flag("stream")
        options = fields.raw("stream_options")
        return Asked(
            wanted=tuple(wanted),
            streams=streams,
            includes_usage=bool(options) and fields.fields("stream_options").flag("include_usage", True),
            returns_token_ids=fields.flag("return_token_ids"),
            names_tokens_by_id=fields.flag("return_tokens_as_token_ids"),
            top_logprobs=logprobs or 0,
        )

    def _sampling(self, fields: Fields) -> Sampling:
        values = {name: fields.number(name, default) for name, default in self._defaults.items()}
        top_k = fields.integer("top_k", int(self._defaults["top_k"]))
        if not 0.0 < values["repetition_penalty"] <= 2.0:
            message = f"repetition_penalty must be in (0, 2], got {values['repetition_penalty']}."
            raise Refused(message)
        if values["temperature"] < 0.0:
            raise Refused(f"temperature must be non-negative, got {values['temperature']}.")
        if not 0.0 < values["top_p"] <= 1.0:
            raise Refused(f"top_p must be in (0, 1], got {values['top_p']}.")
        if top_k < -1 or top_k == 0:
            raise Refused(f"top_k must be -1 (disable), or at least 1, got {top_k}.")
        if not 0.0 <= values["min_p"] <= 1.0:
            raise Refused(f"min_p must be in [0, 1], got {values['min_p']}.")
        return Sampling(**(values | {"top_k": max(0, top_k)}))

    def _check_model(self, fields: Fields) -> None:
        name = fields.text("model")
        if name is not None and name != self._arguments.name:
            raise Refused(f"the model '{name}' does not exist", "NotFoundError", 404)

    def _check_length(self, prompt: list[int], *, max_tokens: int, min_tokens: int) -> None:
        limit, given = self._arguments.max_model_len, len(prompt)
        if given + max(max_tokens, min_tokens) <= limit:
            return
        start = f"This model's maximum context length is {limit} tokens, but the "
        if max_tokens:
            total = f"{given + max_tokens} tokens ({given} input + {max_tokens} completion)"
            raise Refused(f"{start}request totals {total}. Please reduce the input length or max_tokens.")
        if given <= limit:
            what = f"input is {given} tokens, leaving no room to generate"
            raise Refused(f"{start}{what}. Please reduce the input length.")
        raise Refused(f"{start}input is {given} tokens. Please reduce the input length.")


def _check_counts(
    fields: Fields,
    max_tokens: int | None,
    min_tokens: int,
    logprobs: int | None,
    prompt_logprobs: int | None,
) -> None:
    count = fields.integer("n", 1)
    if count < 1:
        raise Refused(f"n must be at least 1, got {count}.")
    if count > 1:
        raise Refused(f"furiosa-llm currently does not support n > 1, got {count}.")
    if max_tokens is not None and max_tokens < 1:
        raise Refused(f"max_tokens must be at least 1, got {max_tokens}.")
    if max_tokens is not None and min_tokens > max_tokens:
        message = f"min_tokens must be less than or equal to max_tokens={max_tokens}, got {min_tokens}."
        raise Refused(message)
    if logprobs is not None and logprobs < 0:
        raise Refused(f"logprobs must be non-negative, got {logprobs}.")
    if prompt_logprobs is not None and prompt_logprobs < -1:
        message = f"prompt_logprobs must be -1 (all tokens) or non-negative, got {prompt_logprobs}."
        raise Refused(message)


def _require(fields: Fields, name: str) -> None:
    if fields.raw(name) is None:
        raise Refused(f"1 validation error\n{name}\n  Field required [type=missing]", is_detail=True)


def _content(message: Mapping[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)
