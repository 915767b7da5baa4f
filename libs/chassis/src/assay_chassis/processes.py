"""How a child process is described: command line, readiness probe, lock, ports.

One description serves a test that starts a single server and a supervisor that starts the whole platform.
"""

import fcntl
import http.client
import os
import random
import signal
import socket
import sys
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit, urlunsplit

from assay_chassis import guarded_exec

LOOPBACK = "127.0.0.1"

_PROBE_TIMEOUT = 1.0
_LOG_TAIL_LINES = 20
# Below the kernel's ephemeral ranges (Linux from 32768, macOS from 49152): no outgoing connection takes
# such a port while its server is being restarted.
_PORT_RANGE = range(15000, 32000)


class ServerStartError(RuntimeError):
    """A server ended, or was not ready in time; the message has the end of its log."""


class Probe(Protocol):
    """Whether a process can do its work now."""

    def check(self) -> bool:
        """Return True once ready; blocks for a second at most and raises nothing."""
        ...


@dataclass(frozen=True, slots=True)
class TcpProbe:
    """Ready when the port of 127.0.0.1 accepts a connection (gRPC servers and the store: they bind last)."""

    port: int

    def check(self) -> bool:
        """Connect once."""
        try:
            with socket.create_connection((LOOPBACK, self.port), timeout=_PROBE_TIMEOUT):
                return True
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class HttpProbe:
    """Ready when a GET of the http URL answers 2xx."""

    url: str

    def check(self) -> bool:
        """Ask once."""
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.netloc, timeout=_PROBE_TIMEOUT)
        try:
            connection.request("GET", urlunsplit(("", "", parts.path or "/", parts.query, "")))
            return 200 <= connection.getresponse().status < 300
        except (OSError, http.client.HTTPException):
            return False
        finally:
            connection.close()


@dataclass(frozen=True, slots=True)
class AllProbes:
    """Ready when every one of the probes is: a process with several ports."""

    probes: tuple[Probe, ...]

    def check(self) -> bool:
        """Ask each, up to the first that is not ready."""
        return all(probe.check() for probe in self.probes)


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """How to run one long-lived child process.

    ``argv[0]`` is an absolute path. ``environment`` is added to the inherited one. ``lock`` is a file held
    by the child as long as it lives: a second child with the same lock ends at once with
    ``guarded_exec.EXIT_LOCKED``. Timeouts are seconds; after ``stop_timeout`` the whole process group is
    killed.
    """

    name: str
    argv: tuple[str, ...]
    ready: Probe
    environment: Mapping[str, str] = field(default_factory=dict)
    depends_on: tuple[str, ...] = ()
    directory: Path | None = None
    lock: Path | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    start_timeout: float = 30.0
    stop_timeout: float = 10.0

    def guarded_argv(self) -> list[str]:
        """The command line to execute: the program behind ``guarded_exec``, bound to this very process."""
        guard = [sys.executable, "-I", "-S", guarded_exec.__file__, str(os.getpid()), str(self.lock or "-")]
        return [*guard, *self.argv]

    def full_environment(self) -> dict[str, str]:
        """The inherited environment with this process's own variables over it."""
        return {**os.environ, **self.environment}  # noqa: TID251 - a child's environment is built here


class PortReservation:
    """A free loopback port that no other reservation on this machine gets while this one is held.

    Holds a lock file per port rather than the socket itself, so that the server can bind it, die and bind it
    again. Released with ``release`` or at the end of this process.
    """

    def __init__(self, *, preferred: int | None = None) -> None:
        """Reserve ``preferred`` where it is free, else a random free port.

        Raises OSError when there is none in 200 tries.
        """
        directory = Path(tempfile.gettempdir()) / f"assay-ports-{os.getuid()}"
        directory.mkdir(mode=0o700, exist_ok=True)
        for port in self._candidates(preferred):
            descriptor = os.open(directory / str(port), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            if self._is_free(descriptor, port):
                self._descriptor = descriptor
                self.port = port
                return
            os.close(descriptor)
        raise OSError(f"no free port of {LOOPBACK} found between {_PORT_RANGE.start} and {_PORT_RANGE.stop}")

    @staticmethod
    def _candidates(preferred: int | None) -> Iterable[int]:
        if preferred is not None:
            yield preferred
        yield from random.sample(_PORT_RANGE, 200)

    @staticmethod
    def _is_free(descriptor: int, port: int) -> bool:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as candidate:
            # As the servers do: a port in TIME_WAIT is free for them.
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                candidate.bind((LOOPBACK, port))
            except OSError:
                return False
        return True

    def release(self) -> None:
        """Give the port back; a second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def log_tail(log: Path) -> str:
    """The last lines of a log file, indented for an error message; says so where there are none."""
    try:
        with log.open("rb") as stream:
            stream.seek(max(0, log.stat().st_size - 16384))
            lines = stream.read().decode(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    except FileNotFoundError:
        lines = []
    return "\n".join(f"  | {line}" for line in lines) or "  | (the log is empty)"
