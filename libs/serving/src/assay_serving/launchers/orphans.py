"""Processes that carry the mark of the adapter that started them: finding what is left over, and ending it.

Every engine and all that it starts inherit three environment variables, by which a later adapter finds them
when both the one that started them and their guard were killed. Linux only: elsewhere nothing is found.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from assay_serving.launchers import guard

LABEL_VARIABLE = "ASSAY_SERVING_LABEL"
"""Which adapter a process belongs to; the same in every life of it, and another on every other adapter."""
INSTANCE_VARIABLE = "ASSAY_SERVING_INSTANCE"
"""Which serving instance a process belongs to."""
ADAPTER_VARIABLE = "ASSAY_SERVING_ADAPTER"
"""The adapter's process that started it, as ``<pid>:<start in clock ticks since boot>``."""

_logger = logging.getLogger(__name__)
_PROC = "/proc"
_GUARD_SECONDS = 2.0
_END_SECONDS = 10.0
_ROUND_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class MarkedProcess:
    """A process of this user with the mark of an adapter.

    Attributes:
        pid: its number, which may be given to somebody else after its end.
        started: clock ticks since boot; with `pid` unique.
        instance_id: the serving instance that it was started for.
        adapter: value of `ADAPTER_VARIABLE`.
        is_guard: it is the guard and not the engine; it ends the rest itself.
    """

    pid: int
    started: int
    instance_id: str
    adapter: str
    is_guard: bool


def mark(*, label: str, instance_id: str) -> dict[str, str]:
    """Environment variables for a process that this one starts for an instance."""
    return {
        LABEL_VARIABLE: label,
        INSTANCE_VARIABLE: instance_id,
        ADAPTER_VARIABLE: _this_process(),
        # Tells the setproctitle library, which model servers name their processes with, not to write the
        # name over the environment that /proc shows.
        "SPT_NOENV": "1",
    }


def end_orphans(label: str, *, is_living: Callable[[str], bool]) -> list[str]:
    """End every process of `label` whose instance is not living; blocks, for up to ten seconds.

    `is_living` is asked with an instance id after its process was seen.

    Left alone are processes of other labels and other users, and those whose adapter lives and is not this
    process: two adapters with one label are a mistake, but not one that may cost a running instance.

    Returns the ids of the instances of which something was found.
    """
    return _end(label, lambda each: not is_living(each.instance_id) and _is_ours_to_end(each.adapter))


def end_instance(label: str, instance_id: str) -> bool:
    """End every process of one instance, as `end_orphans` does; whether there was one."""
    return bool(_end(label, lambda each: each.instance_id == instance_id and _is_ours_to_end(each.adapter)))


def find_marked(label: str) -> list[MarkedProcess]:
    """All living processes of this user that carry `label`."""
    wanted = label.encode()
    return [found for pid in _own_processes() if (found := _read_mark(pid, wanted)) is not None]


def _end(label: str, is_meant: Callable[[MarkedProcess], bool]) -> list[str]:
    begin = time.monotonic()
    found: set[str] = set()
    while meant := [process for process in find_marked(label) if is_meant(process)]:
        found.update(process.instance_id for process in meant)
        waited = time.monotonic() - begin
        if waited > _END_SECONDS:
            _logger.error("processes %s of %s do not end", [each.pid for each in meant], label)
            break
        for process in meant:
            # A guard also ends what does not show its mark, so it gets the time to do so.
            gently = process.is_guard and waited < _GUARD_SECONDS
            _signal(process, guard.KILL_ALL if gently else signal.SIGKILL)
        time.sleep(_ROUND_SECONDS)
    return sorted(found)


def _this_process() -> str:
    """Value of `ADAPTER_VARIABLE` for what this process starts."""
    try:
        return f"{os.getpid()}:{_started(os.getpid())}"
    except OSError:  # no /proc
        return f"{os.getpid()}:0"


def _own_processes() -> Iterator[int]:
    if not os.path.isdir(_PROC):
        return
    user = os.getuid()
    with os.scandir(_PROC) as entries:
        for entry in entries:
            with suppress(OSError):
                if entry.name.isdigit() and entry.stat().st_uid == user:
                    yield int(entry.name)


def _read_mark(pid: int, label: bytes) -> MarkedProcess | None:
    try:
        environment = _read(pid, "environ")
        if label not in environment:
            return None
        variables = dict(each.split(b"=", 1) for each in environment.split(b"\0") if b"=" in each)
        if variables.get(LABEL_VARIABLE.encode()) != label:
            return None
        return MarkedProcess(
            pid=pid,
            started=_started(pid),
            instance_id=variables.get(INSTANCE_VARIABLE.encode(), b"").decode(),
            adapter=variables.get(ADAPTER_VARIABLE.encode(), b"").decode(),
            is_guard=guard.__file__.encode() in _read(pid, "cmdline").split(b"\0")[:4],
        )
    except (OSError, ValueError, IndexError):  # it has ended meanwhile, or is not this user's to read
        return None


def _read(pid: int, name: str) -> bytes:
    with open(f"{_PROC}/{pid}/{name}", "rb") as file:
        return file.read()


def _started(pid: int) -> int:
    """Clock ticks from boot to the start of a process; raises OSError where there is none."""
    # The second field, a name in brackets, may hold anything; this is the twenty-second.
    return int(_read(pid, "stat").rpartition(b")")[2].split()[19])


def _is_ours_to_end(adapter: str) -> bool:
    pid, _, started = adapter.partition(":")
    if not pid.isdigit() or adapter == _this_process():
        return True
    try:
        return str(_started(int(pid))) != started
    except OSError:
        return True


def _signal(process: MarkedProcess, number: signal.Signals) -> None:
    with suppress(OSError):  # it has ended
        descriptor = os.pidfd_open(process.pid)
        try:
            # The descriptor holds on to one process; only now is it certain which.
            if _started(process.pid) == process.started:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)
