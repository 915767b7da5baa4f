"""The whole platform on one machine: which processes, in which order, with which settings.

``async with platform(home)`` runs it. Everything it keeps is under the home directory: ``data``, ``logs``,
``cache``, ``api-key`` (for clients), and ``run`` (ports, process ids, the gateway's configuration and
``gateway.json``, by which a client on this machine finds it).
"""

import contextlib
import json
import logging
import os
import secrets
import sys
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from assay_allinone.adapters import adapter_spec
from assay_allinone.gateway import GatewayConfiguration, Upstream, Upstreams, gateway_command
from assay_allinone.services import SERVICES
from assay_allinone.settings import PlatformSettings
from assay_allinone.supervisor import Supervisor, owned_directory
from assay_chassis.local import ServerNotInstalled, mongo_command, mongo_uri, nats_command
from assay_chassis.processes import (
    LOOPBACK,
    AllProbes,
    HttpProbe,
    PortReservation,
    ProcessSpec,
)

logger = logging.getLogger(__name__)

DEFAULT_GATEWAY_PORT = 8080
CLIENT_NAME = "owner"
"""Who the holder of the API key is to the services."""

# Building the index of evaluation tasks takes some 20 s at the first start, longer on a busy machine.
_SERVICES_START_TIMEOUT = 240.0


class PortTaken(RuntimeError):
    """The port that the user asked for is in use."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The loopback ports of one running platform."""

    gateway: int
    nats: int
    nats_monitoring: int
    mongo: int
    cpu_adapter: int
    dataset: int
    method: int
    eval: int
    metrics: int
    gpu_adapter: int
    rngd_adapter: int
    console: int
    access: int

    def of_adapter(self, backend: str) -> int:
        """The port of the adapter of a backend."""
        return {"cpu": self.cpu_adapter, "gpu": self.gpu_adapter, "rngd": self.rngd_adapter}[backend]


@dataclass(frozen=True, slots=True)
class RunningPlatform:
    """A platform that is ready.

    ``documentation`` has the address of each service's API page by its short name; ``supervisor`` gives
    process ids by name (nats, mongo, cpu-adapter, services, eval-worker, gateway, ...), and kills one for a
    test.
    """

    home: Path
    gateway_url: str
    api_key: str
    api_key_file: Path
    documentation: Mapping[str, str]
    ports: Ports
    supervisor: Supervisor


@contextlib.asynccontextmanager
async def platform(
    home: Path | None = None, *, settings: PlatformSettings | None = None
) -> AsyncIterator[RunningPlatform]:
    """Run the platform while the block runs; ready on entry, no process left on exit.

    ``home`` wins over ``settings.home``; settings not given are read from the environment.

    Raises:
        AlreadyRunning: another platform uses the home directory.
        PortTaken: ASSAY_GATEWAY_PORT is set to a port that somebody uses.
        ServerNotInstalled: a server's wheel is missing, or the engine of an adapter that was asked for.
        ServerStartError: a process did not become ready; the message has the end of its log.
    """
    settings = settings or PlatformSettings()
    home = (home or settings.home).absolute()
    for folder in (home, home / "run", home / "data", home / "logs"):
        # Keys and data: for this user alone.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with (
        # Before anything in it is written: the files are those of a platform that may be running.
        owned_directory(home),
        reserved_ports(home / "run" / "ports.json", settings=settings) as ports,
    ):
        specs = process_specs(home, ports=ports, settings=settings)
        async with Supervisor(specs, directory=home) as supervisor:
            url = f"http://{LOOPBACK}:{ports.gateway}"
            running = RunningPlatform(
                home=home,
                gateway_url=url,
                api_key=secret(home / "api-key", prefix="assay_"),
                api_key_file=home / "api-key",
                documentation={name: f"{url}/docs/{name}" for name in SERVICES},
                ports=ports,
                supervisor=supervisor,
            )
            discovery = home / "run" / "gateway.json"
            discovery.write_text(json.dumps({"url": url, "api_key_file": str(running.api_key_file)}) + "\n")
            try:
                yield running
            finally:
                discovery.unlink(missing_ok=True)


def process_specs(home: Path, *, ports: Ports, settings: PlatformSettings) -> list[ProcessSpec]:
    """Describe every process of the platform, writing the configuration files that they read.

    Raises ServerNotInstalled where a server's wheel is missing, or the engine of an adapter.
    """
    environment = service_environment(home, ports=ports, settings=settings)
    specs = [
        nats_command(home / "data" / "nats", port=ports.nats, monitoring_port=ports.nats_monitoring),
        *(
            adapter_spec(backend, home=home, port=ports.of_adapter(backend), environment=environment)
            for backend in own_adapters(settings)
        ),
    ]
    adapters = tuple(spec.name for spec in specs[1:])
    stores: tuple[str, ...] = ("nats",)
    if settings.mongo_uri is None:
        try:
            specs.append(mongo_command(home / "data" / "mongo", port=ports.mongo))
        except ServerNotInstalled as error:
            raise ServerNotInstalled(f"{error}, or set ASSAY_MONGO_URI to a MongoDB of yours") from error
        stores = ("nats", "mongo")
    services = {name: getattr(ports, name) for name in SERVICES}
    readiness = tuple(HttpProbe(f"http://{LOOPBACK}:{port}/readyz") for port in services.values())
    specs += [
        ProcessSpec(
            name="services",
            argv=(sys.executable, "-m", "assay_allinone.services"),
            # access-svc is among them; the other processes have no use for the key.
            environment={
                **environment,
                "ASSAY_API_KEY": secret(home / "api-key", prefix="assay_"),
                "ASSAY_API_CLIENT": CLIENT_NAME,
            },
            depends_on=stores,
            ready=AllProbes(readiness),
            start_timeout=_SERVICES_START_TIMEOUT,
        ),
        ProcessSpec(
            name="console",
            argv=(sys.executable, "-m", "assay_console"),
            environment={
                "ASSAY_CONSOLE_PORT": str(ports.console),
                "ASSAY_CONSOLE_GATEWAY_URL": f"http://{LOOPBACK}:{ports.gateway}",
            },
            ready=HttpProbe(f"http://{LOOPBACK}:{ports.console}/readyz"),
        ),
        ProcessSpec(
            name="eval-worker",
            argv=(sys.executable, "-m", "eval_svc", "worker"),
            environment=environment,
            depends_on=("services", *adapters),
            # It has no port: it takes work when it can.
            ready=AllProbes(()),
        ),
        gateway_command(
            GatewayConfiguration(
                listen=Upstream(LOOPBACK, ports.gateway),
                upstreams=Upstreams(
                    **{name: Upstream(LOOPBACK, port) for name, port in services.items()},
                    console=Upstream(LOOPBACK, ports.console),
                ),
                access_log=home / "logs" / "access.log",
            ),
            path=home / "run" / "envoy.yaml",
            depends_on=("services", "console"),
        ),
    ]
    return specs


def service_environment(home: Path, *, ports: Ports, settings: PlatformSettings) -> dict[str, str]:
    """The environment variables that the services, the worker and the adapter read, in this one place."""
    services = {name: getattr(ports, name) for name in SERVICES}
    mongo = mongo_uri(ports.mongo) if settings.mongo_uri is None else settings.mongo_uri.get_secret_value()
    # The user's HTTP proxy is not for calls between our own processes.
    no_proxy = ",".join(filter(None, (settings.no_proxy, LOOPBACK, "localhost")))
    return {
        "ASSAY_HOME": str(home),
        "ASSAY_NATS_URL": f"nats://{LOOPBACK}:{ports.nats}",
        "ASSAY_MONGO_URI": mongo,
        "ASSAY_INTERNAL_KEY": secret(home / "run" / "internal-key", prefix=""),
        "ASSAY_ADAPTERS": adapter_addresses(settings, ports=ports),
        "ASSAY_HOST": LOOPBACK,
        **{f"ASSAY_{name.upper()}_PORT": str(port) for name, port in services.items()},
        **{f"ASSAY_{name.upper()}_URL": f"http://{LOOPBACK}:{port}" for name, port in services.items()},
        "NO_PROXY": no_proxy,
        "no_proxy": no_proxy,
        "PYTHONUNBUFFERED": "1",
    }


def own_adapters(settings: PlatformSettings) -> tuple[str, ...]:
    """Backends whose adapters run on this machine: those asked for, unless the user has one elsewhere."""
    elsewhere = {entry.partition("=")[0].strip() for entry in settings.adapters.split(",")}
    return tuple(backend for backend in settings.up_adapters if backend not in elsewhere)


def adapter_addresses(settings: PlatformSettings, *, ports: Ports) -> str:
    """The value of ASSAY_ADAPTERS for the services: this machine's own adapters and the user's."""
    own = [f"{backend}={LOOPBACK}:{ports.of_adapter(backend)}" for backend in own_adapters(settings)]
    return ",".join(filter(None, (*own, settings.adapters)))


def secret(path: Path, *, prefix: str) -> str:
    """The secret in ``path``, made of 32 random bytes at first use and readable by this user alone."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        text = path.read_text().strip()
        if not text:
            raise ValueError(f"{path} is empty: delete it, and a new key is made at the next start") from None
        return text
    with os.fdopen(descriptor, "w") as stream:
        text = prefix + secrets.token_urlsafe(32)
        stream.write(text + "\n")
    return text


@contextlib.contextmanager
def reserved_ports(record: Path, *, settings: PlatformSettings) -> Iterator[Ports]:
    """Choose the ports in ``record`` where they are still free, and hold them while the block runs.

    The gateway's is the one in the settings, else 8080, else a free one. Raises PortTaken.
    """
    remembered: dict[str, int] = json.loads(record.read_text()) if record.exists() else {}
    wanted = settings.gateway_port or DEFAULT_GATEWAY_PORT
    remembered["gateway"] = wanted
    with contextlib.ExitStack() as held:
        chosen = {}
        for name in Ports.__dataclass_fields__:
            reservation = PortReservation(preferred=remembered.get(name))
            held.callback(reservation.release)
            chosen[name] = reservation.port
        if chosen["gateway"] != wanted:
            if settings.gateway_port is not None:
                raise PortTaken(f"port {wanted} is in use: set ASSAY_GATEWAY_PORT to a free one")
            logger.warning("port %d is in use; the gateway listens on %d", wanted, chosen["gateway"])
        record.write_text(json.dumps(chosen, indent=2) + "\n")
        yield Ports(**chosen)
