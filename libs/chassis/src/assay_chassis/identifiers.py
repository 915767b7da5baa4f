"""Identifiers that sort by the time of their creation."""

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"
_DIGITS = 26


def new_id(prefix: str) -> str:
    """A new identifier such as ``run_01jd3k...``: 48 bits of milliseconds, then 80 random bits.

    The layout is that of ULID (Crockford's base 32), in lower case; identifiers of one prefix sort by age
    to the millisecond.
    """
    return _identifier(prefix, (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80))


def first_id(prefix: str, *, unix_ms: int) -> str:
    """What sorts before all identifiers of that prefix made at that time or later, after all earlier ones."""
    return _identifier(prefix, max(0, unix_ms) << 80)


def made_at(identifier: str) -> int | None:
    """When an identifier was made, in milliseconds since the epoch; ``None`` for what is no identifier."""
    digits = identifier.rpartition("_")[2]
    if len(digits) != _DIGITS or not set(digits) <= set(_ALPHABET):
        return None
    number = 0
    for digit in digits:
        number = number * 32 + _ALPHABET.index(digit)
    return number >> 80


def _identifier(prefix: str, number: int) -> str:
    digits = []
    for _ in range(_DIGITS):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return f"{prefix}_{''.join(reversed(digits))}"
