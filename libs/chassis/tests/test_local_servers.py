"""The local servers as a test or a supervisor uses them: they start, survive a kill, and never outlive us."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from pathlib import Path

import nats
import psutil
import pytest
from motor.motor_asyncio import AsyncIOMotorClient

from assay_chassis.local import LocalServer, mongo_server, nats_local, nats_server
from assay_chassis.processes import LOOPBACK, PortReservation, ProcessSpec, ServerStartError, TcpProbe

OWNER = """
import sys, time
from pathlib import Path
from assay_chassis.local import nats_local
server = nats_local(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


def wait_until_gone(pid: int) -> None:
    deadline = time.monotonic() + 20
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        assert time.monotonic() < deadline, f"process {pid} is still alive"
        time.sleep(0.02)


async def test_messages_survive_a_kill_of_nats(killable_nats: LocalServer) -> None:
    first = killable_nats.pid
    reconnected = asyncio.Event()

    async def note() -> None:
        reconnected.set()

    connection = await nats.connect(killable_nats.url, reconnected_cb=note)
    try:
        stream = connection.jetstream()
        await stream.add_stream(name="KEPT", subjects=["kept.>"])
        await stream.publish("kept.one", b"x" * 2_000_000)
        killable_nats.kill()
        assert not killable_nats.running
        killable_nats.restart()
        assert killable_nats.pid != first
        await asyncio.wait_for(reconnected.wait(), 20)
        assert len((await stream.get_msg("KEPT", 1)).data or b"") == 2_000_000
    finally:
        await connection.close()


async def test_acknowledged_documents_survive_a_kill_of_the_store(
    killable_mongo: LocalServer, database_name: str
) -> None:
    client: AsyncIOMotorClient = AsyncIOMotorClient(killable_mongo.uri)
    try:
        collection = client[database_name].kept
        await collection.insert_many([{"_id": number} for number in range(50)])
        killable_mongo.kill()
        killable_mongo.restart()
        assert await collection.count_documents({}) == 50
    finally:
        client.close()


async def test_the_session_servers_are_shared_and_real(
    nats_url: str, mongo_uri: str, database_name: str
) -> None:
    connection = await nats.connect(nats_url)
    bucket = f"B{uuid.uuid4().hex}"
    await connection.jetstream().add_stream(name=bucket, subjects=[f"{bucket}.>"])
    await connection.close()
    client: AsyncIOMotorClient = AsyncIOMotorClient(mongo_uri)
    await client[database_name].things.insert_one({"_id": "one"})
    assert await client[database_name].things.find_one({"_id": "one"}) == {"_id": "one"}
    await client.drop_database(database_name)
    client.close()


async def test_async_contexts_end_their_servers(tmp_path: Path) -> None:
    async with (
        nats_server(tmp_path / "nats", sync_interval="always") as bus,
        mongo_server(tmp_path / "mongo") as store,
    ):
        pids = [bus.pid, store.pid]
        assert bus.url.startswith("nats://127.0.0.1:")
        assert "retryWrites=false" in store.uri
    for pid in pids:
        assert not psutil.pid_exists(pid)


def test_a_second_server_on_the_same_data_is_refused_naming_the_first(tmp_path: Path) -> None:
    first, second = nats_local(tmp_path), nats_local(tmp_path)
    first.start()
    try:
        with pytest.raises(ServerStartError, match=rf"in use by process {first.pid}: stop it first"):
            second.start()
        assert first.running
    finally:
        first.close()
        second.close()


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
def test_a_server_dies_with_its_killed_parent_and_leaves_its_data_free(tmp_path: Path) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    wait_until_gone(pid)
    again = nats_local(tmp_path)
    again.start()
    again.close()


def test_a_program_that_ends_at_once_is_reported_with_its_log(tmp_path: Path) -> None:
    spec = ProcessSpec(
        name="broken", argv=(sys.executable, "-c", "raise SystemExit('no such column')"), ready=TcpProbe(1)
    )
    server = LocalServer(spec, url="", log=tmp_path / "log")
    with pytest.raises(
        ServerStartError, match=r"broken ended with code 1; its log ends with\n  \| no such column"
    ):
        server.start()


def test_the_whole_process_group_ends_with_its_server(tmp_path: Path) -> None:
    reservation = PortReservation()
    program = (
        "import socket, subprocess, sys, signal;"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)']);"
        f"server = socket.create_server(('{LOOPBACK}', {reservation.port}));"
        "print(child.pid, flush=True); server.accept(); child.wait()"
    )
    spec = ProcessSpec(
        name="stubborn",
        argv=(sys.executable, "-c", program),
        ready=TcpProbe(reservation.port),
        stop_timeout=0.2,
    )
    server = LocalServer(spec, url="", log=tmp_path / "log", reservations=(reservation,))
    server.start()
    grandchild = int((tmp_path / "log").read_text())
    server.close()
    assert not psutil.pid_exists(server.pid)
    wait_until_gone(grandchild)


def test_a_reserved_port_is_given_out_once() -> None:
    first = PortReservation()
    second = PortReservation(preferred=first.port)
    assert second.port != first.port
    released = first.port
    first.release()
    third = PortReservation(preferred=released)
    assert third.port == released
    with socket.create_server((LOOPBACK, released)):
        pass
    for reservation in (first, second, third):
        reservation.release()


def test_a_port_that_somebody_listens_on_is_not_given_out() -> None:
    with socket.create_server((LOOPBACK, 0)) as busy:
        taken = busy.getsockname()[1]
        reservation = PortReservation(preferred=taken)
        assert reservation.port != taken
        reservation.release()


def test_the_environment_of_a_child_is_ours_and_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INHERITED", "a")
    monkeypatch.setenv("REPLACED", "b")
    spec = ProcessSpec(name="x", argv=("/bin/true",), ready=TcpProbe(1), environment={"REPLACED": "c"})
    environment = spec.full_environment()
    assert (environment["INHERITED"], environment["REPLACED"]) == ("a", "c")
    assert os.environ["REPLACED"] == "b"
