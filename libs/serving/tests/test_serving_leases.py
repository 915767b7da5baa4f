"""Leases, fencing and the ledger, over gRPC with engines that are real processes."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from assay_serving.adapter import serve_adapter
from assay_serving.client import ModelServer
from assay_serving.errors import Fenced, InvalidRequest, NoCapacity, UnknownInstance
from assay_serving.launchers.orphans import find_marked
from assay_serving.power.host import RaplMeter
from assay_serving.power.source import PowerSource
from assay_serving.testing.adapter import SCRIPTED_URI, ScriptedBackend
from assay_serving.types import (
    Artifact,
    GenerateRequest,
    Instance,
    InstanceState,
    PhaseTimes,
    ProvisionSpec,
    SamplingParameters,
    StampSource,
)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[ModelServer]:
    """An adapter in this process; afterwards no process of it is left."""
    serving = serve_adapter(ScriptedBackend(directory=tmp_path), listen="127.0.0.1:0", max_instances=3)
    async with serving as address, ModelServer.connect(address) as client:
        yield client
    assert find_marked(str(tmp_path)) == []


def spec(key: str = "key", *, owner: str = "", token: int = 0, lease: float = 30.0) -> ProvisionSpec:
    return ProvisionSpec(
        idempotency_key=key,
        artifact=Artifact(uri=SCRIPTED_URI),
        lease=lease,
        ready_timeout=30.0,
        owner=owner,
        fencing_token=token,
    )


async def ready(server: ModelServer, wanted: ProvisionSpec) -> Instance:
    instance = await server.provision(wanted)
    return await server.wait_ready(instance.instance_id, timeout=30)


async def state_of(server: ModelServer, instance_id: str) -> InstanceState:
    async with contextlib.aclosing(server.watch(instance_id)) as events:  # type: ignore[type-var]
        async for event in events:
            return event.instance.state
    raise AssertionError("no state")


def spent(times: PhaseTimes) -> float:
    return times.cold_start + times.serving + times.drain


async def test_a_higher_token_ends_what_lower_ones_have(server: ModelServer, tmp_path: Path) -> None:
    old = await ready(server, spec("a", owner="run", token=5))
    other = await ready(server, spec("b", owner="other run", token=1))
    new = await ready(server, spec("a", owner="run", token=6))
    assert new.instance_id != old.instance_id, "the key belongs to the newer lease now"
    assert await state_of(server, old.instance_id) is InstanceState.RELEASED
    assert {each.instance_id for each in find_marked(str(tmp_path))} == {new.instance_id, other.instance_id}
    with pytest.raises(Fenced, match="fencing token 6"):
        await server.provision(spec("c", owner="run", token=5))
    with pytest.raises(Fenced, match="fencing token 6"):
        await server.keep_alive(old.instance_id, lease=5, fencing_token=5)
    with pytest.raises(Fenced, match="under fencing token 6"):
        await server.keep_alive(new.instance_id, lease=5, fencing_token=5)
    await server.keep_alive(new.instance_id, lease=5, fencing_token=6)
    await server.keep_alive(new.instance_id, lease=5)
    with pytest.raises(UnknownInstance, match="run was taken over"):
        await server.keep_alive(old.instance_id, lease=5)
    assert await state_of(server, other.instance_id) is InstanceState.READY
    assert (await server.provision(spec("a", owner="run", token=6))).instance_id == new.instance_id


async def test_an_instance_that_starts_is_superseded_too(server: ModelServer, tmp_path: Path) -> None:
    old = await server.provision(spec("a", owner="run", token=1))
    new = await ready(server, spec("b", owner="run", token=2))
    assert await state_of(server, old.instance_id) is InstanceState.RELEASED
    assert {each.instance_id for each in find_marked(str(tmp_path))} == {new.instance_id}


async def test_superseded_instances_take_no_room(server: ModelServer) -> None:
    for number in range(3):
        await server.provision(spec(f"{number}", owner="run", token=1))
    with pytest.raises(NoCapacity):
        await server.provision(spec("one more", owner="other", token=1))
    await ready(server, spec("successor", owner="run", token=2))


async def test_every_second_of_an_instance_is_in_its_ledger(server: ModelServer) -> None:
    began = time.monotonic()
    instance = await ready(server, spec())
    assert instance.phase_times.load > 0
    assert instance.launcher == "process"
    await asyncio.sleep(0.3)
    ended = await server.end(instance.instance_id, reason="done")
    wall = time.monotonic() - began
    assert ended.existed
    assert ended.instance is not None
    times = ended.instance.phase_times
    assert ended.instance.state is InstanceState.RELEASED
    assert times.serving >= 0.3
    assert times.load <= times.occupied <= wall
    assert 0 <= wall - spent(times) < 0.5, "all but the calls themselves"
    again = await server.end(instance.instance_id, reason="done")
    assert not again.existed
    assert again.instance == ended.instance, "the last state stays as it was"
    assert (await server.end("nobody", reason="done")).instance is None


class MeasuredBackend(ScriptedBackend):
    """With an energy counter under `powercap`."""

    def __init__(self, *, directory: Path, powercap: Path) -> None:
        super().__init__(directory=directory)
        self._powercap = powercap

    def idle_sources(self, spec: ProvisionSpec) -> tuple[PowerSource, ...]:
        return (RaplMeter(self._powercap),)


async def test_idle_power_is_read_before_the_engine_and_in_no_phase(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assay_serving.instances._IDLE_SECONDS", 0.8)
    counter = tmp_path / "powercap" / "intel-rapl:0"
    counter.mkdir(parents=True)
    (counter / "name").write_text("package-0")
    (counter / "max_energy_range_uj").write_text(str(1 << 40))
    (counter / "energy_uj").write_text("0")

    async def use_energy() -> None:
        while True:
            (counter / "partial").write_text(str(time.monotonic_ns() // 20))
            (counter / "partial").replace(counter / "energy_uj")
            await asyncio.sleep(0.01)

    backend = MeasuredBackend(directory=tmp_path, powercap=tmp_path / "powercap")
    serving = serve_adapter(backend, listen="127.0.0.1:0", max_instances=1)
    using = asyncio.create_task(use_energy())
    async with serving as address, ModelServer.connect(address) as server:
        began = time.monotonic()
        instance = await ready(server, spec())
        wall = time.monotonic() - began
    using.cancel()
    (baseline,) = instance.idle_baselines
    assert baseline.watts > 0
    assert baseline.readings >= 2
    assert instance.phase_times.cold_start <= wall - 0.8


async def test_a_release_while_it_starts_leaves_nothing(server: ModelServer, tmp_path: Path) -> None:
    instance = await server.provision(spec())
    async with asyncio.timeout(10):
        while not find_marked(str(tmp_path)):
            await asyncio.sleep(0.005)
    ended = await server.end(instance.instance_id, reason="changed my mind")
    assert find_marked(str(tmp_path)) == []
    assert ended.instance is not None
    times = ended.instance.phase_times
    assert (times.ready, times.serving) == (0.0, 0.0)
    assert times.drain > 0
    assert min(times.schedule, times.pull, times.load, times.occupied) >= 0


async def test_a_caller_who_leaves_during_a_release_does_not_undo_it(
    server: ModelServer, tmp_path: Path
) -> None:
    instance = await ready(server, spec())
    releasing = asyncio.create_task(server.release(instance.instance_id, reason="done"))
    with contextlib.suppress(UnknownInstance):
        while True:  # until the adapter has begun
            await server.keep_alive(instance.instance_id, lease=30)
    releasing.cancel()
    async with asyncio.timeout(10):
        while find_marked(str(tmp_path)):
            await asyncio.sleep(0.02)
    assert not await server.release(instance.instance_id, reason="again")
    assert await state_of(server, instance.instance_id) is InstanceState.RELEASED


async def test_heartbeats_that_an_adapter_could_not_take_are_not_held_against_their_sender(
    server: ModelServer,
) -> None:
    instance = await ready(server, spec())
    await server.keep_alive(instance.instance_id, lease=1.0)
    time.sleep(2.0)  # noqa: ASYNC251 - the adapter's event loop is this one
    await server.keep_alive(instance.instance_id, lease=1.0)
    assert await state_of(server, instance.instance_id) is InstanceState.READY
    async with asyncio.timeout(10):
        while await state_of(server, instance.instance_id) is not InstanceState.RELEASED:
            await asyncio.sleep(0.1)
    with pytest.raises(UnknownInstance, match="its lease lapsed"):
        await server.keep_alive(instance.instance_id, lease=1.0)


async def test_the_log_outlives_the_engine(server: ModelServer) -> None:
    instance = await ready(server, spec())
    log = await server.logs(instance.instance_id)
    assert "listens on" in log.text
    assert not log.is_cut
    end = await server.logs(instance.instance_id, max_bytes=10)
    assert (end.text, end.is_cut) == (log.text[-10:], True)
    await server.release(instance.instance_id, reason="done")
    assert log.text in (await server.logs(instance.instance_id)).text
    assert len((await server.logs(instance.instance_id, max_bytes=10)).text) == 10
    with pytest.raises(InvalidRequest, match="max_bytes"):
        await server.logs(instance.instance_id, max_bytes=1 << 30)
    with pytest.raises(UnknownInstance):
        await server.logs("nobody")


async def test_telemetry_ends_with_its_instance_and_says_why_there_is_no_power(server: ModelServer) -> None:
    instance = await ready(server, spec())
    samples = []

    async def listen() -> None:
        async for sample in server.telemetry(instance.instance_id, period=0.05):
            samples.append(sample)

    listening = asyncio.create_task(listen())
    async with asyncio.timeout(10):
        while not samples:
            await asyncio.sleep(0.02)
        await server.release(instance.instance_id, reason="done")
        await listening
    assert all(sample.unavailable or sample.readings for sample in samples)


async def test_an_adapter_measures_itself_for_an_instance_that_serves(server: ModelServer) -> None:
    instance, other = await ready(server, spec("a")), await ready(server, spec("b"))
    calibration = await server.calibrate(instance.instance_id)
    assert calibration.other_instances == 1
    assert calibration.stamp_source is StampSource.KERNEL
    assert calibration.chunks > 100
    await server.release(other.instance_id, reason="done")
    with pytest.raises(UnknownInstance):
        await server.calibrate(other.instance_id)


async def test_a_request_in_flight_learns_of_the_release(server: ModelServer) -> None:
    wanted = spec()
    wanted.serving_parameters["first_token"] = "20"
    instance = await ready(server, wanted)
    async with server.generate_session(instance.instance_id) as session:
        request = GenerateRequest(text="Who?", sampling=SamplingParameters(max_tokens=4))
        asking = asyncio.create_task(session.generate(request))
        await asyncio.sleep(0.2)
        await server.release(instance.instance_id, reason="nobody needs it")
        with pytest.raises(UnknownInstance, match="nobody needs it"):
            await asking


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"lease": 0.0}, "lease_ms"),
        ({"lease": 1e6}, "lease_ms"),
        ({"owner": "x" * 300}, "owner"),
        ({"token": -1, "owner": "run"}, "fencing_token"),
        ({"token": 3}, "fencing_token"),
    ],
)
async def test_what_a_lease_may_be(server: ModelServer, wrong: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidRequest, match=named):
        await server.provision(spec(**wrong))  # type: ignore[arg-type]
