"""The platform that a truth bench drives: all of it, as `assay up` starts it, and adapters of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pyarrow.parquet as pq
from scripted.rows import write_rows
from scripted.servers import program_of

from assay.client import AssayClient
from assay_serving.launchers.process import EngineProcess, ProcessCommand

BACKENDS = ("gpu", "rngd")
"""The adapters that talk to a server which somebody else runs."""
_FORK_SERVERS_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Adapter:
    """A serving adapter in a process of its own."""

    backend: str
    process: psutil.Process


@dataclass(frozen=True, slots=True)
class Platform:
    """A running platform with a data set of numbered requests and the GSM8K method."""

    client: AssayClient
    adapters: Sequence[Adapter]

    def start(self, *, backend: str, url: str, streams: int, requests: int) -> str:
        """Start a run of `requests` requests, `streams` at a time, on the server at `url`; returns its id."""
        name = f"{backend}-{url.rpartition(':')[2]}"
        if not list(self.client.artifacts.list(name=name)):
            self.client.artifacts.create(
                name, model="truth", backend=backend, uri=url, artifact_format="endpoint"
            )
        options = {"concurrency": streams, "limit": requests}
        run = self.client.runs.start(
            artifact=name, dataset="rows", method="gsm8k", fewshot_dataset="fewshot", options=options
        )
        return run.id


@contextmanager
def platform(scratch: Path, *, rows: int) -> Iterator[Platform]:
    """Everything, started and warm; gone when the block is left."""
    with ExitStack() as stack:
        adapters, addresses = [], []
        for backend in BACKENDS:
            process, address = _adapter(scratch / f"{backend}-adapter", backend)
            stack.callback(process.terminate_and_wait, timeout=10.0)
            adapters.append(Adapter(backend, program_of(process)))
            addresses.append(f"{backend}={address}")
        client = stack.enter_context(assay_up(scratch, adapters=",".join(addresses)))
        for name, path in zip(("rows", "fewshot"), _numbered_rows(scratch, count=rows), strict=True):
            client.datasets.create(name)
            client.datasets.upload(name, path)
        client.methods.create("gsm8k", {"template": "builtin-lm-eval", "task": "gsm8k"}, dataset="rows")
        time.sleep(_FORK_SERVERS_SECONDS)  # the fork servers import lm-eval after they are started
        yield Platform(client, adapters)


def _adapter(home: Path, backend: str) -> tuple[EngineProcess, str]:
    """Start an adapter that may reach this machine; returns it and the address it listens on."""
    settings = {"HOME": home, "ADDRESS_FILE": home / "address", "LAUNCHER": "endpoint"}
    settings["ENDPOINT_HOSTS"] = "127.0.0.1"
    environment = {f"ASSAY_{backend.upper()}_{name}": str(value) for name, value in settings.items()}
    home.mkdir()
    process = EngineProcess.start(
        ProcessCommand(
            arguments=[sys.executable, "-m", f"assay_adapter_{backend}"],
            environment={**os.environ, **environment},
            log_path=home / "log",
        )
    )
    while not (home / "address").exists():
        if process.exit_code is not None:
            raise RuntimeError(f"the {backend} adapter did not start: {process.log_tail()}")
        time.sleep(0.02)
    return process, (home / "address").read_text()


def _numbered_rows(scratch: Path, *, count: int) -> list[Path]:
    """JSON Lines of evaluation rows, each with its number, and of few-shot rows without."""
    written = []
    for path, is_numbered in zip(write_rows(scratch, count=count), (True, False), strict=True):
        lines = []
        for number, row in enumerate(pq.read_table(path).to_pylist()):
            question = f"[request {number}] {row['question']}" if is_numbered else row["question"]
            lines.append(json.dumps(row | {"question": question}))
        written.append(path.with_suffix(".jsonl"))
        written[-1].write_text("\n".join(lines) + "\n")
    return written


@contextmanager
def assay_up(scratch: Path, *, adapters: str, **settings: str) -> Iterator[AssayClient]:
    """All processes of the platform; ``settings`` are further environment variables of theirs."""
    home = scratch / "home"
    environment = {"ASSAY_HOME": str(home), "ASSAY_ADAPTERS": adapters, "ASSAY_WORKER_SLOTS": "2", **settings}
    with (scratch / "platform.log").open("wb") as log:
        assay_up = subprocess.Popen(
            [sys.executable, "-m", "assay_allinone", "up"],
            env={**os.environ, **environment},
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
        )
    try:
        while not (home / "run" / "gateway.json").exists():
            if assay_up.poll() is not None:
                raise RuntimeError(f"the platform did not start:\n{(scratch / 'platform.log').read_text()}")
            time.sleep(0.1)
        found = json.loads((home / "run" / "gateway.json").read_text())
        with AssayClient(found["url"], Path(found["api_key_file"]).read_text().strip()) as client:
            yield client
    finally:
        assay_up.terminate()
        assay_up.wait(60)
