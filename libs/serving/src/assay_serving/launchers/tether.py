"""Runs a command so that it dies with the process that asked for it, even if that one is killed.

Started as a script (``python tether.py PARENT_PID COMMAND...``) and replaced by the command at once: the
kernel keeps the death signal across exec. The signal fires when the *thread* that started this script ends,
so launchers start children from a thread that lives as long as the process.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Ask for SIGKILL at the parent's death, then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it died before the request took effect
            sys.exit(1)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main()
