"""The answers of `furiosa-llm serve` (2026.4): which keys, in which order, and when they are null."""

import secrets
import time
from typing import Any

from engines.furiosa_requests import Asked
from engines.generation import Delta, Generator, Wanted
from engines.scores import TokenTexts, chat_logprobs, completion_logprobs, prompt_logprobs


class AnswerWriter:
    """Writes the parts of one request's answer."""

    def __init__(self, generator: Generator, asked: Asked, *, model: str) -> None:
        self._generator = generator
        self._asked = asked
        self._model = model
        self._id = secrets.token_hex(16)
        self._created = int(time.time())
        self._has_begun = [False] * len(asked.wanted)
        self._produced = 0

    def completion_chunk(self, index: int, delta: Delta) -> dict[str, Any]:
        """One chunk of a streamed completion; keys that have no value are there as null."""
        asked = self._asked
        is_first = not self._has_begun[index]
        self._has_begun[index] = True
        self._produced += len(delta.tokens)
        choice = {
            "index": index,
            "text": delta.text,
            # The offsets begin with 0 in each chunk.
            "logprobs": self._completion_logprobs(asked.wanted[index], delta),
            "finish_reason": delta.finish_reason,
            "stop_reason": _stop_reason(delta),
            "prompt_token_ids": (
                list(asked.wanted[index].prompt) if is_first and asked.returns_token_ids else None
            ),
            "token_ids": delta.tokens if asked.returns_token_ids else None,
        }
        return {**self._head("cmpl", "text_completion"), "choices": [choice], "usage": None}

    def completion(self, whole: list[Delta]) -> dict[str, Any]:
        """A completion that is not streamed."""
        choices = []
        returns_ids = self._asked.returns_token_ids
        for index, (wanted, delta) in enumerate(zip(self._asked.wanted, whole, strict=True)):
            self._produced += len(delta.tokens)
            choices.append(
                {
                    "index": index,
                    "text": delta.text,
                    "logprobs": self._completion_logprobs(wanted, delta),
                    "finish_reason": delta.finish_reason,
                    "stop_reason": _stop_reason(delta),
                    "token_ids": delta.tokens if returns_ids else None,
                    "prompt_logprobs": self._prompt_logprobs(wanted),
                    "prompt_token_ids": list(wanted.prompt) if returns_ids else None,
                }
            )
        usage = {**self._usage(), "completion_tokens_details": None}
        return {**self._head("cmpl", "text_completion"), "choices": choices, "usage": usage}

    def chat_start(self) -> dict[str, Any]:
        """The chunk with the role, which comes before the first token's."""
        choice = {
            "index": 0,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
            "stop_reason": None,
            "token_ids": None,
        }
        prompt = list(self._asked.wanted[0].prompt) if self._asked.returns_token_ids else None
        head = self._head("chatcmpl", "chat.completion.chunk")
        return {**head, "choices": [choice], "prompt_token_ids": prompt}

    def chat_chunk(self, delta: Delta) -> dict[str, Any]:
        """One chunk of a streamed chat completion."""
        self._produced += len(delta.tokens)
        choice: dict[str, Any] = {
            "index": 0,
            "delta": {"content": delta.text},
            "logprobs": self._chat_logprobs(delta),
            "finish_reason": delta.finish_reason,
        }
        if delta.finish_reason is not None:
            choice["stop_reason"] = _stop_reason(delta)
        choice["token_ids"] = delta.tokens if self._asked.returns_token_ids else None
        return {**self._head("chatcmpl", "chat.completion.chunk"), "choices": [choice]}

    def chat(self, delta: Delta) -> dict[str, Any]:
        """A chat completion that is not streamed."""
        self._produced += len(delta.tokens)
        returns_ids = self._asked.returns_token_ids
        wanted = self._asked.wanted[0]
        message: dict[str, Any] = {
            "role": "assistant",
            "content": delta.text,
            "reasoning": None,
            "tool_calls": [],
        }
        choice = {
            "index": 0,
            "message": message,
            "logprobs": self._chat_logprobs(delta),
            "finish_reason": delta.finish_reason,
            "stop_reason": _stop_reason(delta),
            "token_ids": delta.tokens if returns_ids else None,
        }
        return {
            **self._head("chatcmpl", "chat.completion"),
            "choices": [choice],
            "usage": {**self._usage(), "completion_tokens_details": _no_details()},
            "prompt_logprobs": self._prompt_logprobs(wanted),
            "prompt_token_ids": list(wanted.prompt) if returns_ids else None,
        }

    def usage_chunk(self, *, is_chat: bool) -> dict[str, Any]:
        """The chunk without choices that ends a stream for which usage was asked."""
        if is_chat:
            usage = {**self._usage(), "completion_tokens_details": _no_details()}
            return {**self._head("chatcmpl", "chat.completion.chunk"), "choices": [], "usage": usage}
        return {**self._head("cmpl", None), "choices": [], "usage": self._usage()}

    def _head(self, prefix: str, kind: str | None) -> dict[str, Any]:
        named = {} if kind is None else {"object": kind}
        return {"id": f"{prefix}-{self._id}", **named, "created": self._created, "model": self._model}

    def _usage(self) -> dict[str, Any]:
        prompt = sum(len(wanted.prompt) for wanted in self._asked.wanted)
        return {
            "prompt_tokens": prompt,
            "total_tokens": prompt + self._produced,
            "completion_tokens": self._produced,
            "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        }

    def _completion_logprobs(self, wanted: Wanted, delta: Delta) -> dict[str, Any] | None:
        if wanted.logprobs is None:
            return None
        texts = TokenTexts(self._generator.tokenizer, by_id=self._asked.names_tokens_by_id)
        top = self._asked.top_logprobs
        return completion_logprobs(texts, delta.tokens, delta.scores, top=top, offset=0)[0]

    def _chat_logprobs(self, delta: Delta) -> dict[str, Any] | None:
        if self._asked.wanted[0].logprobs is None:
            return None
        texts = TokenTexts(self._generator.tokenizer, by_id=self._asked.names_tokens_by_id)
        return chat_logprobs(texts, delta.tokens, delta.scores, top=self._asked.top_logprobs)

    def _prompt_logprobs(self, wanted: Wanted) -> list[dict[str, Any] | None] | None:
        if wanted.prompt_logprobs is None:
            return None
        scores = self._generator.prompt_scores(wanted.prompt, wanted.prompt_logprobs)
        return prompt_logprobs(self._generator.tokenizer, wanted.prompt, scores)


def _stop_reason(delta: Delta) -> str | None:
    """The matched text; there is no place in the answer for a token's id."""
    return delta.stop_reason if isinstance(delta.stop_reason, str) else None


def _no_details() -> dict[str, int]:
    names = ("accepted_prediction_tokens", "audio_tokens", "reasoning_tokens", "rejected_prediction_tokens")
    return dict.fromkeys(names, 0)
