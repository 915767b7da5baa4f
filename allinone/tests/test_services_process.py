"""Several services in one process: each has its own server, lifespan and settings; they end together."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from assay_chassis.local import LocalServer
from assay_chassis.processes import LOOPBACK, AllProbes, HttpProbe, PortReservation, ProcessSpec

# A service package as small as its conventions allow: settings and wiring, nothing of the business.
SETTINGS = """
from pydantic_settings import BaseSettings, SettingsConfigDict

class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="ASSAY_")
    host: str
    {name}_port: int
    fail: str = ""
"""
WIRING = """
from contextlib import asynccontextmanager
from fastapi import FastAPI

def create_app(settings):
    @asynccontextmanager
    async def lifespan(app):
        if settings.fail == "{name}":
            raise RuntimeError("{name} has no database")
        print("{name} opened", flush=True)
        yield
        print("{name} closed", flush=True)

    app = FastAPI(lifespan=lifespan)

    @app.get("/name")
    async def name():
        return "{name}"

    return app
"""
RUN = "import asyncio; from assay_allinone.services import serve; asyncio.run(serve(('alpha', 'beta')))"


@dataclass(frozen=True, slots=True)
class Process:
    server: LocalServer
    ports: dict[str, int]

    def output(self) -> str:
        return self.server.log.read_text()


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    for name in ("alpha", "beta"):
        package = tmp_path / f"{name}_svc"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "settings.py").write_text(SETTINGS.format(name=name))
        (package / "wiring.py").write_text(WIRING.format(name=name))
    reservations = PortReservation(), PortReservation()
    ports = dict(zip(("alpha", "beta"), (one.port for one in reservations), strict=True))
    spec = ProcessSpec(
        name="services",
        argv=(sys.executable, "-c", RUN),
        environment={
            "PYTHONPATH": str(tmp_path),
            "ASSAY_HOST": LOOPBACK,
            **{f"ASSAY_{name.upper()}_PORT": str(port) for name, port in ports.items()},
        },
        ready=AllProbes(tuple(HttpProbe(f"http://{LOOPBACK}:{port}/name") for port in ports.values())),
    )
    server = LocalServer(spec, url="", log=tmp_path / "log", reservations=reservations)
    yield Process(server, ports)
    server.close()


def test_each_service_answers_on_its_port_and_all_close_in_order_on_one_signal(process: Process) -> None:
    process.server.start()
    for name, port in process.ports.items():
        assert httpx.get(f"http://{LOOPBACK}:{port}/name", trust_env=False).json() == name
    os.kill(process.server.pid, signal.SIGTERM)
    assert process.server.wait() == 0
    assert sorted(process.output().splitlines()) == [
        "alpha closed",
        "alpha opened",
        "beta closed",
        "beta opened",
    ]


def test_a_service_that_cannot_start_ends_them_all_with_an_error(
    process: Process, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ASSAY_FAIL", "beta")
    process.server.spawn()
    assert process.server.wait() != 0
    assert "beta has no database" in process.output()


def test_a_missing_setting_is_named(tmp_path: Path, process: Process) -> None:
    environment = {
        name: value
        for name, value in process.server.spec.full_environment().items()
        if name != "ASSAY_BETA_PORT"
    }
    result = subprocess.run(
        [sys.executable, "-c", RUN], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 1
    assert "beta_port" in result.stderr
