"""The gpu adapter's conformance suite over the real vLLM: one that runs already, and one that it starts."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from servers import KEY, REAL_ENVIRONMENT

from assay_adapter_gpu.backend import GpuBackend
from assay_adapter_gpu.settings import GpuAdapterSettings
from assay_serving.adapter import serve_adapter
from assay_serving.client import ModelServer
from assay_serving.conformance import ALL_CHECKS, Subject
from assay_serving.settings import LauncherKind
from assay_serving.types import Artifact

Check = Callable[[Subject], Awaitable[None]]

_CHECK_SECONDS, _READY_SECONDS = 600.0, 900.0
# Those that start servers of their own would take minutes each.
_STARTING = frozenset(
    {
        "accounts_for_its_time",
        "ends_with_its_lease",
        "fences_lower_tokens",
        "frees_cancelled_sequences",
        "keeps_its_log",
        "refuses_wrong_artifacts",
        "releases_idempotently",
        "survives_its_engine",
        "tells_states_in_order",
    }
)


async def conform_endpoint(url: str, home: Path) -> dict[str, str]:
    """Each check's name, and ``passed in N s`` or why not: over a server that somebody else started."""
    host = urlsplit(url).hostname or ""
    settings = GpuAdapterSettings(home=home, launcher=LauncherKind.ENDPOINT, endpoint_hosts=(host,))
    artifact = Artifact(uri=url, format="endpoint")
    missing = Artifact(uri="http://127.0.0.1:9", format="endpoint")
    async with _serving(settings) as server:
        subject = Subject(server=server, artifact=artifact, missing_artifact=missing, endpoint_key=KEY)
        return await _outcomes(subject, ALL_CHECKS)


async def conform_process(environment: Path, model: Path, home: Path) -> dict[str, str]:
    """The same over a server that the adapter starts: the checks that share one, then the end of it."""
    settings = GpuAdapterSettings(
        home=home,
        command=(str(environment / "bin" / "vllm"), "serve"),
        environment=REAL_ENVIRONMENT,
        allow_cpu=True,
        artifact_roots=(model.parent,),
    )
    artifact = Artifact(uri=f"file://{model}", format="hf")
    missing = Artifact(uri=f"file://{model}-gone", format="hf")
    async with _serving(settings) as server:
        subject = Subject(
            server=server,
            artifact=artifact,
            missing_artifact=missing,
            serving_parameters={"enforce_eager": "true", "dtype": "bfloat16"},
            ready_seconds=_READY_SECONDS,
        )
        checks = [check for check in ALL_CHECKS if check.__name__ not in _STARTING]
        return await _outcomes(subject, [_becomes_ready, *checks, _ends_and_tells_its_times])


@contextlib.asynccontextmanager
async def _serving(settings: GpuAdapterSettings) -> AsyncIterator[ModelServer]:
    async with (
        serve_adapter(GpuBackend(settings), listen="127.0.0.1:0", max_instances=8) as address,
        ModelServer.connect(address) as server,
    ):
        yield server


async def _becomes_ready(subject: Subject) -> None:
    """Keeps the instance that the others share alive for the whole run."""
    instance = await subject.shared()
    await subject.server.keep_alive(instance.instance_id, lease=3600.0)
    assert instance.provenance.artifact_sha256
    assert instance.provenance.engine_version.startswith("0.32")


async def _ends_and_tells_its_times(subject: Subject) -> None:
    """After the end nothing serves, the log is there, and every phase has its time."""
    instance = await subject.shared()
    ended = await subject.server.end(instance.instance_id, reason="conformance")
    assert ended.instance is not None
    times = ended.instance.phase_times
    print(f"  {times}", flush=True)
    assert times.load > 0
    assert times.ready > 0
    assert times.serving > 0
    assert (await subject.server.logs(instance.instance_id)).text


async def _outcomes(subject: Subject, checks: Sequence[Check]) -> dict[str, str]:
    found = {}
    for check in checks:
        begun = time.monotonic()
        name = getattr(check, "__name__", str(check)).lstrip("_")
        try:
            async with asyncio.timeout(max(_CHECK_SECONDS, subject.ready_seconds)):
                await check(subject)
            found[name] = f"passed in {time.monotonic() - begun:.1f} s"
        except TimeoutError:
            found[name] = f"not done after {time.monotonic() - begun:.0f} s"
        except Exception as error:  # noqa: BLE001 - told in the table, the next check goes on
            found[name] = f"{type(error).__name__}: {error}"[:500]
        print(f"  {name}: {found[name]}", flush=True)
    return found
