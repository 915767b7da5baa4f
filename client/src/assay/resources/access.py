"""``/v1/access``."""

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from assay.errors import NotFound
from assay.models import ApiKey, IssuedKey, Me
from assay.transport import Transport


class Keys:
    """API keys. Only an admin may do more than ask who it is."""

    path = "/v1/access/keys"

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def me(self) -> Me:
        """Who the holder of the key in use is, and what it may do."""
        return self._transport.get("/v1/access/me", Me)

    def create(self, name: str, *, role: str, expires_at: datetime | None = None) -> IssuedKey:
        """A new key; its secret is in this answer only.

        Args:
            name: who holds it; nobody else may have had the name.
            role: ``viewer``, ``editor`` or ``admin``.
            expires_at: when it ends by itself, with a time zone; when it is revoked if left out.
        """
        body: dict[str, Any] = {"name": name, "role": role}
        if expires_at is not None:
            body["expires_at"] = expires_at.isoformat()
        return self._transport.post(self.path, IssuedKey, body=body)

    def list(self, *, limit: int | None = None) -> Iterator[ApiKey]:
        """All keys that there are or were, newest first."""
        return self._transport.pages(self.path, ApiKey, limit=limit)

    def get(self, reference: str) -> ApiKey:
        """The key of that id, name or prefix; raises NotFound."""
        for key in self.list():
            if reference in (key.id, key.name, key.prefix):
                return key
        raise NotFound(f"there is no key {reference!r}; `assay keys list` lists them")

    def rotate(self, reference: str, *, grace_seconds: int = 0) -> IssuedKey:
        """Give a key a new secret, in this answer only; the old one is accepted for the grace."""
        path = f"{self.path}/{self.get(reference).id}/rotate"
        return self._transport.post(path, IssuedKey, body={"grace_seconds": grace_seconds})

    def revoke(self, reference: str) -> ApiKey:
        """Revoke a key for good; the key as it was. Raises NotFound; Conflict for the key in use."""
        key = self.get(reference)
        self._transport.delete(f"{self.path}/{key.id}")
        return key
