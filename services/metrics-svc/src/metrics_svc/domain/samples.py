"""Samples as eval-svc hands them out, and the same with their scores."""

import zlib
from collections.abc import Mapping, Sequence
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError

from assay_harness.results import DocumentScore, LogProbability, Response
from metrics_svc.domain.pairing import ItemKey
from metrics_svc.errors import Unscorable


class _Record(BaseModel):
    """Frozen; ignores fields that a newer eval-svc adds."""

    model_config = ConfigDict(frozen=True, extra="ignore", ser_json_inf_nan="constants")


class RequestTimes(_Record):
    """When things happened, ns of the adapter's monotonic clock; comparable within one instance only.

    Attributes:
        received_ns: the adapter got the request.
        sent_ns: the request's last byte left for the engine.
        first_token_ns: first chunk with text; 0 or ``None`` where there was none.
        done_ns: the response was complete.
        token_offsets_us: arrival of every token, microseconds after ``sent_ns``. Tokens that came in one read
            have the same value.
        stamp_source: where the stamps were taken.
        merged_reads: reads that carried more than one token.
        exact_token_times: whether there is one offset per token.
    """

    received_ns: int
    sent_ns: int
    first_token_ns: int | None = None
    done_ns: int
    token_offsets_us: list[int] = []
    stamp_source: str = "unknown"
    merged_reads: int = 0
    exact_token_times: bool = False


class RequestRecord(_Record):
    """One request of a sample with its response. Without a response when the request failed.

    ``token_text_lengths`` are the characters of each completion token's text as the engine sent it, of which
    the response may be the beginning; empty where the serving side does not tell.
    """

    index: int
    repeat: int = 0
    kind: Literal["generate", "loglikelihood", "rolling"]
    prompt: str
    continuation: str | None = None
    response: str | None = None
    log_probability: float | None = None
    is_greedy: bool | None = None
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    token_text_lengths: list[int] = []
    retries: int = 0
    instance_id: str | None = None
    times: RequestTimes | None = None
    schedule_delay_s: float | None = None
    reused_from: dict[str, int] | None = None

    def answer(self) -> Response:
        """The response in the harness's form.

        Raises:
            Unscorable: there is none though the sample is not marked as failed.
        """
        if self.kind == "generate" and self.response is not None:
            return self.response
        if self.kind == "loglikelihood" and self.log_probability is not None and self.is_greedy is not None:
            return LogProbability(self.log_probability, self.is_greedy)
        if self.kind == "rolling" and self.log_probability is not None:
            return self.log_probability
        raise Unscorable("malformed-sample", f"request {self.index} ({self.kind}) has no response")


class SampleRecord(_Record):
    """One evaluated document. ``index`` is its row in the evaluation rows, from 0.

    ``task`` is the task that it belongs to; empty in what was recorded before runs could be of a group.
    """

    index: int
    task: str = ""
    doc_hash: str
    prompt_hash: str
    target_hash: str
    target: str
    status: Literal["ok", "failed"]
    error: JsonValue = None
    requests: list[RequestRecord]

    def key(self, *, task: str) -> ItemKey:
        """What pairs this sample with the same one of another run; ``task`` is what the run is of."""
        return ItemKey(self.doc_hash, self.prompt_hash, self.target_hash, self.task or task)

    def answers(self) -> list[Response]:
        """The responses in the order of the requests; raises ``Unscorable`` where one is missing."""
        ordered = sorted(self.requests, key=lambda request: (request.index, request.repeat))
        return [request.answer() for request in ordered]


class ScoredSample(_Record):
    """A sample and its score; no score where the sample failed."""

    record: SampleRecord
    score: DocumentScore | None

    @property
    def failed(self) -> bool:
        """Whether there is nothing to score."""
        return self.score is None

    def response_text(self) -> str | None:
        """The response as a person reads it: the text, or the most probable of the given continuations."""
        if not self.record.requests:
            return None
        first = self.record.requests[0]
        if first.kind == "generate":
            return first.response
        scored = [
            (request.log_probability, request.continuation or "")
            for request in self.record.requests
            if request.log_probability is not None
        ]
        return max(scored)[1] if scored and first.kind == "loglikelihood" else None

    def filtered(self) -> dict[str, JsonValue]:
        """What each filter made of the responses; the text itself where there is one request."""
        if self.score is None:
            return {}
        return {
            name: results[0] if len(results) == 1 else list(results)
            for name, results in self.score.filtered.items()
        }


_RECORDS = TypeAdapter(list[SampleRecord])
_SCORED = TypeAdapter(list[ScoredSample])


def read_records(samples: Sequence[Mapping[str, object]]) -> list[SampleRecord]:
    """Read a block of the sample log.

    Raises:
        Unscorable: it is not what the contract says; names the first wrong field.
    """
    try:
        return _RECORDS.validate_python(samples)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise Unscorable("malformed-sample", f"samples.{place}: {first['msg']}") from error


def pack(samples: Sequence[ScoredSample]) -> bytes:
    """Scored samples as they are stored.

    Compressed JSON: the samples of a block share most of their prompts (few-shot examples), and metric names
    contain dots, which not every store takes as field names. Numbers come back bit by bit.
    """
    return zlib.compress(_SCORED.dump_json(list(samples)), level=3)


def unpack(packed: bytes) -> list[ScoredSample]:
    """Reverse ``pack``."""
    return _SCORED.validate_json(zlib.decompress(packed))
