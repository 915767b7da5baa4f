"""The answers of `vllm serve` (0.32): which keys, in which order, and when they are null."""

import secrets
import time
from typing import Any

from engines.generation import Delta, Generator, Wanted
from engines.scores import TokenTexts, chat_logprobs, completion_logprobs, prompt_logprobs
from engines.vllm_requests import Asked


class AnswerWriter:
    """Writes the parts of one request's answer."""

    def __init__(self, generator: Generator, asked: Asked, *, fingerprint: str, prompt_details: bool) -> None:
        self._generator = generator
        self._asked = asked
        self._fingerprint = fingerprint
        self._prompt_details = prompt_details
        self._id = secrets.token_hex(8)
        self._created = int(time.time())
        count = len(asked.wanted)
        by_id = asked.names_tokens_by_id
        self._texts = [TokenTexts(generator.tokenizer, by_id=by_id) for _ in range(count)]
        self._offsets = [0] * count
        self._has_begun = [False] * count
        self._produced = [0] * count

    def completion_chunk(self, index: int, delta: Delta) -> dict[str, Any]:
        """One chunk of a streamed completion."""
        asked, wanted = self._asked, self._asked.wanted[index]
        is_first = not self._has_begun[index]
        self._has_begun[index] = True
        self._produced[index] += len(delta.tokens)
        returns_prompt = is_first and (asked.returns_token_ids or asked.echoes)
        choice = {
            "index": index,
            "text": self._echoed(wanted, delta) if is_first else delta.text,
            "logprobs": self._completion_logprobs(index, delta, echoes=is_first and asked.echoes),
            "finish_reason": delta.finish_reason,
            "stop_reason": delta.stop_reason,
            "prompt_token_ids": list(wanted.prompt) if returns_prompt else None,
            "token_ids": delta.tokens if asked.returns_token_ids else None,
        }
        return self._chunk("cmpl", "text_completion", choice, index)

    def completion(self, whole: list[Delta]) -> dict[str, Any]:
        """A completion that is not streamed."""
        choices = []
        for index, (wanted, delta) in enumerate(zip(self._asked.wanted, whole, strict=True)):
            self._produced[index] = len(delta.tokens)
            returns_ids = self._asked.returns_token_ids
            choices.append(
                {
                    "index": index,
                    "text": self._echoed(wanted, delta),
                    "logprobs": self._completion_logprobs(index, delta, echoes=self._asked.echoes),
                    "finish_reason": delta.finish_reason,
                    "stop_reason": delta.stop_reason,
                    "token_ids": delta.tokens if returns_ids else None,
                    "prompt_logprobs": self._prompt_logprobs(wanted),
                    "prompt_token_ids": list(wanted.prompt) if returns_ids else None,
                    "routed_experts": None,
                }
            )
        return {
            **self._head("cmpl", "text_completion"),
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": self._fingerprint,
            "usage": self._whole_usage(),
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }

    def chat_start(self, index: int) -> dict[str, Any]:
        """The chunk with the role, which comes before the first token's."""
        choice = {
            "index": index,
            "delta": {"role": "assistant", "content": ""},
            "logprobs": None,
            "finish_reason": None,
        }
        returns_ids = self._asked.returns_token_ids
        return {
            **self._head("chatcmpl", "chat.completion.chunk"),
            "choices": [choice],
            "prompt_token_ids": list(self._asked.wanted[index].prompt) if returns_ids else None,
            "prompt_text": None,
        }

    def chat_chunk(self, index: int, delta: Delta) -> dict[str, Any]:
        """One chunk of a streamed chat completion."""
        self._produced[index] += len(delta.tokens)
        choice = {
            "index": index,
            "delta": {"content": delta.text},
            "logprobs": self._chat_logprobs(index, delta),
            "finish_reason": delta.finish_reason,
        }
        if delta.finish_reason is not None:
            choice["stop_reason"] = delta.stop_reason
        choice["token_ids"] = delta.tokens if self._asked.returns_token_ids else None
        return self._chunk("chatcmpl", "chat.completion.chunk", choice, index)

    def chat(self, whole: list[Delta]) -> dict[str, Any]:
        """A chat completion that is not streamed."""
        choices = []
        returns_ids = self._asked.returns_token_ids
        for index, delta in enumerate(whole):
            self._produced[index] = len(delta.tokens)
            message = {
                "role": "assistant",
                "content": delta.text,
                "refusal": None,
                "annotations": None,
                "audio": None,
                "function_call": None,
                "reasoning": None,
            }
            choices.append(
                {
                    "index": index,
                    "message": message,
                    "logprobs": self._chat_logprobs(index, delta),
                    "finish_reason": delta.finish_reason,
                    "stop_reason": delta.stop_reason,
                    "token_ids": delta.tokens if returns_ids else None,
                    "routed_experts": None,
                }
            )
        wanted = self._asked.wanted[0]
        return {
            **self._head("chatcmpl", "chat.completion"),
            "choices": choices,
            "service_tier": None,
            "system_fingerprint": self._fingerprint,
            "usage": self._whole_usage(),
            "prompt_logprobs": self._prompt_logprobs(wanted),
            "prompt_token_ids": list(wanted.prompt) if returns_ids else None,
            "prompt_text": None,
            "kv_transfer_params": None,
            "ec_transfer_params": None,
            "metrics": None,
        }

    def usage_chunk(self, *, is_chat: bool) -> dict[str, Any]:
        """The chunk without choices that ends a stream for which usage was asked."""
        head = (
            self._head("chatcmpl", "chat.completion.chunk")
            if is_chat
            else self._head("cmpl", "text_completion")
        )
        usage = _usage(self._prompt_tokens(), sum(self._produced))
        if self._prompt_details:
            usage["prompt_tokens_details"] = {"cached_tokens": 0}
        return {**head, "choices": [], "usage": usage, "system_fingerprint": self._fingerprint}

    def _chunk(self, prefix: str, kind: str, choice: dict[str, Any], index: int) -> dict[str, Any]:
        chunk = {**self._head(prefix, kind), "choices": [choice]}
        if choice["finish_reason"] is not None and not self._asked.includes_usage:
            chunk["system_fingerprint"] = self._fingerprint
        if self._asked.continuous_usage:
            chunk["usage"] = _usage(len(self._asked.wanted[index].prompt), self._produced[index])
        return chunk

    def _head(self, prefix: str, kind: str) -> dict[str, Any]:
        return {
            "id": f"{prefix}-{self._id}",
            "object": kind,
            "created": self._created,
            "model": self._asked.model,
        }

    def _echoed(self, wanted: Wanted, delta: Delta) -> str:
        if not self._asked.echoes:
            return delta.text
        # With token ids asked for, the prompt's text is not told.
        prompt = "" if self._asked.returns_token_ids else self._generator.tokenizer.decode(wanted.prompt)
        return prompt + ("" if self._asked.only_echoes else delta.text)

    def _completion_logprobs(self, index: int, delta: Delta, *, echoes: bool) -> dict[str, Any] | None:
        wanted = self._asked.wanted[index]
        if wanted.logprobs is None:
            return None
        tokens, scores = list(delta.tokens), list[Any](delta.scores)
        if echoes:
            before = self._generator.prompt_scores(wanted.prompt, wanted.prompt_logprobs or 0)
            generated = not self._asked.only_echoes
            tokens = [*wanted.prompt, *(tokens if generated else ())]
            scores = [*before, *(scores if generated else ())]
        content, self._offsets[index] = completion_logprobs(
            self._texts[index], tokens, scores, top=self._asked.top_logprobs, offset=self._offsets[index]
        )
        return content

    def _chat_logprobs(self, index: int, delta: Delta) -> dict[str, Any] | None:
        if self._asked.wanted[index].logprobs is None:
            return None
        return chat_logprobs(self._texts[index], delta.tokens, delta.scores, top=self._asked.top_logprobs)

    def _prompt_logprobs(self, wanted: Wanted) -> list[dict[str, Any] | None] | None:
        if wanted.prompt_logprobs is None:
            return None
        scores = self._generator.prompt_scores(wanted.prompt, wanted.prompt_logprobs)
        return prompt_logprobs(self._generator.tokenizer, wanted.prompt, scores)

    def _prompt_tokens(self) -> int:
        asked = self._asked
        each = len(asked.wanted) // asked.prompt_count
        return sum(len(wanted.prompt) for wanted in asked.wanted[::each])

    def _whole_usage(self) -> dict[str, Any]:
        details = {"cached_tokens": 0} if self._prompt_details else None
        usage = _usage(self._prompt_tokens(), sum(self._produced))
        return {**usage, "prompt_tokens_details": details, "completion_tokens_details": None}


def _usage(prompt: int, completion: int) -> dict[str, Any]:
    return {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}
