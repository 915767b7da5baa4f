"""What a run keeps of its serving side, on an adapter whose answers are scripted."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from assay_serving.client import ModelServer
from assay_serving.errors import Fenced
from assay_serving.testing.fixtures import ScriptedAdapterProcess
from assay_serving.types import Artifact, ProvisionSpec
from eval_svc.leased_instance import LeasedInstance, close_abandoned
from eval_svc.ledger import SUMMED, run_ledger

RUN = {"dataset_id": "ds_capitals", "method_id": "mth_qa"}
SLOW = {"first_token": "0.2", "interval": "0.05"}


@pytest.fixture
def adapter_address(scripted_adapter: ScriptedAdapterProcess) -> str:
    return scripted_adapter.address


async def scripted_run(service: Any, name: str = "scripted", **parameters: str) -> dict[str, Any]:
    artifact = await service.artifact(
        name, uri="scripted://answers", format="scripted", serving_parameters=parameters
    )
    return dict(await service.start(**RUN, artifact_id=artifact, options={"concurrency": 2}))


async def eventually(check: Callable[[], Awaitable[Any]]) -> Any:
    async with asyncio.timeout(60):
        while not (found := await check()):
            await asyncio.sleep(0.05)
    return found


async def serving_of(service: Any, run_id: str) -> list[dict[str, Any]]:
    return list((await service.run(run_id))["serving"])


async def test_a_run_keeps_times_calibrations_and_the_log_of_its_instance(service: Any) -> None:
    service.settings = service.settings.model_copy(update={"calibrate_serving": True})
    async with service.working():
        run = await scripted_run(service)
        run = await service.wait(run["id"], "Scoring")
    (instance,) = run["serving"]
    assert instance["launcher"] == "process"
    assert instance["ended"] == {"state": "released", "reason": "run finished"}
    ledger = instance["ledger"]
    assert ledger["note"] is None
    assert ledger["load_s"] > 0
    assert ledger["serving_s"] > 0
    phases = ("schedule_s", "pull_s", "load_s", "ready_s")
    assert ledger["cold_start_s"] == pytest.approx(sum(ledger[name] for name in phases))
    assert ledger["accelerator_seconds"] == 0, "a processor is no accelerator"
    assert ledger["idle_joules"] is None
    assert run["ledger"] == {**{name: ledger[name] for name in SUMMED}, "instances": 1, "incomplete": 0}
    before, after = (instance["calibration"][when] for when in ("before", "after"))
    assert before["chunks"] > 0
    assert after["mono_ns"] > before["mono_ns"]
    first_sent = min(
        asked["times"]["sent_ns"]
        for sample in (await service.http.get(f"/v1/evaluations/{run['id']}/samples")).json()["items"]
        for asked in sample["requests"]
    )
    assert before["mono_ns"] < first_sent < after["mono_ns"]
    logs = await service.http.get(f"/v1/evaluations/{run['id']}/logs")
    assert logs.headers["content-type"].startswith("text/plain")
    assert f"==> instance {instance['instance_id']} <==" in logs.text
    one = await service.http.get(
        f"/v1/evaluations/{run['id']}/logs", params={"instance_id": instance["instance_id"]}
    )
    assert one.text.strip()
    assert instance["log"] == {"bytes": len(one.content), "is_cut": False}
    unknown = await service.http.get(f"/v1/evaluations/{run['id']}/logs", params={"instance_id": "no"})
    assert unknown.status_code == 404
    assert (await service.http.get("/v1/evaluations/run_no/logs")).status_code == 404


async def test_a_calibration_that_fails_fails_nothing_else(adapter_address: str, tmp_path: Path) -> None:
    async with ModelServer.connect(adapter_address) as server:
        spec = ProvisionSpec(
            idempotency_key=str(tmp_path),
            artifact=Artifact(uri="scripted://answers", format="scripted"),
            owner=str(tmp_path),
            fencing_token=1,
        )
        accepted = await server.provision(spec)
        instance = LeasedInstance(server, accepted, spec=spec, waited=0.0, clean=str)
        await instance.become_ready(calibrates=True)
        await server.release(accepted.instance_id, reason="behind its back")
        record = (await instance.close(reason="test", is_finished=True)).record
    assert record["calibration"]["before"] is not None
    assert record["calibration"]["after"] is None
    assert record["calibration"]["note"].startswith("after: ")
    assert record["ledger"]["serving_s"] > 0


async def test_what_a_dead_worker_left_is_ended_and_accounted_for(
    adapter_address: str, tmp_path: Path
) -> None:
    async with ModelServer.connect(adapter_address) as server:
        spec = ProvisionSpec(
            idempotency_key=str(tmp_path), artifact=Artifact(uri="scripted://answers", format="scripted")
        )
        accepted = await server.provision(spec)
        instance = LeasedInstance(server, accepted, spec=spec, waited=0.0, clean=str)
        pending = instance.record()
        assert pending["ended"] is None
        await instance.become_ready(calibrates=False)
        found = await close_abandoned(server, pending, clean=lambda text: text.replace("scripted", "[cut]"))
        assert found.record["ledger"]["cold_start_s"] > 0
        assert found.record["ledger"]["occupied_s"] > 0
        assert found.record["provenance"]["engine"] == "scripted endpoint"
        assert found.log is not None
        assert "[cut]" in found.log.text
        assert "scripted" not in found.log.text
        gone = (await close_abandoned(server, {**pending, "instance_id": "no such"}, clean=str)).record
        assert gone["ended"] == {"state": "lost", "reason": "its worker died"}
        assert "does not know it any more" in gone["ledger"]["note"]
        assert gone["ledger"]["load_s"] is None, "0 would be a claim"
        assert gone["log"] is None
        await instance.close(reason="test", is_finished=False)


async def test_calibrations_can_be_switched_off(service: Any) -> None:
    async with service.working():
        run = await scripted_run(service)
        run = await service.wait(run["id"], "Scoring")
    assert run["serving"][0]["calibration"] == {"before": None, "after": None, "note": "switched off"}


async def test_an_engine_that_dies_is_replaced_and_both_are_accounted_for(service: Any) -> None:
    async with service.working():
        run = await scripted_run(service, fail="die@15")
        run = await service.wait(run["id"], "Scoring")
    died, last = run["serving"]
    assert died["ended"]["state"] == "failed"
    assert "ended with status" in died["ended"]["reason"]
    assert last["ended"]["state"] == "released"
    assert died["ledger"]["serving_s"] > 0
    assert run["ledger"] == run_ledger(run["serving"])
    assert run["ledger"]["instances"] == 2
    logs = (await service.http.get(f"/v1/evaluations/{run['id']}/logs")).text
    assert all(f"instance {each['instance_id']}" in logs for each in (died, last))


async def test_an_instance_that_never_starts_is_accounted_for(service: Any) -> None:
    artifact = await service.artifact("wrong", uri="scripted://answers", format="scripted", sha256="0" * 64)
    async with service.working():
        run = await service.start(**RUN, artifact_id=artifact)

        async def failed() -> Any:
            found = await service.run(run["id"])
            return found if found["state"] == "Failed" else None

        run = await eventually(failed)
    (instance,) = run["serving"]
    assert instance["ended"]["state"] == "failed"
    assert instance["ended"]["reason"] in run["error"]["message"]
    assert instance["ledger"]["cold_start_s"] is None
    assert instance["telemetry"] is None
    assert run["ledger"]["cold_start_s"] is None


async def test_a_newer_lease_takes_the_instance_and_the_older_worker_ends_without_failing_the_run(
    service: Any, adapter_address: str
) -> None:
    async with service.working(), ModelServer.connect(adapter_address) as server:
        run = await scripted_run(service, **SLOW)
        await eventually(lambda: serving_of(service, run["id"]))
        spec = ProvisionSpec(
            idempotency_key=f"{run['id']}:newer",
            artifact=Artifact(uri="scripted://answers", format="scripted"),
            owner=run["id"],
            fencing_token=2,
        )
        newer = await server.provision(spec)
        (first, *_) = await serving_of(service, run["id"])

        async def given_up() -> bool:
            return bool((await serving_of(service, run["id"]))[0]["ended"])

        await eventually(given_up)
        with pytest.raises(Fenced):
            await server.keep_alive(newer.instance_id, lease=5, fencing_token=1)
        # The worker takes the run again under the next token, which is not older than the newest.
        run = await service.wait(run["id"], "Scoring")
        await server.release(newer.instance_id, reason="test")
    assert run["error"] is None
    assert run["serving"][0]["instance_id"] == first["instance_id"]
    assert len(run["serving"]) >= 2
    assert run["attempts"] >= 2
    assert run["progress"]["samples_done"] == 20


@asynccontextmanager
async def worker_process(service: Any) -> AsyncIterator[asyncio.subprocess.Process]:
    """A worker in a process of its own, so that it can be killed."""
    settings = service.settings
    environment = {
        "ASSAY_HOME": str(settings.home),
        "ASSAY_NATS_URL": settings.nats_url,
        "ASSAY_MONGO_URI": settings.mongo_uri,
        "ASSAY_DATABASE_PREFIX": settings.database_prefix,
        "ASSAY_INTERNAL_KEY": settings.internal_key.get_secret_value(),
        "ASSAY_DATASET_URL": settings.dataset_url,
        "ASSAY_METHOD_URL": settings.method_url,
        "ASSAY_ADAPTERS": settings.adapters,
        "ASSAY_LEASE_S": str(settings.lease_s),
        "ASSAY_BLOCK_SAMPLES": "4",
        "ASSAY_CALIBRATE_SERVING": "false",
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "eval_svc", "worker"),
        env={**os.environ, **environment},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.slow
async def test_the_instance_of_a_killed_worker_is_ended_and_accounted_for(service: Any) -> None:
    async with worker_process(service) as worker:
        run = await scripted_run(service, **SLOW)
        await service.wait(run["id"], "Running")
        worker.send_signal(signal.SIGKILL)
    async with service.working():
        run = await service.wait(run["id"], "Scoring")
    abandoned, last = run["serving"]
    assert abandoned["ended"]["state"] == "released"
    assert abandoned["ledger"]["serving_s"] > 0
    assert "its worker died" in abandoned["ledger"]["note"]
    assert abandoned["telemetry"] is None
    assert abandoned["log"]["bytes"] > 0
    assert last["ledger"]["note"] is None
    assert run["ledger"]["incomplete"] == 1
