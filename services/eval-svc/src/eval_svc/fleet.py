"""The configured serving adapters, and what their backends can do."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from typing import Any

from assay_chassis.errors import Fault, Unavailable
from assay_serving.client import ModelServer
from assay_serving.errors import ServingError
from assay_serving.types import AdapterDescription, Capabilities, Support
from eval_svc.domain import ArtifactSpec
from eval_svc.errors import BackendNotConfigured, InvalidArtifact

# lm-eval's name -> (field of SamplingParameters, capability that says whether the backend honours it)
SAMPLING: Mapping[str, tuple[str, str | None]] = {
    "temperature": ("temperature", None),
    "top_p": ("top_p", None),
    "top_k": ("top_k", "top_k"),
    "min_p": ("min_p", "min_p"),
    "seed": ("seed", "seed"),
    "repetition_penalty": ("repetition_penalty", "repetition_penalty"),
    "presence_penalty": ("presence_penalty", "presence_penalty"),
    "frequency_penalty": ("frequency_penalty", "frequency_penalty"),
}
HANDLED_APART = frozenset({"until", "max_gen_toks", "do_sample"})


def check_sampling(generation_kwargs: Mapping[str, Any]) -> str | None:
    """What is wrong with generation arguments, or ``None``. An unknown one would silently do nothing."""
    unknown = sorted(set(generation_kwargs) - set(SAMPLING) - HANDLED_APART)
    if not unknown:
        return None
    known = ", ".join(sorted((*SAMPLING, *HANDLED_APART)))
    return f"generation argument(s) {', '.join(unknown)} are not supported; known are {known}"


@dataclass(frozen=True, slots=True)
class BackendDescription:
    """What planning needs to know of a backend."""

    engine: str
    capabilities: Capabilities

    @property
    def can_score(self) -> bool:
        """Whether log-probabilities of given continuations can be had."""
        return self.capabilities.score is Support.YES

    def refused_sampling(self, generation_kwargs: Mapping[str, Any]) -> list[str]:
        """The generation arguments that the backend would refuse or ignore."""
        return [
            name
            for name, (_, capability) in SAMPLING.items()
            if name in generation_kwargs
            and capability is not None
            and getattr(self.capabilities, capability) is not Support.YES
        ]


class ServingFleet:
    """The configured adapters, one per backend."""

    def __init__(self, servers: Mapping[str, ModelServer], addresses: Mapping[str, str]) -> None:
        self._servers = servers
        self._addresses = addresses

    @classmethod
    @asynccontextmanager
    async def connect(
        cls, addresses: Mapping[str, str], *, carrier: Callable[[], dict[str, str]]
    ) -> AsyncIterator["ServingFleet"]:
        """Open channels to the adapters; an adapter need not answer yet.

        Args:
            addresses: backend name to ``host:port``.
            carrier: gives the trace headers of the current span.
        """
        async with AsyncExitStack() as stack:
            servers = {
                backend: await stack.enter_async_context(ModelServer.connect(address, metadata=carrier))
                for backend, address in addresses.items()
            }
            yield cls(servers, addresses)

    def server(self, backend: str) -> ModelServer:
        """The adapter of a backend.

        Raises:
            BackendNotConfigured: there is none.
        """
        if backend not in self._servers:
            configured = ", ".join(self._servers) or "none"
            message = f"no serving adapter is configured for backend {backend!r}; configured: {configured}"
            raise BackendNotConfigured(message, faults=[Fault(message, field="backend")])
        return self._servers[backend]

    async def describe(self, backend: str) -> BackendDescription:
        """Ask the adapter what it can do.

        Raises:
            BackendNotConfigured: there is no adapter.
            Unavailable: it does not answer or is unhealthy.
        """
        description = await self._description(backend)
        return BackendDescription(engine=description.engine, capabilities=description.capabilities)

    async def _description(self, backend: str) -> AdapterDescription:
        try:
            description = await self.server(backend).describe()
        except ServingError as error:
            raise Unavailable(f"the {backend} adapter does not answer: {error}") from error
        if not description.healthy:
            raise Unavailable(f"the {backend} adapter is unhealthy: {description.unhealthy_reason}")
        return description

    async def describe_all(self) -> list[dict[str, Any]]:
        """What each adapter says of itself; an unreachable one is unhealthy."""

        async def one(backend: str) -> dict[str, Any]:
            address = self._addresses[backend]
            try:
                description = asdict(await self._servers[backend].describe())
            except ServingError as error:
                return {
                    "backend": backend,
                    "address": address,
                    "healthy": False,
                    "unhealthy_reason": str(error),
                }
            return {**description, "backend": backend, "address": address}

        return list(await asyncio.gather(*(one(backend) for backend in self._servers)))

    async def check_artifact(self, spec: ArtifactSpec) -> None:
        """Check format and serving parameters against what the adapter offers.

        Raises:
            BackendNotConfigured, InvalidArtifact, Unavailable: see there.
        """
        description = await self._description(spec.backend)
        faults = []
        if spec.format not in description.artifact_formats:
            formats = ", ".join(description.artifact_formats)
            faults.append(Fault(f"format {spec.format!r} is not one of {formats}", field="format"))
        known = {parameter.name: parameter.choices for parameter in description.serving_parameters}
        for name, value in spec.serving_parameters.items():
            field = f"serving_parameters.{name}"
            if name not in known:
                names = ", ".join(known) or "none"
                faults.append(Fault(f"unknown parameter; the adapter knows {names}", field=field))
            elif known[name] and value not in known[name]:
                faults.append(Fault(f"{value!r} is not one of {', '.join(known[name])}", field=field))
        if faults:
            raise InvalidArtifact(
                "; ".join(f"{fault.field}: {fault.message}" for fault in faults), faults=faults
            )
