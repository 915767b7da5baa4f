"""An engine as a child process of this adapter."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from assay_serving.errors import StartFailed
from assay_serving.launchers import guard
from assay_serving.launchers.orphans import end_instance, mark
from assay_serving.types import InstanceLog

_TAIL_BYTES = 4096
_EXIT_POLL_SECONDS = 0.05
# The guard kills in milliseconds; a process that a driver holds in the kernel can take longer.
_KILL_SECONDS = 10.0
_HIGHEST_SIGNAL = 64
UNLABELLED = "unlabelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessCommand:
    """What to start.

    Attributes:
        arguments: the command line.
        environment: the whole of it; the process also gets the variables of `orphans.mark`.
        log_path: takes its output.
        label: of the adapter that starts it.
        instance_id: of the serving instance that it is for; any other unique name where there is none.
        grace: seconds that it has between SIGTERM and SIGKILL when this process dies.
    """

    arguments: Sequence[str]
    environment: Mapping[str, str]
    log_path: Path
    label: str = UNLABELLED
    instance_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    grace: float = 0.0


class EngineProcess:
    """A child process below a guard, by which it and all that it started end with this process.

    Make it with `start`, in any thread.
    """

    def __init__(self, process: "subprocess.Popen[bytes]", command: ProcessCommand) -> None:
        self._process = process
        self._command = command
        self._is_stopped = False

    @classmethod
    def start(cls, command: ProcessCommand) -> "EngineProcess":
        """Start `command`, with its output appended to the log file.

        Raises:
            StartFailed: there is no such program, or the system refuses another process.
        """
        program = command.arguments[0]
        if shutil.which(program, path=command.environment.get("PATH", os.defpath)) is None:
            raise StartFailed(f"cannot start {program}: no such program; is it installed for this adapter?")
        command.log_path.parent.mkdir(parents=True, exist_ok=True)
        guarding = [sys.executable, "-I", "-S", guard.__file__, str(os.getpid()), str(command.grace)]
        log: IO[bytes]
        with command.log_path.open("ab") as log:
            try:
                process = subprocess.Popen(
                    [*guarding, *command.arguments],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env={
                        **command.environment,
                        **mark(label=command.label, instance_id=command.instance_id),
                    },
                    start_new_session=True,
                )
            except OSError as error:
                raise StartFailed(f"cannot start {program}: {error.strerror}") from error
        return cls(process, command)

    @property
    def pid(self) -> int:
        """The guard's process id: the root of the tree of all that the command starts, even detached."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit status of the command, negative for a signal, None while it runs."""
        code = self._process.poll()
        if code is not None and 128 < code <= 128 + _HIGHEST_SIGNAL:
            return 128 - code
        return code

    def log_tail(self) -> str:
        """The last few kilobytes of its output."""
        return self.read_log(_TAIL_BYTES).text

    def read_log(self, max_bytes: int) -> InstanceLog:
        """The last `max_bytes` of its output; also after its end."""
        path = self._command.log_path
        try:
            with path.open("rb") as log:
                begin = max(0, path.stat().st_size - max_bytes)
                log.seek(begin)
                return InstanceLog(
                    text=log.read(max_bytes).decode("utf-8", errors="replace"), is_cut=begin > 0
                )
        except OSError:
            return InstanceLog(text="")

    async def wait(self) -> int:
        """Wait for the end and return the exit status."""
        while (code := self.exit_code) is None:  # noqa: ASYNC110 - the system sends no event for it
            await asyncio.sleep(_EXIT_POLL_SECONDS)
        return code

    async def stop(self, *, grace: float = 2.0) -> None:
        """End the command and all it started: SIGTERM, then SIGKILL after `grace` seconds. Idempotent."""
        if self._is_stopped:
            return
        if grace > 0:
            self._signal(signal.SIGTERM)
            await self._ends_within(grace)
        self.kill()
        if not await self._ends_within(_KILL_SECONDS):
            self._signal(signal.SIGKILL)
            await self.wait()
        if self._guard_was_killed:
            await asyncio.to_thread(end_instance, self._command.label, self._command.instance_id)
        self._is_stopped = True

    def terminate_and_wait(self, *, timeout: float) -> int:
        """`stop` for callers without an event loop; returns the exit status."""
        self._signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        self.kill()
        try:
            self._process.wait(_KILL_SECONDS)
        except subprocess.TimeoutExpired:
            self._signal(signal.SIGKILL)
            self._process.wait()
        if self._guard_was_killed:
            end_instance(self._command.label, self._command.instance_id)
        self._is_stopped = True
        code = self.exit_code
        assert code is not None
        return code

    def kill(self) -> None:
        """SIGKILL to the command and all that it started, at once; `wait` afterwards to reap it."""
        self._signal(guard.KILL_ALL)

    @property
    def _guard_was_killed(self) -> bool:
        """Whether the guard ended without having ended the rest; its own ends have exit statuses."""
        return (self._process.returncode or 0) < 0

    async def _ends_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.wait()
        except TimeoutError:
            return False
        return True

    def _signal(self, number: int) -> None:
        # Popen keeps it from reaching another process: it sends nothing once it knows of the end.
        self._process.send_signal(number)
