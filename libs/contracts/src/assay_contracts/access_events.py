"""What access-svc says: the audit trail of API keys. No secret and no hash of one is ever in it."""

from datetime import datetime
from typing import ClassVar, Literal

from pydantic import Field

from assay_contracts.envelope import Event


class _KeyEvent(Event):
    """What every change of a key tells."""

    key_id: str
    name: str = Field(description="the key's holder, which is the client of its requests")
    prefix: str = Field(description="the public beginning of the key")
    by: str = Field(description="the client that did it")

    def aggregate_id(self) -> str:
        """The key."""
        return self.key_id


class KeyCreated(_KeyEvent):
    """An API key was created."""

    SUBJECT: ClassVar[str] = "assay.access.key.created.v1"

    role: Literal["viewer", "editor", "admin"]
    expires_at: datetime | None = Field(description="null: until it is revoked")


class KeyRotated(_KeyEvent):
    """An API key has a new secret."""

    SUBJECT: ClassVar[str] = "assay.access.key.rotated.v1"

    old_secret_until: datetime = Field(description="the old secret is accepted until then")


class KeyRevoked(_KeyEvent):
    """An API key is not accepted any more."""

    SUBJECT: ClassVar[str] = "assay.access.key.revoked.v1"
