"""Model servers as child processes of this adapter, on this machine."""

import asyncio
import json
import logging
import os
import platform
import random
import secrets
import signal
import socket
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from assay_serving.errors import StartFailed
from assay_serving.launchers.guard import EXIT_CANNOT_START
from assay_serving.launchers.orphans import end_orphans, find_marked
from assay_serving.launchers.process import EngineProcess, ProcessCommand
from assay_serving.launchers.server import (
    Progress,
    RunningServer,
    ServerConventions,
    ServerLauncher,
    ServerPlan,
)
from assay_serving.types import InstanceLog, InstanceState
from assay_serving.upstream import UpstreamAddress, UpstreamError, exchange

OWNER_VARIABLE = "ASSAY_SERVING_OWNER"
FENCING_TOKEN_VARIABLE = "ASSAY_SERVING_FENCING_TOKEN"

_logger = logging.getLogger(__name__)
_LOOPBACK = "127.0.0.1"
# Below the ranges that systems take ports of outgoing connections from (Linux from 32768).
_PORTS = range(15000, 32000)
_PORT_TRIES = 200
_STARTS = 4
_PORT_IS_TAKEN = ("address already in use", "errno 98", "eaddrinuse")
_FIRST_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.02, 0.25
_HEALTH_SECONDS = 5.0
_TERMINATION_SECONDS = 5.0
_KEPT_LOGS = 256
_OOM_COUNTERS = (
    ("/proc/vmstat", "oom_kill"),
    ("/sys/fs/cgroup/memory.events", "oom_kill"),
    ("/sys/fs/cgroup/memory/memory.oom_control", "oom_kill"),
)


@dataclass(frozen=True, slots=True)
class _Started:
    """One attempt at a server: the process and what was agreed with it."""

    process: EngineProcess
    port: int
    key: str
    out_of_memory_kills: int

    def end(self, program: str) -> str:
        """A sentence on how it ended."""
        code = self.process.exit_code
        assert code is not None, "asked for once it has ended"
        if code == EXIT_CANNOT_START:
            return f"{program} could not be executed"
        text = f"{program} ended with exit status {code}"
        if code < 0:
            text = f"{program} was ended by signal {-code} ({_signal_name(-code)})"
        if code != 0 and _out_of_memory_kills() > self.out_of_memory_kills:
            text += "; the system killed a process for lack of memory meanwhile: give the instance more of it"
        return text


class ProcessServer(RunningServer):
    """A model server below a guard; see `ProcessLauncher`."""

    def __init__(self, launcher: "ProcessLauncher", plan: ServerPlan, started: _Started) -> None:
        self._launcher = launcher
        self._plan = plan
        self._started = started
        self._headers = {"Authorization": f"Bearer {started.key}"} if started.key else {}

    @property
    def address(self) -> UpstreamAddress:
        """See RunningServer."""
        return UpstreamAddress(host=_LOOPBACK, port=self._started.port)

    @property
    def headers(self) -> Mapping[str, str]:
        """See RunningServer."""
        return self._headers

    @property
    def process_id(self) -> int:
        """See RunningServer: the guard, below which also detached processes are."""
        return self._started.process.pid

    @property
    def place(self) -> Mapping[str, str]:
        """See RunningServer."""
        return {"host": platform.node()}

    async def renew(self, lease: float) -> None:
        """See RunningServer: the process ends with this adapter, which keeps the lease."""

    async def wait_dead(self) -> str:
        """See RunningServer."""
        await self._started.process.wait()
        return self._started.end(self._launcher.program)

    async def read_log(self, max_bytes: int) -> InstanceLog:
        """See RunningServer."""
        return self._started.process.read_log(max_bytes)

    async def stop(self) -> None:
        """See RunningServer: SIGTERM, five seconds to act on it, SIGKILL."""
        try:
            await self._started.process.stop(grace=_TERMINATION_SECONDS)
        finally:
            self._launcher.forget(self._plan)


class ProcessLauncher(ServerLauncher):
    """Starts model servers on this machine, each on a free loopback port with a key of its own.

    `plan.devices` and `plan.resources` are not enforced: the arguments and environment of the plan name the
    devices, and a process may use what the adapter itself may.

    Args:
        conventions: of the kind of server.
        log_directory: one log per instance, the newest 256 of them.
        run_directory: one record per running instance, for people and for the adapter's next life.
        label: names this adapter in all its lives, and no other one on this machine.
        environment: of every server, before the plan's own.
    """

    name = "process"

    def __init__(
        self,
        *,
        conventions: ServerConventions,
        log_directory: Path,
        run_directory: Path,
        label: str,
        environment: Mapping[str, str],
    ) -> None:
        self._conventions = conventions
        self._log_directory = log_directory
        self._run_directory = run_directory
        self._label = label
        self._environment = environment
        self._running: set[str] = set()

    @property
    def program(self) -> str:
        """The server's program, for messages."""
        return Path(self._conventions.program[0]).name

    async def launch(self, plan: ServerPlan, *, progress: Progress) -> ProcessServer:
        """See ServerLauncher. A port that somebody takes first costs another start, at most three times."""
        self._running.add(plan.instance_id)
        try:
            for attempt in range(_STARTS):
                port = free_port()
                progress(InstanceState.STARTING, f"starting {self.program} on port {port}")
                started = self._start(plan, port)
                if await self._becomes_healthy(started, is_last=attempt == _STARTS - 1):
                    return ProcessServer(self, plan, started)
            raise AssertionError("the last attempt raises")
        except BaseException:
            self.forget(plan)
            raise

    async def reap(self, living: Collection[str]) -> list[str]:
        """See ServerLauncher: by the mark in the environment of every process, so also of earlier lives."""
        return await asyncio.to_thread(self._reap, living)

    def forget(self, plan: ServerPlan) -> None:
        """Nothing of an instance runs any more."""
        self._running.discard(plan.instance_id)
        self._record_path(plan.instance_id).unlink(missing_ok=True)

    def _start(self, plan: ServerPlan, port: int) -> _Started:
        conventions = self._conventions
        takes_key = conventions.key_variable or conventions.key_arguments
        key = secrets.token_urlsafe(24) if takes_key else ""
        kills = _out_of_memory_kills()
        process = EngineProcess.start(
            ProcessCommand(
                arguments=[
                    *conventions.program,
                    *plan.arguments,
                    *conventions.listen_arguments(_LOOPBACK, port),
                    *(conventions.key_arguments(key) if conventions.key_arguments else ()),
                ],
                environment={
                    **self._environment,
                    **plan.environment,
                    **plan.secrets,
                    **({conventions.key_variable: key} if conventions.key_variable else {}),
                    OWNER_VARIABLE: plan.owner,
                    FENCING_TOKEN_VARIABLE: str(plan.fencing_token),
                },
                log_path=self._log_path(plan.instance_id),
                label=self._label,
                instance_id=plan.instance_id,
                grace=_TERMINATION_SECONDS,
            )
        )
        self._write_record(plan, port=port, pid=process.pid)
        return _Started(process=process, port=port, key=key, out_of_memory_kills=kills)

    async def _becomes_healthy(self, started: _Started, *, is_last: bool) -> bool:
        """Wait for the health check; False if the port was taken. Whatever else happens, nothing is left."""
        process = started.process
        try:
            await self._poll_health(started)
            return True
        except StartFailed as failure:
            await process.stop(grace=0.0)
            log = failure.engine_detail.lower()
            if is_last or (_can_listen(started.port) and not any(text in log for text in _PORT_IS_TAKEN)):
                raise
            _logger.warning("port %d was taken by somebody else; %s starts again", started.port, self.program)
            return False
        except BaseException:
            await process.stop(grace=0.0)
            raise

    async def _poll_health(self, started: _Started) -> None:
        address = UpstreamAddress(host=_LOOPBACK, port=started.port)
        pause = _FIRST_POLL_SECONDS
        while True:
            is_healthy = await _answers(address, self._conventions.health_path)
            if started.process.exit_code is not None:
                raise StartFailed(started.end(self.program), engine_detail=started.process.log_tail())
            # Whoever else listens there may be healthy too; then the server will end, as it cannot listen.
            if is_healthy and await asyncio.to_thread(_listens, started.process.pid, started.port):
                return
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, _LONGEST_POLL_SECONDS)

    def _reap(self, living: Collection[str]) -> list[str]:
        def is_living(instance_id: str) -> bool:
            return instance_id in living or instance_id in self._running

        ended = end_orphans(self._label, is_living=is_living)
        records = {path.stem for path in self._run_directory.glob("*.json")}
        if stale := {instance_id for instance_id in records if not is_living(instance_id)}:
            # What still runs has been left alone for a reason: another adapter has it.
            stale -= {each.instance_id for each in find_marked(self._label)}
        for instance_id in stale:
            self._record_path(instance_id).unlink(missing_ok=True)
        self._drop_old_logs(is_living)
        return sorted({*ended, *stale})

    def _drop_old_logs(self, is_living: Callable[[str], bool]) -> None:
        written: list[tuple[float, Path]] = []
        for path in self._log_directory.glob("*.log"):
            with suppress(OSError):
                if not is_living(path.stem):
                    written.append((path.stat().st_mtime, path))
        for _, path in sorted(written)[: max(0, len(written) - _KEPT_LOGS)]:
            path.unlink(missing_ok=True)

    def _log_path(self, instance_id: str) -> Path:
        return self._log_directory / f"{instance_id}.log"

    def _record_path(self, instance_id: str) -> Path:
        return self._run_directory / f"{instance_id}.json"

    def _write_record(self, plan: ServerPlan, *, port: int, pid: int) -> None:
        record = {
            "instance_id": plan.instance_id,
            "label": self._label,
            "guard_pid": pid,
            "adapter_pid": os.getpid(),
            "port": port,
            "arguments": [*self._conventions.program, *plan.arguments],
            "owner": plan.owner,
            "fencing_token": plan.fencing_token,
            "labels": dict(plan.labels),
            "started_unix_ns": time.time_ns(),
        }
        self._run_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._record_path(plan.instance_id).write_text(json.dumps(record, indent=1))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now; raises StartFailed where there is none."""
    for port in random.sample(_PORTS, _PORT_TRIES):
        if _can_listen(port):
            return port
    raise StartFailed(f"no free port of {_LOOPBACK} between {_PORTS.start} and {_PORTS.stop}", retryable=True)


def _can_listen(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_LOOPBACK, port))
        except OSError:
            return False
    return True


async def _answers(address: UpstreamAddress, health_path: str) -> bool:
    try:
        async with asyncio.timeout(_HEALTH_SECONDS):
            return (await exchange(address, "GET", health_path)).status == 200
    except (UpstreamError, TimeoutError):
        return False


def _listens(root: int, port: int) -> bool:
    """Whether a process of the tree listens on `port`; True where the system does not tell."""
    try:
        top = psutil.Process(root)
        for process in (top, *top.children(recursive=True)):
            with suppress(psutil.NoSuchProcess):
                for connection in process.net_connections("tcp"):
                    if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port:
                        return True
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True
    return False


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return "unnamed"


def _out_of_memory_kills() -> int:
    """Processes that the kernel has ended for lack of memory, as far as it tells; of use as a difference."""
    total = 0
    for path, name in _OOM_COUNTERS:
        with suppress(OSError, ValueError):
            for line in Path(path).read_text().splitlines():
                if line.startswith(f"{name} "):
                    total += int(line.split()[1])
    return total
