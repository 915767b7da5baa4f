"""The kinds of `ReadySockets` that are tested here, and the kernel's notes that they need."""

import socket
import sys
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

from assay_serving.ready_sockets import PythonReadySockets, ReadySockets, compiled_ready_sockets

SO_TIMESTAMPNS = 35


def socket_kinds() -> dict[str, type[ReadySockets]]:
    """By name; none where the kernel makes no notes.

    Raises:
        RuntimeError: the compiled kind is missing although it could be compiled.
    """
    if sys.platform != "linux":
        return {}
    kinds: dict[str, type[ReadySockets]] = {"python": PythonReadySockets}
    compiled = compiled_ready_sockets()
    if compiled is not None:
        return kinds | {"compiled": compiled}
    if (which("cc") or which("gcc")) and Path(sysconfig.get_paths()["include"], "Python.h").is_file():
        raise RuntimeError("assay_serving was installed without its compiled part; run: make setup")
    return kinds


@contextmanager
def stamping_kernel() -> Iterator[None]:
    """Linux begins to note arrivals a little after the first socket has asked: wait, and keep asking."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        writing = socket.create_connection(server.getsockname())
        reading, _ = server.accept()
    with reading, writing:
        if sys.platform == "linux":
            reading.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
            has_note = False
            while not has_note:
                writing.send(b"x")
                has_note = bool(reading.recvmsg(1, 64)[1])
        yield
