"""Artifacts and the backends that serve them."""

from pydantic import Field

from assay.models.documents import Document, NamedDocument


class Backend(Document):
    """A serving adapter as it describes itself."""

    backend: str
    address: str = ""
    healthy: bool
    unhealthy_reason: str | None = None
    engine: str | None = None
    engine_version: str | None = None


class Artifact(NamedDocument):
    """A model for one backend."""

    model: str
    backend: str
    uri: str
    format: str = ""
    serving_parameters: dict[str, str] = Field(default_factory=dict)
    has_endpoint_key: bool = False
    description: str = ""
    created_at: str
