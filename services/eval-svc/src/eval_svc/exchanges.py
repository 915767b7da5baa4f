"""What a run asks of a model and what comes back, between the harness's words and the adapter's."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from assay_harness.results import ModelRequest, RequestKind
from assay_serving.types import (
    ChatMessage,
    GenerateRequest,
    GenerateResult,
    RequestTimes,
    SamplingParameters,
    ScoreResult,
)
from eval_svc.fleet import SAMPLING


@dataclass(slots=True)
class Answer:
    """The answer to one request, with where and when it was produced.

    ``reused_from`` names the document and request that it was given to first; a reused answer has no times of
    its own, since nothing was asked.
    """

    kind: RequestKind
    result: GenerateResult | ScoreResult
    instance_id: str
    retries: int = 0
    reused_from: dict[str, int] | None = None

    def record(self) -> dict[str, Any]:
        """The part of a sample record that the answer fills."""
        times = self.result.times
        is_reused = self.reused_from is not None
        record: dict[str, Any] = {
            "instance_id": self.instance_id,
            "retries": self.retries,
            "reused_from": self.reused_from,
            "times": None if is_reused else _times_record(times),
            "schedule_delay_s": None if is_reused else (times.sent_mono_ns - times.received_mono_ns) / 1e9,
        }
        if isinstance(self.result, GenerateResult):
            return record | {
                "response": self.result.text,
                "finish_reason": self.result.finish_reason.value,
                "stop_match": self.result.stop_match,
                "prompt_tokens": self.result.prompt_tokens,
                "completion_tokens": self.result.completion_tokens,
                "token_text_lengths": list(self.result.token_text_lengths),
            }
        return record | {
            "log_probability": self.result.log_probability,
            "is_greedy": self.result.is_greedy,
            "prompt_tokens": self.result.context_tokens,
            "completion_tokens": 0,
            "continuation_tokens": self.result.continuation_tokens,
        }


class RequestFailed(Exception):
    """One request got no answer. ``retryable``: the same request may succeed later."""

    def __init__(self, *, code: str, message: str, retryable: bool) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.retryable = retryable


class RequestBuilder:
    """Turns what the harness wants generated into requests of the adapter.

    The arguments are those of the task, so nearly always the same as those of the request before: they are
    read anew only where they differ.
    """

    def __init__(self) -> None:
        self._last_arguments: Mapping[str, Any] | None = None
        self._last_sampling: SamplingParameters | None = None

    def generation(self, request: ModelRequest) -> GenerateRequest:
        """The request of the adapter: a chat where there are messages, else a text."""
        if request.generation_kwargs != self._last_arguments:
            self._last_sampling = _sampling(request.generation_kwargs)
            self._last_arguments = request.generation_kwargs
        assert self._last_sampling is not None
        if request.messages is not None:
            chat = tuple(ChatMessage(role=each["role"], content=each["content"]) for each in request.messages)
            return GenerateRequest(chat=chat, sampling=self._last_sampling)
        return GenerateRequest(text=request.context, sampling=self._last_sampling)


def _times_record(times: RequestTimes) -> dict[str, Any]:
    return {
        "received_ns": times.received_mono_ns,
        "sent_ns": times.sent_mono_ns,
        "first_token_ns": times.first_token_mono_ns,
        "done_ns": times.done_mono_ns,
        "token_offsets_us": list(times.token_offsets_us),
        "exact_token_times": times.exact_token_times,
        "stamp_source": times.stamp_source.value,
        "merged_reads": times.merged_reads,
    }


def _sampling(arguments: Mapping[str, Any]) -> SamplingParameters:
    named = {
        field: arguments[name] for name, (field, _) in SAMPLING.items() if arguments.get(name) is not None
    }
    if arguments.get("do_sample") is False:
        named["temperature"] = 0.0  # greedy, whatever the model's own defaults are
    return SamplingParameters(**named, max_tokens=arguments["max_gen_toks"], stop=tuple(arguments["until"]))
