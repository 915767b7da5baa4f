"""The gpu adapter's conformance suite over a model server that runs already."""

import asyncio
import contextlib
import time
from pathlib import Path
from urllib.parse import urlsplit

from assay_adapter_gpu.backend import GpuBackend
from assay_adapter_gpu.settings import GpuAdapterSettings
from assay_serving.adapter import serve_adapter
from assay_serving.client import ModelServer
from assay_serving.conformance import ALL_CHECKS, Subject
from assay_serving.settings import LauncherKind
from assay_serving.types import Artifact

_CHECK_SECONDS = 600.0


async def conform(url: str, *, key: str, home: Path) -> dict[str, str]:
    """Name of each check, and what came of it: ``passed in N s`` or why not."""
    settings = GpuAdapterSettings(
        home=home, launcher=LauncherKind.ENDPOINT, endpoint_hosts=(urlsplit(url).hostname or "",)
    )
    found = {}
    async with (
        serve_adapter(GpuBackend(settings), listen="127.0.0.1:0", max_instances=8) as address,
        ModelServer.connect(address) as server,
    ):
        subject = Subject(
            server=server,
            artifact=Artifact(uri=url, format="endpoint"),
            missing_artifact=Artifact(uri="http://127.0.0.1:9", format="endpoint"),
            endpoint_key=key,
        )
        for check in ALL_CHECKS:
            begun = time.monotonic()
            outcome = ""
            try:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(_CHECK_SECONDS):
                        await check(subject)
                        outcome = f"passed in {time.monotonic() - begun:.1f} s"
            except Exception as error:  # noqa: BLE001 - told in the table, the next check goes on
                outcome = f"{type(error).__name__}: {error}"[:500]
            found[check.__name__] = outcome or f"not done after {_CHECK_SECONDS:g} s"
            print(f"  {check.__name__}: {found[check.__name__]}", flush=True)
    return found
