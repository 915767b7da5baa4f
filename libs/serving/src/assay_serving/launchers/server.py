"""What every launcher of HTTP model servers offers: start one, watch it, stop it, find what is left over."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from assay_serving.types import InstanceLog, InstanceState, Resources
from assay_serving.upstream import UpstreamAddress

Progress = Callable[[InstanceState, str], None]
"""Told when an instance enters PULLING or STARTING, with a sentence for people.

Entering a state ends the phase before it, so that the times of scheduling, pulling and loading are those of
the place that did the work.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerPlan:
    """One model server to start.

    Attributes:
        instance_id: of the serving instance; label of everything that is started for it.
        arguments: after the program's name, without host, port and key, which are the launcher's business.
        environment: not secret.
        secrets: environment variables that must show in no command line, manifest, log or error.
        resources: what it may use.
        devices: identifiers of the accelerators on this machine that it gets; empty where the launcher's
            place (a cluster) chooses them.
        owner, fencing_token, lease: see ``ProvisionSpec``; kept with what is started, for whoever finds it.
        labels: names for people.
    """

    instance_id: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    resources: Resources = field(default_factory=Resources)
    devices: tuple[str, ...] = ()
    owner: str = ""
    fencing_token: int = 0
    lease: float = 60.0
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerConventions:
    """How one kind of model server is told where to listen, and how it says that it is up.

    Attributes:
        program: command that `ServerPlan.arguments` follow.
        listen_arguments: of a host and a port.
        key_variable: environment variable that the server takes its API key from; empty: it takes none.
        key_arguments: of a key, for a server that takes it on the command line alone; else ``None``. Where it
            runs beside other users, they can read it there.
        health_path: answers 200 once the model is loaded.
        container_port: that it listens on where it is alone.
        accelerator_resource: name of a whole device in a cluster.
        wants_shared_memory: several processes of it talk through /dev/shm.
    """

    program: tuple[str, ...]
    listen_arguments: Callable[[str, int], tuple[str, ...]]
    key_variable: str = ""
    key_arguments: Callable[[str], tuple[str, ...]] | None = None
    health_path: str = "/health"
    container_port: int = 8000
    accelerator_resource: str = ""
    wants_shared_memory: bool = False


class RunningServer(ABC):
    """A model server that answers its health check. Its coroutines may be called concurrently."""

    @property
    @abstractmethod
    def address(self) -> UpstreamAddress:
        """Where it listens."""

    @property
    @abstractmethod
    def headers(self) -> Mapping[str, str]:
        """To be sent with every request; secret."""

    @property
    @abstractmethod
    def process_id(self) -> int:
        """Root of its process tree; 0 where it runs elsewhere."""

    @property
    @abstractmethod
    def place(self) -> Mapping[str, str]:
        """Where it runs, for provenance: ``host``, or ``namespace``, ``pod``, ``node``, ``image_id``."""

    @abstractmethod
    async def renew(self, lease: float) -> None:
        """The instance's lease now ends `lease` seconds from now. Cheap; must not fail."""

    @abstractmethod
    async def wait_dead(self) -> str:
        """Return a sentence on its end once it has ended; never returns while it lives."""

    @abstractmethod
    async def read_log(self, max_bytes: int) -> InstanceLog:
        """The end of its output; also after its end. Must not fail."""

    @abstractmethod
    async def stop(self) -> None:
        """End it and all that belongs to it; return when nothing is left. Idempotent; must not fail."""


class ServerLauncher(ABC):
    """Starts model servers in one kind of place."""

    name: str
    """``process``, ``kubernetes`` or ``endpoint``."""

    @abstractmethod
    async def launch(self, plan: ServerPlan, *, progress: Progress) -> RunningServer:
        """Start a server and return once its health check succeeds.

        When it fails or is cancelled it leaves nothing behind.

        Raises:
            NoCapacity: there is no room for it, now.
            StartFailed: it cannot start; the message says why in words of the place (image, scheduler,
                memory, exit status) and `engine_detail` is the log's end.
        """

    @abstractmethod
    async def reap(self, living: Collection[str]) -> list[str]:
        """Remove what this adapter once started and nobody owns: every instance that is not `living`.

        Called at start and now and then. `living` tells of instances as they are when it is asked, which any
        thread may do: ask it about what was found, after finding it. Returns the ids of instances of which
        something was found.
        """
