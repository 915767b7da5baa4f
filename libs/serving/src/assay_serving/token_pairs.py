"""How context and continuation become tokens, in one place so that scores of all backends mean the same."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from assay_serving.errors import InvalidRequest
from assay_serving.types import ScoreRequest

Encode = Callable[[str], Awaitable[list[int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenPair:
    """Context and continuation as tokens; neither is empty."""

    context: list[int]
    continuation: list[int]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairEncoder:
    """Splits scoring requests into tokens by the rule of lm-eval.

    Attributes:
        encode: tokens of a text with the model's special tokens, as for a prompt.
        encode_context: the same for a context, which comes again with every continuation of it.
        encode_bare: tokens of a text without special tokens.
        prefix_token: the model's begin-of-sequence token, or its end-of-sequence token where it has no
            other; None where it names neither.
    """

    encode: Encode
    encode_context: Encode
    encode_bare: Encode
    prefix_token: int | None

    async def pair(self, request: ScoreRequest) -> TokenPair:
        """Tokens of one request.

        Blanks at the end of the context move to the continuation; the continuation's tokens are those of the
        joined text after as many as the context alone has. An empty context stands for `prefix_token`.

        Raises:
            InvalidRequest: the continuation adds no token, or there is no token for an empty context.
        """
        context = request.context.rstrip()
        continuation = request.context[len(context) :] + request.continuation
        if not request.context:
            tokens = await self.encode_bare(continuation)
            if len(tokens) > 1 and tokens[0] == self.prefix_token:
                return TokenPair(context=tokens[:1], continuation=tokens[1:])
            return self._checked([], tokens)
        head = await self.encode_context(context)
        whole = await self.encode(context + continuation)
        return self._checked(head, whole[len(head) :])

    def _checked(self, context: list[int], continuation: list[int]) -> TokenPair:
        if not continuation:
            raise InvalidRequest("continuation: adds no token after the context; nothing can be scored")
        if context:
            return TokenPair(context=context, continuation=continuation)
        if self.prefix_token is None:
            raise InvalidRequest(
                "context: empty, and the model names no begin or end of sequence token to stand for it"
            )
        return TokenPair(context=[self.prefix_token], continuation=continuation)
