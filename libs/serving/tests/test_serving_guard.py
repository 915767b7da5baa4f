"""The guard beside every engine, with real processes."""

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psutil

from assay_serving.launchers.orphans import find_marked
from assay_serving.launchers.process import EngineProcess, ProcessCommand

SLEEPER = "import time; print('up', flush=True); time.sleep(600)"


def command(tmp_path: Path, code: str, *, grace: float = 0.0) -> ProcessCommand:
    return ProcessCommand(
        arguments=[sys.executable, "-S", "-c", code],
        environment={},
        log_path=tmp_path / "log",
        label=str(tmp_path),
        instance_id="one",
        grace=grace,
    )


async def until_logged(path: Path, text: str) -> None:
    async with asyncio.timeout(20):
        while not path.exists() or text not in path.read_text():
            await asyncio.sleep(0.02)


async def test_the_end_of_the_thread_that_started_it_ends_nothing(tmp_path: Path) -> None:
    started: list[EngineProcess] = []
    thread = threading.Thread(target=lambda: started.append(EngineProcess.start(command(tmp_path, SLEEPER))))
    thread.start()
    thread.join()
    await until_logged(tmp_path / "log", "up")
    await asyncio.sleep(0.3)
    assert started[0].exit_code is None
    await started[0].stop(grace=0.0)
    assert started[0].exit_code == -signal.SIGKILL
    assert find_marked(str(tmp_path)) == []


PARENT = textwrap.dedent(
    """
    import sys, time
    sys.path.insert(0, {tests!r})
    from pathlib import Path
    from test_serving_guard import command
    from assay_serving.launchers.process import EngineProcess
    EngineProcess.start(command(Path({home!r}), {code!r}, grace=20.0))
    print("started", flush=True)
    time.sleep(600)
    """
)


async def test_an_engine_has_its_grace_when_the_adapter_is_killed(tmp_path: Path) -> None:
    code = textwrap.dedent(
        """
        import signal, sys, time

        def clean_up(*_):
            time.sleep(0.3)
            print("cleaned up", flush=True)
            sys.exit(0)

        signal.signal(signal.SIGTERM, clean_up)
        print("up", flush=True)
        time.sleep(600)
        """
    )
    source = PARENT.format(tests=str(Path(__file__).parent), home=str(tmp_path), code=code)
    with subprocess.Popen([sys.executable, "-c", source]) as parent:  # noqa: ASYNC220
        try:
            await until_logged(tmp_path / "log", "up")
        finally:
            parent.kill()
    await until_logged(tmp_path / "log", "cleaned up")
    async with asyncio.timeout(10):
        while find_marked(str(tmp_path)):
            await asyncio.sleep(0.02)


async def test_processes_that_go_on_forking_end_all_the_same(tmp_path: Path) -> None:
    restless = textwrap.dedent(
        """
        import os, sys, time
        print("up", flush=True)
        for generation in range(10_000):  # each leaves its child behind, in a session of its own
            time.sleep(0.002)
            if os.fork():
                os._exit(0)
            os.setsid()
        """
    )
    # The first one ends at once, so what the guard has to find are others every few milliseconds.
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-S', '-c', {restless!r}]); " + SLEEPER
    process = EngineProcess.start(command(tmp_path, code))
    await until_logged(tmp_path / "log", "up")
    await asyncio.sleep(0.1)
    assert len(find_marked(str(tmp_path))) >= 2
    await process.stop(grace=0.0)
    assert find_marked(str(tmp_path)) == []


async def test_sigterm_reaches_the_command_and_its_exit_status_comes_back(tmp_path: Path) -> None:
    code = "import signal, sys; signal.signal(15, lambda *_: sys.exit(7)); " + SLEEPER
    process = EngineProcess.start(command(tmp_path, code))
    await until_logged(tmp_path / "log", "up")
    await process.stop(grace=10.0)
    assert process.exit_code == 7


async def test_the_command_is_below_the_guard_in_a_session_of_its_own(tmp_path: Path) -> None:
    process = EngineProcess.start(command(tmp_path, SLEEPER))
    await until_logged(tmp_path / "log", "up")
    (child,) = psutil.Process(process.pid).children()
    assert os.getsid(child.pid) == child.pid
    assert os.getsid(process.pid) == process.pid
    os.kill(child.pid, signal.SIGSEGV)
    async with asyncio.timeout(10):
        assert await process.wait() == -signal.SIGSEGV
    await process.stop()
