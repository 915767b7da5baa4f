"""The suite that all adapters pass, over the faithful furiosa-llm server."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from assay_serving import conformance
from assay_serving.client import ModelServer
from assay_serving.testing.programs import AdapterProgram
from assay_serving.types import Artifact


@pytest.fixture
async def subject(rngd_adapter: AdapterProgram, model_directory: Path) -> AsyncIterator[conformance.Subject]:
    async with ModelServer.connect(rngd_adapter.address) as server:
        yield conformance.Subject(
            server=server,
            artifact=Artifact(uri=f"file://{model_directory}", format="hf"),
            missing_artifact=Artifact(uri=f"file://{model_directory}-gone", format="hf"),
            failing_prompt="A failing prompt",
            serving_parameters={"fxb": str(model_directory.parent / "small.fxb")},
            shared_key=f"conformance-{rngd_adapter.process_id}",
        )


@pytest.mark.xdist_group("rngd-adapter")
@pytest.mark.parametrize("check", conformance.ALL_CHECKS, ids=lambda check: check.__name__)
async def test_rngd_adapter_conforms(check, subject: conformance.Subject) -> None:  # noqa: ANN001
    await check(subject)
