"""Requests and results to and from their messages, written out by hand because each sample passes here.

Everything else goes through `assay_serving.convert`, which works from the type annotations.
"""

from functools import lru_cache
from typing import Any

from assay_serving.convert import from_proto, to_proto
from assay_serving.types import (
    ChatMessage,
    FinishReason,
    GenerateRequest,
    GenerateResult,
    RequestTimes,
    SamplingParameters,
    ScoreRequest,
    ScoreResult,
    StampSource,
)
from assay_serving.v1 import serving_pb2 as pb

_FINISH_REASON: dict[FinishReason, Any] = {
    FinishReason.STOP_STRING: pb.FINISH_REASON_STOP_STRING,
    FinishReason.END_OF_SEQUENCE: pb.FINISH_REASON_END_OF_SEQUENCE,
    FinishReason.LENGTH: pb.FINISH_REASON_LENGTH,
}
_STAMP_SOURCE: dict[StampSource, Any] = {
    StampSource.KERNEL: pb.STAMP_SOURCE_KERNEL,
    StampSource.USER_SPACE: pb.STAMP_SOURCE_USER_SPACE,
}
_FINISH_REASON_OF = {number: reason for reason, number in _FINISH_REASON.items()}
_STAMP_SOURCE_OF = {number: source for source, number in _STAMP_SOURCE.items()}


def encode_generate_request(request: GenerateRequest, request_id: str) -> pb.GenerateRequest:
    """`request` under another id."""
    sampling = _encoded_sampling(request.sampling)
    if not request.chat:
        return pb.GenerateRequest(request_id=request_id, sampling=sampling, text=request.text)
    chat = pb.Messages(items=[pb.Message(role=each.role, content=each.content) for each in request.chat])
    return pb.GenerateRequest(request_id=request_id, sampling=sampling, chat=chat)


def decode_generate_request(message: pb.GenerateRequest) -> GenerateRequest:
    """The request; equal sampling parameters may come back as the same object."""
    return GenerateRequest(
        request_id=message.request_id,
        text=message.text,
        chat=tuple(ChatMessage(role=each.role, content=each.content) for each in message.chat.items),
        sampling=_decoded_sampling(message.sampling.SerializeToString(deterministic=True)),
    )


def encode_generate_result(result: GenerateResult) -> pb.GenerateResult:
    """The message of a generation."""
    return pb.GenerateResult(
        text=result.text,
        finish_reason=_FINISH_REASON[result.finish_reason],
        stop_match=result.stop_match,
        prompt_tokens=result.prompt_tokens,
        completion_tokens=result.completion_tokens,
        times=_encode_times(result.times),
        token_text_lengths=result.token_text_lengths,
    )


def decode_generate_result(message: pb.GenerateResult) -> GenerateResult:
    """The generation.

    Raises:
        ValueError: an enum is unspecified or unknown.
    """
    reason = _FINISH_REASON_OF.get(message.finish_reason)
    if reason is None:
        raise ValueError(f"finish_reason {message.finish_reason} is unspecified or unknown")
    return GenerateResult(
        text=message.text,
        finish_reason=reason,
        stop_match=message.stop_match,
        prompt_tokens=message.prompt_tokens,
        completion_tokens=message.completion_tokens,
        times=_decode_times(message.times),
        token_text_lengths=tuple(message.token_text_lengths),
    )


def encode_score_request(request: ScoreRequest, request_id: str) -> pb.ScoreRequest:
    """`request` under another id."""
    return pb.ScoreRequest(request_id=request_id, context=request.context, continuation=request.continuation)


def decode_score_request(message: pb.ScoreRequest) -> ScoreRequest:
    """The request."""
    return ScoreRequest(
        request_id=message.request_id, context=message.context, continuation=message.continuation
    )


def encode_score_result(result: ScoreResult) -> pb.ScoreResult:
    """The message of a score."""
    return pb.ScoreResult(
        log_probability=result.log_probability,
        is_greedy=result.is_greedy,
        context_tokens=result.context_tokens,
        continuation_tokens=result.continuation_tokens,
        times=_encode_times(result.times),
    )


def decode_score_result(message: pb.ScoreResult) -> ScoreResult:
    """The score.

    Raises:
        ValueError: an enum is unspecified or unknown.
    """
    return ScoreResult(
        log_probability=message.log_probability,
        is_greedy=message.is_greedy,
        context_tokens=message.context_tokens,
        continuation_tokens=message.continuation_tokens,
        times=_decode_times(message.times),
    )


def _encode_times(times: RequestTimes) -> pb.RequestTimes:
    return pb.RequestTimes(
        received_mono_ns=times.received_mono_ns,
        sent_mono_ns=times.sent_mono_ns,
        first_token_mono_ns=times.first_token_mono_ns,
        done_mono_ns=times.done_mono_ns,
        token_offsets_us=times.token_offsets_us,
        exact_token_times=times.exact_token_times,
        stamp_source=_STAMP_SOURCE[times.stamp_source],
        merged_reads=times.merged_reads,
    )


def _decode_times(message: pb.RequestTimes) -> RequestTimes:
    source = _STAMP_SOURCE_OF.get(message.stamp_source)
    if source is None:
        raise ValueError(f"stamp_source {message.stamp_source} is unspecified or unknown")
    return RequestTimes(
        received_mono_ns=message.received_mono_ns,
        sent_mono_ns=message.sent_mono_ns,
        first_token_mono_ns=message.first_token_mono_ns,
        done_mono_ns=message.done_mono_ns,
        token_offsets_us=tuple(message.token_offsets_us),
        exact_token_times=message.exact_token_times,
        stamp_source=source,
        merged_reads=message.merged_reads,
    )


# A run has one or two sets of sampling parameters and many thousand requests.
@lru_cache(maxsize=64)
def _encoded_sampling(sampling: SamplingParameters) -> Any:
    return to_proto(sampling)


@lru_cache(maxsize=64)
def _decoded_sampling(message: bytes) -> SamplingParameters:
    return from_proto(pb.Sampling.FromString(message), SamplingParameters)
