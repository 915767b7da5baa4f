"""The suite that all adapters pass, over the faithful vLLM server: started here, and as an endpoint."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from engines.fixtures import RunningEngine

from assay_serving import conformance
from assay_serving.client import ModelServer
from assay_serving.testing.programs import AdapterProgram
from assay_serving.types import Artifact


@pytest.fixture(params=["process", "endpoint"])
async def subject(
    request: pytest.FixtureRequest,
    gpu_adapter: AdapterProgram,
    model_directory: Path,
    vllm_server: RunningEngine,
) -> AsyncIterator[conformance.Subject]:
    if request.param == "process":
        artifact = Artifact(uri=f"file://{model_directory}", format="hf")
        missing = Artifact(uri=f"file://{model_directory}-gone", format="hf")
    else:
        artifact = Artifact(uri=vllm_server.url, format="endpoint")
        missing = Artifact(uri="http://127.0.0.1:1", format="endpoint")
    async with ModelServer.connect(gpu_adapter.address) as server:
        yield conformance.Subject(
            server=server,
            artifact=artifact,
            missing_artifact=missing,
            failing_prompt="A failing prompt" if request.param == "process" else "",
            shared_key=f"conformance-{request.param}-{gpu_adapter.process_id}",
        )


@pytest.mark.xdist_group("gpu-adapter")
@pytest.mark.parametrize("check", conformance.ALL_CHECKS, ids=lambda check: check.__name__)
async def test_gpu_adapter_conforms(check, subject: conformance.Subject) -> None:  # noqa: ANN001
    await check(subject)
