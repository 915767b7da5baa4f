"""The supervisor with small real processes: order, restarts, stops, kills, and nothing left behind."""

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from graphlib import CycleError
from pathlib import Path

import psutil
import pytest

from assay_allinone.supervisor import AlreadyRunning, Supervisor, owned_directory
from assay_chassis.processes import AllProbes, PortReservation, ProcessSpec, ServerStartError, TcpProbe

PATIENCE = 20.0

# Writes its name to a shared journal when it listens, and again when it is asked to end.
CHILD = """
import signal, socket, sys, time
name, port, journal, delay = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
def write(text):
    with open(journal, "a") as stream:
        stream.write(text + " " + name + "\\n")
def end(*_):
    write("stop")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
time.sleep(delay)
write("start")
server = socket.create_server(("127.0.0.1", port))
while True:
    server.accept()[0].close()
"""

OWNER = """
import asyncio, sys
from pathlib import Path
from assay_allinone.supervisor import Supervisor, owned_directory
from assay_chassis.processes import AllProbes, ProcessSpec
async def main():
    home = Path(sys.argv[1])
    sleep = (sys.executable, "-c", "import time; time.sleep(600)")
    specs = [ProcessSpec(name=name, argv=sleep, ready=AllProbes(())) for name in ("one", "two")]
    with owned_directory(home):
        async with Supervisor(specs, directory=home) as supervisor:
            print(*supervisor.pids().values(), flush=True)
            await asyncio.sleep(600)
asyncio.run(main())
"""


class Children:
    """Builds specs for CHILD, all writing to one journal."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.reservations: list[PortReservation] = []

    def spec(self, name: str, *, delay: float = 0.0, depends_on: tuple[str, ...] = ()) -> ProcessSpec:
        reservation = PortReservation()
        self.reservations.append(reservation)
        return ProcessSpec(
            name=name,
            argv=(
                *(sys.executable, "-c", CHILD, name, str(reservation.port)),
                *(str(self.directory / "journal"), str(delay)),
            ),
            ready=TcpProbe(reservation.port),
            depends_on=depends_on,
            stop_timeout=5.0,
        )

    def journal(self) -> list[str]:
        return (self.directory / "journal").read_text().splitlines()


@pytest.fixture
def children(tmp_path: Path) -> Iterator[Children]:
    built = Children(tmp_path)
    yield built
    for reservation in built.reservations:
        reservation.release()


@asynccontextmanager
async def supervised(home: Path, *specs: ProcessSpec) -> AsyncIterator[Supervisor]:
    with owned_directory(home):
        async with Supervisor(specs, directory=home) as supervisor:
            yield supervisor


def spawn(program: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True)


def sleeper() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])


def assert_gone(pid: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} is still alive"
        time.sleep(0.02)


async def test_processes_start_after_and_stop_before_those_that_they_depend_on(
    tmp_path: Path, children: Children
) -> None:
    # The slowest is the one that all wait for, and the declared order is the wrong one.
    specs = [
        children.spec("gateway", depends_on=("service",)),
        children.spec("service", depends_on=("store", "bus")),
        children.spec("bus"),
        children.spec("store", delay=0.5),
    ]
    async with supervised(tmp_path, *specs) as supervisor:
        pids = dict(supervisor.pids())
        assert set(pids) == {"gateway", "service", "bus", "store"}
    journal = children.journal()
    assert journal[:4] == ["start bus", "start store", "start service", "start gateway"]
    assert journal[4:6] == ["stop gateway", "stop service"]
    assert sorted(journal[6:]) == ["stop bus", "stop store"]
    for pid in pids.values():
        assert not psutil.pid_exists(pid)


async def test_a_killed_process_is_started_again_and_said_so(
    tmp_path: Path, children: Children, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with supervised(tmp_path, children.spec("one"), children.spec("two")) as supervisor:
            before = dict(supervisor.pids())
            for count in (1, 2):
                supervisor.kill("one")
                await asyncio.wait_for(supervisor.wait_ready("one"), PATIENCE)
                assert supervisor.restarts("one") == count
            after = dict(supervisor.pids())
    assert before["one"] != after["one"]
    assert before["two"] == after["two"]
    assert supervisor.restarts("two") == 0
    assert children.journal().count("start one") == 3
    assert "one ended with code -9; starting it again in 0.2 s (restart 1, log " in caplog.text
    # Dies again before it has been up for long: waits longer.
    assert "one ended with code -9; starting it again in 0.4 s (restart 2, log " in caplog.text


async def test_a_process_that_dies_from_outside_is_started_again(tmp_path: Path, children: Children) -> None:
    async with supervised(tmp_path, children.spec("one")) as supervisor:
        first = supervisor.pids()["one"]
        os.kill(first, signal.SIGTERM)
        assert_gone(first)
        async with asyncio.timeout(PATIENCE):
            while supervisor.pids().get("one", first) == first:
                await asyncio.sleep(0.02)
            await supervisor.wait_ready("one")


async def test_a_failed_start_shows_the_log_and_stops_the_others(tmp_path: Path, children: Children) -> None:
    broken = ProcessSpec(
        name="broken",
        argv=(sys.executable, "-c", "print('reading'); raise SystemExit('the disk is full')"),
        ready=TcpProbe(1),
        depends_on=("fine",),
    )
    with pytest.raises(ServerStartError) as caught:
        async with supervised(tmp_path, broken, children.spec("fine")):
            pytest.fail("the block must not be entered")
    assert "broken ended with code 1" in str(caught.value)
    assert "  | the disk is full" in str(caught.value)
    assert str(tmp_path / "logs" / "broken.log") in str(caught.value)
    assert children.journal() == ["start fine", "stop fine"]


async def test_a_process_that_is_never_ready_is_a_failed_start(tmp_path: Path) -> None:
    program = "print('still loading', flush=True); import time; time.sleep(600)"
    mute = ProcessSpec(
        name="mute", argv=(sys.executable, "-c", program), ready=TcpProbe(1), start_timeout=0.5
    )
    with pytest.raises(ServerStartError, match=r"mute was not ready within 0\.5 s") as caught:
        async with supervised(tmp_path, mute):
            pytest.fail("the block must not be entered")
    assert "still loading" in str(caught.value)


async def test_what_ignores_the_stop_signal_is_killed_with_its_own_children(tmp_path: Path) -> None:
    program = (
        "import signal, subprocess, sys;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        "print(child.pid, flush=True); child.wait()"
    )
    written = tmp_path / "logs" / "stubborn.log"

    class Written:
        def check(self) -> bool:
            return written.read_text().endswith("\n")

    stubborn = ProcessSpec(
        name="stubborn", argv=(sys.executable, "-c", program), ready=Written(), stop_timeout=0.2
    )
    async with supervised(tmp_path, stubborn) as supervisor:
        pid = supervisor.pids()["stubborn"]
    assert not psutil.pid_exists(pid)
    assert_gone(int(written.read_text()))


async def test_a_second_supervisor_of_the_same_directory_is_refused_naming_the_first(
    tmp_path: Path, children: Children
) -> None:
    async with supervised(tmp_path, children.spec("one")) as supervisor:
        with pytest.raises(AlreadyRunning, match=rf"in use by process {os.getpid()}: stop that one"):
            async with supervised(tmp_path, children.spec("one")):
                pytest.fail("the block must not be entered")
        assert len(supervisor.pids()) == 1
    async with supervised(tmp_path, children.spec("again")):
        pass


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
async def test_a_killed_supervisor_leaves_no_process_and_a_directory_to_start_in(
    tmp_path: Path, children: Children
) -> None:
    owner = spawn(OWNER, str(tmp_path))
    assert owner.stdout is not None
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert len(pids) == 2
    owner.kill()
    owner.wait()
    owner.stdout.close()
    for pid in pids:
        assert_gone(pid)
    async with supervised(tmp_path, children.spec("one")):
        pass


async def test_a_process_left_behind_is_ended_at_the_next_start(
    tmp_path: Path, children: Children, caplog: pytest.LogCaptureFixture
) -> None:
    # What a killed supervisor leaves where the kernel does not bind children to their parent.
    stray, other = sleeper(), sleeper()
    (tmp_path / "run").mkdir()
    record = {
        "one": {"pid": stray.pid, "created": psutil.Process(stray.pid).create_time()},
        # This id belongs to a younger process: not ours any more.
        "two": {"pid": other.pid, "created": 1.0},
    }
    (tmp_path / "run" / "processes.json").write_text(json.dumps(record))
    try:
        async with supervised(tmp_path, children.spec("one")):
            assert stray.poll() == -signal.SIGKILL
            assert other.poll() is None
    finally:
        for process in (stray, other):
            process.kill()
            process.wait()
    assert "left behind by an earlier start" in caplog.text


async def test_a_cancelled_start_stops_what_runs(tmp_path: Path, children: Children) -> None:
    never = ProcessSpec(
        name="never",
        argv=(sys.executable, "-c", "import time; time.sleep(600)"),
        ready=TcpProbe(1),
        depends_on=("fine",),
    )

    async def start() -> None:
        async with supervised(tmp_path, children.spec("fine"), never):
            pytest.fail("the block must not be entered")

    task = asyncio.create_task(start())
    async with asyncio.timeout(PATIENCE):
        while not (tmp_path / "logs" / "never.log").exists():
            await asyncio.sleep(0.02)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children.journal() == ["start fine", "stop fine"]
    assert not [child for child in psutil.Process().children() if "600" in "".join(child.cmdline())]


def test_a_dependency_that_does_not_exist_is_named(tmp_path: Path) -> None:
    spec = ProcessSpec(name="one", argv=("/bin/true",), ready=AllProbes(()), depends_on=("nothing",))
    with pytest.raises(ValueError, match="one depends on nothing: no such process"):
        Supervisor([spec], directory=tmp_path)


def test_a_circle_of_dependencies_is_refused(tmp_path: Path) -> None:
    specs = [
        ProcessSpec(name="one", argv=("/bin/true",), ready=AllProbes(()), depends_on=("two",)),
        ProcessSpec(name="two", argv=("/bin/true",), ready=AllProbes(()), depends_on=("one",)),
    ]
    with pytest.raises(CycleError):
        Supervisor(specs, directory=tmp_path)
