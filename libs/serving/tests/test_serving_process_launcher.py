"""Model servers as processes, with a small real one: a web server with detached children."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from assay_serving.errors import StartFailed
from assay_serving.launchers.orphans import end_orphans, find_marked, mark
from assay_serving.launchers.process_server import ProcessLauncher, ProcessServer, free_port
from assay_serving.launchers.server import ServerConventions, ServerPlan
from assay_serving.types import InstanceState
from assay_serving.upstream import exchange

SERVER = textwrap.dedent(
    """
    import http.server, os, subprocess, sys, time

    host, port, mode = sys.argv[-2], int(sys.argv[-1]), sys.argv[1]
    print("mode", mode, flush=True)
    if mode == "broken":
        print("cannot load: the file is cut off", flush=True)
        sys.exit(3)
    if mode == "segfault":
        os.kill(os.getpid(), 11)
    if os.fork() == 0:  # a worker that detaches itself from parent, session and process group
        os.setsid()
        if os.fork() == 0:
            time.sleep(600)
        os._exit(0)
    os.wait()
    subprocess.Popen([sys.executable, "-S", "-c", "import time; time.sleep(600)"])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            allowed = self.path == "/health" or self.headers["Authorization"] == "Bearer " + os.environ["KEY"]
            self.send_response(200 if allowed else 401)
            self.send_header("Content-Length", "0")
            self.end_headers()

    if mode == "never":
        time.sleep(600)
    http.server.ThreadingHTTPServer((host, port), Handler).serve_forever()
    """
)
CONVENTIONS = ServerConventions(
    program=(sys.executable, "-S", "-c", SERVER),
    listen_arguments=lambda host, port: (host, str(port)),
    key_variable="KEY",
)


@pytest.fixture
def label(tmp_path: Path) -> Iterator[str]:
    """A label of this test alone; whatever carries it ends with the test."""
    yield str(tmp_path)
    end_orphans(str(tmp_path), is_living=lambda _: False)


@pytest.fixture
def launcher(tmp_path: Path, label: str) -> ProcessLauncher:
    return ProcessLauncher(
        conventions=CONVENTIONS,
        log_directory=tmp_path / "logs",
        run_directory=tmp_path / "run",
        label=label,
        environment={"PATH": os.environ["PATH"]},
    )


def plan(mode: str = "serve", *, instance_id: str = "one") -> ServerPlan:
    return ServerPlan(
        instance_id=instance_id,
        arguments=(mode,),
        secrets={"HUB_TOKEN": "hidden"},
        owner="run-1",
        fencing_token=7,
    )


async def launch(launcher: ProcessLauncher, what: ServerPlan) -> ProcessServer:
    async with asyncio.timeout(30):
        return await launcher.launch(what, progress=lambda state, message: None)


async def none_left(label: str) -> None:
    async with asyncio.timeout(10):
        while find_marked(label):
            await asyncio.sleep(0.02)


async def test_a_server_is_found_by_its_mark_and_ends_with_all_that_it_started(
    launcher: ProcessLauncher, label: str, tmp_path: Path
) -> None:
    told: list[InstanceState] = []
    server = await launcher.launch(plan(), progress=lambda state, _: told.append(state))
    assert told == [InstanceState.STARTING]
    assert (await exchange(server.address, "GET", "/v1/models", headers=server.headers)).status == 200
    assert (await exchange(server.address, "GET", "/v1/models")).status == 401, "the key is of this server"
    tree = find_marked(label)
    assert len(tree) == 4, "guard, server, its child and the detached one"
    assert [each.instance_id for each in tree] == ["one"] * 4
    below = psutil.Process(server.process_id).children(recursive=True)
    assert {each.pid for each in below} | {server.process_id} == {each.pid for each in tree}
    environment = below[0].environ()
    assert (environment["ASSAY_SERVING_OWNER"], environment["ASSAY_SERVING_FENCING_TOKEN"]) == ("run-1", "7")
    record = (tmp_path / "run" / "one.json").read_text()
    assert json.loads(record)["guard_pid"] == server.process_id
    assert "hidden" not in record
    assert await launcher.reap([]) == [], "its own running server is not an orphan, whoever asks"
    await server.stop()
    assert find_marked(label) == []
    assert not list((tmp_path / "run").iterdir())
    assert "mode serve" in (await server.read_log(1000)).text
    await server.stop()


@pytest.mark.parametrize(
    ("mode", "reason"), [("broken", "ended with exit status 3"), ("segfault", "signal 11 (SIGSEGV)")]
)
async def test_a_failed_start_names_status_and_log(
    launcher: ProcessLauncher, label: str, mode: str, reason: str
) -> None:
    with pytest.raises(StartFailed) as failure:
        await launch(launcher, plan(mode))
    assert reason in failure.value.message
    assert f"mode {mode}" in failure.value.engine_detail
    assert find_marked(label) == []


async def test_a_program_that_is_not_there(tmp_path: Path, label: str) -> None:
    absent = ServerConventions(program=("no-such-server",), listen_arguments=lambda host, port: ())
    launcher = ProcessLauncher(
        conventions=absent, log_directory=tmp_path, run_directory=tmp_path, label=label, environment={}
    )
    with pytest.raises(StartFailed, match="no-such-server: no such program"):
        await launch(launcher, plan())


async def test_a_start_that_is_cancelled_leaves_nothing(
    launcher: ProcessLauncher, label: str, tmp_path: Path
) -> None:
    starting = asyncio.create_task(launch(launcher, plan("never")))
    async with asyncio.timeout(10):
        while len(find_marked(label)) < 4:
            await asyncio.sleep(0.02)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert find_marked(label) == []
    assert not list((tmp_path / "run").iterdir())


async def test_a_port_that_somebody_takes_first_costs_another_start(
    launcher: ProcessLauncher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ports = iter([taken.getsockname()[1], free_port()])
        monkeypatch.setattr("assay_serving.launchers.process_server.free_port", lambda: next(ports))
        server = await launch(launcher, plan())
    assert server.address.port != taken
    assert "already in use" in (await server.read_log(65536)).text
    await server.stop()


async def test_the_end_of_a_server_and_of_its_guard_is_noticed(launcher: ProcessLauncher, label: str) -> None:
    server = await launch(launcher, plan())
    below = psutil.Process(server.process_id).children()
    os.kill(next(each.pid for each in below if "-c" in each.cmdline()), signal.SIGKILL)
    async with asyncio.timeout(10):
        assert "signal 9 (SIGKILL)" in await server.wait_dead()
    assert find_marked(label) == [], "the guard has ended what the server had left"
    await server.stop()
    server = await launch(launcher, plan())
    os.kill(server.process_id, signal.SIGKILL)
    async with asyncio.timeout(10):
        assert "signal 9 (SIGKILL)" in await server.wait_dead()
    await server.stop()
    assert find_marked(label) == []


ADAPTER = textwrap.dedent(
    """
    import asyncio, sys
    from pathlib import Path
    sys.path.insert(0, {tests!r})
    from assay_serving.launchers.process_server import ProcessLauncher
    from test_serving_process_launcher import CONVENTIONS, plan

    async def main():
        home = Path({home!r})
        launcher = ProcessLauncher(conventions=CONVENTIONS, log_directory=home / "logs",
                                   run_directory=home / "run", label={home!r}, environment={{}})
        await launcher.launch(plan(), progress=lambda state, message: None)
        print("up", flush=True)
        await asyncio.sleep(600)

    asyncio.run(main())
    """
)


@contextmanager
def adapter_that_serves(home: Path) -> Iterator["subprocess.Popen[str]"]:
    code = ADAPTER.format(tests=str(Path(__file__).parent), home=str(home))
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as adapter:
        try:
            assert adapter.stdout is not None
            assert adapter.stdout.readline() == "up\n"
            yield adapter
        finally:
            adapter.kill()


async def test_everything_ends_with_an_adapter_that_is_killed(label: str, tmp_path: Path) -> None:
    with adapter_that_serves(tmp_path) as adapter:
        assert len(find_marked(label)) == 4
        adapter.kill()
    await none_left(label)


async def test_the_next_adapter_removes_what_outlived_adapter_and_guard(
    launcher: ProcessLauncher, label: str, tmp_path: Path
) -> None:
    with adapter_that_serves(tmp_path) as adapter:
        assert await launcher.reap([]) == [], "the adapter lives, although it is another one"
        guard = next(each for each in find_marked(label) if each.is_guard)
        adapter.send_signal(signal.SIGSTOP)  # so that it cannot clean up after the guard's death
        os.kill(guard.pid, signal.SIGKILL)
        adapter.kill()
    async with asyncio.timeout(10):
        while len(find_marked(label)) != 2:  # the server died with its guard
            await asyncio.sleep(0.02)
    assert await launcher.reap(["one"]) == [], "an instance that lives is left alone"
    assert await launcher.reap([]) == ["one"]
    assert find_marked(label) == []
    assert not list((tmp_path / "run").iterdir())
    assert await launcher.reap([]) == []


async def test_processes_of_other_labels_are_left_alone(launcher: ProcessLauncher, label: str) -> None:
    environment = {**mark(label=label + "-other", instance_id="one"), "ASSAY_SERVING_ADAPTER": "1:1"}
    command = [sys.executable, "-S", "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, env=environment) as other:  # noqa: ASYNC220
        try:
            assert await launcher.reap([]) == []
            assert other.poll() is None
        finally:
            other.kill()


async def test_old_logs_are_dropped(launcher: ProcessLauncher, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for number in range(300):
        path = tmp_path / "logs" / f"{number}.log"
        path.write_text("")
        os.utime(path, (number, number))
    await launcher.reap(["0"])
    assert {path.stem for path in (tmp_path / "logs").iterdir()} == {"0", *map(str, range(44, 300))}
