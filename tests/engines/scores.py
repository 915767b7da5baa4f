"""Log-probabilities as both servers write them."""

from collections.abc import Sequence
from typing import Any

from engines.generation import TokenScore
from engines.tokenizer import IncrementalText, Tokenizer


class TokenTexts:
    """Texts of tokens that follow each other; a character is the text of its last token."""

    def __init__(self, tokenizer: Tokenizer, *, by_id: bool) -> None:
        self._tokenizer = tokenizer
        self._by_id = by_id
        self._following = IncrementalText(tokenizer, skip_special_tokens=False)

    def next(self, token: int) -> str:
        """Text of the next token of the sequence."""
        text = self._following.feed(token)
        return f"token_id:{token}" if self._by_id else text

    def alone(self, token: int) -> str:
        """Text of a token that could have been in its place."""
        if self._by_id:
            return f"token_id:{token}"
        text = self._tokenizer.decode([token])
        return "" if "\ufffd" in text else text


def prompt_logprobs(
    tokenizer: Tokenizer, prompt: Sequence[int], scores: Sequence[Sequence[TokenScore] | None]
) -> list[dict[str, Any] | None]:
    """One object per prompt token, from token ids to log-probability, rank and text; the first is null."""
    texts = TokenTexts(tokenizer, by_id=False)
    found: list[dict[str, Any] | None] = []
    for token, here in zip(prompt, scores, strict=True):
        own = texts.next(token)
        found.append(
            None
            if here is None
            else {
                str(each.token): {
                    "logprob": each.log_probability,
                    "rank": each.rank,
                    "decoded_token": own if each.token == token else texts.alone(each.token),
                }
                for each in here
            }
        )
    return found


def completion_logprobs(
    texts: TokenTexts,
    tokens: Sequence[int],
    scores: Sequence[Sequence[TokenScore] | None],
    *,
    top: int,
    offset: int,
) -> tuple[dict[str, Any], int]:
    """The `logprobs` object of a completion's choice, and the text offset behind it."""
    content: dict[str, list[Any]] = {
        "text_offset": [],
        "token_logprobs": [],
        "tokens": [],
        "top_logprobs": [],
    }
    for token, here in zip(tokens, scores, strict=True):
        text = texts.next(token)
        content["text_offset"].append(offset)
        content["tokens"].append(text)
        content["token_logprobs"].append(here[0].log_probability if here else None)
        content["top_logprobs"].append(
            {
                text if each.token == token else texts.alone(each.token): each.log_probability
                for each in here[: top + 1 if top >= 0 else None]
            }
            if here
            else None
        )
        offset += len(text)
    return content, offset


def chat_logprobs(
    texts: TokenTexts, tokens: Sequence[int], scores: Sequence[Sequence[TokenScore]], *, top: int
) -> dict[str, Any]:
    """The `logprobs` object of a chat completion's choice."""

    def entry(text: str, score: TokenScore) -> dict[str, Any]:
        return {"token": text, "logprob": score.log_probability, "bytes": list(text.encode())}

    content = []
    for token, here in zip(tokens, scores, strict=True):
        text = texts.next(token)
        ordered = sorted(here, key=lambda each: each.rank)[:top]
        alternatives = [
            entry(text if each.token == token else texts.alone(each.token), each) for each in ordered
        ]
        content.append({**entry(text, here[0]), "top_logprobs": alternatives})
    return {"content": content}
