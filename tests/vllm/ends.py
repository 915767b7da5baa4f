"""How servers end: what a client sees of it, the exit status, and which processes are left."""

import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
from servers import CONTEXT, NAME, Server, ServerKind, started

_WAIT_SECONDS = 30.0
_SETTLE_SECONDS = 8.0


def how_it_ends(kind: ServerKind, model: Path, directory: Path) -> dict[str, dict[str, Any]]:
    """Start the server for each way to end it, end it in the middle of a stream, and say what was seen."""
    found = {}
    for name, end in (("core killed", _kill_core), ("SIGTERM", _terminate), ("SIGKILL", _kill)):
        log = directory / f"{kind.name}-{name.replace(' ', '-')}.log"
        with started(kind, model, log) as server:
            found[name] = _seen(server, end)
    return found


def _kill_core(server: Server) -> None:
    core = next(each for each in server.descendants() if each.name().startswith("VLLM::EngineCor"))
    core.kill()


def _terminate(server: Server) -> None:
    # Of a launcher that signals the process that it started, not its group.
    server.process.send_signal(signal.SIGTERM)


def _kill(server: Server) -> None:
    server.process.kill()


def _seen(server: Server, end: Any) -> dict[str, Any]:
    family = server.descendants()
    body = {
        "model": NAME,
        "prompt": "One , two",
        "stream": True,
        "max_tokens": CONTEXT - 64,
        "ignore_eos": True,
    }
    seen: dict[str, Any] = {}
    begun = threading.Event()

    def read() -> None:
        received = ""
        try:
            with server.client.stream("POST", "/v1/completions", json=body) as reply:
                for text in reply.iter_text():
                    received += text
                    begun.set()
            seen["stream"] = "ended"
        except httpx.TransportError as error:
            seen["stream"] = type(error).__name__
        seen["end mark"] = "[DONE]" in received
        seen["error event"] = '"error"' in received

    reader = threading.Thread(target=read)
    reader.start()
    begun.wait(_WAIT_SECONDS)
    end(server)
    reader.join(_WAIT_SECONDS)
    try:
        seen["exit status"] = server.process.wait(_WAIT_SECONDS)
    except subprocess.TimeoutExpired:
        seen["exit status"] = "still runs"
    time.sleep(_SETTLE_SECONDS)
    seen["core processes left"] = sum(_is_alive(each) for each in family)
    return seen


def _is_alive(process: psutil.Process) -> bool:
    try:
        ours = "VLLM" in process.name() or process.name() == "worker"
        return ours and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
