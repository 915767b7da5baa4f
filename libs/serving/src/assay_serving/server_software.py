"""What a backend knows of the kind of model server that it starts."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from assay_serving.launchers.server import ServerConventions
from assay_serving.types import Backend, Capabilities, SensorKind, ServingParameter


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSoftware:
    """What is always so with one kind of model server.

    Attributes:
        backend: the kind of device that it computes on.
        engine: its name for people.
        distribution: the Python distribution that tells its version where it is installed beside us.
        capabilities: what it does with the fields of requests.
        parameters: names of `ProvisionSpec.serving_parameters` for servers that are started.
        conventions: how it is started.
        exporter_sensors: what a cluster's exporter tells of its devices.
    """

    backend: Backend
    engine: str
    distribution: str
    capabilities: Capabilities
    parameters: tuple[ServingParameter, ...]
    conventions: ServerConventions
    exporter_sensors: tuple[SensorKind, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerCommand:
    """Arguments after the program's name, and variables, for one server."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
