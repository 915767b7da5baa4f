"""Become another program that cannot outlive its parent and owns its data directory.

Run by path, as ``python -I -S guarded_exec.py PARENT_PID LOCK_FILE|- PROGRAM [ARGUMENT...]``, between fork
and the real program. It is a program of its own because the same work in a ``preexec_fn`` runs Python
between fork and exec of a threaded parent, which can deadlock. The process id stays the same across the
final exec.

- Linux kills the process when the *thread* that forked it ends, even by ``kill -9`` (PR_SET_PDEATHSIG).
- The lock is taken here and inherited across exec, so it lasts exactly as long as the program itself: a
  server that survived its parent (macOS) still keeps a second one out of its data.
"""

import fcntl
import os
import signal
import sys

EXIT_LOCKED = 75
"""Exit code when the data directory is in use (EX_TEMPFAIL of sysexits.h)."""

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent_pid: int) -> None:
    """Ask the kernel for SIGKILL at the parent's death; Linux only, elsewhere nothing happens."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The parent may have died between fork and prctl; no signal would ever come then.
    if os.getppid() != parent_pid:
        os._exit(1)


def take_lock(path: str) -> None:
    """Hold an exclusive lock on ``path`` and write this process id into it.

    Exit with EXIT_LOCKED if taken.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode(errors="replace").strip() or "unknown"
        sys.stderr.write(f"{os.path.dirname(path)} is in use by process {owner}: stop it first ({path})\n")
        sys.exit(EXIT_LOCKED)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    os.set_inheritable(descriptor, True)


def main(arguments: list[str]) -> None:
    """Guard this process, then replace it by the program; never returns."""
    parent_pid, lock, *program = arguments
    die_with_parent(int(parent_pid))
    if lock != "-":
        take_lock(lock)
    os.execv(program[0], program)


if __name__ == "__main__":
    main(sys.argv[1:])
