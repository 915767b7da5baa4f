"""Stays beside one command for as long as it runs, and leaves nothing of it behind.

Run as a script, ``python -I -S guard.py PARENT_PID GRACE COMMAND...``, with the standard library alone, so
that it starts in some milliseconds.

- The command runs in a session of its own below this process and dies with it (PR_SET_PDEATHSIG).
- This process is the sub-reaper of all that the command starts: whatever detaches itself by forking twice
  becomes a child of this process and not of init.
- When the process that asked for it (``PARENT_PID``) dies, the command gets SIGTERM, GRACE seconds to act on
  it, and then everything gets SIGKILL. When the command itself ends, what it has left running gets SIGKILL.
- SIGTERM and SIGINT are handed on to the command; `KILL_ALL` kills everything at once.

Ends when nothing is left, with the command's exit status, or 128 plus the number of the signal that ended it.
Where the system has neither sub-reapers nor death signals (not Linux) the parent's death is seen within a
second, and only the command's process group is ended.
"""

import contextlib
import ctypes
import math
import os
import select
import signal
import sys
import time

KILL_ALL = signal.SIGUSR2
"""Ends everything at once."""
EXIT_CANNOT_START = 127
"""The command could not be executed; its output says why."""

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PARENT_DIED = signal.SIGUSR1
_PARENT_CHECK_SECONDS = 1.0
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.002, 0.1


class Guard:
    """One command and everything below it."""

    def __init__(self, *, parent: int, grace: float) -> None:
        self._parent = parent
        self._grace = grace
        self._received: set[int] = set()
        self._wakeup, wakeup_end = os.pipe()
        for descriptor in (self._wakeup, wakeup_end):
            os.set_blocking(descriptor, False)
        signal.set_wakeup_fd(wakeup_end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, KILL_ALL, signal.SIGCHLD, _PARENT_DIED):
            signal.signal(number, lambda number, _: self._received.add(number))
        _control(_PR_SET_CHILD_SUBREAPER, 1)
        _control(_PR_SET_PDEATHSIG, _PARENT_DIED)
        self._child = 0
        self._status: int | None = None

    def run(self, command: list[str]) -> int:
        """Start `command`, and return its exit status once nothing of it is left."""
        if not self._is_orphan():  # the parent died before the death signal was asked for
            self._child = _start(command)
            self._wait()
            if self._status is None and sys.platform != "linux":
                _kill_group(self._child, signal.SIGKILL)
            self._end_all()
        return 128 + signal.SIGKILL if self._status is None else _exit_status(self._status)

    def _is_orphan(self) -> bool:
        return os.getppid() != self._parent

    def _wait(self) -> None:
        """Return when the command has ended, or everything shall be killed."""
        kill_at = math.inf
        while self._collect() and self._status is None:
            received, self._received = self._received, set()
            # The death signal also comes when only the thread ended that had started this process.
            if kill_at == math.inf and self._is_orphan():
                kill_at = time.monotonic() + self._grace
                received.add(signal.SIGTERM)
            left = kill_at - time.monotonic()
            if KILL_ALL in received or left <= 0:
                return
            for number in received & {signal.SIGTERM, signal.SIGINT}:
                _kill_group(self._child, number)
            select.select([self._wakeup], [], [], min(left, _PARENT_CHECK_SECONDS))
            self._drain_wakeups()

    def _drain_wakeups(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._wakeup, 4096)

    def _collect(self) -> bool:
        """Take the exit status of all that has ended; False when no child is left."""
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == self._child:
                    self._status = status
                if not pid:
                    return True
        except ChildProcessError:
            return False

    def _end_all(self) -> None:
        """SIGKILL to everything below until nothing is left, whatever is started meanwhile.

        Whoever escapes one round, because it was forked meanwhile, is a child of this process in a later one.
        """
        pause = _FIRST_PAUSE_SECONDS
        while self._collect():
            for pid in _descendants(os.getpid()):
                _kill(pid)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _control(option: int, value: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _start(command: list[str]) -> int:
    guard = os.getpid()
    child = os.fork()
    if child:
        return child
    try:
        signal.set_wakeup_fd(-1)
        os.setsid()
        for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores, and exec would hand on
            signal.signal(number, signal.SIG_DFL)
        _control(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == guard:
            os.execvp(command[0], command)
    except OSError as error:
        os.write(2, f"cannot start {command[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(EXIT_CANNOT_START)


def _exit_status(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signal.SIGKILL)


def _kill_group(group: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _descendants(root: int) -> list[int]:
    """Processes below `root`, as far as /proc tells."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as stat:
                    # The name in brackets may hold blanks and brackets itself.
                    parent = int(stat.read().rpartition(b")")[2].split()[1])
            except (OSError, IndexError):
                continue
            children.setdefault(parent, []).append(int(name))
    found = list(children.get(root, ()))
    for pid in found:
        found.extend(children.get(pid, ()))
    return found


def main() -> None:
    """Command line: PARENT_PID GRACE COMMAND..."""
    parent, grace, *command = sys.argv[1:]
    status = Guard(parent=int(parent), grace=float(grace)).run(command)
    os._exit(status)  # nothing to flush, and no time to lose


if __name__ == "__main__":
    main()
