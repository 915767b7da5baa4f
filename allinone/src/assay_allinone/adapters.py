"""The serving adapters of this machine: which ones run, and what they need to be here."""

import importlib
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from assay_chassis.local import ServerNotInstalled
from assay_chassis.processes import LOOPBACK, ProcessSpec, TcpProbe

_START_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True)
class AdapterProgram:
    """One adapter: its package, the prefix of its settings, and the engine that it starts itself.

    ``engine`` is empty where the engine comes with the adapter; ``install`` says how to get it otherwise.
    """

    package: str
    prefix: str
    engine: str = ""
    install: str = ""


PROGRAMS: Mapping[str, AdapterProgram] = {
    "cpu": AdapterProgram("assay_adapter_cpu", "ASSAY_CPU_"),
    "gpu": AdapterProgram(
        "assay_adapter_gpu",
        "ASSAY_GPU_",
        engine="vllm",
        install="pip install vllm, in an environment of its own",
    ),
    "rngd": AdapterProgram(
        "assay_adapter_rngd", "ASSAY_RNGD_", engine="furiosa-llm", install="install Furiosa's SDK"
    ),
}


def adapter_spec(backend: str, *, home: Path, port: int, environment: Mapping[str, str]) -> ProcessSpec:
    """Describe the adapter of a backend as a process that listens on ``port``.

    Raises:
        ServerNotInstalled: it would start its engine itself, and that is not here.
    """
    program = PROGRAMS[backend]
    if program.engine:
        _check_engine(backend, program)
    return ProcessSpec(
        name=f"{backend}-adapter",
        argv=(sys.executable, "-m", program.package),
        environment={
            **environment,
            f"{program.prefix}LISTEN": f"{LOOPBACK}:{port}",
            f"{program.prefix}HOME": str(home),
        },
        # gRPC servers bind last: a connection means ready.
        ready=TcpProbe(port),
        start_timeout=_START_TIMEOUT,
    )


def _check_engine(backend: str, program: AdapterProgram) -> None:
    """Refuse at once what would only show when the first run asks for an instance."""
    module = importlib.import_module(f"{program.package}.settings")
    settings: Any = getattr(module, f"{backend.capitalize()}AdapterSettings")()
    if settings.launcher != "process":
        return
    command = settings.command[0] if settings.command else program.engine
    if shutil.which(command) is None:
        raise ServerNotInstalled(
            f"the {backend} adapter starts {command!r}, which is not installed here: {program.install}, set "
            f"{program.prefix}COMMAND to where it is, set {program.prefix}LAUNCHER to endpoint or "
            f"kubernetes, or leave {backend} out of ASSAY_UP_ADAPTERS"
        )
