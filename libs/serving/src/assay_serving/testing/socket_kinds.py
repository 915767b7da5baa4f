"""The kinds of `ReadySockets` that are tested here."""

import sys
import sysconfig
from pathlib import Path
from shutil import which

from assay_serving.ready_sockets import PythonReadySockets, ReadySockets, compiled_ready_sockets


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
