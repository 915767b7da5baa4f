"""Imports over HTTP: the service, its ingest process and the client libraries against a hub on loopback."""

import io
import logging
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import datasets
import httpx
import psutil
import pyarrow.parquet as pq
import pytest
from hub_imports import fast, over, start, until
from hub_server import Hub, running_hub

from assay_chassis.bus import Subscription, open_bus
from assay_chassis.infrastructure import consuming
from assay_chassis.local import LocalServer
from assay_chassis.processes import PortReservation
from assay_chassis.store import Change, open_store
from assay_chassis.telemetry import Telemetry
from assay_chassis.testing import INTERNAL_KEY, as_client
from assay_contracts.dataset_events import IngestCancelled, IngestFailed, SnapshotReady
from assay_contracts.envelope import Envelope, Event

FEATURES = datasets.Features(
    {
        "question": datasets.Value("string"),
        "label": datasets.ClassLabel(names=["no", "yes"]),
        "choices": {
            "text": datasets.List(datasets.Value("string")),
            "kind": datasets.List(datasets.ClassLabel(names=["a", "b"])),
        },
    }
)
TOKEN = "hf_secret_of_the_test"


def parquet(prefix: str, rows: int) -> bytes:
    table = datasets.Dataset.from_list(
        [
            {
                "question": f"{prefix} {n}",
                "label": n % 2,
                "choices": {"text": ["x", str(n)], "kind": [0, n % 2]},
            }
            for n in range(rows)
        ],
        features=FEATURES,
    )
    data = io.BytesIO()
    table.to_parquet(data)
    return data.getvalue()


def quiz(prefix: str = "is it", *, rows: int = 40) -> dict[str, bytes | str]:
    return {
        "data/test-00000.parquet": parquet(prefix, rows),
        "data/train-00000.parquet": parquet("for example", 5),
    }


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as running:
        yield running


@pytest.fixture
async def api(api_at: Callable[..., Any], hub: Hub, tmp_path: Path) -> AsyncIterator[Any]:
    async with api_at(tmp_path, **fast(hub)) as opened:
        yield opened


async def downloading(api: Any, job: dict[str, Any]) -> dict[str, Any]:
    found = await until(
        lambda: api.get(f"/v1/ingests/{job['id']}"),
        lambda now: now["progress"]["phase"] == "downloading" and now["progress"]["bytes"] > 0,
    )
    return dict(found)


def children() -> list[psutil.Process]:
    found = psutil.Process().children(recursive=True)
    return [each for each in found if each.is_running() and "dataset_svc.hub" in " ".join(cmdline(each))]


def cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


@asynccontextmanager
async def events_on(nats: LocalServer) -> AsyncIterator[list[Event]]:
    found: list[Event] = []

    async def handle(_: Envelope, event: Event) -> None:
        found.append(event)

    async with open_bus(
        nats.url, name="reader", telemetry=Telemetry(service_name="reader", otlp_endpoint=None)
    ) as bus:
        await bus.ensure_streams()
        async with consuming(bus, [Subscription("ASSAY_DATASET", "reader", ("assay.dataset.>",), handle)]):
            yield found


async def test_rows_their_features_and_their_examples_become_snapshots(
    api: Any, hub: Hub, killable_nats: LocalServer
) -> None:
    commit = hub.add("acme/quiz", quiz()).branches["main"]
    dataset_id = await api.create()
    job = await start(api, dataset_id, fewshot_split="train")
    assert (job["state"], job["error"], job["snapshot_id"]) == ("Queued", None, None)
    dataset = await api.get(f"/v1/datasets/{dataset_id}")
    assert (dataset["status"], dataset["latest_ingest"]["id"]) == ("Ingesting", job["id"])

    ended = await over(api, job)
    assert (ended["state"], ended["error"]) == ("Succeeded", None)
    assert ended["progress"] | {"bytes": 0} == {
        "phase": "storing",
        "rows": 40,
        "rows_total": 40,
        "bytes": 0,
        "bytes_total": None,
    }
    assert ended["source"]["commit"] == commit
    dataset = await api.get(f"/v1/datasets/{dataset_id}")
    assert (dataset["status"], dataset["latest_ingest"]["state"]) == ("Ready", "Succeeded")
    snapshot = dataset["current_snapshot"]
    assert (snapshot["id"], snapshot["role"], snapshot["split"]) == (
        ended["snapshot_id"],
        "evaluation",
        "test",
    )
    assert snapshot["source"] == {
        "kind": "huggingface",
        "repo_id": "acme/quiz",
        "subset": None,
        "split": "test",
        "requested_revision": "main",
        "commit": commit,
    }
    assert [column["type"] for column in snapshot["columns"]] == [
        "string",
        "ClassLabel(2)",
        "struct<text: list<string>, kind: list<ClassLabel(2)>>",
    ]
    content = await api.http.get(f"/v1/snapshots/{snapshot['id']}/content.parquet")
    again = datasets.Dataset(pq.read_table(io.BytesIO(content.content)))
    assert again.features == FEATURES
    assert again[1] == {"question": "is it 1", "label": 1, "choices": {"text": ["x", "1"], "kind": [0, 1]}}

    examples = await api.get(f"/v1/snapshots/{snapshot['fewshot_snapshot_id']}")
    assert (examples["role"], examples["split"], examples["rows"]) == ("fewshot", "train", 5)
    assert (await api.rows(examples["id"]))[0]["question"] == "for example 0"
    assert (await api.get(f"/v1/snapshots/{snapshot['id']}/statistics"))["rows"] == 40

    same = await over(api, await start(api, dataset_id, fewshot_split="train"))
    assert same["snapshot_id"] == snapshot["id"]
    without = await over(api, await start(api, dataset_id))
    assert without["snapshot_id"] != snapshot["id"]
    jobs = await api.get(f"/v1/datasets/{dataset_id}/ingests", limit=2)
    assert [each["id"] for each in jobs["items"]] == [without["id"], same["id"]]
    rest = await api.get(f"/v1/datasets/{dataset_id}/ingests", cursor=jobs["next_cursor"])
    assert [each["id"] for each in rest["items"]] == [job["id"]]
    assert (await api.http.delete(f"/v1/snapshots/{examples['id']}")).status_code == 409
    async with events_on(killable_nats) as events:

        async def ready() -> list[SnapshotReady]:
            return [e for e in events if isinstance(e, SnapshotReady) and e.dataset_id == dataset_id]

        told = await until(ready, lambda found: len(found) == 3)
    assert [(each.role, each.snapshot_id, each.fewshot_snapshot_id) for each in told] == [
        ("fewshot", examples["id"], None),
        ("evaluation", snapshot["id"], examples["id"]),
        ("evaluation", without["snapshot_id"], None),
    ]


async def test_a_failure_is_named_and_leaves_the_data(
    api_at: Callable[..., Any],
    hub: Hub,
    tmp_path: Path,
    killable_nats: LocalServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.DEBUG)
    hub.add("acme/quiz", quiz())
    hub.add("acme/secret", quiz(), gated=True)
    hub.allow(TOKEN)
    async with api_at(tmp_path, **fast(hub, hf_token=TOKEN)) as api:
        dataset_id = await api.create()
        before = await api.upload(dataset_id, {"q": "stays"})
        unknown = await over(api, await start(api, dataset_id, split="validation"))
        gated = await over(api, await start(api, dataset_id, repo_id="acme/secret"))
        assert (unknown["state"], unknown["error"]["code"]) == ("Failed", "unknown-split")
        assert "test" in unknown["error"]["message"]
        assert "train" in unknown["error"]["message"]
        assert gated["error"]["code"].startswith("gated")
        dataset = await api.get(f"/v1/datasets/{dataset_id}")
        assert (dataset["status"], dataset["current_snapshot"]["id"]) == ("Ready", before["id"])
        assert TOKEN in {request.token for request in hub.seen}
        listing = (await api.http.get(f"/v1/datasets/{dataset_id}/ingests")).text
        async with events_on(killable_nats) as events:

            async def failures() -> list[IngestFailed]:
                return [e for e in events if isinstance(e, IngestFailed) and e.dataset_id == dataset_id]

            told = await until(failures, lambda found: len(found) == 2)
    assert [each.code for each in told] == [unknown["error"]["code"], gated["error"]["code"]]
    assert TOKEN not in listing + caplog.text + str(told)


@pytest.mark.slow
async def test_an_attempt_after_a_kill_reads_the_same_commit(api: Any, hub: Hub) -> None:
    repository = hub.add("acme/quiz", quiz("first", rows=6_000))
    hub.faults.chunk_delay_s = 0.5
    dataset_id = await api.create()
    job = await start(api, dataset_id, fewshot_split="train")
    commit = (await downloading(api, job))["source"]["commit"]
    repository.commit(quiz("second", rows=3))
    for child in children():
        child.kill()
    hub.faults.chunk_delay_s = 0.0
    ended = await over(api, job)
    assert (ended["state"], ended["source"]["commit"]) == ("Succeeded", commit)
    dataset = await api.get(f"/v1/datasets/{dataset_id}")
    assert (dataset["current_snapshot"]["rows"], dataset["current_snapshot"]["source"]["commit"]) == (
        6_000,
        commit,
    )
    assert (await api.rows(ended["snapshot_id"]))[0]["question"] == "first 0"
    # Nothing half-made is left or listed.
    history = await api.get(f"/v1/datasets/{dataset_id}/snapshots")
    assert len(history["items"]) == 2
    assert list((api.home / "ingests").iterdir()) == []


async def test_a_job_is_cancelled_at_once(api: Any, hub: Hub, killable_nats: LocalServer) -> None:
    hub.add("acme/quiz", quiz(rows=6_000))
    hub.faults.chunk_delay_s = 0.5
    dataset_id = await api.create()
    job = await start(api, dataset_id)
    refused = await api.http.post(
        f"/v1/datasets/{dataset_id}/ingests",
        json={"source": {"kind": "huggingface", "repo_id": "acme/quiz", "split": "test"}},
    )
    assert (refused.status_code, refused.json()["type"].split(":")[-1]) == (409, "ingest-under-way")
    await downloading(api, job)
    assert (await api.http.post(f"/v1/ingests/{job['id']}/cancel")).status_code == 200
    ended = await over(api, job)
    assert (ended["state"], ended["snapshot_id"]) == ("Cancelled", None)
    assert children() == []
    assert (await api.get(f"/v1/datasets/{dataset_id}"))["status"] == "Empty"
    assert (await api.http.post(f"/v1/ingests/{job['id']}/cancel")).json() == ended
    async with events_on(killable_nats) as events:

        async def cancelled() -> list[str]:
            return [e.ingest_id for e in events if isinstance(e, IngestCancelled)]

        assert await until(cancelled, lambda found: found) == [job["id"]]
    hub.faults.chunk_delay_s = 0.0
    done = await over(api, await start(api, dataset_id))
    assert done["state"] == "Succeeded"
    assert (await api.http.post(f"/v1/ingests/{done['id']}/cancel")).status_code == 409


async def test_a_process_that_keeps_dying_fails_the_job(
    api_at: Callable[..., Any], hub: Hub, tmp_path: Path
) -> None:
    hub.add("acme/quiz", quiz(rows=6_000))
    hub.faults.chunk_delay_s = 0.5
    async with api_at(tmp_path, **fast(hub, ingest_attempts=2)) as api:
        job = await start(api, await api.create())

        async def kill() -> dict[str, Any]:
            for child in children():
                child.kill()
            return dict(await api.get(f"/v1/ingests/{job['id']}"))

        ended = await until(kill, lambda now: now["state"] == "Failed")
    assert ended["error"]["code"] == "ingest-keeps-failing"


@pytest.mark.slow
async def test_another_service_goes_on_after_a_kill(
    api_at: Callable[..., Any], hub: Hub, tmp_path: Path, killable_nats: LocalServer, mongo_uri: str
) -> None:
    hub.add("acme/quiz", quiz(rows=6_000))
    hub.faults.chunk_delay_s = 0.5
    port = PortReservation()
    first = subprocess.Popen(  # noqa: ASYNC220 - it has to outlive nothing but this test
        [sys.executable, "-m", "dataset_svc"],
        env={
            **os.environ,
            "ASSAY_HOME": str(tmp_path),
            "ASSAY_NATS_URL": killable_nats.url,
            "ASSAY_MONGO_URI": mongo_uri,
            "ASSAY_INTERNAL_KEY": INTERNAL_KEY,
            "ASSAY_DATASET_PORT": str(port.port),
            "ASSAY_INGEST_LEASE_S": "2",
            "HF_ENDPOINT": hub.url,
        },
        stderr=subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port.port}", auth=as_client()) as http:

            async def ready() -> bool:
                try:
                    return (await http.get("/readyz")).status_code == 200
                except httpx.HTTPError:
                    return False

            await until(ready, bool)
            created = await http.post("/v1/datasets", json={"name": f"kill-{os.urandom(6).hex()}"})
            dataset_id = created.json()["id"]
            body = {"source": {"kind": "huggingface", "repo_id": "acme/quiz", "split": "test"}}
            job = (await http.post(f"/v1/datasets/{dataset_id}/ingests", json=body)).json()

            async def look() -> Any:
                return (await http.get(f"/v1/ingests/{job['id']}")).json()

            await until(look, lambda now: now["progress"]["bytes"] > 0)
            orphans = children()
            assert orphans
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
        port.release()
    psutil.wait_procs(orphans, timeout=10)
    assert not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in orphans)
    hub.faults.chunk_delay_s = 0.0
    async with api_at(tmp_path, **fast(hub)) as api:
        ended = await over(api, job)
        assert ended["state"] == "Succeeded"
        assert (await api.get(f"/v1/datasets/{dataset_id}"))["current_snapshot"]["rows"] == 6_000
    assert list((tmp_path / "ingests").iterdir()) == []


@pytest.mark.slow
async def test_a_restart_is_no_failed_attempt_and_publishes_once(
    api_at: Callable[..., Any], hub: Hub, tmp_path: Path, mongo_uri: str
) -> None:
    hub.add("acme/quiz", quiz(rows=6_000))
    hub.faults.chunk_delay_s = 0.5
    async with api_at(tmp_path, **fast(hub, ingest_attempts=1)) as api:
        dataset_id = await api.create()
        job = await start(api, dataset_id)
        await downloading(api, job)
    assert children() == []
    hub.faults.chunk_delay_s = 0.0
    async with api_at(tmp_path, **fast(hub, ingest_attempts=1)) as api:
        ended = await over(api, job)
        assert ended["state"] == "Succeeded"
        newer = await api.upload(dataset_id, {"q": "newer"})
    # As a crash leaves it that comes after the snapshot and before the job's end.
    async with open_store(mongo_uri, database="dataset_svc", patience=10) as store:
        jobs = await store.collection("ingests", ())
        undone = Change(set={"state": "Running", "snapshot_id": None, "is_active": True, "attempts": 0})
        assert await jobs.update(job["id"], undone)
    async with api_at(tmp_path, **fast(hub)) as api:
        again = await over(api, job)
        assert (again["state"], again["snapshot_id"]) == ("Succeeded", ended["snapshot_id"])
        assert (await api.get(f"/v1/datasets/{dataset_id}"))["current_snapshot"]["id"] == newer["id"]


async def test_what_cannot_be_asked_for_is_refused(api: Any) -> None:
    dataset_id = await api.create()
    for source in (
        {"repo_id": "a/b/c"},
        {"repo_id": "../x"},
        {"split": "te st"},
        {"kind": "jsonl"},
        {"revision": ""},
        {"token": "x"},
    ):
        body = {"source": {"kind": "huggingface", "repo_id": "acme/quiz", "split": "test", **source}}
        response = await api.http.post(f"/v1/datasets/{dataset_id}/ingests", json=body)
        assert response.status_code == 422, source
    assert await api.status("/v1/ingests/ing_nothing") == 404
    assert await api.status("/v1/datasets/ds_nothing/ingests") == 404
