"""The service's side of the ingest process: start it, listen to it, end it."""

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from dataset_svc.hub.protocol import MESSAGES, HubFailure, HubResult, HubTask, Progress

logger = logging.getLogger(__name__)

_LINE_BYTES = 64 << 20
_KEPT_LOG_LINES = 30
_TOKEN_VARIABLES = (
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
    "ASSAY_HF_TOKEN",
    "ASSAY_API_KEY",
    "ASSAY_INTERNAL_KEY",
)


class HubProcessDied(Exception):
    """The process ended without saying how its task ended: it was killed, or crashed."""


@dataclass(frozen=True, slots=True)
class HubAccess:
    """How the hub is reached.

    Attributes:
        home: directory of the libraries' caches.
        endpoint: base URL of the hub; the public one if ``None``.
        offline: whether only the caches are used.
    """

    home: Path
    endpoint: str | None
    offline: bool

    def environment(self) -> dict[str, str]:
        """Environment of the child: the service's, without secrets, with the libraries' settings."""
        inherited = {
            name: value
            for name, value in os.environ.items()  # noqa: TID251 - a child's environment is built here
            if name not in _TOKEN_VARIABLES
        }
        settings = {
            "HF_HOME": str(self.home.absolute()),
            "HF_HUB_CACHE": str(self.home.absolute() / "hub"),
            "HF_DATASETS_CACHE": str(self.home.absolute() / "datasets"),
            "HF_HUB_OFFLINE": "1" if self.offline else "0",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
            "HF_HUB_DISABLE_UPDATE_CHECK": "1",
            "HF_HUB_DISABLE_SHARED_BLOBS": "1",
        }
        for name in ("HF_ENDPOINT", "HF_DATASETS_OFFLINE"):
            inherited.pop(name, None)
        return {**inherited, **settings, **({"HF_ENDPOINT": self.endpoint} if self.endpoint else {})}


async def read_from_hub(
    task: HubTask, *, access: HubAccess, on_progress: Callable[[Progress], Awaitable[None]]
) -> HubResult | HubFailure:
    """Carry a task out in a process of its own, which ends with this call, however the call ends.

    Raises:
        HubProcessDied: the process was killed or crashed; the task may be tried again.
    """
    async with _running(task, access) as process:
        assert process.stdout is not None
        async for line in process.stdout:
            try:
                message = MESSAGES.validate_json(line)
            except ValidationError as error:
                raise HubProcessDied(f"the ingest process wrote half a message: {line[:100]!r}") from error
            if not isinstance(message, Progress):
                return message
            await on_progress(message)
        code = await process.wait()
    raise HubProcessDied(f"the ingest process ended with {code} and no result")


@asynccontextmanager
async def _running(task: HubTask, access: HubAccess) -> AsyncIterator[asyncio.subprocess.Process]:
    access.home.mkdir(parents=True, exist_ok=True)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "dataset_svc.hub",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=_LINE_BYTES,
        cwd=task.directory,
        env=access.environment(),
        start_new_session=True,
    )
    log = asyncio.create_task(_read_log(process, secret=task.token))
    try:
        assert process.stdin is not None
        with suppress(ConnectionError):
            process.stdin.write(task.model_dump_json().encode() + b"\n")
            await process.stdin.drain()
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await asyncio.shield(process.wait())
        await asyncio.shield(log)


async def _read_log(process: asyncio.subprocess.Process, *, secret: str | None) -> None:
    assert process.stderr is not None
    kept: list[str] = []
    while data := await process.stderr.read(1 << 16):
        text = data.decode(errors="replace")
        kept = [*kept, *text.splitlines()][-_KEPT_LOG_LINES:]
    if kept:
        text = "\n".join(kept)
        logger.info("the ingest process said:\n%s", text.replace(secret, "***") if secret else text)
