"""A tokenizer with the traps of real ones: a start token, special tokens in text, words and bytes.

A word with the blank before it is one token, a digit is one, whatever is not in the vocabulary falls apart
into its UTF-8 bytes. So a context and its continuation need not have the tokens of the whole, and a character
can be spread over several tokens.
"""

import codecs
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

START, TURN, END = "<s>", "<|im_start|>", "<|im_end|>"
_SPECIAL = (START, TURN, END, *(f"<|reserved_{number}|>" for number in range(4)))
START_ID, TURN_ID, END_ID = 0, 1, 2
# What both servers tell of it under /tokenizer_info.
TOKENIZER_INFO = {"tokenizer_class": "FaithfulTokenizer", "bos_token": START, "eos_token": END}
FIRST_BYTE_ID = len(_SPECIAL)
_FIRST_WORD_ID = FIRST_BYTE_ID + 256

_WORDS = """
a about add after again all also altogether always an and animals Anna another answer any apples April are
as ask at away back bag baker bank be bears beautiful because been before began bell below best better
between big birds blue boat book books both bottle bought box boy bread bridge bring brother brown bus but
buy by cake call can capital car cars cat chair change cheese child children church city class clips close
clock cloud coffee coins cold colour come cost could country cow cup cut dark day days deep did different
dinner dog dollars done door down drawer drink drive dry each early earth east easy eat eggs eight eighteen
eleven end engine enough evening every eye face family far farm farmer fast father few field fifteen fifty
find fine fire first fish five floor flower fly follow food foot for forest forty found four fourteen France
free fresh friend friends from front full garden gate gave gave get girl give given glass go gold good grass
great green ground grow had half hand happy hard has have he head hear heard heart heavy help her here high
hill him his hold home horse hot hour hours house how hundred ice if in inside into is island it Italy its
just keep kind king kitchen know lake land large last late leave left less let letter life light like line
little live loaf loaves long look lost lot love low made make man many map March market May me mean meet men
mice middle milk million mind minute minutes money month moon more morning most mother mountain much music
must name near need never new next nice night nine no noon north not note nothing now number ocean of off
office often old on once one only open or orange order other our out over own page pages paid pair paper
Paris park part party past path pay pears pen pencil people picture piece place plan plant play please point
pond price problem put queen question quick quiet rain ran reach read ready red rest rich right river road
rock Rome room round run said sail salt same sand sat saw school sea second see seed sell sells send seven
she ship shoes shop short should show side silver sing sister sit six sky sleep slow small snow so sold some
song soon south space spring stand star start station stay step still stone stop store story street strong
such sugar summer sun sure table take talk tall tea teacher tell ten than that the their them then there
these they thing think third thirty this those thousand three through time to today together told tomorrow
too took top total town train trays tree trees trip true turn twelve twenty two under until up us use very
village visit wait walk wall want warm was watch water way we week weeks well went were west what wheel when
where which white who whole why wide will wind window winter with without woman wood word words work world
would write year years yellow yes yesterday you young your
"""
_LONGEST_CHARACTER = 4
_PIECES = re.compile(r" ?[A-Za-z]+|[0-9]| ?[^\sA-Za-z0-9]|\s")
_SPECIAL_IN_TEXT = re.compile("(" + "|".join(map(re.escape, _SPECIAL)) + ")")


def _word_texts() -> list[str]:
    words = list(dict.fromkeys(_WORDS.split()))
    texts = [f" {word}" for word in words] + words + [word.capitalize() for word in words]
    texts += [f" {word.capitalize()}" for word in ("the", "she", "he", "they", "how", "what", "it", "in")]
    texts += [*"0123456789", *".,?!:;'\"()-+*/=$%#", *(f" {mark}" for mark in ".,?!-+*/=$("), " ", "\n"]
    return list(dict.fromkeys(texts))


@dataclass(frozen=True, slots=True)
class ChatMessage:
    """One turn of a conversation."""

    role: str
    content: str


class Tokenizer:
    """Text to ids and back.

    Ids from `first_flowing` on are words and marks with a blank before them, which follow each other in
    ordinary text. There is a prime number of these, and one of all others.
    """

    def __init__(self) -> None:
        words = _word_texts()
        flowing = [text for text in words if text.startswith(" ") and len(text) > 1]
        others = [text for text in words if text not in flowing]
        del flowing[_largest_prime(len(flowing)) :]
        del others[_largest_prime(_FIRST_WORD_ID + len(others)) - _FIRST_WORD_ID :]
        self._bytes: list[bytes] = [text.encode() for text in _SPECIAL]
        self._bytes += [bytes([value]) for value in range(256)]
        self._bytes += [text.encode() for text in (*others, *flowing)]
        self._ids = {text: _FIRST_WORD_ID + index for index, text in enumerate((*others, *flowing))}
        self._ids |= {text: index for index, text in enumerate(_SPECIAL)}
        self.vocabulary_size = len(self._bytes)
        self.first_flowing = _FIRST_WORD_ID + len(others)

    def encode(self, text: str, *, add_special_tokens: bool) -> list[int]:
        """Ids of the text; names of special tokens in it become these tokens."""
        ids = [START_ID] if add_special_tokens else []
        for part in _SPECIAL_IN_TEXT.split(text):
            if part in _SPECIAL:
                ids.append(self._ids[part])
            else:
                ids += self._encode_plain(part)
        return ids

    def decode(self, ids: Sequence[int], *, skip_special_tokens: bool = False) -> str:
        """Text of the ids; what is no whole character becomes U+FFFD."""
        return b"".join(self.token_bytes(ids, skip_special_tokens=skip_special_tokens)).decode(
            errors="replace"
        )

    def token_bytes(self, ids: Iterable[int], *, skip_special_tokens: bool = False) -> list[bytes]:
        """The bytes that each token stands for."""
        return [b"" if skip_special_tokens and token < FIRST_BYTE_ID else self._bytes[token] for token in ids]

    def token_name(self, token: int) -> str:
        """The token as a vocabulary shows it: a leading blank is ``Ġ``, a byte ``<0xNN>``."""
        if FIRST_BYTE_ID <= token < _FIRST_WORD_ID:
            return f"<0x{token - FIRST_BYTE_ID:02X}>"
        return self._bytes[token].decode().replace(" ", "\u0120").replace("\n", "\u010a")

    def chat_text(self, messages: Sequence[ChatMessage], *, add_generation_prompt: bool) -> str:
        """The conversation by the chat template, which brings the start token itself."""
        turns = (f"{TURN}{message.role}\n{message.content}{END}\n" for message in messages)
        return START + "".join(turns) + (f"{TURN}assistant\n" if add_generation_prompt else "")

    def _encode_plain(self, text: str) -> list[int]:
        ids = []
        for piece in _PIECES.findall(text):
            token = self._ids.get(piece)
            if token is None:
                ids += [FIRST_BYTE_ID + value for value in piece.encode()]
            else:
                ids.append(token)
        return ids


class IncrementalText:
    """Text of tokens that come one after the other, behind those of a prompt.

    A character comes with its last byte, even if the prompt had its first ones; bytes that make none by the
    end of an answer never come.
    """

    def __init__(
        self, tokenizer: Tokenizer, *, skip_special_tokens: bool, prompt: Sequence[int] = ()
    ) -> None:
        self._tokenizer = tokenizer
        self._skip_special_tokens = skip_special_tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        for token in prompt[-_LONGEST_CHARACTER:]:
            self.feed(token)

    def feed(self, token: int) -> str:
        """The text that is known with this token and was not before."""
        (content,) = self._tokenizer.token_bytes((token,), skip_special_tokens=self._skip_special_tokens)
        return self._decoder.decode(content)


def _largest_prime(limit: int) -> int:
    return next(n for n in range(limit, 1, -1) if all(n % factor for factor in range(2, int(n**0.5) + 1)))
