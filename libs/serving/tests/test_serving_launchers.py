import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from assay_serving.errors import InvalidRequest
from assay_serving.launchers.endpoint import resolve_endpoint
from assay_serving.launchers.process import EngineProcess, ProcessCommand
from assay_serving.power.host import ProcessTreeCpu, RaplMeter

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"


def command(tmp_path: Path, code: str) -> ProcessCommand:
    return ProcessCommand(
        arguments=[sys.executable, "-c", code],
        environment={"PATH": os.environ["PATH"]},
        log_path=tmp_path / "log",
    )


async def gone(pid: int) -> None:
    async with asyncio.timeout(20):
        while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
            await asyncio.sleep(0.05)


async def test_stop_ends_grandchildren_and_a_child_that_ignores_sigterm(tmp_path: Path) -> None:
    stubborn = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        f"p = subprocess.Popen([sys.executable, '-c', {SLEEPER!r}]); print('child', p.pid, flush=True);"
        "time.sleep(600)"
    )
    process = EngineProcess.start(command(tmp_path, stubborn))
    async with asyncio.timeout(20):
        while "up" not in process.log_tail():
            await asyncio.sleep(0.05)
    grandchild = int(process.log_tail().split("child ")[1].split()[0])
    await process.stop(grace=0.2)
    assert process.exit_code == -signal.SIGKILL
    await gone(grandchild)
    await process.stop()


async def test_the_child_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    parent_code = (
        "import os, time; from pathlib import Path;"
        "from assay_serving.launchers.process import EngineProcess, ProcessCommand;"
        f"p = EngineProcess.start(ProcessCommand(arguments=[{sys.executable!r}, '-c', {SLEEPER!r}],"
        f" environment={{}}, log_path=Path({str(tmp_path / 'log')!r})));"
        "print(p.pid, flush=True); time.sleep(600)"
    )
    parent = subprocess.Popen(  # noqa: ASYNC220 - it only has to be killed
        [sys.executable, "-c", parent_code], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    async with asyncio.timeout(20):
        while "up" not in (tmp_path / "log").read_text():
            await asyncio.sleep(0.05)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    await gone(child)


async def test_exit_status_and_log_tail(tmp_path: Path) -> None:
    process = EngineProcess.start(command(tmp_path, "import sys; print('x' * 9000 + 'end'); sys.exit(3)"))
    assert await process.wait() == 3
    assert process.log_tail().rstrip().endswith("xend")
    assert len(process.log_tail()) <= 4096


@pytest.mark.parametrize(
    ("url", "because"),
    [
        ("http://169.254.169.254/latest", "never a model server"),
        ("http://[fe80::1]:8000", "never a model server"),
        ("http://[::ffff:169.254.169.254]", "never a model server"),
        ("http://0.0.0.0:8000", "never a model server"),
        ("http://evil.example", "allow-list"),
        ("ftp://localhost", "must be http"),
        ("http://user:secret@localhost", "credentials"),
        ("http://localhost:99999", "endpoint"),
        ("localhost:8000", "must be http"),
    ],
)
async def test_endpoints_that_are_refused(url: str, because: str) -> None:
    allowed = {"localhost", "169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "0.0.0.0"}
    with pytest.raises(InvalidRequest, match=because) as refusal:
        await resolve_endpoint(url, allowed_hosts=allowed)
    assert "secret" not in refusal.value.message


async def test_an_allowed_endpoint_comes_back_with_its_address() -> None:
    endpoint = await resolve_endpoint("http://localhost:8000/v1/", allowed_hosts={"localhost"})
    assert (endpoint.host, endpoint.port, endpoint.path) == ("localhost", 8000, "/v1")
    assert endpoint.ip_address in ("127.0.0.1", "::1")


def write_zone(root: Path, name: str, microjoules: int) -> None:
    (root / name).mkdir(exist_ok=True)
    (root / name / "name").write_text("package-0\n")
    (root / name / "max_energy_range_uj").write_text("1000000")
    (root / name / "energy_uj").write_text(str(microjoules))


def test_energy_counters_wrap_and_count_packages_once(tmp_path: Path) -> None:
    write_zone(tmp_path, "intel-rapl:0", 900_000)
    write_zone(tmp_path, "intel-rapl:0:0", 900_000)
    meter = RaplMeter(tmp_path)
    write_zone(tmp_path, "intel-rapl:0", 950_000)
    assert [reading.joules_total for reading in meter.read()] == [pytest.approx(0.05)]
    write_zone(tmp_path, "intel-rapl:0", 100_000)
    assert [reading.joules_total for reading in meter.read()] == [pytest.approx(0.2)]
    (tmp_path / "intel-rapl:0" / "energy_uj").unlink()
    assert meter.read() == ()
    assert "intel-rapl:0" in meter.unavailable[0]


def test_without_a_sensor_the_reason_is_told(tmp_path: Path) -> None:
    meter = RaplMeter(tmp_path / "none")
    assert meter.read() == ()
    assert meter.sensors == ()
    assert meter.unavailable == (f"rapl: no {tmp_path / 'none'}",)


def test_cpu_time_keeps_what_ended_children_used() -> None:
    burn = "import time\nend = time.process_time() + 0.3\nwhile time.process_time() < end: pass\ninput()"
    with subprocess.Popen([sys.executable, "-c", burn], stdin=subprocess.PIPE) as process:
        meter = ProcessTreeCpu(process.pid)
        used = 0.0
        while used < 0.25:
            used = meter.read().cpu_seconds_total or 0.0
        process.kill()
        process.wait()
    after = meter.read().cpu_seconds_total
    assert after is not None
    assert after >= used
