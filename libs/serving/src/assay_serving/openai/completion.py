"""What is asked of /v1/completions, and what its stream of chunks adds up to."""

from dataclasses import dataclass, field
from typing import Any

import orjson

from assay_serving.arrivals import Arrivals
from assay_serving.errors import ContextTooLong, EngineError
from assay_serving.openai.http import error_of_event
from assay_serving.stops import cut_at_earliest_stop
from assay_serving.types import FinishReason, GenerateResult, SamplingParameters
from assay_serving.upstream import ServerEvent, UpstreamReply

Prompt = str | list[int]


def completion_body(prompt: Prompt, sampling: SamplingParameters, *, model: str) -> dict[str, Any]:
    """A streamed request. Every field is sent, so that no default of server or model decides.

    The server's answer keeps the stop string: it then holds back no text that might begin one, which would
    delay the first token, and the cut is made here by one rule for all backends. Tokens that end a sequence
    are not named: those of the model count.
    """

    def set_or(value: float | None, neutral: float) -> float:
        return neutral if value is None else value

    return {
        "model": model,
        "prompt": prompt,
        "add_special_tokens": True,
        "n": 1,
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
        "max_tokens": sampling.max_tokens,
        "min_tokens": 0,
        "temperature": set_or(sampling.temperature, 0.0),
        "top_p": set_or(sampling.top_p, 1.0),
        "top_k": set_or(sampling.top_k, -1),
        "min_p": set_or(sampling.min_p, 0.0),
        "seed": sampling.seed,
        "repetition_penalty": set_or(sampling.repetition_penalty, 1.0),
        "presence_penalty": set_or(sampling.presence_penalty, 0.0),
        "frequency_penalty": set_or(sampling.frequency_penalty, 0.0),
        "stop": list(sampling.stop),
        "include_stop_str_in_output": True,
        "skip_special_tokens": True,
        "ignore_eos": sampling.ignore_eos,
    }


def scoring_body(tokens: list[int], *, model: str) -> dict[str, Any]:
    """A request for the log-probability of each of `tokens`; servers answer it in one piece only."""
    greedy = completion_body(tokens, SamplingParameters(max_tokens=1), model=model)
    del greedy["stream_options"]
    return {**greedy, "stream": False, "prompt_logprobs": 0}


@dataclass(slots=True)
class CompletionStream:
    """What the events of one answer bring together.

    `sampling` is what was asked for, and `context_tokens` what prompt and answer have room in.
    """

    sampling: SamplingParameters
    context_tokens: int
    arrivals: Arrivals = field(default_factory=Arrivals)
    pieces: list[str] = field(default_factory=list)
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    usage: dict[str, int] | None = None

    def add(self, event: ServerEvent) -> None:
        """Take one event as it comes.

        Raises:
            ContextTooLong: the first chunk tells of a prompt that leaves no room for `max_tokens`.
            UpstreamError, ServingError: the event is an error.
        """
        try:  # nearly every event is a chunk with a token
            chunk = orjson.loads(event.data)
            choice = chunk["choices"][0]
            text, tokens = choice["text"], choice.get("token_ids")
            if not self.arrivals.token_count:
                self._check_fits(len(choice.get("prompt_token_ids") or ()))
            if choice.get("finish_reason") is not None:
                self.finish_reason, self.stop_reason = choice["finish_reason"], choice.get("stop_reason")
                self.usage = chunk.get("usage") or self.usage
        except (orjson.JSONDecodeError, LookupError, TypeError, AttributeError):
            self._add_other(event)
            return
        if text:
            self.pieces.append(text)
        self.arrivals.add(event, tokens=len(tokens) if tokens else 0, text_length=len(text))

    def _add_other(self, event: ServerEvent) -> None:
        """Take an event that is no chunk with text: the end, the usage, an error, or what nobody expects."""
        if event.data == b"[DONE]":
            return
        try:
            chunk = orjson.loads(event.data)
        except orjson.JSONDecodeError:
            chunk = None
        match chunk:
            case {"error": error}:
                raise error_of_event(error, tokens_before_error=self.arrivals.token_count)
            case {"choices": [], "usage": {"completion_tokens": int(), "prompt_tokens": int()} as usage}:
                self.usage = usage
            case {"choices": []}:
                pass
            case _:
                told = event.data[:200].decode("utf-8", errors="replace")
                raise EngineError(
                    f"the engine's stream has something that is no chunk of a completion: {told}",
                    tokens_before_error=self.arrivals.token_count,
                )

    def _check_fits(self, prompt_tokens: int) -> None:
        """Refuse a prompt that leaves no room for `max_tokens`.

        vLLM cuts the answer to such a prompt without a word, others refuse the request: here all do, also
        where the answer would have ended before the cut.
        """
        wanted = self.sampling.max_tokens
        if prompt_tokens + wanted > self.context_tokens:
            raise ContextTooLong(
                f"{prompt_tokens} prompt tokens and max_tokens {wanted} exceed the context of "
                f"{self.context_tokens}; ask for fewer, or provision with more max_context_tokens",
                tokens_before_error=self.arrivals.token_count,
            )

    def result(self, reply: UpstreamReply, *, received_mono_ns: int) -> GenerateResult:
        """The finished generation.

        The server's own count of tokens is the result's; where the ids that came are not as many, no token
        has a time of its own and `exact_token_times` is false.

        Raises:
            ContextTooLong: prompt and `max_tokens` do not fit into the context.
            EngineError: the stream has no end, or ended for no known reason.
        """
        if self.finish_reason is None or self.usage is None:
            raise EngineError(
                "the engine's stream ended without its last message",
                retryable=True,
                tokens_before_error=self.arrivals.token_count,
            )
        tokens, prompt_tokens = self.usage["completion_tokens"], self.usage["prompt_tokens"]
        text = "".join(self.pieces)
        cut = cut_at_earliest_stop(text, self.sampling.stop)
        stop_match = cut.match or (self.stop_reason if isinstance(self.stop_reason, str) else "")
        self._check_fits(prompt_tokens)
        if not stop_match and self.finish_reason == "length" and tokens < self.sampling.max_tokens:
            raise _ended_early(tokens, self.sampling.max_tokens)
        return GenerateResult(
            text=cut.text,
            finish_reason=_finish_reason(self.finish_reason, stop_match),
            stop_match=stop_match,
            prompt_tokens=prompt_tokens,
            completion_tokens=tokens,
            times=self.arrivals.times(reply, completion_tokens=tokens, received_mono_ns=received_mono_ns),
            token_text_lengths=self.arrivals.text_lengths(completion_tokens=tokens),
        )


def _finish_reason(reason: str, stop_match: str) -> FinishReason:
    match reason:
        case _ if stop_match:
            return FinishReason.STOP_STRING
        case "stop":
            return FinishReason.END_OF_SEQUENCE
        case "length":
            return FinishReason.LENGTH
        case _:
            raise EngineError(f"the engine stopped for an unknown reason: {reason!r}")


def _ended_early(tokens: int, wanted: int) -> EngineError:
    return EngineError(
        f"the engine stopped after {tokens} of {wanted} tokens, at a limit of its own; start it without the "
        "model's generation_config (vLLM: --generation-config vllm)",
        tokens_before_error=tokens,
    )
