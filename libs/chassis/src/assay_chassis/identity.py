"""Who sends a request, and how one part of the platform proves it to another.

A service believes a signed statement alone: a short-lived JSON Web Token (RFC 7519) in one header. access-svc
signs it for the holder of an API key, and a service signs it for its own calls. The key that signs is the
platform's internal key; neither the gateway nor a client has it.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

import httpx
import jwt

from assay_chassis.errors import Unauthorized

IDENTITY_HEADER = "x-assay-identity"
MIN_INTERNAL_KEY_BYTES = 32
"""HMAC with SHA-256 is as strong as its key up to this length (RFC 7518, 3.2)."""

_ALGORITHM = "HS256"
_LIFETIME = timedelta(seconds=60)
# Clocks of two machines differ by this much at most.
_CLOCK_SKEW = timedelta(seconds=5)


class Role(StrEnum):
    """What a caller may do; each role may do all that the ones before it may.

    ``viewer`` reads, and computes what nobody keeps; ``editor`` creates and changes; ``admin`` decides who
    has access.
    """

    VIEWER = "viewer"
    EDITOR = "editor"
    ADMIN = "admin"

    def allows(self, needed: "Role") -> bool:
        """Whether a caller of this role may do what needs the role ``needed``."""
        order = tuple(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Identity:
    """Who sends a request.

    Attributes:
        client: name of the API key's holder, or of the calling service.
        role: what it may do.
        key_id: the API key, where access-svc keeps it; not the key of the settings, nor a service.
    """

    client: str
    role: Role
    key_id: str | None = None


class IdentitySigner:
    """Signs identities in the name of one service."""

    def __init__(
        self, *, internal_key: str, issuer: str, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        """``internal_key`` has at least 32 bytes; raises ValueError where it is shorter."""
        self._key = checked_internal_key(internal_key)
        self._issuer = issuer
        self._now = now

    def sign(self, identity: Identity) -> str:
        """The token that says so; valid for a minute."""
        now = self._now()
        claims = {
            "iss": self._issuer,
            "sub": identity.client,
            "role": identity.role.value,
            "iat": now,
            "exp": now + _LIFETIME,
        }
        if identity.key_id is not None:
            claims["key_id"] = identity.key_id
        return jwt.encode(claims, self._key, algorithm=_ALGORITHM)


class IdentityReader:
    """Reads signed identities and refuses everything else."""

    def __init__(self, *, internal_key: str) -> None:
        """``internal_key`` has at least 32 bytes; raises ValueError where it is shorter."""
        self._key = checked_internal_key(internal_key)

    def read(self, token: str | None) -> Identity:
        """The identity that the token states; raises Unauthorized where there is none to believe."""
        if not token:
            raise Unauthorized("send your API key in the X-API-Key header, through the gateway")
        try:
            claims = jwt.decode(
                token,
                self._key,
                algorithms=[_ALGORITHM],
                leeway=_CLOCK_SKEW,
                options={"require": ["iss", "sub", "role", "iat", "exp"]},
            )
            return Identity(client=claims["sub"], role=Role(claims["role"]), key_id=claims.get("key_id"))
        except (jwt.InvalidTokenError, ValueError) as error:
            raise Unauthorized(f"the identity of the caller is not valid: {error}") from error


class SignedIdentity(httpx.Auth):
    """Sends a fresh signed identity with every request of an HTTPX client: ``AsyncClient(auth=...)``."""

    def __init__(self, *, internal_key: str, client: str, role: Role) -> None:
        """``client`` is the calling service; ``role`` is the least that its calls need."""
        self._signer = IdentitySigner(internal_key=internal_key, issuer=client)
        self._identity = Identity(client=client, role=role)

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Add the header to the request."""
        request.headers[IDENTITY_HEADER] = self._signer.sign(self._identity)
        yield request


def checked_internal_key(key: str) -> str:
    """The key; raises ValueError where it is too short to sign with."""
    if len(key.encode()) < MIN_INTERNAL_KEY_BYTES:
        raise ValueError(
            f"the internal key has fewer than {MIN_INTERNAL_KEY_BYTES} bytes; "
            "set ASSAY_INTERNAL_KEY to the output of: openssl rand -hex 32"
        )
    return key
