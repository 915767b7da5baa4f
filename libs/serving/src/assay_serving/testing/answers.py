"""The language model of the scripted endpoint: a fixed function of the text before.

Its tokens are words with the blanks before them; what it says next depends on all words so far. So greedy
text, log-probabilities and token counts fit together as those of a real model do: a text may be scored in
one piece or in two, and the greedy continuation is the most probable one.
"""

import re
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple
from zlib import crc32

_TOKEN = re.compile(r"\s*\S+|\s+\Z")
_VOCABULARY = (
    " the", " sum", " is", " 3", " so", " then", " 12", " apples", " half", " of", " 5", " plus", " left",
    " and", " each", " 7", " days", " total", " 18", " more", " with", " 2", " dollars", " makes", " 9",
    " gives", " answer", " 40", " twice", " than", " 6", " ####",
)  # fmt: skip
GREEDY_LOG_PROBABILITY = -0.125
_MEAN_TOKENS = 24
_LEAST_TOKENS = 8


class TokenScore(NamedTuple):
    """A token, its log-probability after those before it, and the token that is the most probable there."""

    token: str
    log_probability: float
    greedy: str


class ScriptedScore(NamedTuple):
    """Log-probability (natural, summed) of a continuation, and whether it is the greedy one."""

    log_probability: float
    is_greedy: bool
    context_tokens: int
    continuation_tokens: int


def count_tokens(text: str) -> int:
    """Tokens of `text`."""
    # The same as matching the pattern, at a tenth of its cost.
    return len(text.split()) + text[-1:].isspace()


def answer(prompt: str, *, ignore_end: bool = False) -> Iterator[str]:
    """The greedy continuation of `prompt`, token by token; endless with `ignore_end`.

    It ends by itself after 8 to 39 tokens, as the prompt decides.
    """
    state = _state(prompt)
    length = _LEAST_TOKENS + state % (2 * (_MEAN_TOKENS - _LEAST_TOKENS))
    produced = 0
    while ignore_end or produced < length:
        token = _VOCABULARY[state % len(_VOCABULARY)]
        yield token
        state = crc32(token.encode(), state)
        produced += 1


def answer_text(prompt: str, *, max_tokens: int, stop: tuple[str, ...] = ()) -> str:
    """The text that a greedy request for `prompt` is answered with."""
    text = "".join(islice(answer(prompt), max_tokens))
    positions = [position for each in stop if (position := text.find(each)) >= 0]
    return text[: min(positions)] if positions else text


def token_log_probabilities(text: str) -> list[TokenScore]:
    """Each token of `text`, scored after those before it."""
    state = 0
    found = []
    for token in _TOKEN.findall(text):
        greedy = _VOCABULARY[state % len(_VOCABULARY)]
        state = crc32(token.encode(), state)
        surprise = 0.0 if token == greedy else 2.0 + (state % 4096) / 512
        found.append(TokenScore(token, GREEDY_LOG_PROBABILITY - surprise, greedy))
    return found


def score(context: str, continuation: str) -> ScriptedScore:
    """What a request to score `continuation` after `context` is answered with.

    The rule is lm-eval's: blanks at the end of the context belong to the continuation, whose tokens are those
    of the joined text after as many as the context alone has.
    """
    stripped = context.rstrip()
    tokens = token_log_probabilities(context + continuation)
    begin = count_tokens(stripped)
    scored = tokens[begin:]
    return ScriptedScore(
        log_probability=sum(each.log_probability for each in scored),
        is_greedy=all(each.token == each.greedy for each in scored),
        context_tokens=begin,
        continuation_tokens=len(scored),
    )


def _state(text: str) -> int:
    # The same as token by token, since the tokens of a text are the text.
    return crc32(text.encode())
