"""The real server and the faithful one, started with the same arguments."""

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import psutil
from engines.fixtures import VLLM_PROGRAM, script_environment

NAME, KEY, CONTEXT = "served-name", "a-secret-key", 512
_READY_SECONDS, _REQUEST_SECONDS = 600.0, 180.0
_ARGUMENTS = (
    *("--max-model-len", str(CONTEXT), "--max-num-seqs", "4", "--dtype", "bfloat16", "--enforce-eager"),
    *("--served-model-name", NAME, "--seed", "0", "--api-key", KEY, "--enable-tokenizer-info-endpoint"),
)
# Kind to whoever shares the machine: one thread, a small cache, nothing fetched and nobody told.
REAL_ENVIRONMENT = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_COLOR": "0",
    "VLLM_NO_USAGE_STATS": "1",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerKind:
    """A program and the environment that it is started in."""

    name: str
    program: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def real_server(environment: Path) -> ServerKind:
    """The vLLM that is installed in that virtual environment."""
    return ServerKind(name="real", program=(str(environment / "bin" / "vllm"),), environment=REAL_ENVIRONMENT)


def faithful_server() -> ServerKind:
    """The faithful one, with the real one's traits on a processor: a core process and its worker."""
    environment = script_environment(core_processes=2, interval_s=0.02)
    return ServerKind(name="faithful", program=VLLM_PROGRAM, environment=environment)


@dataclass(frozen=True, slots=True)
class Server:
    """A server that answers."""

    kind: ServerKind
    process: subprocess.Popen[bytes]
    url: str
    client: httpx.Client

    def post(self, path: str, body: object) -> httpx.Response:
        """Send JSON."""
        return self.client.post(path, json=body)

    def complete(self, **fields: Any) -> dict[str, Any]:
        """A completion that must succeed."""
        reply = self.post("/v1/completions", {"model": NAME, **fields})
        assert reply.status_code == 200, reply.text
        content: dict[str, Any] = reply.json()
        return content

    def descendants(self) -> list[psutil.Process]:
        """Processes under the server's own."""
        return psutil.Process(self.process.pid).children(recursive=True)


@contextlib.contextmanager
def started(kind: ServerKind, model: Path, log: Path, *, arguments: Sequence[str] = ()) -> Iterator[Server]:
    """Start a server and wait until it is healthy; nothing of it is left behind the block."""
    command = [*kind.program, "serve", str(model), "--host", "127.0.0.1", "--port", str(_free_port())]
    with log.open("wb") as output:
        process = subprocess.Popen(
            ["nice", "-n", "15", *command, *_ARGUMENTS, *arguments],
            env={**os.environ, **kind.environment},
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{command[-1]}"
    family: list[psutil.Process] = []
    with httpx.Client(
        base_url=url, headers={"Authorization": f"Bearer {KEY}"}, timeout=_REQUEST_SECONDS
    ) as client:
        server = Server(kind, process, url, client)
        try:
            _wait_healthy(server, log)
            family = server.descendants()
            yield server
        finally:
            if process.poll() is None:
                family = server.descendants()
            process.kill()
            process.wait()
            for each in family:
                with contextlib.suppress(psutil.NoSuchProcess):
                    each.kill()


def _wait_healthy(server: Server, log: Path) -> None:
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        with contextlib.suppress(httpx.TransportError):
            if server.client.get("/health").status_code == 200:
                return
        if server.process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{server.kind.name} did not start:\n{log.read_text()[-4000:]}")
        time.sleep(0.1)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
