"""How much text each token of a streamed answer brought."""

from assay_serving.arrivals import Arrivals
from assay_serving.message_codecs import decode_generate_result, encode_generate_result
from assay_serving.types import FinishReason, GenerateResult, RequestTimes
from assay_serving.upstream import ServerEvent

EVENT = ServerEvent(b"", 0, 1, 1)


def lengths_of(*chunks: tuple[int, str], completion_tokens: int) -> tuple[int, ...]:
    """Of chunks with so many tokens and such a text."""
    arrivals = Arrivals()
    for tokens, text in chunks:
        arrivals.add(EVENT, tokens=tokens, text_length=len(text))
    return arrivals.text_lengths(completion_tokens=completion_tokens)


def test_each_token_has_its_own_text_and_the_end_of_sequence_has_none() -> None:
    assert lengths_of((1, "The"), (1, " sum"), (1, ""), completion_tokens=3) == (3, 4, 0)


def test_a_character_of_several_tokens_comes_with_its_last_token() -> None:
    # What an engine sends for a character whose bytes are two tokens.
    assert lengths_of((1, ""), (1, "é"), completion_tokens=2) == (0, 1)


def test_tokens_of_one_chunk_have_its_text_at_their_last() -> None:
    assert lengths_of((3, "The sum"), (1, " is"), completion_tokens=4) == (0, 0, 7, 3)


def test_text_that_comes_without_a_token_is_not_lost() -> None:
    assert lengths_of((1, "a"), (0, "bc"), completion_tokens=1) == (3,)
    assert lengths_of((0, "a"), (1, "bc"), completion_tokens=1) == (3,)


def test_nothing_is_said_where_a_token_is_missing() -> None:
    assert lengths_of((1, "a"), (1, "b"), completion_tokens=3) == ()


def test_an_adapter_that_does_not_tell_is_understood() -> None:
    result = GenerateResult(
        text="ab",
        finish_reason=FinishReason.LENGTH,
        prompt_tokens=1,
        completion_tokens=2,
        times=RequestTimes(received_mono_ns=1, sent_mono_ns=2, done_mono_ns=3),
        token_text_lengths=(1, 1),
    )
    message = encode_generate_result(result)
    assert decode_generate_result(message) == result
    message.ClearField("token_text_lengths")
    assert decode_generate_result(message).token_text_lengths == ()
