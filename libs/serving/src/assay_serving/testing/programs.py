"""Starts an adapter's real program for tests."""

import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from assay_serving.launchers.process import EngineProcess, ProcessCommand
from assay_serving.settings import engine_environment

_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterProgram:
    """A running adapter: its gRPC address, its home directory and its process id."""

    address: str
    home: Path
    process_id: int


@contextmanager
def running_adapter(module: str, *, prefix: str, home: Path, **settings: str) -> Iterator[AdapterProgram]:
    """Run ``python -m module`` on a free port while the block runs.

    Args:
        module: the adapter's package.
        prefix: of its variables.
        home: for its files.
        settings: further variables, in lower case without the prefix.

    Raises:
        RuntimeError: it does not start; with the end of its log.
    """
    address_file = home / "address"
    variables: Mapping[str, str] = {"home": str(home), "address_file": str(address_file), **settings}
    process = EngineProcess.start(
        ProcessCommand(
            arguments=[sys.executable, "-m", module],
            environment={
                **engine_environment(),
                **{f"{prefix}{name.upper()}": value for name, value in variables.items()},
            },
            log_path=home / "adapter.log",
        )
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not address_file.exists():
            if process.exit_code is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{module} did not start:\n{process.log_tail()}")
            time.sleep(0.02)
        yield AdapterProgram(address=address_file.read_text(), home=home, process_id=process.pid)
    finally:
        process.terminate_and_wait(timeout=10.0)
