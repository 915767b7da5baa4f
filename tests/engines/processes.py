"""The processes of a faithful server: core processes under it, its port, its signals and its ways to end."""

import asyncio
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from engines.http_server import Connection, Handler
from engines.script import FaultKind, Script


@dataclass(frozen=True, slots=True, kw_only=True)
class Habits:
    """What differs between servers at their end.

    Attributes:
        core_name: of its core processes, as `ps` shows them.
        drains: on SIGTERM it answers what it has begun before it ends; otherwise all that fails as if the
            engine had died.
        ends_by_signal: its exit status then says that the signal ended it, otherwise it is 0.
        dead_core_seconds: until it ends after the death of a core process.
    """

    core_name: str
    drains: bool
    ends_by_signal: bool
    dead_core_seconds: float


class CoreProcesses:
    """A chain of processes, each the parent of the next, that outlive a server which is killed.

    They end on SIGTERM, and each ends the next one then. The first is a child of this process.
    """

    def __init__(self, count: int, *, name: str, stubborn: bool) -> None:
        self.pids: list[int] = []
        if count:
            reading, writing = os.pipe()
            first = os.fork()
            if first == 0:
                os.close(reading)
                _live_as_core(count, name, stubborn, writing)
            os.close(writing)
            with os.fdopen(reading) as told:
                self.pids = [int(line) for line in told]

    def end(self, number: int = signal.SIGTERM) -> None:
        """Signal all of them and reap the first."""
        for pid in self.pids:
            _signal(pid, number)
        if self.pids and not _wait_for_child(self.pids[0], seconds=3.0):
            for pid in self.pids:
                _signal(pid, signal.SIGKILL)
            _wait_for_child(self.pids[0], seconds=3.0)

    def kill_first(self) -> None:
        """kill -9 of the one that the server talks to."""
        _signal(self.pids[0], signal.SIGKILL)


def _live_as_core(count: int, name: str, stubborn: bool, told: int) -> NoReturn:
    """Be a core process: start the next one, tell all process ids, then wait for the end."""
    Path("/proc/self/comm").write_text(name)
    os.write(told, f"{os.getpid()}\n".encode())
    child = 0
    if count > 1:
        child = os.fork()
        if child == 0:
            _live_as_core(count - 1, "worker", stubborn, told)
    os.close(told)

    def end(number: int, _: object) -> NoReturn:
        if child:
            _signal(child, number)
        os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN if stubborn else end)
    while True:
        signal.pause()


def _signal(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _wait_for_child(pid: int, *, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return True
        except ChildProcessError:
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)


def load(script: Script) -> None:
    """Do what the script says instead of loading a model: take time, hang, or give up."""
    if script.hangs:
        while True:
            signal.pause()
    time.sleep(script.load)
    if script.refusal:
        print(f"ERROR: {script.refusal}", file=sys.stderr, flush=True)
        raise SystemExit(1)


class ServerProcess:
    """Serves a handler on one port until it is told to end or its core dies."""

    def __init__(self, script: Script, cores: CoreProcesses, habits: Habits) -> None:
        self._script = script
        self._cores = cores
        self._habits = habits
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._stopping = asyncio.Event()
        self._signalled = 0
        self.when_core_is_dead: Callable[[], None] = lambda: None

    def fail(self, fault: FaultKind) -> None:
        """A fault of the script that ends processes."""
        if fault is FaultKind.DIE:
            for pid in self._cores.pids:
                _signal(pid, signal.SIGKILL)
            os.kill(os.getpid(), signal.SIGKILL)
        elif self._cores.pids:
            self._cores.kill_first()
        else:
            self._core_is_dead()

    async def serve(self, handler: Handler, *, host: str, port: int) -> int:
        """Serve until the end; returns the exit status, negative for a signal."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        self._watch_core(loop)

        async def counted(request: object, reply: object) -> None:
            self._in_flight += 1
            self._idle.clear()
            try:
                await handler(request, reply)  # type: ignore[arg-type]
            finally:
                self._in_flight -= 1
                if not self._in_flight:
                    self._idle.set()

        idle = self._script.leaves_sockets_idle
        server = await loop.create_server(lambda: Connection(counted, idle_seconds=idle), host, port)
        bound = server.sockets[0].getsockname()[1]
        print(f"INFO:     Uvicorn running on http://{host}:{bound} (Press CTRL+C to quit)", flush=True)
        await self._stopping.wait()
        server.close()
        if not self._habits.drains:
            self.when_core_is_dead()
        if self._in_flight:
            await self._idle.wait()
        self._cores.end()
        return -self._signalled if self._habits.ends_by_signal else 0

    def _stop(self, number: int) -> None:
        if not self._script.stubborn:
            self._signalled = number
            self._stopping.set()

    def _watch_core(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._cores.pids:
            descriptor = os.pidfd_open(self._cores.pids[0])
            loop.add_reader(descriptor, self._core_ended, loop, descriptor)

    def _core_ended(self, loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
        loop.remove_reader(descriptor)
        os.close(descriptor)
        if not self._stopping.is_set():
            self._core_is_dead()

    def _core_is_dead(self) -> None:
        print("ERROR: Engine core died unexpectedly.", file=sys.stderr, flush=True)
        self.when_core_is_dead()
        loop = asyncio.get_running_loop()
        self._signalled = signal.SIGTERM
        loop.call_later(self._habits.dead_core_seconds, self._stopping.set)


def exit_with(status: int) -> NoReturn:
    """End this process with that status; a negative one is a signal's number."""
    sys.stdout.flush()
    if status < 0:
        signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
        select.select((), (), (), 5.0)
    os._exit(status)
