"""Log-probabilities of given continuations, by forced decoding in one lane.

Repeatable by construction: a request's numbers depend on its context and continuation alone, not on what
was scored before it. llama.cpp gives a token other low digits when it is evaluated alone than inside a
prompt, so each is always evaluated the same way: all of the context but its last token as one prompt, then
that last token and the continuation's one by one. What a former context left in the cache is used only up
to a point where that still holds.
"""

import asyncio
import time
from functools import partial
from itertools import takewhile
from typing import Any

from assay_adapter_cpu.llama_http import LlamaHttp
from assay_adapter_cpu.turns import PromptTurns
from assay_serving.errors import ContextTooLong, EngineError
from assay_serving.token_pairs import PairEncoder
from assay_serving.types import RequestTimes, ScoreRequest, ScoreResult

# Far above any difference of logits: the wanted token is drawn, and reported with its unbiased probability.
_FORCE = 1000


class ScoringLane:
    """One sequence of the engine, used by one request at a time in order of arrival."""

    def __init__(
        self, http: LlamaHttp, turns: PromptTurns, *, slot: int, context_tokens: int, prefix_token: int
    ) -> None:
        self._http = http
        self._turns = turns
        self._slot = slot
        self._context_tokens = context_tokens
        self._lane = asyncio.Lock()
        self._pairs = PairEncoder(
            encode=http.tokenize,
            encode_context=http.tokenize,
            encode_bare=partial(http.tokenize, add_special=False),
            prefix_token=prefix_token,
        )
        # The cache of the sequence: `_prompt` was evaluated as a prompt, `_singles` token by token after it.
        self._prompt: list[int] = []
        self._singles: list[int] = []

    async def score(self, request: ScoreRequest, *, received_mono_ns: int) -> ScoreResult:
        """Score one request.

        Raises:
            ContextTooLong: context and continuation exceed the sequence's context.
            InvalidRequest: the continuation adds no token.
            UpstreamError: the connection to the engine broke.
        """
        async with self._lane:
            pair = await self._pairs.pair(request)
            if len(pair.context) + len(pair.continuation) > self._context_tokens:
                raise ContextTooLong(
                    f"{len(pair.context)} context and {len(pair.continuation)} continuation tokens exceed "
                    f"the context of {self._context_tokens}; provision with more max_context_tokens"
                )
            sent = time.monotonic_ns()
            await self._evaluate_prompt(pair.context[:-1])
            total, is_greedy = 0.0, True
            for index, token in enumerate(pair.continuation):
                step = await self._force([*pair.context, *pair.continuation[:index]], token)
                total += float(step["logprob"])
                is_greedy = is_greedy and step["top_logprobs"][0]["id"] == token
            done = time.monotonic_ns()
        return ScoreResult(
            log_probability=total,
            is_greedy=is_greedy,
            context_tokens=len(pair.context),
            continuation_tokens=len(pair.continuation),
            times=RequestTimes(received_mono_ns=received_mono_ns, sent_mono_ns=sent, done_mono_ns=done),
        )

    async def _evaluate_prompt(self, prompt: list[int]) -> None:
        if prompt == self._prompt:
            return
        if len(prompt) == 0:
            self._prompt, self._singles = [], []
            return
        cached = [*self._prompt, *self._singles]
        shared = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(prompt, cached, strict=False)))
        # Only what was evaluated as part of a prompt may stay, and at least two tokens must follow it: one
        # would be evaluated alone.
        reuse = 0 < shared <= len(self._prompt) and len(prompt) - shared >= 2
        self._prompt, self._singles = [], []
        # Alone: beside another sequence's token this prompt's first one would be evaluated by itself.
        async with self._turns.turn(alone=True):
            await self._http.complete(self._body(prompt, cache_prompt=reuse))
        self._prompt = prompt

    async def _force(self, tokens: list[int], wanted: int) -> dict[str, Any]:
        singles, self._singles = tokens[len(self._prompt) :], []
        known_prompt, self._prompt = self._prompt, []
        body = self._body(tokens, cache_prompt=bool(known_prompt) or len(tokens) > 1)
        body |= {"n_probs": 1, "logit_bias": [[wanted, _FORCE]], "samplers": ["temperature"]}
        async with self._turns.turn():
            reply = await self._http.complete(body)
        # Only now is it known what the cache holds; an error or a cancellation leaves it marked as unknown.
        self._prompt, self._singles = known_prompt, singles
        try:
            step: dict[str, Any] = reply["completion_probabilities"][0]
        except (KeyError, IndexError):
            raise EngineError("the engine gave no probability for a forced token") from None
        if step["id"] != wanted:
            raise EngineError(f"the engine drew token {step['id']} where {wanted} was forced")
        return step

    def _body(self, tokens: list[int], *, cache_prompt: bool) -> dict[str, Any]:
        return {
            "prompt": tokens,
            "n_predict": 1,
            "temperature": 0,
            "cache_prompt": cache_prompt,
            "id_slot": self._slot,
        }
