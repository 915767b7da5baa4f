"""The faithful servers for tests: how to start one, and fixtures that start and end them.

A launcher under test gets `VLLM_PROGRAM` or `FURIOSA_PROGRAM` as its program and `script_environment(...)` as
the program's environment. A test that only needs a server to talk to uses `start_engine` or the fixtures.
"""

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

TESTS = Path(__file__).parents[1]
VLLM_PROGRAM = (sys.executable, "-m", "engines.vllm_server")
FURIOSA_PROGRAM = (sys.executable, "-m", "engines.furiosa_server")
_STARTED = re.compile(r"running on http://[^:]+:(\d+)")


def script_environment(**script: object) -> dict[str, str]:
    """Environment in which a faithful server is found and does what `engines.script` says.

    Names are those of the variables in lower case without ``ENGINE_``, as in ``first_token_s=0.05``.
    """
    variables = {f"ENGINE_{name.upper()}": str(value) for name, value in script.items()}
    return {"PYTHONPATH": str(TESTS), **variables}


@dataclass(frozen=True, slots=True)
class RunningEngine:
    """A faithful server that listens on `port` of the loopback interface."""

    process: subprocess.Popen[str]
    port: int
    journal_path: Path

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    def journal(self, event: str = "") -> list[dict[str, Any]]:
        """What it has noted so far, or what of one kind.

        Kinds: ``http`` (path and body of a completion request), ``request`` (one sequence with its prompt's
        ids and sampling), ``begin`` (it has its place in the batch), ``end`` (with its ``outcome``).
        """
        if not self.journal_path.exists():
            return []
        entries = [json.loads(line) for line in self.journal_path.read_text().splitlines()]
        return [entry for entry in entries if event in ("", entry["event"])]

    def core_processes(self) -> list[psutil.Process]:
        """The processes under the server's own."""
        return psutil.Process(self.process.pid).children(recursive=True)


@contextlib.contextmanager
def start_engine(
    program: Sequence[str], *arguments: str, model: str = "test-model", **script: object
) -> Iterator[RunningEngine]:
    """Run `program` with these arguments on a free port; it and its core processes end with the block."""
    with tempfile.TemporaryDirectory() as directory:
        journal = Path(directory) / "journal.jsonl"
        words = [*program, "serve", model, "--host", "127.0.0.1", "--port", "0", *arguments]
        environment = {**os.environ, **script_environment(journal=journal, **script)}
        process = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        line = process.stdout.readline()
        found = _STARTED.search(line)
        assert found, f"{words[2]} did not start: {line!r}, status {process.wait(timeout=10)}"
        engine = RunningEngine(process, int(found[1]), journal)
        cores = engine.core_processes()
        try:
            yield engine
        finally:
            process.kill()
            process.wait()
            process.stdout.close()
            for core in cores:
                with contextlib.suppress(psutil.NoSuchProcess):
                    core.kill()


EngineStarter = Callable[..., RunningEngine]


@pytest.fixture
def engines() -> Iterator[EngineStarter]:
    """`start_engine` without the block: what a test starts ends with it."""
    with contextlib.ExitStack() as stack:

        def start(program: Sequence[str], *arguments: str, **options: Any) -> RunningEngine:
            return stack.enter_context(start_engine(program, *arguments, **options))

        yield start


@pytest.fixture(scope="session")
def vllm_server() -> Iterator[RunningEngine]:
    """One faithful vLLM server with a context of 512 tokens for all tests that leave it as it is."""
    with start_engine(VLLM_PROGRAM, "--max-model-len", "512") as engine:
        yield engine


@pytest.fixture(scope="session")
def furiosa_server() -> Iterator[RunningEngine]:
    """One faithful furiosa-llm server with a context of 512 tokens for all tests that leave it as it is."""
    with start_engine(FURIOSA_PROGRAM, "--max-model-len", "512") as engine:
        yield engine
