"""The adapter under test, and what all checks use."""

import uuid
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from assay_serving.client import ModelServer
from assay_serving.errors import ServingError
from assay_serving.types import (
    Artifact,
    GenerateRequest,
    Instance,
    ProvisionSpec,
    Resources,
    SamplingParameters,
)

CONTEXT_TOKENS = 512

ServingErrorKind = TypeVar("ServingErrorKind", bound=ServingError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """The adapter under test and what it can be asked to serve.

    Attributes:
        server: client of the adapter.
        artifact, missing_artifact: what it can serve, and one of the same kind that is not there.
        serving_parameters, resources: for every instance.
        prompt: should have an obvious and long continuation.
        failing_prompt: the engine fails on it in the middle of its answer and goes on; empty where no prompt
            does that.
        score_tolerance: nats that two ways of computing one log-probability may lie apart on this backend.
        endpoint_key: for an artifact that is somebody else's endpoint.
        ready_seconds: that an instance may take until it is ready; a guard, not a bar.
        shared_key: of the instance that checks share.
    """

    server: ModelServer
    artifact: Artifact
    missing_artifact: Artifact
    serving_parameters: dict[str, str] = field(default_factory=dict)
    resources: Resources = field(default_factory=Resources)
    prompt: str = "The capital of France is Paris. The capital of Italy is"
    failing_prompt: str = ""
    score_tolerance: float = 0.5
    endpoint_key: str = ""
    ready_seconds: float = 120.0
    shared_key: str = field(default_factory=lambda: uuid.uuid4().hex)

    @property
    def is_endpoint(self) -> bool:
        """Whether the artifact is a server that others run: no digest, no process, nothing to end."""
        return self.artifact.format == "endpoint"

    def spec(self, **changes: Any) -> ProvisionSpec:
        """A specification with a key of its own."""
        defaults: dict[str, Any] = {
            "idempotency_key": uuid.uuid4().hex,
            "artifact": self.artifact,
            "max_context_tokens": CONTEXT_TOKENS,
            "max_concurrency": 4,
            "serving_parameters": self.serving_parameters,
            "resources": self.resources,
            "lease": 600.0,
            "ready_timeout": self.ready_seconds,
            "endpoint_key": self.endpoint_key,
        }
        return ProvisionSpec(**(defaults | changes))

    async def start(self, spec: ProvisionSpec) -> Instance:
        """Provision and wait until it is ready."""
        instance = await self.server.provision(spec)
        return await self.server.wait_ready(instance.instance_id, timeout=self.ready_seconds)

    async def shared(self) -> Instance:
        """The one instance that checks share which leave it as it was."""
        return await self.start(self.spec(idempotency_key=self.shared_key))


def greedy(text: str, *, max_tokens: int = 8, stop: tuple[str, ...] = ()) -> GenerateRequest:
    """A request for the most probable continuation."""
    return GenerateRequest(
        text=text, sampling=SamplingParameters(max_tokens=max_tokens, temperature=0.0, stop=stop)
    )


async def expect(kind: type[ServingErrorKind], action: Awaitable[Any]) -> ServingErrorKind:
    """Wait for the action, which must raise an error of that kind; returns it."""
    try:
        result = await action
    except kind as error:
        return error
    except ServingError as error:
        raise AssertionError(f"expected {kind.__name__}, got {type(error).__name__}: {error}") from error
    raise AssertionError(f"expected {kind.__name__}, got {result!r}")
