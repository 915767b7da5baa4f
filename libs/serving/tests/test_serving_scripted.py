"""The scripted adapter passes the suite that every adapter passes."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from assay_serving import conformance
from assay_serving.adapter import serve_adapter
from assay_serving.client import ModelServer
from assay_serving.testing.adapter import SCRIPTED_URI, ScriptedBackend
from assay_serving.types import Artifact

SCRIPTED = Artifact(uri=SCRIPTED_URI, format="scripted")


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ModelServer]:
    backend = ScriptedBackend(directory=tmp_path)
    async with (
        serve_adapter(backend, listen="127.0.0.1:0", max_instances=8) as address,
        ModelServer.connect(address) as connected,
    ):
        yield connected


@pytest.mark.parametrize("check", conformance.ALL_CHECKS, ids=lambda check: check.__name__)
async def test_the_scripted_adapter_conforms(check, server: ModelServer) -> None:  # noqa: ANN001
    await check(
        conformance.Subject(
            server=server,
            artifact=SCRIPTED,
            missing_artifact=Artifact(uri="scripted://nothing", format="scripted"),
        )
    )
