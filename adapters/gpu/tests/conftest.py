import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from engines.fixtures import VLLM_PROGRAM, engines, script_environment, vllm_server

from assay_serving.testing.programs import AdapterProgram, running_adapter

__all__ = ["engines", "vllm_server"]


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that looks like a model; the faithful server needs none of its content."""
    directory = tmp_path_factory.mktemp("models") / "small"
    directory.mkdir()
    (directory / "config.json").write_text('{"model_type": "llama"}')
    (directory / "model.safetensors").write_bytes(b"weights")
    return directory


@pytest.fixture(scope="session")
def gpu_adapter(tmp_path_factory: pytest.TempPathFactory, model_directory: Path) -> Iterator[AdapterProgram]:
    """The adapter's program over the faithful server, as on a machine without a GPU."""
    running = running_adapter(
        "assay_adapter_gpu",
        prefix="ASSAY_GPU_",
        home=tmp_path_factory.mktemp("gpu-adapter"),
        command=" ".join([sys.executable, *VLLM_PROGRAM[1:], "serve"]),
        environment=json.dumps(script_environment(faults="error~failing")),
        allow_cpu="true",
        artifact_roots=str(model_directory.parent),
        endpoint_hosts="127.0.0.1",
        max_instances="8",
    )
    with running as adapter:
        yield adapter
