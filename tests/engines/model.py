"""The language model of the faithful servers: probabilities of a token as a function of all before it.

At each position the words with a blank before them are ranked by a permutation that the tokens before it
determine, then all other tokens; a token's probability is a function of its rank alone. So every
log-probability, every rank and every greedy answer can be worked out by a test as well, in constant time for
each token.
"""

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import NamedTuple

from engines.tokenizer import END_ID, FIRST_BYTE_ID, Tokenizer

_MASK = (1 << 64) - 1
_SALT = 0x9E3779B97F4A7C15
# Candidates that penalties and sampling choose from; the rest has a few per cent of the probability.
_CANDIDATES = 64
_ARROW = tuple(FIRST_BYTE_ID + value for value in "→".encode())
_ARROW_EVERY = 29
_END_EVERY = 509


class Position(NamedTuple):
    """What the tokens so far come to."""

    digest: int
    last: int
    before_last: int

    def after(self, token: int) -> "Position":
        """The position one token on."""
        mixed = (self.digest ^ (token + 1)) * 0xBF58476D1CE4E5B9 & _MASK
        mixed = (mixed ^ (mixed >> 29)) * 0x94D049BB133111EB & _MASK
        return Position(mixed ^ (mixed >> 32), token, self.last)


START = Position(_SALT, -1, -1)


def position_after(tokens: Iterable[int]) -> Position:
    """The position behind these tokens."""
    position = START
    for token in tokens:
        position = position.after(token)
    return position


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampling:
    """How to choose tokens, with every field set."""

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)

    @property
    def is_plain_greedy(self) -> bool:
        """Whether the most probable token is taken as it is."""
        return (
            self.temperature < 1e-5
            and self.repetition_penalty == 1.0
            and not self.presence_penalty
            and not self.frequency_penalty
            and not self.logit_bias
        )


class Model:
    """Ranks, log-probabilities and choices of the next token."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.vocabulary_size = tokenizer.vocabulary_size
        self._others = tokenizer.first_flowing
        self._words = tokenizer.vocabulary_size - self._others
        weights = [(rank + 1) ** -1.2 for rank in range(self.vocabulary_size)]
        logarithm = math.log(sum(weights))
        self._log_probabilities = [math.log(weight) - logarithm for weight in weights]

    def rank(self, position: Position, token: int) -> int:
        """Rank of the token here, from 0."""
        forced = self._forced(position)
        if forced is None:
            return self._plain_rank(position, token)
        if token == forced:
            return 0
        plain = self._plain_rank(position, token)
        return self._plain_rank(position, forced) if plain == 0 else plain

    def token(self, position: Position, rank: int) -> int:
        """The token of that rank here, from 0."""
        forced = self._forced(position)
        if forced is None:
            return self._plain_token(position, rank)
        if rank == 0:
            return forced
        if rank == self._plain_rank(position, forced):
            return self._plain_token(position, 0)
        return self._plain_token(position, rank)

    def log_probability(self, rank: int) -> float:
        """Natural logarithm of the probability of the token of that rank (from 0)."""
        return self._log_probabilities[rank]

    def choose(
        self, position: Position, sampling: Sampling, *, prompt: Sequence[int], output: Sequence[int]
    ) -> int:
        """The next token. Without a seed it cannot be foretold unless sampling is greedy."""
        if sampling.is_plain_greedy:
            return self.token(position, 0)
        scores = self._penalised(position, sampling, prompt, output)
        ordered = sorted(scores, key=lambda token: -scores[token])
        if sampling.temperature < 1e-5:
            return ordered[0]
        weights = _weights([scores[token] for token in ordered], sampling)
        if sampling.seed is None:
            source: random.Random = random.SystemRandom()
        else:
            source = random.Random(f"{sampling.seed} {len(output)} {position.digest}")
        return source.choices(ordered[: len(weights)], weights)[0]

    def _penalised(
        self, position: Position, sampling: Sampling, prompt: Sequence[int], output: Sequence[int]
    ) -> dict[int, float]:
        tokens = [self.token(position, rank) for rank in range(_CANDIDATES)]
        tokens += [token for token in sampling.logit_bias if token not in tokens]
        scores = {}
        seen = set(prompt) | set(output)
        for token in tokens:
            score = self._log_probabilities[self.rank(position, token)] + sampling.logit_bias.get(token, 0.0)
            if token in seen and sampling.repetition_penalty != 1.0:
                score = (
                    score * sampling.repetition_penalty if score < 0 else score / sampling.repetition_penalty
                )
            count = output.count(token)
            score -= sampling.frequency_penalty * count + sampling.presence_penalty * (count > 0)
            scores[token] = score
        return scores

    def _forced(self, position: Position) -> int | None:
        """The token that is the most probable one here whatever the permutation says."""
        if position.last == _ARROW[0]:
            return _ARROW[1]
        if position.last == _ARROW[1] and position.before_last == _ARROW[0]:
            return _ARROW[2]
        if position.digest % _END_EVERY == 0:
            return END_ID
        if position.digest % _ARROW_EVERY == 0:
            return _ARROW[0]
        return None

    def _plain_rank(self, position: Position, token: int) -> int:
        if token >= self._others:
            return _permuted(position.digest, token - self._others, self._words)
        return self._words + _permuted(position.digest, token, self._others)

    def _plain_token(self, position: Position, rank: int) -> int:
        if rank < self._words:
            return self._others + _permuted_back(position.digest, rank, self._words)
        return _permuted_back(position.digest, rank - self._words, self._others)


def _permuted(digest: int, index: int, prime: int) -> int:
    factor, shift = 1 + digest % (prime - 1), (digest >> 20) % prime
    return (factor * index + shift) % prime


def _permuted_back(digest: int, place: int, prime: int) -> int:
    factor, shift = 1 + digest % (prime - 1), (digest >> 20) % prime
    return (place - shift) * pow(factor, -1, prime) % prime


def _weights(scores: Sequence[float], sampling: Sampling) -> list[float]:
    """Weights of the candidates that top_k, top_p and min_p leave; `scores` descend."""
    highest = scores[0]
    weights = [math.exp((score - highest) / sampling.temperature) for score in scores]
    if sampling.top_k > 0:
        del weights[sampling.top_k :]
    weights = [weight for weight in weights if weight >= sampling.min_p]
    total = sum(weights)
    reached = [before for before in accumulate(weights[:-1], initial=0.0) if before < sampling.top_p * total]
    return weights[: max(1, len(reached))]
