"""``/v1/artifacts`` and ``/v1/backends``."""

from collections.abc import Iterator, Mapping

from assay.models import Artifact, Backend, Page
from assay.resources.named import NamedResources
from assay.transport import Transport


class Artifacts(NamedResources[Artifact]):
    """Models in the form that a backend serves."""

    path = "/v1/artifacts"
    prefix = "art"
    kind = "artifact"
    listing = "assay artifact list"

    def __init__(self, transport: Transport) -> None:
        super().__init__(transport, Artifact)

    def create(
        self,
        name: str,
        *,
        model: str,
        backend: str,
        uri: str,
        artifact_format: str = "gguf",
        sha256: str | None = None,
        revision: str | None = None,
        serving_parameters: Mapping[str, str] | None = None,
        endpoint_key: str | None = None,
        description: str = "",
    ) -> Artifact:
        """Register what is to be evaluated: a model in a form that one backend serves.

        ``endpoint_key`` is the secret of an artifact of format ``endpoint``; nothing ever shows it again.
        """
        body = {
            "name": name,
            "model": model,
            "backend": backend,
            "uri": uri,
            "format": artifact_format,
            "serving_parameters": dict(serving_parameters or {}),
            "description": description,
        }
        optional = {"sha256": sha256, "revision": revision, "endpoint_key": endpoint_key}
        body.update({key: value for key, value in optional.items() if value is not None})
        return self._transport.post("/v1/artifacts", Artifact, body=body)

    def set_key(self, reference: str, endpoint_key: str) -> Artifact:
        """Give an artifact of format ``endpoint`` another secret, for instances that start from now on."""
        path = f"{self.path}/{self.get(reference).id}"
        self._transport.put(f"{path}/endpoint-key", body={"endpoint_key": endpoint_key})
        return self._transport.get(path, Artifact)


class Backends:
    """Serving adapters."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(self) -> Iterator[Backend]:
        """Every configured serving adapter and what it can do now."""
        return iter(self._transport.get("/v1/backends", Page[Backend]).items)
