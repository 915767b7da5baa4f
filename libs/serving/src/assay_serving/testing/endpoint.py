"""An OpenAI-compatible HTTP endpoint whose answers and timing are scripted.

Serves `POST /v1/completions` (streaming or not, with `echo` and `logprobs`), `GET /v1/models`, `GET /stats`,
and `DELETE /stats` to count from 0 again. Written on bare asyncio transports: benchmarks share their
processors with it.
"""

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Any

import orjson

from assay_serving.testing.answers import (
    GREEDY_LOG_PROBABILITY,
    answer,
    count_tokens,
    token_log_probabilities,
)
from assay_serving.testing.script import FailureKind, Script, pieces_of

MODEL = "scripted"
_HEAD_END = b"\r\n\r\n"
_STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
_REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 503: "Service Unavailable"}


@dataclass(slots=True)
class EndpointStatistics:
    """What has been asked so far; `first_unix_ns` is when the first completion request was complete."""

    requests: int = 0
    in_flight: int = 0
    most_in_flight: int = 0
    cancelled: int = 0
    failed: int = 0
    first_unix_ns: int = 0
    last_unix_ns: int = 0

    def clear(self) -> None:
        """Begin to count again; what is in flight stays."""
        self.requests = self.cancelled = self.failed = self.first_unix_ns = self.last_unix_ns = 0
        self.most_in_flight = self.in_flight


@asynccontextmanager
async def serve_endpoint(
    script: Script, *, host: str = "127.0.0.1", port: int = 0, key: str = ""
) -> AsyncIterator[tuple[str, EndpointStatistics]]:
    """Serve until the block is left; yields the base URL and the statistics as they grow.

    With a `key` every request needs it as a bearer token; a refusal repeats what was sent, as some do.
    """
    statistics = EndpointStatistics()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(script, statistics, key), host, port, backlog=1024)
    async with server:
        yield f"http://{host}:{server.sockets[0].getsockname()[1]}", statistics


@dataclass(frozen=True, slots=True)
class _Completion:
    """A completion worked out before its first byte is due."""

    tokens: list[str]
    finish_reason: str
    stop_reason: str | None
    prompt_tokens: int

    @classmethod
    def of(cls, prompt: str, request: dict[str, Any]) -> "_Completion":
        wanted = _wanted(request)
        # One more than wanted tells an end by length from one by itself.
        tokens = list(islice(answer(prompt, ignore_end=request.get("ignore_eos", False)), wanted + 1))
        reason, matched = "stop", None
        if len(tokens) > wanted:
            tokens, reason = tokens[:wanted], "length"
        stop = request.get("stop") or ()
        tokens, match = _cut(tokens, (stop,) if isinstance(stop, str) else stop)
        if match:
            reason, matched = "stop", match
        return cls(tokens, reason, matched, count_tokens(prompt))

    @property
    def usage(self) -> dict[str, int]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": len(self.tokens),
            "total_tokens": self.prompt_tokens + len(self.tokens),
        }

    def chunk(self, piece: list[str], *, is_last: bool) -> bytes:
        """A piece as one HTTP chunk; the last also brings usage and the ends of event stream and answer."""
        choice = {
            "index": 0,
            "text": "".join(piece),
            "token_ids": list(range(len(piece))),
            "finish_reason": self.finish_reason if is_last else None,
            "stop_reason": self.stop_reason if is_last else None,
        }
        events = b"data: %b\n\n" % orjson.dumps({"model": MODEL, "choices": [choice]})
        if not is_last:
            return b"%x\r\n%b\r\n" % (len(events), events)
        usage = orjson.dumps({"model": MODEL, "choices": [], "usage": self.usage})
        events += b"data: %b\n\ndata: [DONE]\n\n" % usage
        return b"%x\r\n%b\r\n0\r\n\r\n" % (len(events), events)


class _Connection(asyncio.Protocol):
    """One client's connection: one request after the other."""

    def __init__(self, script: Script, statistics: EndpointStatistics, key: str) -> None:
        self._script = script
        self._key = key
        self._statistics = statistics
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._timer: asyncio.TimerHandle | None = None
        self._is_busy = False
        self._closes = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See Protocol."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, error: Exception | None) -> None:
        """See Protocol."""
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._is_busy:
            self._statistics.cancelled += 1
            self._end()

    def data_received(self, data: bytes) -> None:
        """See Protocol."""
        self._received = self._received + data if self._received else data
        end = self._received.find(_HEAD_END)
        if end < 0:
            return
        first, *lines = self._received[:end].decode("latin-1").split("\r\n")
        fields = (line.split(": ", 1) for line in lines if ": " in line)
        headers = {name.lower(): value for name, value in fields}
        body_end = end + len(_HEAD_END) + int(headers.get("content-length", 0))
        if len(self._received) < body_end:
            return
        body, self._received = self._received[end + len(_HEAD_END) : body_end], self._received[body_end:]
        self._closes = headers.get("connection") == "close"
        try:
            method, path, _ = first.lower().split(" ", 2)
            sent = headers.get("authorization", "")
            if self._key and sent != f"Bearer {self._key}":
                self._refuse(401, f"wrong key: {sent!r}")
            else:
                self._answer(method, path, body)
        except (orjson.JSONDecodeError, KeyError, TypeError, ValueError) as error:
            self._refuse(400, f"not a completion request: {error!r}")

    def _answer(self, method: str, path: str, body: bytes) -> None:
        match method, path:
            case "post", "/v1/completions":
                self._complete(orjson.loads(body))
            case "get", "/v1/models":
                self._reply(200, {"object": "list", "data": [{"id": MODEL, "object": "model"}]})
            case "get", "/stats":
                self._reply(200, asdict(self._statistics))
            case "delete", "/stats":
                self._statistics.clear()
                self._reply(200, asdict(self._statistics))
            case _:
                self._refuse(404, f"{method} {path}: not served here")

    def _complete(self, request: dict[str, Any]) -> None:
        prompts = request["prompt"]
        prompt = prompts if isinstance(prompts, str) else prompts[0]
        if not isinstance(prompt, str) or (not isinstance(prompts, str) and len(prompts) != 1):
            raise ValueError("prompt must be one string")
        self._count()
        failure = self._script.failure(self._statistics.requests)
        if failure is not None:
            self._statistics.failed += 1
        match failure:
            case FailureKind.BUSY:
                self._end()
                self._refuse(503, "scripted to be busy")
                return
            case FailureKind.STALL:
                return
            case FailureKind.DIE:
                os._exit(1)
        completion = _Completion.of(prompt, request)
        limit = self._script.max_model_tokens
        if completion.prompt_tokens + _wanted(request) > limit:
            self._end()
            message = f"{completion.prompt_tokens} prompt tokens and max_tokens exceed {limit}"
            self._refuse(400, message, kind="context_length_exceeded")
        elif request.get("stream"):
            self._stream(completion, drops=failure is FailureKind.DROP)
        else:
            document = _document(prompt, request, completion)
            delay = self._script.duration(len(completion.tokens))
            self._timer = self._loop.call_later(delay, self._finish, document, failure is FailureKind.DROP)

    def _count(self) -> None:
        statistics = self._statistics
        statistics.requests += 1
        statistics.in_flight += 1
        statistics.most_in_flight = max(statistics.most_in_flight, statistics.in_flight)
        statistics.last_unix_ns = time.time_ns()
        statistics.first_unix_ns = statistics.first_unix_ns or statistics.last_unix_ns
        self._is_busy = True

    def _end(self) -> None:
        self._is_busy = False
        self._statistics.in_flight -= 1

    def _stream(self, completion: _Completion, *, drops: bool) -> None:
        count, gap = self._script.schedule(len(completion.tokens))
        pieces = pieces_of(completion.tokens, count)
        drops_at = min(1, count - 1) if drops else count
        begin = self._loop.time() + self._script.first_token

        def send(number: int) -> None:
            assert self._transport is not None, "the timer is cancelled when the connection is lost"
            if number == drops_at:
                self._transport.close()
                return
            is_last = number == count - 1
            chunk = completion.chunk(list(pieces[number]), is_last=is_last)
            if is_last:
                self._end()
            self._transport.write(_STREAM_HEAD + chunk if number == 0 else chunk)
            if is_last and self._closes:
                self._transport.close()
            elif not is_last:
                self._timer = self._loop.call_at(begin + (number + 1) * gap, send, number + 1)

        self._timer = self._loop.call_at(begin, send, 0)

    def _finish(self, document: dict[str, Any], drops: bool) -> None:
        self._end()
        if drops and self._transport is not None:
            self._transport.close()
        else:
            self._reply(200, document)

    def _refuse(self, status: int, message: str, *, kind: str = "invalid_request_error") -> None:
        self._reply(status, {"error": {"code": status, "type": kind, "message": message}})

    def _reply(self, status: int, document: dict[str, Any]) -> None:
        if self._transport is None:
            return
        body = orjson.dumps(document)
        head = f"HTTP/1.1 {status} {_REASONS[status]}\r\nContent-Type: application/json\r\n"
        self._transport.write(b"%bContent-Length: %d\r\n\r\n%b" % (head.encode(), len(body), body))
        if self._closes:
            self._transport.close()


def _wanted(request: dict[str, Any]) -> int:
    wanted = request.get("max_tokens")
    return 16 if wanted is None else int(wanted)


def _cut(tokens: list[str], stops: tuple[str, ...] | list[str]) -> tuple[list[str], str]:
    """Tokens up to the earliest stop string (the last one cut), and that string; empty where none occurs."""
    text = "".join(tokens)
    found = [(position, each) for each in stops if (position := text.find(each)) >= 0]
    if not found:
        return tokens, ""
    left, match = min(found)
    kept = []
    for token in tokens:
        kept.append(token[:left])
        left -= len(token)
        if left < 0:
            break
    return kept, match


def _document(prompt: str, request: dict[str, Any], completion: _Completion) -> dict[str, Any]:
    text = "".join(completion.tokens)
    choice: dict[str, Any] = {"index": 0, "text": text, "finish_reason": completion.finish_reason}
    if request.get("echo"):
        choice["text"] = prompt + text
    if request.get("logprobs") is not None:
        choice["logprobs"] = _log_probabilities(prompt if request.get("echo") else "", text, before=prompt)
    return {"object": "text_completion", "model": MODEL, "choices": [choice], "usage": completion.usage}


def _log_probabilities(echoed: str, text: str, *, before: str) -> dict[str, Any]:
    found = token_log_probabilities(before + text)
    if not echoed:
        found = found[count_tokens(before) :]
    offsets = [0]
    for each in found[:-1]:
        offsets.append(offsets[-1] + len(each.token))
    return {
        "tokens": [each.token for each in found],
        "token_logprobs": [each.log_probability for each in found],
        "text_offset": offsets,
        "top_logprobs": [{each.greedy: GREEDY_LOG_PROBABILITY} for each in found],
    }
