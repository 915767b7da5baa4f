"""Keeps a set of child processes running: start in order, restart, stop in reverse order.

No child outlives the supervisor: each is bound to it by the kernel (Linux), and what an earlier one left
behind anyway (macOS has no such binding) is ended at the next start.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from assay_chassis.processes import ProcessSpec, ServerStartError, log_tail

logger = logging.getLogger(__name__)

_POLL_INTERVAL = 0.02
_FIRST_DELAY = 0.2
_LONGEST_DELAY = 10.0
_STABLE_AFTER = 30.0
_LEFT_BEHIND_TIMEOUT = 10.0
_LARGEST_LOG_BYTES = 10 * 1024 * 1024


class AlreadyRunning(RuntimeError):
    """Another supervisor works in this directory; the message names its process id."""


@contextlib.contextmanager
def owned_directory(directory: Path) -> Iterator[None]:
    """Keep every other supervisor out of ``directory`` (made if missing) while the block runs.

    Raises AlreadyRunning naming the process that has it.
    """
    run = directory / "run"
    run.mkdir(mode=0o700, parents=True, exist_ok=True)
    # Not inherited: a child that the kernel still has to end after its supervisor's death does not hold it.
    descriptor = os.open(run / "supervisor.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
        os.close(descriptor)
        raise AlreadyRunning(
            f"{directory.resolve()} is in use by process {owner}: stop that one (Ctrl-C, or kill {owner}), "
            "or set ASSAY_HOME to another directory"
        ) from None
    try:
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _is_alive(process: psutil.Process) -> bool:
    # A dead process whose new parent does not collect it (process 1 of many containers) stays as a zombie.
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@dataclass(slots=True, eq=False)
class _Child:
    spec: ProcessSpec
    log: Path
    process: asyncio.subprocess.Process | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    stopped: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    restarts: int = 0

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.returncode is None

    def signal_group(self, number: signal.Signals) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)


class Supervisor:
    """An async context: entered, every process is ready; left, every process is gone.

    Its directory has to be owned (``owned_directory``), and the event loop's thread has to outlive the block.
    A process that ends is started again after a delay that doubles from 0.2 s to 10 s and falls back to 0.2 s
    once it stayed up for 30 s. Logs are ``<directory>/logs/<name>.log``.
    """

    def __init__(self, specs: Sequence[ProcessSpec], *, directory: Path) -> None:
        """Prepare to run ``specs`` with their state under ``directory`` (made if missing).

        Raises ValueError where a dependency is unknown, and graphlib.CycleError where they form a circle.
        """
        self._run, self._logs = directory / "run", directory / "logs"
        self._children = {spec.name: _Child(spec, self._logs / f"{spec.name}.log") for spec in specs}
        for spec in specs:
            if unknown := set(spec.depends_on) - set(self._children):
                raise ValueError(f"{spec.name} depends on {', '.join(sorted(unknown))}: no such process")
        TopologicalSorter({spec.name: spec.depends_on for spec in specs}).prepare()
        self._stopping = False

    async def __aenter__(self) -> Self:
        """Start everything, each process as soon as those that it depends on are ready.

        Raises:
            ServerStartError: a process ended or was not ready in time, with the end of its log; the others
            are stopped again.
        """
        for folder in (self._run, self._logs):
            folder.mkdir(parents=True, exist_ok=True)
        try:
            await asyncio.to_thread(self._end_left_behind)
            async with asyncio.TaskGroup() as group:
                for child in self._children.values():
                    group.create_task(self._start_in_turn(child))
        except BaseExceptionGroup as failures:
            await self._stop()
            # The first failure is the cause; the others were cancelled by it.
            raise failures.exceptions[0] from None
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything, each process after those that depend on it."""
        await self._stop()

    def pids(self) -> Mapping[str, int]:
        """Process id by name, of the processes that are alive now."""
        return {
            name: child.process.pid
            for name, child in self._children.items()
            if child.process is not None and child.alive
        }

    def restarts(self, name: str) -> int:
        """How often the process was started again."""
        return self._children[name].restarts

    def kill(self, name: str) -> None:
        """End a process group by SIGKILL, as a crash would; it is then restarted like after one."""
        child = self._children[name]
        child.ready.clear()
        child.signal_group(signal.SIGKILL)

    async def wait_ready(self, name: str) -> None:
        """Return once the process is ready; after ``kill``, once it is ready again."""
        await self._children[name].ready.wait()

    def _end_left_behind(self) -> None:
        """Kill the children of a supervisor that was killed, and wait for those that the kernel is ending."""
        record = self._run / "processes.json"
        if not record.exists():
            return
        left = []
        for name, entry in json.loads(record.read_text() or "{}").items():
            with contextlib.suppress(psutil.NoSuchProcess):
                process = psutil.Process(entry["pid"])
                # The id may be somebody else's by now; the time of creation tells.
                if abs(process.create_time() - entry["created"]) < 1 and _is_alive(process):
                    logger.warning(
                        "ending %s (process %d), left behind by an earlier start", name, process.pid
                    )
                    process.kill()
                    left.append(process)
        deadline = time.monotonic() + _LEFT_BEHIND_TIMEOUT
        while any(_is_alive(process) for process in left) and time.monotonic() < deadline:
            time.sleep(_POLL_INTERVAL)
        record.unlink()

    def _record(self) -> None:
        entries = {}
        for name, pid in self.pids().items():
            with contextlib.suppress(psutil.NoSuchProcess):
                entries[name] = {"pid": pid, "created": psutil.Process(pid).create_time()}
        temporary = self._run / "processes.new"
        temporary.write_text(json.dumps(entries))
        temporary.replace(self._run / "processes.json")

    async def _start_in_turn(self, child: _Child) -> None:
        for name in child.spec.depends_on:
            await self._children[name].ready.wait()
        began = time.monotonic()
        await self._spawn(child)
        await self._until_ready(child)
        logger.info("%s is ready after %.2f s", child.spec.name, time.monotonic() - began)
        child.task = asyncio.create_task(self._keep_running(child), name=f"keep {child.spec.name} running")

    async def _spawn(self, child: _Child) -> None:
        if child.log.exists() and child.log.stat().st_size > _LARGEST_LOG_BYTES:
            child.log.replace(child.log.with_suffix(".log.1"))
        with child.log.open("ab") as output:
            child.process = await asyncio.create_subprocess_exec(
                *child.spec.guarded_argv(),
                env=child.spec.full_environment(),
                cwd=child.spec.directory,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                # Its own group: a terminal's Ctrl-C reaches the supervisor alone, which stops them in order.
                start_new_session=True,
            )
        self._record()

    async def _until_ready(self, child: _Child) -> None:
        spec = child.spec
        deadline = time.monotonic() + spec.start_timeout
        while child.process is not None and child.alive:
            # A probe that was answered by another program on the same port does not count: our child has to
            # live.
            if await asyncio.to_thread(spec.ready.check) and child.alive:
                child.ready.set()
                return
            if time.monotonic() > deadline:
                raise ServerStartError(
                    f"{spec.name} was not ready within {spec.start_timeout:g} s; {child.log} ends with\n"
                    f"{log_tail(child.log)}"
                )
            await asyncio.sleep(_POLL_INTERVAL)
        code = child.process.returncode if child.process is not None else None
        raise ServerStartError(
            f"{spec.name} ended with code {code}; {child.log} ends with\n{log_tail(child.log)}"
        )

    async def _keep_running(self, child: _Child) -> None:
        delay = _FIRST_DELAY
        while True:
            began = time.monotonic()
            assert child.process is not None
            code = await child.process.wait()
            child.ready.clear()
            # What it started itself must not compete with its successor.
            child.signal_group(signal.SIGKILL)
            if time.monotonic() - began > _STABLE_AFTER:
                delay = _FIRST_DELAY
            child.restarts += 1
            logger.warning(
                "%s ended with code %d; starting it again in %.1f s (restart %d, log %s)",
                *(child.spec.name, code, delay, child.restarts, child.log),
            )
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY)
            await self._spawn(child)
            try:
                await self._until_ready(child)
                logger.warning("%s is ready again", child.spec.name)
            except ServerStartError as error:
                logger.warning("%s", error)
                child.signal_group(signal.SIGKILL)

    async def _stop(self) -> None:
        """Stop all; cancelled in the middle (a second Ctrl-C), it kills what is left at once."""
        if self._stopping:
            return
        self._stopping = True
        try:
            async with asyncio.TaskGroup() as group:
                for child in self._children.values():
                    group.create_task(self._stop_in_turn(child))
        finally:
            for child in self._children.values():
                if child.alive:
                    child.signal_group(signal.SIGKILL)
            (self._run / "processes.json").unlink(missing_ok=True)

    async def _stop_in_turn(self, child: _Child) -> None:
        for other in self._children.values():
            if child.spec.name in other.spec.depends_on:
                await other.stopped.wait()
        if child.task is not None:
            child.task.cancel()
            await asyncio.wait([child.task])
        if child.process is not None and child.alive:
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(child.spec.stop_signal)
            try:
                await asyncio.wait_for(child.process.wait(), child.spec.stop_timeout)
            except TimeoutError:
                logger.warning("%s did not end in %g s: killed", child.spec.name, child.spec.stop_timeout)
        # Also what the child started itself and did not end.
        child.signal_group(signal.SIGKILL)
        if child.process is not None:
            await child.process.wait()
        child.stopped.set()
