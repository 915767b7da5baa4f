"""pytest fixture: the scripted adapter in a process of its own."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from assay_serving.launchers.process import EngineProcess, ProcessCommand
from assay_serving.testing.adapter import SCRIPTED_URI
from assay_serving.types import Artifact

_START_SECONDS = 60.0


@dataclass(slots=True)
class ScriptedAdapterProcess:
    """A running adapter at `address`; it can be killed and started again there."""

    home: Path
    address: str = "127.0.0.1:0"
    process: EngineProcess | None = None

    def start(self) -> None:
        """Start, and wait until it serves; raises RuntimeError with its log where it does not."""
        address_file = self.home / "address"
        address_file.unlink(missing_ok=True)
        command = [sys.executable, "-m", "assay_serving.testing", "adapter"]
        self.process = EngineProcess.start(
            ProcessCommand(
                arguments=[*command, f"--listen={self.address}", f"--address-file={address_file}"],
                environment={},
                log_path=self.home / "adapter.log",
            )
        )
        deadline = time.monotonic() + _START_SECONDS
        while not address_file.exists():
            if self.process.exit_code is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the scripted adapter did not start:\n{self.process.log_tail()}")
            time.sleep(0.01)
        self.address = address_file.read_text()

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        if self.process is not None:
            self.process.kill()
            self.process.terminate_and_wait(timeout=10.0)


@pytest.fixture(scope="session")
def scripted_adapter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ScriptedAdapterProcess]:
    """The adapter on a free port; it and all its endpoints end with the session, even if that is killed."""
    adapter = ScriptedAdapterProcess(home=tmp_path_factory.mktemp("scripted-adapter"))
    try:
        adapter.start()
        yield adapter
    finally:
        if adapter.process is not None:
            adapter.process.terminate_and_wait(timeout=10.0)


@pytest.fixture(scope="session")
def scripted_model() -> Artifact:
    """The model whose answers are a function of the prompt (`assay_serving.testing.answers`)."""
    return Artifact(uri=SCRIPTED_URI, format="scripted")
