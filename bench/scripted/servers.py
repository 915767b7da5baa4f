"""The processes around what is measured: scripted endpoint, its adapter, the store."""

import os
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from assay_chassis.local import LocalServer, mongo_command, mongo_uri
from assay_chassis.processes import PortReservation
from assay_serving.launchers.process import EngineProcess, ProcessCommand

ANSWER_SECONDS = 0.2
FIRST_TOKEN_SECONDS = 0.06


@dataclass(frozen=True, slots=True)
class Servers:
    """The processes around the engine."""

    endpoint_url: str
    adapter_address: str
    store_uri: str
    processes: dict[str, psutil.Process]


@contextmanager
def servers(scratch: Path, *, chunks: int) -> Iterator[Servers]:
    """Endpoint, adapter and store as processes of their own; gone when the block is left."""
    with ExitStack() as stack:
        endpoint, endpoint_address = serving_process(scratch, "endpoint", script_options(chunks))
        stack.callback(stop, endpoint)
        adapter, adapter_address = serving_process(scratch, "adapter", [])
        stack.callback(stop, adapter)
        port = PortReservation()
        stack.callback(port.release)
        store = LocalServer(
            mongo_command(scratch / "mongo", port=port.port),
            url=mongo_uri(port.port),
            log=scratch / "mongo.log",
        )
        store.start()
        stack.callback(store.close)
        yield Servers(
            endpoint_url=f"http://{endpoint_address}",
            adapter_address=adapter_address,
            store_uri=store.url,
            processes={
                "endpoint": program_of(endpoint),
                "adapter": program_of(adapter),
                "store": psutil.Process(store.pid),
            },
        )


def script_options(chunks: int) -> list[str]:
    """The endpoint's script: 60 ms to the first chunk, 200 ms to the last."""
    if chunks < 2:
        return [f"--first-token={ANSWER_SECONDS}", "--chunks=1"]
    interval = (ANSWER_SECONDS - FIRST_TOKEN_SECONDS) / (chunks - 1)
    return [f"--first-token={FIRST_TOKEN_SECONDS}", f"--chunks={chunks}", f"--interval={interval}"]


def serving_process(scratch: Path, what: str, options: list[str]) -> tuple[EngineProcess, str]:
    """Start `python -m assay_serving.testing WHAT`; returns the process and the address it listens on.

    It dies with this process, however that ends.
    """
    address_file = scratch / f"{what}-address"
    command = [sys.executable, "-m", "assay_serving.testing", what, f"--address-file={address_file}"]
    process = EngineProcess.start(
        ProcessCommand(
            arguments=[*command, *options], environment=dict(os.environ), log_path=scratch / f"{what}.log"
        )
    )
    while not address_file.exists():
        if process.exit_code is not None:
            raise RuntimeError(f"the {what} did not start: {process.log_tail()}")
        time.sleep(0.02)
    return process, address_file.read_text()


def program_of(process: EngineProcess) -> psutil.Process:
    """The program itself, which runs below its guard."""
    (program,) = psutil.Process(process.pid).children()
    return program


def stop(process: EngineProcess) -> None:
    """End a process and wait for it."""
    process.terminate_and_wait(timeout=10.0)
