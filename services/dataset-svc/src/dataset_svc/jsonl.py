"""Reading JSON Lines strictly, in constant memory, with the line and column of every fault.

The rules, beyond those of JSON (RFC 8259):

- UTF-8, with or without a byte order mark; lines end with LF or CRLF; blank lines are skipped.
- Each line is one JSON object. A file that is UTF-16 or compressed is refused by name.
- A key appears once in an object.
- ``NaN`` and ``Infinity`` are refused, and so is a number too large for a double (``1e999``).
- Whole numbers fit into 64 bits with sign.
- Text is valid Unicode: an escaped half of a surrogate pair is refused.
- Lists and objects are nested no deeper than the limit.
"""

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from assay_chassis.errors import Fault

Row = dict[str, Any]

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_ARCHIVE_MARKS = {b"\x1f\x8b": ("gzip", ".gz"), b"\x28\xb5\x2f\xfd": ("zstd", ".zst")}
_INT64 = range(-(2**63), 2**63)
_INT64_DIGITS = 20
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[{}\[\],:]|[^\s{}\[\],:"]+')
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][+-]?\d+)?")
_CONSTANTS = ("NaN", "Infinity", "-Infinity")
_HINT = "write one complete JSON object on each line"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one upload.

    Attributes:
        line_bytes: longest line, without its line end.
        nesting: deepest lists and objects, counting the row itself.
        columns: most columns, counting the fields of nested objects.
        faults: faults after which reading stops.
    """

    line_bytes: int = 8 << 20
    nesting: int = 32
    columns: int = 500
    faults: int = 100


class FaultyLine(Exception):
    """A line that breaks a rule; ``column`` counts its characters from 1."""

    def __init__(self, message: str, *, column: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.column = column

    def at(self, line: int) -> Fault:
        """The fault to report for line ``line``."""
        return Fault(message=self.message, line=line, column=self.column)


class _Irregular(ValueError):
    """Raised by the decoder's hooks, which do not know where they are; ``_explain`` finds the place."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the file that is not blank; ``content`` is its row or what is wrong with it."""

    number: int
    content: Row | FaultyLine


def read_lines(file: BinaryIO, limits: Limits, *, first_line: int = 1) -> Iterator[Line]:
    """Parse lines one by one. Blank lines are left out, but counted.

    Args:
        file: open for reading bytes, at the start of a line.
        limits: ``line_bytes`` and ``nesting`` are used.
        first_line: number of the line that it is at; the byte order mark is allowed in line 1.
    """
    decoder = json.JSONDecoder(
        object_pairs_hook=_unique,
        parse_constant=_refuse,
        parse_int=_integer,
        parse_float=_float,
    )
    number = first_line - 1
    # Two bytes more than the limit leave room for CRLF.
    while raw := file.readline(limits.line_bytes + 2):
        number += 1
        try:
            row = _parse(_bounded(file, raw, limits), number, decoder, limits)
        except FaultyLine as fault:
            yield Line(number, fault)
        else:
            if row is not None:
                yield Line(number, row)


def _bounded(file: BinaryIO, raw: bytes, limits: Limits) -> bytes:
    """The line without its end; the rest of a line that is too long is skipped."""
    content = raw.removesuffix(b"\n").removesuffix(b"\r")
    if len(content) <= limits.line_bytes:
        return content
    while raw and not raw.endswith(b"\n"):
        raw = file.readline(1 << 20)
    raise FaultyLine(f"the line is longer than {limits.line_bytes} bytes; shorten or split the row")


def _parse(content: bytes, number: int, decoder: json.JSONDecoder, limits: Limits) -> Row | None:
    """The row, or ``None`` for a blank line; raises FaultyLine."""
    if number == 1:
        if content.startswith(_UTF16_MARKS):
            raise FaultyLine("the file is UTF-16; save it as UTF-8", column=1)
        for mark, (name, suffix) in _ARCHIVE_MARKS.items():
            if content.startswith(mark):
                message = f"the file is compressed; send Content-Encoding: {name} or a filename in {suffix}"
                raise FaultyLine(message, column=1)
        content = content.removeprefix(_BYTE_ORDER_MARK)
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        column = len(content[: error.start].decode()) + 1
        raise FaultyLine("this is not UTF-8; save the file as UTF-8", column=column) from None
    if not text.strip(" \t\r"):
        return None
    value = _decode(text, decoder, limits)
    if not isinstance(value, dict):
        raise FaultyLine(f"the line holds {_word(value)}, not an object; {_HINT}", column=1)
    return value


def _decode(text: str, decoder: json.JSONDecoder, limits: Limits) -> object:
    try:
        value: object = decoder.decode(text)
        if "\\ud" in text or "\\uD" in text:
            json.dumps(value, ensure_ascii=False).encode()
        brackets = text.count("{") + text.count("[")
        irregular = brackets > limits.nesting and _depth(value) > limits.nesting
    except json.JSONDecodeError as error:
        reason = "there is something after the object" if error.msg == "Extra data" else error.msg
        raise FaultyLine(f"not valid JSON: {reason}; {_HINT}", column=error.pos + 1) from None
    except (_Irregular, UnicodeEncodeError, RecursionError):
        irregular = True
    if irregular:
        _explain(text, limits)
    return value


def _depth(value: object) -> int:
    """Levels of lists and objects. Not recursive: the value may be deeper than the interpreter's stack."""
    depth, level = 0, [value]
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [item for each in level for item in (each.values() if isinstance(each, dict) else each)]
    return depth


def _explain(text: str, limits: Limits) -> NoReturn:
    """Find what the decoder objected to, in text whose syntax is valid up to there; raises FaultyLine."""
    keys: list[set[str] | None] = []
    key_expected = False
    for match in _TOKEN.finditer(text):
        token, column = match.group(), match.start() + 1
        if token in "{[":
            keys.append(set() if token == "{" else None)
            if len(keys) > limits.nesting:
                raise FaultyLine(
                    f"nested deeper than {limits.nesting} levels; flatten the row", column=column
                )
        elif token in "}]":
            keys.pop()
        elif token.startswith('"'):
            _check_text(token, keys[-1] if key_expected else None, column=column)
        elif token not in ",:":
            _check_scalar(token, column=column)
        key_expected = token in "{," and bool(keys) and keys[-1] is not None
    raise FaultyLine(f"the line cannot be read; {_HINT}")


def _check_text(token: str, keys: set[str] | None, *, column: int) -> None:
    """Check a string; ``keys`` are the keys of its object so far if it is a key."""
    text: str = json.loads(token)
    try:
        text.encode()
    except UnicodeEncodeError:
        raise FaultyLine(
            "the text holds an escaped half of a surrogate pair, which is no character; write the character",
            column=column,
        ) from None
    if keys is None:
        return
    if text in keys:
        raise FaultyLine(f"the key {text[:100]!r} appears twice in one object; keep one", column=column)
    keys.add(text)


def _check_scalar(token: str, *, column: int) -> None:
    if token in _CONSTANTS:
        raise FaultyLine(f"{token} is not JSON; write null for a missing value", column=column)
    number = _NUMBER.fullmatch(token)
    if number is None:
        return
    shown = token if len(token) <= 40 else f"{token[:40]}..."
    if number[1] is None and number[2] is None:
        if len(token) > _INT64_DIGITS or int(token) not in _INT64:
            raise FaultyLine(
                f"the whole number {shown} does not fit into 64 bits; write it as text", column=column
            )
    elif math.isinf(float(token)):
        raise FaultyLine(f"the number {shown} is too large for a double; write it as text", column=column)


def _unique(pairs: list[tuple[str, object]]) -> Row:
    row = dict(pairs)
    if len(row) != len(pairs):
        raise _Irregular
    return row


def _refuse(_: str) -> NoReturn:
    raise _Irregular


def _integer(digits: str) -> int:
    # The length first: converting very long digits is slow and bounded by the interpreter.
    if len(digits) > _INT64_DIGITS or (value := int(digits)) not in _INT64:
        raise _Irregular
    return value


def _float(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise _Irregular
    return value


def _word(value: object) -> str:
    match value:
        case list():
            return "a list"
        case str():
            return "text"
        case bool():
            return "true or false"
        case None:
            return "null"
        case _:
            return "a number"
