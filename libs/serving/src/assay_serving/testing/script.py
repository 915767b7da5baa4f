"""What the scripted endpoint does: when tokens come, and which requests fail."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from assay_serving.errors import InvalidRequest


class FailureKind(StrEnum):
    """How a request fails."""

    BUSY = "busy"  # status 503
    DROP = "drop"  # the connection closes after the first chunk
    STALL = "stall"  # nothing ever comes
    DIE = "die"  # the endpoint's process ends


@dataclass(frozen=True, slots=True)
class Failure:
    """Every `every`-th completion request of the endpoint's life fails."""

    kind: FailureKind
    every: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``kind@every``, for example ``busy@50``.

        Raises:
            InvalidRequest: it has another shape.
        """
        kind, _, every = text.partition("@")
        if kind not in set(FailureKind) or not every.isdecimal() or int(every) < 1:
            kinds = ", ".join(FailureKind)
            raise InvalidRequest(f"failure {text!r}: write kind@number, where kind is one of {kinds}")
        return cls(FailureKind(kind), int(every))

    def __str__(self) -> str:
        return f"{self.kind.value}@{self.every}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Script:
    """Times in seconds. An answer takes `first_token` + (`chunks` - 1) x `interval`, whatever its length.

    Its tokens come in `chunks` pieces, or fewer where it has fewer tokens; with `chunks` 0 each token is a
    piece and the answer takes as long as it has tokens. Prompts and answers together may have
    `max_model_tokens` tokens.
    """

    first_token: float = 0.001
    chunks: int = 0
    interval: float = 0.001
    max_model_tokens: int = 1 << 20
    failures: tuple[Failure, ...] = ()

    def schedule(self, tokens: int) -> tuple[int, float]:
        """Number of pieces of an answer of `tokens` tokens, and seconds between two of them."""
        if self.chunks == 0:
            return tokens, self.interval
        pieces = min(self.chunks, tokens)
        return pieces, self.interval * (self.chunks - 1) / max(1, pieces - 1)

    def duration(self, tokens: int) -> float:
        """Seconds from a request to the end of its answer."""
        pieces, gap = self.schedule(tokens)
        return self.first_token + (pieces - 1) * gap

    def failure(self, number: int) -> FailureKind | None:
        """How completion request `number` (from 1) fails, if it does."""
        return next((each.kind for each in self.failures if number % each.every == 0), None)

    def arguments(self) -> list[str]:
        """The command-line options that describe this script."""
        return [
            f"--first-token={self.first_token!r}",
            f"--chunks={self.chunks}",
            f"--interval={self.interval!r}",
            f"--max-model-tokens={self.max_model_tokens}",
            *(f"--fail={failure}" for failure in self.failures),
        ]


def pieces_of(tokens: Sequence[str], count: int) -> list[Sequence[str]]:
    """Cut `tokens` into `count` runs whose lengths differ by one at most."""
    size, longer = divmod(len(tokens), count)
    pieces, begin = [], 0
    for piece in range(count):
        end = begin + size + (piece < longer)
        pieces.append(tokens[begin:end])
        begin = end
    return pieces
