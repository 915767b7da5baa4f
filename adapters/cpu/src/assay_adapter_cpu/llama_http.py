"""llama.cpp's native HTTP interface, as far as the adapter uses it."""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from assay_serving.errors import ContextTooLong, EngineError, InvalidRequest
from assay_serving.types import ChatMessage
from assay_serving.upstream import ServerEvent, UpstreamAddress, UpstreamError, UpstreamReply, exchange


class LlamaHttp:
    """One engine's server. A connection per request: the server drops idle ones at the worst moment.

    Every method raises `UpstreamError` where the connection fails and a ServingError where the engine
    refuses.
    """

    def __init__(self, address: UpstreamAddress, *, api_key: str) -> None:
        self._address = address
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}

    async def tokenize(self, text: str, *, add_special: bool = True) -> list[int]:
        """Token ids of `text`; names of special tokens in it become those tokens, as in other tokenisers."""
        body = {"content": text, "add_special": add_special, "parse_special": True}
        reply = await self._json("POST", "/tokenize", body)
        return list(reply["tokens"])

    async def apply_template(self, messages: tuple[ChatMessage, ...]) -> str:
        """The prompt that the model's own chat template makes of `messages`."""
        body = {"messages": [{"role": each.role, "content": each.content} for each in messages]}
        reply = await self._json("POST", "/apply-template", body)
        return str(reply["prompt"])

    async def properties(self) -> dict[str, Any]:
        """The server's own description of model and settings."""
        return await self._json("GET", "/props")

    async def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """One completion without streaming."""
        return await self._json("POST", "/completion", body)

    async def stream(self, body: Mapping[str, Any], on_event: Callable[[ServerEvent], None]) -> UpstreamReply:
        """One streamed completion; `on_event` sees each event as it arrives."""
        reply = await exchange(
            self._address,
            "POST",
            "/completion",
            body=orjson.dumps(body),
            headers=self._headers,
            on_event=on_event,
        )
        _check_status(reply)
        return reply

    async def _json(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> dict[str, Any]:
        content = orjson.dumps(body) if body is not None else b""
        reply = await exchange(self._address, method, path, body=content, headers=self._headers)
        _check_status(reply)
        try:
            parsed = orjson.loads(reply.body)
        except orjson.JSONDecodeError as error:
            raise UpstreamError(f"the engine's answer to {path} is no JSON: {error}") from error
        if not isinstance(parsed, dict):
            raise UpstreamError(f"the engine's answer to {path} is no object")
        return parsed


def raise_engine_error(error: Mapping[str, Any], *, tokens_before_error: int = 0) -> None:
    """Raise llama.cpp's error object as the ServingError that it means."""
    message = str(error.get("message", error))
    if error.get("type") == "exceed_context_size_error":
        raise ContextTooLong(message, tokens_before_error=tokens_before_error)
    if error.get("code") == 400:
        raise InvalidRequest(f"the engine refused the request: {message}")
    raise EngineError(
        f"the engine failed: {message}",
        retryable=error.get("code") == 503,
        tokens_before_error=tokens_before_error,
    )


def _check_status(reply: UpstreamReply) -> None:
    if reply.status == 200:
        return
    try:
        error = orjson.loads(reply.body)["error"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        error = {"code": reply.status, "message": reply.body[:500].decode("utf-8", errors="replace")}
    raise_engine_error(error)
