"""Artifacts that are model servers which somebody else runs."""

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from assay_serving.backend import PreparedArtifact
from assay_serving.errors import InvalidRequest
from assay_serving.launchers.endpoint import connect_endpoint
from assay_serving.launchers.server import Progress
from assay_serving.models import without_files
from assay_serving.openai.engine import ENDPOINT, EnginePlan, OpenAIEngine
from assay_serving.types import (
    Artifact,
    Capabilities,
    InstanceState,
    ProvisionSpec,
    Resources,
    ServingParameter,
)

MODEL_FORMAT, ENDPOINT_FORMAT = "hf", "endpoint"
SERVED_MODEL = ServingParameter(
    name="served_model", description="the model's name at an endpoint that serves several"
)


def is_endpoint(artifact: Artifact) -> bool:
    """Whether an artifact is an endpoint, by its URI; raises InvalidRequest where its format disagrees."""
    is_url = urlsplit(artifact.uri).scheme in ("http", "https")
    if artifact.format and is_url != (artifact.format == ENDPOINT_FORMAT):
        raise InvalidRequest(
            f"artifact.format {artifact.format!r}: the URI of an endpoint begins with http:// or https://, "
            "that of a model with hf:// or file://"
        )
    return is_url


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointArtifacts:
    """Checks and connects endpoints for one adapter.

    Attributes:
        engine, capabilities: what the software behind an endpoint is taken for.
        health_path: answers 200 where a server can work.
        allowed_hosts: that this adapter may talk to.
        ca_file: authorities that may sign their certificates; the system's where empty.
        variables: prefix of the adapter's settings, for advice in errors.
    """

    engine: str
    capabilities: Capabilities
    health_path: str
    allowed_hosts: Collection[str]
    ca_file: str
    variables: str

    def check(self, spec: ProvisionSpec) -> None:
        """Refuse what an endpoint cannot honour, and hosts that are not allowed; raises InvalidRequest."""
        for name in spec.serving_parameters:
            if name != SERVED_MODEL.name:
                raise InvalidRequest(
                    f"serving_parameters.{name}: the endpoint runs already; whoever runs it sets that"
                )
        if spec.resources != Resources():
            raise InvalidRequest("resources: an endpoint has its own; leave them 0")
        if (urlsplit(spec.artifact.uri).hostname or "").lower() not in self.allowed_hosts:
            raise InvalidRequest(
                f"artifact.uri {spec.artifact.uri!r}: its host is not among those that this adapter may talk "
                f"to; its operator names them in {self.variables}ENDPOINT_HOSTS"
            )

    def prepare(self, spec: ProvisionSpec) -> PreparedArtifact:
        """Nothing is fetched; raises ArtifactMismatch for a digest, which nobody could confirm."""
        name = spec.serving_parameters.get(SERVED_MODEL.name) or urlsplit(spec.artifact.uri).netloc
        return without_files(spec.artifact, name=name)

    async def connect(
        self, spec: ProvisionSpec, prepared: PreparedArtifact, *, progress: Progress
    ) -> OpenAIEngine:
        """An engine over the endpoint; see `connect_endpoint` for what it raises."""
        progress(InstanceState.STARTING, f"connecting to {urlsplit(spec.artifact.uri).netloc}")
        server = await connect_endpoint(
            spec.artifact.uri,
            key=spec.endpoint_key,
            allowed_hosts=self.allowed_hosts,
            health_path=self.health_path,
            ca_file=self.ca_file,
        )
        plan = EnginePlan(
            engine=self.engine,
            artifact=prepared,
            capabilities=self.capabilities,
            concurrency=spec.max_concurrency,
            context_tokens=spec.max_context_tokens,
            launcher=ENDPOINT,
            model=spec.serving_parameters.get(SERVED_MODEL.name, ""),
        )
        return OpenAIEngine(server, plan)
