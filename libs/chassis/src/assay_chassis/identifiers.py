"""Identifiers that sort by the time of their creation."""

import secrets
import time

_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id(prefix: str) -> str:
    """A new identifier such as ``run_01jd3k...``: 48 bits of milliseconds, then 80 random bits.

    The layout is that of ULID (Crockford's base 32), in lower case; identifiers of one prefix sort by age
    to the millisecond.
    """
    number = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    digits = []
    for _ in range(26):
        number, digit = divmod(number, 32)
        digits.append(_ALPHABET[digit])
    return f"{prefix}_{''.join(reversed(digits))}"
