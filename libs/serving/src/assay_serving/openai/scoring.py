"""Log-probabilities of given continuations, from the server's log-probabilities of a prompt."""

import asyncio
from collections import OrderedDict
from functools import partial
from typing import Any

from assay_serving.errors import ContextTooLong, EngineError
from assay_serving.openai.completion import scoring_body
from assay_serving.openai.http import ModelHttp
from assay_serving.token_pairs import Encode, PairEncoder, TokenPair
from assay_serving.types import RequestTimes, ScoreRequest, ScoreResult

# Continuations of one item come together, and items in order: more would only hold memory.
_KEPT_CONTEXTS = 64


class RecentEncodings:
    """Tokens of the texts that were asked for last; those who ask for one at the same time share the work."""

    def __init__(self, encode: Encode, *, kept: int = _KEPT_CONTEXTS) -> None:
        self._encode = encode
        self._kept = kept
        self._tasks: OrderedDict[str, asyncio.Task[list[int]]] = OrderedDict()

    async def encode(self, text: str) -> list[int]:
        """Tokens of `text`; an error is not kept."""
        task = self._tasks.get(text)
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = asyncio.ensure_future(self._encode(text))
            task.add_done_callback(_see_error)
            self._tasks[text] = task
        self._tasks.move_to_end(text)
        while len(self._tasks) > self._kept:
            self._tasks.popitem(last=False)
        # One of those who wait may be cancelled without taking the answer from the others.
        return await asyncio.shield(task)


class PromptScorer:
    """Scores by one request each, whose prompt is context and continuation.

    The server computes the whole prompt anew for every continuation: with log-probabilities of the prompt it
    reads no prefix cache. That also makes a score depend on its request alone.
    """

    def __init__(
        self,
        http: ModelHttp,
        *,
        model: str,
        context_tokens: int,
        prefix_token: int | None,
        requests: asyncio.Semaphore,
    ) -> None:
        self._http = http
        self._model = model
        self._context_tokens = context_tokens
        self._requests = requests
        encode = partial(http.tokenize, model=model, add_special=True)
        self._pairs = PairEncoder(
            encode=encode,
            encode_context=RecentEncodings(encode).encode,
            encode_bare=partial(http.tokenize, model=model, add_special=False),
            prefix_token=prefix_token,
        )

    async def score(self, request: ScoreRequest, *, received_mono_ns: int) -> ScoreResult:
        """Score one request.

        Raises:
            ContextTooLong: context, continuation and the one token that the server must generate do not fit.
            InvalidRequest: the continuation adds no token.
            UpstreamError: the connection to the server broke.
        """
        pair = await self._pairs.pair(request)
        tokens = [*pair.context, *pair.continuation]
        if len(tokens) + 1 > self._context_tokens:
            raise ContextTooLong(
                f"{len(pair.context)} context and {len(pair.continuation)} continuation tokens exceed the "
                f"context of {self._context_tokens}; provision with more max_context_tokens"
            )
        async with self._requests:
            answer = await self._http.complete(scoring_body(tokens, model=self._model))
        total, is_greedy = _sum_of(answer.choice.get("prompt_logprobs"), pair)
        return ScoreResult(
            log_probability=total,
            is_greedy=is_greedy,
            context_tokens=len(pair.context),
            continuation_tokens=len(pair.continuation),
            times=RequestTimes(
                received_mono_ns=received_mono_ns,
                sent_mono_ns=answer.sent_mono_ns,
                done_mono_ns=answer.done_mono_ns,
            ),
        )


def _see_error(task: "asyncio.Task[list[int]]") -> None:
    """Nobody may be left to see it: those who asked can have been cancelled."""
    if not task.cancelled():
        task.exception()


def _sum_of(positions: Any, pair: TokenPair) -> tuple[float, bool]:
    """Sum over the continuation, and whether each of its tokens was the most probable."""
    expected = len(pair.context) + len(pair.continuation)
    if not isinstance(positions, list) or len(positions) != expected:
        count = len(positions) if isinstance(positions, list) else "no"
        raise EngineError(f"the engine gave {count} log-probabilities for a prompt of {expected} tokens")
    total, is_greedy = 0.0, True
    for token, position in zip(pair.continuation, positions[len(pair.context) :], strict=True):
        entry = position.get(str(token)) if position else None
        if entry is None or entry.get("rank") is None:
            raise EngineError(f"the engine gave no log-probability and rank for token {token} of the prompt")
        total += float(entry["logprob"])
        is_greedy = is_greedy and entry["rank"] == 1
    return total, is_greedy
