"""An engine as a child process of this adapter."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from assay_serving.errors import StartFailed
from assay_serving.launchers import tether

_TAIL_BYTES = 4096
_EXIT_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessCommand:
    """What to start: the command line, its whole environment, and the file that takes its output."""

    arguments: Sequence[str]
    environment: Mapping[str, str]
    log_path: Path


class EngineProcess:
    """A child process in a process group of its own, which dies with this process whatever happens.

    Use `start`, from the main thread's event loop: the kernel ties the child to the thread that started it.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", log_path: Path) -> None:
        self._process = process
        self._log_path = log_path
        self._is_stopped = False

    @classmethod
    def start(cls, command: ProcessCommand) -> "EngineProcess":
        """Start `command`, with its output appended to the log file.

        Raises:
            StartFailed: the program cannot be executed.
        """
        command.log_path.parent.mkdir(parents=True, exist_ok=True)
        guard = [sys.executable, "-I", "-S", str(tether.__file__), str(os.getpid())]
        log: IO[bytes]
        with command.log_path.open("ab") as log:
            try:
                process = subprocess.Popen(
                    [*guard, *command.arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=dict(command.environment),
                    start_new_session=True,
                )
            except OSError as error:
                raise StartFailed(f"cannot start {command.arguments[0]}: {error.strerror}") from error
        return cls(process, command.log_path)

    @property
    def pid(self) -> int:
        """The child's process id, which is also its group's."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit status, negative for a signal, None while it runs."""
        return self._process.poll()

    def log_tail(self) -> str:
        """The last few kilobytes of its output."""
        try:
            with self._log_path.open("rb") as log:
                log.seek(max(0, self._log_path.stat().st_size - _TAIL_BYTES))
                return log.read().decode("utf-8", errors="replace")
        except OSError:
            return ""

    async def wait(self) -> int:
        """Wait for the end and return the exit status."""
        while (code := self._process.poll()) is None:  # noqa: ASYNC110 - the system sends no event for it
            await asyncio.sleep(_EXIT_POLL_SECONDS)
        return code

    async def stop(self, *, grace: float = 2.0) -> None:
        """End the child and all it started: SIGTERM, then SIGKILL after `grace` seconds. Idempotent."""
        if self._is_stopped:
            return
        self._signal_group(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grace):
                await self.wait()
        self.kill()
        await self.wait()
        self._is_stopped = True  # from now on the id may belong to somebody else

    def terminate_and_wait(self, *, timeout: float) -> int:
        """`stop` for callers without an event loop; returns the exit status."""
        self._signal_group(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        self.kill()
        code = self._process.wait()
        self._is_stopped = True
        return code

    def kill(self) -> None:
        """SIGKILL to the whole group, at once; `wait` afterwards to reap it."""
        self._signal_group(signal.SIGKILL)

    def _signal_group(self, number: int) -> None:
        # The group outlives its leader while a grandchild lives, so a dead leader is no reason to skip.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)
