"""API keys: how one is written, what is kept of it, and whether it is valid."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from assay_chassis.identity import Role

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,99}$"
"""What the name of a key looks like."""

_PREFIX_ALPHABET = "23456789abcdefghjkmnpqrstvwxyz"
_SECRET_BYTES = 32
_KEY_PATTERN = re.compile(r"(assay_[2-9a-z]{8})_([A-Za-z0-9_-]{43})")


class KeyState(StrEnum):
    """Whether a key is accepted."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class NewSecret:
    """What the holder gets, once, and the hash of it that is kept."""

    text: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Replaced:
    """The secret before the last rotation: accepted until then."""

    sha256: str
    until: datetime


@dataclass(frozen=True, slots=True)
class Key:
    """An API key as it is kept.

    Attributes:
        id: names the key in the API.
        name: who holds it; the client of its requests.
        role: what it may do.
        prefix: its public beginning, the same after a rotation.
        sha256: hash of the whole key, hexadecimal.
        replaced: the secret before, after a rotation.
        created_by: the client that created it.
        created_at: when.
        expires_at: when it ends by itself; ``None`` for never.
        revoked_at: when it was revoked.
        rotated_at: when it got its present secret; ``None`` for the first one.
        last_used_at: when it was last seen, to the minute.
    """

    id: str
    name: str
    role: Role
    prefix: str
    sha256: str
    created_by: str
    created_at: datetime
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    rotated_at: datetime | None = None
    last_used_at: datetime | None = None
    replaced: Replaced | None = None

    @property
    def state(self) -> KeyState:
        """Whether the key is accepted now."""
        return self.state_at(now())

    def state_at(self, moment: datetime) -> KeyState:
        """Whether the key is accepted at the moment."""
        if self.revoked_at is not None:
            return KeyState.REVOKED
        if self.expires_at is not None and self.expires_at <= moment:
            return KeyState.EXPIRED
        return KeyState.ACTIVE


def new_prefix() -> str:
    """A public beginning: ``assay_`` and 8 random letters or digits that are not mistaken for one another."""
    return "assay_" + "".join(secrets.choice(_PREFIX_ALPHABET) for _ in range(8))


def new_secret(prefix: str) -> NewSecret:
    """A key of 256 random bits with this prefix."""
    text = f"{prefix}_{secrets.token_urlsafe(_SECRET_BYTES)}"
    return NewSecret(text=text, sha256=hash_of(text))


def hash_of(key: str) -> str:
    """What is kept of a key.

    A fast hash is right here: slow ones make it expensive to try the few passwords that people choose, and
    there are 2^256 of these keys, chosen by chance.
    """
    return hashlib.sha256(key.encode()).hexdigest()


def prefix_of(key: str) -> str | None:
    """The public beginning of what was sent; ``None`` where it is not written as a key is."""
    match = _KEY_PATTERN.fullmatch(key)
    return match[1] if match else None


def same_hash(one: str, other: str) -> bool:
    """Whether two hashes are equal, in a time that does not tell how much of them is."""
    return hmac.compare_digest(one, other)


def now() -> datetime:
    """The time to the millisecond, which is what the store keeps: what is read is what was answered."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
