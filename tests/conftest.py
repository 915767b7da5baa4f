"""A running platform for tests that span services, as a user starts it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from assay.client import AssayClient
from assay_serving.testing.fixtures import ScriptedAdapterProcess, scripted_adapter

__all__ = ["scripted_adapter"]

ROOT = Path(__file__).parents[1]
START_SECONDS = 300.0


@dataclass
class LocalPlatform:
    """``assay_allinone up`` in a process of its own, with a home directory of its own."""

    home: Path
    process: subprocess.Popen[bytes]

    def client(self) -> AssayClient:
        found = json.loads((self.home / "run" / "gateway.json").read_text())
        return AssayClient(found["url"], Path(found["api_key_file"]).read_text().strip())

    def pid(self, name: str) -> int:
        record = json.loads((self.home / "run" / "processes.json").read_text())
        return int(record[name]["pid"])

    def kill(self, name: str) -> int:
        """kill -9 the process of that name; returns its id."""
        pid = self.pid(name)
        os.kill(pid, signal.SIGKILL)
        return pid

    def wait_for_successor(self, name: str, *, killed: int, seconds: float = 60) -> int:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            pid = self.pid(name)
            if pid != killed and psutil.pid_exists(pid):
                return pid
            time.sleep(0.05)
        raise AssertionError(f"{name} was not started again")

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def log(self, name: str) -> str:
        return (self.home / "logs" / f"{name}.log").read_text()


def start_platform(home: Path, **settings: str) -> LocalPlatform:
    log = (home.parent / f"{home.name}.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "assay_allinone", "up"],
        env={**os.environ, "ASSAY_HOME": str(home), **settings},
        stdout=log,
        stderr=subprocess.STDOUT,
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + START_SECONDS
    while not (home / "run" / "gateway.json").exists():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"the platform did not start:\n{Path(log.name).read_text()[-4000:]}")
        time.sleep(0.1)
    return LocalPlatform(home=home, process=process)


def stop_platform(running: LocalPlatform) -> None:
    children = running.children() if running.process.poll() is None else []
    running.process.send_signal(signal.SIGINT)
    try:
        running.process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        running.process.kill()
        raise
    _, left = psutil.wait_procs(children, timeout=10)
    assert not left, f"left behind: {[process.cmdline() for process in left]}"


@pytest.fixture(scope="session")
def local_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    """One platform for all tests of a worker that do not break it."""
    running = start_platform(tmp_path_factory.mktemp("platform") / "home")
    yield running
    stop_platform(running)


@pytest.fixture(scope="session")
def scripted_platform(
    tmp_path_factory: pytest.TempPathFactory, scripted_adapter: ScriptedAdapterProcess
) -> Iterator[LocalPlatform]:
    """A platform on the scripted adapter, whose workers' leases lapse soon."""
    adapters = f"cpu={scripted_adapter.address}"
    home = tmp_path_factory.mktemp("scripted-platform") / "home"
    running = start_platform(home, ASSAY_ADAPTERS=adapters, ASSAY_LEASE_S="2")
    yield running
    stop_platform(running)


@pytest.fixture(scope="session")
def platform_with(
    tmp_path_factory: pytest.TempPathFactory, scripted_adapter: ScriptedAdapterProcess
) -> Iterator[Callable[..., LocalPlatform]]:
    """Start a platform on the scripted adapter with settings of one's own; ends with the tests."""
    running: list[LocalPlatform] = []

    def start(**settings: str) -> LocalPlatform:
        home = tmp_path_factory.mktemp("own-platform") / "home"
        running.append(start_platform(home, ASSAY_ADAPTERS=f"cpu={scripted_adapter.address}", **settings))
        return running[-1]

    yield start
    for platform in running:
        stop_platform(platform)


@pytest.fixture(scope="session")
def metered_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPlatform]:
    """A platform that expects the processor's energy counters in ``powercap`` beside its home, yet empty."""
    home = tmp_path_factory.mktemp("metered-platform") / "home"
    running = start_platform(home, ASSAY_CPU_POWERCAP_DIRECTORY=str(home.parent / "powercap"))
    yield running
    stop_platform(running)


@pytest.fixture(scope="session")
def assay(local_platform: LocalPlatform) -> Iterator[AssayClient]:
    """A client of ``local_platform``."""
    with local_platform.client() as client:
        yield client


@pytest.fixture(scope="session")
def gsm8k() -> Path:
    """The directory with GSM8K's ``test.jsonl`` and ``train.jsonl``."""
    directory = Path(os.environ.get("ASSAY_SHARED_DATA", ROOT.parent / "shared" / "data")) / "gsm8k"
    if not directory.is_dir():
        pytest.skip(f"GSM8K is not at {directory}; set ASSAY_SHARED_DATA to the directory above gsm8k/")
    return directory
