"""The HTTP interface of OpenAI-compatible model servers, as far as an engine uses it."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import orjson

from assay_serving.errors import EngineError, InvalidRequest, ServingError
from assay_serving.launchers.server import RunningServer
from assay_serving.types import ChatMessage
from assay_serving.upstream import ServerEvent, Upstream, UpstreamError, UpstreamReply

_COMPLETIONS = "/v1/completions"
_LONGEST_MESSAGE = 500


class ServerFault(UpstreamError):
    """The server answered that it has failed itself: like a broken connection, it may be its end."""


class Completion(NamedTuple):
    """The answer to a completion that was not streamed, and when it was asked and answered."""

    choice: dict[str, Any]
    sent_mono_ns: int
    done_mono_ns: int


class ModelHttp:
    """One model server over kept connections.

    Every method raises `UpstreamError` where the connection fails or the server does, `InvalidRequest` where
    it refuses what it was asked, and `EngineError` for anything else that is no answer.
    """

    def __init__(self, server: RunningServer) -> None:
        self._upstream = Upstream(server.address, keep_alive=True)
        self._headers = {**server.headers, "Content-Type": "application/json"}

    async def get(self, path: str) -> dict[str, Any]:
        """The object at `path`."""
        return _object_of(await self._exchange("GET", path), path)

    async def tokenize(self, text: str, *, model: str, add_special: bool) -> list[int]:
        """Token ids of `text`, with or without the special tokens that the tokeniser adds to a prompt."""
        body = {"model": model, "prompt": text, "add_special_tokens": add_special}
        return await self._tokens(body)

    async def tokenize_chat(self, messages: tuple[ChatMessage, ...], *, model: str) -> list[int]:
        """Token ids of the prompt that the model's own chat template makes of `messages`."""
        turns = [{"role": each.role, "content": each.content} for each in messages]
        body = {
            "model": model,
            "messages": turns,
            "add_generation_prompt": True,
            "add_special_tokens": False,
        }
        return await self._tokens(body)

    async def complete(self, body: Mapping[str, Any]) -> Completion:
        """One completion in one piece."""
        reply = await self._exchange("POST", _COMPLETIONS, body)
        answer = _object_of(reply, _COMPLETIONS)
        try:
            choice = answer["choices"][0]
        except (KeyError, IndexError, TypeError):
            raise EngineError("the engine's completion has no choice") from None
        return Completion(choice, reply.sent_mono_ns, reply.done_mono_ns)

    async def stream(self, body: Mapping[str, Any], on_event: Callable[[ServerEvent], None]) -> UpstreamReply:
        """One streamed completion; `on_event` sees each event as it arrives."""
        return await self._exchange("POST", _COMPLETIONS, body, on_event)

    def close(self) -> None:
        """Close the connections that nobody uses."""
        self._upstream.close()

    async def _tokens(self, body: Mapping[str, Any]) -> list[int]:
        answer = _object_of(await self._exchange("POST", "/tokenize", body), "/tokenize")
        tokens = answer.get("tokens")
        if not isinstance(tokens, list):
            raise EngineError("the engine's answer to /tokenize has no tokens")
        return tokens

    async def _exchange(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        on_event: Callable[[ServerEvent], None] | None = None,
    ) -> UpstreamReply:
        reply = await self._upstream.exchange(
            method,
            path,
            body=orjson.dumps(body) if body is not None else b"",
            headers=self._headers,
            on_event=on_event,
        )
        if reply.status != 200:
            raise error_of_answer(reply.status, _message_of(reply.body))
        return reply


def error_of_answer(status: int, message: str) -> ServingError | UpstreamError:
    """What an answer with an error status means."""
    match status:
        case 401 | 403:
            return EngineError(f"the engine refuses the key ({status}): {message}")
        case 404:
            return EngineError(f"the engine knows no such path or model: {message}")
        case 429 | 502 | 503 | 504:
            return EngineError(f"the engine is overloaded ({status}): {message}", retryable=True)
        case status if 400 <= status < 500:
            return InvalidRequest(f"the engine refused the request: {message}")
        case status if status >= 500:
            return ServerFault(f"the engine failed ({status}): {message}")
        case _:
            return EngineError(f"the engine answered {status}: {message}")


def error_of_event(error: object, *, tokens_before_error: int) -> ServingError | UpstreamError:
    """What an error inside a stream means, which comes under status 200."""
    fields = error if isinstance(error, dict) else {"message": str(error)}
    message = str(fields.get("message", error))[:_LONGEST_MESSAGE]
    code = fields.get("code")
    if isinstance(code, int) and 400 <= code < 500 and not tokens_before_error:
        return error_of_answer(code, message)
    if isinstance(code, int) and code >= 500:
        return ServerFault(f"the engine failed: {message}")
    return EngineError(f"the engine failed: {message}", tokens_before_error=tokens_before_error)


def _object_of(reply: UpstreamReply, path: str) -> dict[str, Any]:
    try:
        parsed = orjson.loads(reply.body)
    except orjson.JSONDecodeError as error:
        raise EngineError(f"the engine's answer to {path} is no JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise EngineError(f"the engine's answer to {path} is no object")
    return parsed


def _message_of(body: bytes) -> str:
    """The sentence of an error: servers put it at the top, below ``error``, or below ``detail``."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body[:_LONGEST_MESSAGE].decode("utf-8", errors="replace")
    if isinstance(answer, dict):
        answer = answer.get("error", answer.get("detail", answer))
    if isinstance(answer, dict):
        answer = answer.get("message", answer)
    return str(answer)[:_LONGEST_MESSAGE]
