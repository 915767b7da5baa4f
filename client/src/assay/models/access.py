"""API keys and who holds them."""

from assay.models.documents import Document, NamedDocument


class ApiKey(NamedDocument):
    """An API key, without its secret; its name is its holder's."""

    role: str
    state: str
    prefix: str
    created_by: str
    created_at: str
    expires_at: str | None = None
    revoked_at: str | None = None
    last_used_at: str | None = None


class IssuedKey(ApiKey):
    """An API key with its secret, which no other answer has."""

    secret: str


class Me(Document):
    """Who the caller is. The key of the platform's settings has no prefix and no end."""

    client: str
    role: str
    key_prefix: str | None = None
    expires_at: str | None = None
