"""What `vllm serve` (0.32) makes of a request: which fields it takes, what it refuses and in which words."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engines.fields import Fields, WrongField
from engines.generation import Wanted
from engines.model import Sampling
from engines.tokenizer import ChatMessage, Tokenizer
from engines.vllm_arguments import VllmArguments

_SAMPLING_DEFAULTS: Mapping[str, float] = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


@dataclass
class Refused(Exception):
    """The request is refused: the fields of the error that goes out."""

    message: str
    kind: str = "BadRequestError"
    param: str | None = None
    status: int = 400


def refused(message: str, name: str, value: Any = None) -> Refused:
    """A refusal of one parameter, which the message names as well."""
    detail = f"(parameter={name})" if value is None else f"(parameter={name}, value={value})"
    return Refused(f"{message} {detail}", param=name)


def wrong_type(error: WrongField) -> Refused:
    """The refusal of a value of the wrong type."""
    place = f"body.{error.name}" if error.name else "body"
    shown = (
        f"<{type(error.value).__name__} of {len(error.value)} items>"
        if isinstance(error.value, list | dict)
        else str(error.value)
    )
    found = [(error.kind, error.message)]
    if error.name == "stop":  # may be one of two kinds, and is tried as both
        found.append(("list_type", "Input should be a valid list"))
    details = [{"type": kind, "loc": place, "msg": message, "input": shown} for kind, message in found]
    label = "error" if len(found) == 1 else "errors"
    lines = "".join(f"\n  {detail}" for detail in details)
    return Refused(f"{len(found)} validation {label}:{lines}", "Bad Request", place)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request that was accepted; `wanted` has one entry for each choice of the answer."""

    model: str
    wanted: tuple[Wanted, ...]
    prompt_count: int
    streams: bool
    includes_usage: bool
    continuous_usage: bool
    returns_token_ids: bool
    names_tokens_by_id: bool
    echoes: bool
    only_echoes: bool
    top_logprobs: int
    stream_interval: int


class RequestReader:
    """Reads requests for one server."""

    def __init__(
        self, arguments: VllmArguments, tokenizer: Tokenizer, generation_config: Mapping[str, Any]
    ) -> None:
        self._arguments = arguments
        self._tokenizer = tokenizer
        self._defaults = dict(_SAMPLING_DEFAULTS)
        if arguments.generation_config != "vllm":
            self._defaults |= {
                name: value for name, value in generation_config.items() if name in _SAMPLING_DEFAULTS
            }

    def completion(self, fields: Fields) -> Asked:
        """A request for `/v1/completions`; raises Refused, WrongField."""
        _check_logprob_fields(fields)
        _check_stream_options(fields)
        if fields.raw("prompt") in (None, ""):
            raise refused("Either prompt or prompt_embeds must be provided and non-empty.", "prompt")
        if fields.raw("prompt") == []:
            raise Refused("You must pass at least one prompt")
        prompts = fields.prompts()
        max_tokens = fields.integer("max_tokens", 16)
        echoes = fields.flag("echo")
        self._check_model(fields)
        special = fields.flag("add_special_tokens", True)
        ids = [self._prompt(prompt, max_tokens=max_tokens, special=special) for prompt in prompts]
        logprobs = fields.integer("logprobs")
        prompt_logprobs = fields.integer("prompt_logprobs")
        if prompt_logprobs is None and echoes:
            prompt_logprobs = logprobs
        return self._asked(
            fields,
            prompts=ids,
            max_tokens=1 if echoes and max_tokens == 0 else max_tokens,
            logprobs=logprobs,
            prompt_logprobs=prompt_logprobs,
            only_echoes=echoes and max_tokens == 0,
        )

    def chat(self, fields: Fields) -> Asked:
        """A request for `/v1/chat/completions`; raises Refused, WrongField."""
        _check_stream_options(fields)
        ids = self._tokenizer.encode(self.chat_text(fields), add_special_tokens=False)
        wanted = fields.integer("max_completion_tokens", fields.integer("max_tokens"))
        self._check_model(fields)
        self._check_length(ids, max_tokens=wanted or 0)
        logprobs = fields.integer("top_logprobs", 0) if fields.flag("logprobs") else None
        return self._asked(
            fields,
            prompts=[ids],
            max_tokens=self._arguments.max_model_len if wanted is None else wanted,
            logprobs=logprobs,
            prompt_logprobs=fields.integer("prompt_logprobs"),
            only_echoes=False,
        )

    def tokenize(self, fields: Fields) -> list[int]:
        """Token ids of a text or of a conversation; raises Refused, WrongField."""
        if "messages" in fields:
            text, special = self.chat_text(fields), fields.flag("add_special_tokens", False)
        elif (prompt := fields.text("prompt")) is not None:
            text, special = prompt, fields.flag("add_special_tokens", True)
        else:
            raise WrongField("prompt", "missing", "Field required", "<dict>")
        self._check_model(fields)
        return self._tokenizer.encode(text, add_special_tokens=special)

    def detokenize(self, fields: Fields) -> str:
        """Text of token ids; unknown ones are left out. Raises Refused, WrongField."""
        if "tokens" not in fields and fields.raw("tokens") is None:
            raise WrongField("tokens", "missing", "Field required", "<dict>")
        tokens = fields.integers("tokens")
        self._check_model(fields)
        known = [token for token in tokens if 0 <= token < self._tokenizer.vocabulary_size]
        return self._tokenizer.decode(known)

    def chat_text(self, fields: Fields) -> str:
        """The conversation by the chat template; raises Refused, WrongField."""
        messages = [
            ChatMessage(str(each["role"]), _content(each.get("content"))) for each in fields.messages()
        ]
        if not messages:
            raise Refused(
                "Cannot apply chat template to an empty conversation. Provide at least one message."
            )
        prompted = fields.flag("add_generation_prompt", True)
        return self._tokenizer.chat_text(messages, add_generation_prompt=prompted)

    def _asked(
        self,
        fields: Fields,
        *,
        prompts: list[list[int]],
        max_tokens: int,
        logprobs: int | None,
        prompt_logprobs: int | None,
        only_echoes: bool,
    ) -> Asked:
        arguments = self._arguments
        sampling = self._sampling(fields)
        count = fields.integer("n", 1)
        self._check_counts(sampling, count, logprobs, prompt_logprobs)
        stop = fields.texts("stop")
        if "" in stop:
            raise Refused("stop cannot contain an empty string.")
        wanted = []
        for prompt in prompts:
            # What the context has no room for is cut off silently.
            room = min(max_tokens, arguments.max_model_len - len(prompt))
            if room < 1:
                raise refused(f"max_tokens must be at least 1, got {room}.", "max_tokens", room)
            each = Wanted(
                prompt=prompt,
                sampling=sampling,
                max_tokens=room,
                min_tokens=fields.integer("min_tokens", 0),
                stop=stop,
                stop_token_ids=frozenset(fields.integers("stop_token_ids")),
                include_stop=fields.flag("include_stop_str_in_output"),
                ignore_eos=fields.flag("ignore_eos"),
                skip_special_tokens=fields.flag("skip_special_tokens", True),
                logprobs=logprobs,
                prompt_logprobs=prompt_logprobs,
            )
            if each.min_tokens > room:
                raise Refused(
                    f"min_tokens must be less than or equal to max_tokens={room}, got {each.min_tokens}."
                )
            wanted += [each] * count
        options = fields.fields("stream_options")
        streams = fields.flag("stream")
        includes_usage = streams and (options.flag("include_usage") or arguments.forces_usage)
        return Asked(
            model=fields.text("model") or arguments.names[0],
            wanted=tuple(wanted),
            prompt_count=len(prompts),
            streams=streams,
            includes_usage=includes_usage,
            continuous_usage=includes_usage and options.flag("continuous_usage_stats"),
            returns_token_ids=fields.flag("return_token_ids"),
            names_tokens_by_id=fields.flag("return_tokens_as_token_ids"),
            echoes=fields.flag("echo"),
            only_echoes=only_echoes,
            top_logprobs=logprobs or 0,
            stream_interval=max(arguments.stream_interval, fields.integer("stream_interval", 1)),
        )

    def _sampling(self, fields: Fields) -> Sampling:
        values = {name: fields.number(name, default) for name, default in self._defaults.items()}
        values["top_k"] = fields.integer("top_k", int(self._defaults["top_k"]))
        _check_sampling(values)
        seed = fields.integer("seed")
        bias = fields.fields("logit_bias").raw_items()
        if values["temperature"] < 1e-5:
            values |= {"top_p": 1.0, "top_k": 0, "min_p": 0.0}
        return Sampling(
            **values,
            seed=None if seed == -1 else seed,
            logit_bias={int(token): max(-100.0, min(100.0, float(each))) for token, each in bias},
        )

    def _check_counts(
        self, sampling: Sampling, count: int, logprobs: int | None, prompt_logprobs: int | None
    ) -> None:
        if count < 1:
            raise Refused(f"n must be at least 1, got {count}.")
        if count > 1 and sampling.temperature < 1e-5:
            raise Refused(f"n must be 1 when using greedy sampling, got {count}.")
        limit = self._arguments.max_logprobs
        for kind, name, value in (
            ("sample", "logprobs", logprobs),
            ("prompt", "prompt_logprobs", prompt_logprobs),
        ):
            if value is not None and limit >= 0 and (value > limit or value == -1):
                told = self._tokenizer.vocabulary_size if value == -1 else value
                message = f"Requested {kind} logprobs of {told}, which is greater than max allowed: {limit}"
                raise refused(message, name, value)

    def _check_model(self, fields: Fields) -> None:
        name = fields.text("model")
        if name is not None and name not in self._arguments.names:
            aliases = ", ".join(self._arguments.names)
            message = f"The model `{name}` does not exist. Valid aliases: {aliases}."
            raise Refused(message, "NotFoundError", "model", 404)

    def _prompt(self, prompt: str | list[int], *, max_tokens: int, special: bool) -> list[int]:
        if isinstance(prompt, str):
            ids = self._tokenizer.encode(prompt, add_special_tokens=special)
        else:
            ids = prompt
            unknown = [token for token in ids if not 0 <= token < self._tokenizer.vocabulary_size]
            if unknown:
                raise Refused(f"Token id {max(unknown)} is out of vocabulary")
        if not ids:
            raise Refused("The decoder prompt cannot be empty")
        self._check_length(ids, max_tokens=max_tokens)
        return ids

    def _check_length(self, ids: list[int], *, max_tokens: int) -> None:
        limit = self._arguments.max_model_len
        if max_tokens > limit:
            message = f"max_tokens={max_tokens} cannot be greater than max_model_len={limit}."
            raise refused(f"{message} Please request fewer output tokens.", "max_tokens", max_tokens)
        if len(ids) > limit:
            message = (
                f"This model's maximum context length is {limit} tokens. However, your prompt contains "
                f"at least {limit + 1} input tokens, which exceeds this limit even without any output "
                f"tokens. Please reduce the length of the input prompt."
            )
            raise refused(message, "input_tokens", limit + 1)


def _check_stream_options(fields: Fields) -> None:
    if fields.raw("stream_options") and not fields.raw("stream"):
        raise refused("Stream options can only be defined when `stream=True`.", "stream_options")


def _check_logprob_fields(fields: Fields) -> None:
    for name in ("prompt_logprobs", "logprobs"):
        value = fields.raw(name)
        if value is not None and not isinstance(value, int | float):
            raise refused(f"`{name}` must be an integer.", name, value)
    prompt_logprobs = fields.raw("prompt_logprobs")
    if (
        prompt_logprobs is not None
        and fields.raw("stream")
        and (prompt_logprobs > 0 or prompt_logprobs == -1)
    ):
        raise refused("`prompt_logprobs` are not available when `stream=True`.", "prompt_logprobs")
    for name in ("prompt_logprobs", "logprobs"):
        value = fields.raw(name)
        if value is not None and value < 0 and value != -1:
            raise refused(f"`{name}` must be a positive value or -1.", name, value)


def _check_sampling(values: Mapping[str, Any]) -> None:
    for name in ("presence_penalty", "frequency_penalty"):
        if not -2.0 <= values[name] <= 2.0:
            raise Refused(f"{name} must be in [-2, 2], got {values[name]}.")
    if values["repetition_penalty"] <= 0.0:
        raise Refused(f"repetition_penalty must be greater than zero, got {values['repetition_penalty']}.")
    temperature = values["temperature"]
    if temperature < 0.0:
        message = f"temperature must be non-negative, got {temperature}."
        raise refused(message, "temperature", temperature)
    if temperature > 2.0:
        raise refused(f"temperature must be in [0, 2], got {temperature}.", "temperature", temperature)
    if not 0.0 < values["top_p"] <= 1.0:
        raise refused(f"top_p must be in (0, 1], got {values['top_p']}.", "top_p", values["top_p"])
    if values["top_k"] < -1:
        raise Refused(f"top_k must be 0 (disable), or at least 1, got {values['top_k']}.")
    if not 0.0 <= values["min_p"] <= 1.0:
        raise Refused(f"min_p must be in [0, 1], got {values['min_p']}.")


def _content(content: Any) -> str:
    """Text of a message, whose content may be given in parts."""
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return "" if content is None else str(content)
