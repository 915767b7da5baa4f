"""What a backend must bring: preparing an artifact, launching an engine, and talking to it."""

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from assay_serving.errors import EngineDied, EngineError, ServingError
from assay_serving.launchers.server import Progress
from assay_serving.power.source import PowerSource
from assay_serving.types import (
    AdapterDescription,
    Capabilities,
    GenerateRequest,
    GenerateResult,
    InstanceLog,
    Provenance,
    ProvisionSpec,
    ScoreRequest,
    ScoreResult,
)

# A dying process closes its sockets before its parent can see the exit status.
_EXIT_GRACE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PreparedArtifact:
    """An artifact that is ready to load.

    Attributes:
        path: the local file or directory; the empty path where the server fetches or already has it.
        sha256: of the file, or the tree digest of the directory; empty where it cannot be known.
        model_name: for people.
        source_sha256: set where the file was made from another one.
        quantization: what it was made into.
        repository, revision: of the hub, and the commit that it was resolved to.
        file_sha256: digests of further files, by their paths.
    """

    path: Path = Path()
    sha256: str
    model_name: str
    source_sha256: str = ""
    quantization: str = ""
    repository: str = ""
    revision: str = ""
    file_sha256: Mapping[str, str] = field(default_factory=dict)


class Engine(ABC):
    """One running engine. All coroutines may be called concurrently; a cancelled one stops its work there."""

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this engine can do with its settings."""

    @property
    @abstractmethod
    def provenance(self) -> Provenance:
        """What runs; complete after `warm_up`."""

    @property
    @abstractmethod
    def process_id(self) -> int:
        """Root of the engine's process tree; 0 where it runs elsewhere."""

    @property
    def launcher(self) -> str:
        """Where it runs: ``process``, ``kubernetes`` or ``endpoint``."""
        return "process"

    @property
    def accelerators(self) -> int:
        """Devices that it occupies; 0 for a processor and for somebody else's endpoint."""
        return 0

    def power_sources(self) -> tuple[PowerSource, ...]:
        """Sensors of the devices that it occupies, opened for one telemetry sampler, which closes them."""
        return ()

    async def renew(self, lease: float) -> None:  # noqa: B027 - a child process ends with its adapter
        """The instance's lease now ends `lease` seconds from now; must not fail."""

    @abstractmethod
    async def warm_up(self) -> None:
        """Make one real completion; raises a ServingError where that fails."""

    @abstractmethod
    async def generate(self, request: GenerateRequest, *, received_mono_ns: int) -> GenerateResult:
        """Answer one validated request; raises `EngineDied` (see `connection_lost`) when the engine dies."""

    @abstractmethod
    async def score(self, request: ScoreRequest, *, received_mono_ns: int) -> ScoreResult:
        """Score one validated request; never called where the capability is refused."""

    @abstractmethod
    async def wait_dead(self) -> str:
        """Return a sentence on the engine's end once it has ended; never returns while it lives."""

    @abstractmethod
    def log_tail(self) -> str:
        """The end of the engine's log; may be empty."""

    async def read_log(self, max_bytes: int) -> InstanceLog:
        """The end of the engine's log, also after its end; must not fail."""
        return InstanceLog(text=self.log_tail())

    @abstractmethod
    async def stop(self) -> None:
        """End the engine and all that belongs to it. Idempotent; must not fail."""

    async def connection_lost(self, error: Exception, *, tokens_before_error: int = 0) -> ServingError:
        """The right error for a broken connection: the engine died, or it only broke off this answer."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_EXIT_GRACE_SECONDS):
                end = await self.wait_dead()
                return EngineDied(end, engine_detail=self.log_tail(), tokens_before_error=tokens_before_error)
        return EngineError(str(error), retryable=True, tokens_before_error=tokens_before_error)


class ServingBackend(ABC):
    """What an adapter runs engines on."""

    @abstractmethod
    async def describe(self) -> AdapterDescription:
        """What this backend can run, now; cheap and without side effects."""

    @abstractmethod
    def check(self, spec: ProvisionSpec) -> None:
        """Refuse by a ServingError what cannot work, before anything is started; must not block."""

    def idle_sources(self, spec: ProvisionSpec) -> tuple[PowerSource, ...]:
        """Sensors of the devices that an instance of `spec` would get, to be read before it is started.

        Empty where they are not known before. The caller closes them.
        """
        return ()

    @abstractmethod
    async def prepare(self, spec: ProvisionSpec, *, progress: Progress) -> PreparedArtifact:
        """Bring the artifact to a local file, checked and converted; must not block the event loop.

        Raises:
            ArtifactNotFound, ArtifactMismatch: see there.
        """

    @abstractmethod
    async def launch(
        self, spec: ProvisionSpec, prepared: PreparedArtifact, *, instance_id: str, progress: Progress
    ) -> Engine:
        """Start an engine and return once it answers.

        When it fails or is cancelled it must leave nothing running. Raises StartFailed with the log's end.
        """

    async def reap(self, living: Collection[str]) -> list[str]:
        """Remove what instances have left behind that are not `living`; see `ServerLauncher.reap`."""
        return []
