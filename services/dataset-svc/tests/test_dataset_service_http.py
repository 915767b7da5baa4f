"""dataset-svc over HTTP, on a real NATS server and a real store."""

import asyncio
import hashlib
import io
import json
import time
import uuid
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pyarrow.parquet as pq
import pytest
from pydantic import SecretStr

from assay_chassis.bus import Subscription, open_bus
from assay_chassis.infrastructure import consuming
from assay_chassis.local import LocalServer
from assay_chassis.telemetry import Telemetry
from assay_chassis.testing import INTERNAL_KEY, as_client
from assay_contracts.dataset_events import DatasetCreated, SnapshotReady
from assay_contracts.envelope import Envelope, Event
from dataset_svc.settings import Settings
from dataset_svc.wiring import create_app


def settings_of(nats: LocalServer, mongo_uri: str, home: Path, **more: Any) -> Settings:
    return Settings(
        home=home,
        nats_url=nats.url,
        mongo_uri=mongo_uri,
        internal_key=SecretStr(INTERNAL_KEY),
        _env_file=None,
        **more,
    )


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=transport, base_url="http://dataset", auth=as_client(), timeout=60
        ) as client,
    ):
        yield client


@pytest.fixture
async def client(
    killable_nats: LocalServer, mongo_uri: str, tmp_path: Path
) -> AsyncIterator[httpx.AsyncClient]:
    async with served(settings_of(killable_nats, mongo_uri, tmp_path)) as opened:
        yield opened


def unique(prefix: str = "questions") -> str:
    # The database is shared by the tests of a worker.
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def jsonl(*rows: object) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


async def create(client: httpx.AsyncClient, **fields: str) -> dict[str, Any]:
    response = await client.post("/v1/datasets", json={"name": unique(), **fields})
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


async def upload(client: httpx.AsyncClient, dataset_id: str, data: bytes, **query: str) -> httpx.Response:
    return await client.post(f"/v1/datasets/{dataset_id}/data", params=query, content=data)


async def snapshot_of(
    client: httpx.AsyncClient, dataset_id: str, data: bytes, **query: str
) -> dict[str, Any]:
    response = await upload(client, dataset_id, data, **query)
    assert response.status_code == 201, response.text
    body: dict[str, Any] = response.json()
    return body


async def dataset_of(client: httpx.AsyncClient, dataset_id: str) -> dict[str, Any]:
    body: dict[str, Any] = (await client.get(f"/v1/datasets/{dataset_id}")).json()
    return body


async def history(client: httpx.AsyncClient, dataset_id: str) -> list[str]:
    response = await client.get(f"/v1/datasets/{dataset_id}/snapshots", params={"limit": 200})
    return [item["id"] for item in response.json()["items"]]


async def eventually(check: Callable[[], bool], *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.05)


@asynccontextmanager
async def events_on(nats: LocalServer) -> AsyncIterator[list[tuple[str, Event]]]:
    """Every message of the stream, by a consumer of another team's: id of the event and the event."""
    found: list[tuple[str, Event]] = []

    async def handle(envelope: Envelope, event: Event) -> None:
        found.append((envelope.id, event))

    telemetry = Telemetry(service_name="reader", otlp_endpoint=None)
    async with open_bus(nats.url, name="reader", telemetry=telemetry) as bus:
        await bus.ensure_streams()
        subscription = Subscription(
            stream="ASSAY_DATASET", durable="reader", subjects=("assay.dataset.>",), handler=handle
        )
        async with consuming(bus, [subscription]):
            yield found


async def test_from_registration_to_rows(client: httpx.AsyncClient) -> None:
    dataset = await create(client, description="Capitals")
    assert dataset["id"].startswith("ds_")
    assert (dataset["version"], dataset["status"], dataset["current_snapshot"]) == ("main", "Empty", None)

    rows = [{"question": f"What is {n} + 1?", "answer": n + 1} for n in range(45)]
    data = jsonl(*rows)
    snapshot = await snapshot_of(client, dataset["id"], data, split="train", filename="sums.jsonl")
    assert snapshot["id"].startswith("snap_")
    assert (snapshot["rows"], snapshot["split"], snapshot["dataset_name"]) == (45, "train", dataset["name"])
    assert snapshot["source"] == {
        "kind": "jsonl",
        "filename": "sums.jsonl",
        "sha256": hashlib.sha256(data).hexdigest(),
        "bytes": len(data),
        "compression": "none",
    }
    assert snapshot["columns"][1] == {"name": "answer", "type": "int64", "nulls": 0, "examples": [1, 2, 3]}

    ready = await dataset_of(client, dataset["id"])
    assert ready["status"] == "Ready"
    assert ready["current_snapshot"] == snapshot
    assert (await client.get(f"/v1/snapshots/{snapshot['id']}")).json() == snapshot

    page = (await client.get(f"/v1/snapshots/{snapshot['id']}/rows", params={"offset": 30})).json()
    assert page["total"] == 45
    assert page["items"] == [{"index": n, "row": rows[n]} for n in range(30, 45)]

    content = await client.get(f"/v1/snapshots/{snapshot['id']}/content.parquet")
    assert content.headers["content-length"] == str(snapshot["bytes"])
    assert hashlib.sha256(content.content).hexdigest() == snapshot["digest"]
    assert pq.read_table(io.BytesIO(content.content)).to_pylist() == rows


async def test_lists_are_newest_first_and_paged(client: httpx.AsyncClient) -> None:
    name = unique()
    ids = [(await create(client, name=name, version=f"v{number}"))["id"] for number in range(5)]
    await create(client)
    found: list[str] = []
    cursor: str | None = None
    while True:
        query = {"name": name, "limit": 2} | ({"cursor": cursor} if cursor else {})
        page = (await client.get("/v1/datasets", params=query)).json()
        found += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == sorted(ids, reverse=True)
    everything = (await client.get("/v1/datasets", params={"limit": 200})).json()
    assert {item["id"] for item in everything["items"]} >= set(ids)


async def test_a_taken_name_names_the_dataset_that_has_it(client: httpx.AsyncClient) -> None:
    dataset = await create(client)
    response = await client.post("/v1/datasets", json={"name": dataset["name"]})
    assert response.status_code == 409
    assert response.json()["errors"][0]["field"] == "name"
    assert dataset["id"] in response.json()["detail"]
    assert (await create(client, name=dataset["name"], version="second"))["version"] == "second"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"name": "has space"}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 101}, "name"),
        ({}, "name"),
        ({"name": "x", "version": "../up"}, "version"),
        ({"name": "x", "descripton": "misspelt"}, "descripton"),
    ],
)
async def test_a_bad_registration_names_the_field(
    client: httpx.AsyncClient, body: dict[str, str], field: str
) -> None:
    response = await client.post("/v1/datasets", json=body)
    assert response.status_code == 422
    assert [fault["field"] for fault in response.json()["errors"]] == [field]


@pytest.mark.parametrize(
    "path",
    [
        "/v1/datasets/ds_0",
        "/v1/datasets/ds_0/snapshots",
        "/v1/snapshots/snap_0",
        "/v1/snapshots/snap_0/rows",
        "/v1/snapshots/snap_0/content.parquet",
    ],
)
async def test_what_is_not_there_is_404(client: httpx.AsyncClient, path: str) -> None:
    response = await client.get(path)
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert "_0" in response.json()["detail"]


async def test_upload_to_no_dataset_is_404(client: httpx.AsyncClient) -> None:
    assert (await upload(client, "ds_0", b'{"q": 1}\n')).status_code == 404


async def test_broken_json_at_line_17_changes_nothing(client: httpx.AsyncClient) -> None:
    dataset = await create(client)
    good = jsonl(*({"q": number} for number in range(16)))
    before = await snapshot_of(client, dataset["id"], good)
    response = await upload(client, dataset["id"], good + b'{"q": 1,}\n' + good)
    assert response.status_code == 422
    problem = response.json()
    assert problem["type"] == "urn:assay:problem:invalid-upload"
    assert [(fault["line"], fault["column"]) for fault in problem["errors"]] == [(17, 9)]
    assert (await dataset_of(client, dataset["id"]))["current_snapshot"] == before
    assert await history(client, dataset["id"]) == [before["id"]]


@pytest.mark.parametrize(
    ("headers", "query", "field"),
    [
        ({"content-type": "multipart/form-data; boundary=x"}, {}, "content-type"),
        ({"content-encoding": "br"}, {}, "content-encoding"),
        ({"content-encoding": "gzip"}, {"filename": "x.jsonl.zst"}, "content-encoding"),
        ({}, {"split": "no/slash"}, "split"),
        ({}, {"filename": "x" * 300}, "filename"),
    ],
)
async def test_a_wrong_way_to_upload_names_the_field(
    client: httpx.AsyncClient, headers: dict[str, str], query: dict[str, str], field: str
) -> None:
    dataset = await create(client)
    response = await client.post(
        f"/v1/datasets/{dataset['id']}/data", params=query, headers=headers, content=b'{"q": 1}\n'
    )
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == field
    assert (await dataset_of(client, dataset["id"]))["status"] == "Empty"


async def test_limits_come_from_the_settings(
    killable_nats: LocalServer, mongo_uri: str, tmp_path: Path
) -> None:
    limits = {"max_upload_bytes": 2000, "max_line_bytes": 500, "max_nesting": 2, "max_columns": 2}
    async with served(settings_of(killable_nats, mongo_uri, tmp_path, **limits)) as client:
        dataset = await create(client)

        async def endless() -> AsyncIterator[bytes]:
            while True:
                yield b'{"q": 1}\n' * 10

        response = await client.post(f"/v1/datasets/{dataset['id']}/data", content=endless())
        assert response.status_code == 413
        assert "2000 bytes" in response.json()["detail"]
        for data, words in (
            (b'{"q": "' + b"x" * 600 + b'"}', "500 bytes"),
            (b'{"q": [[1]]}', "deeper than 2"),
            (b'{"a": 1, "b": 2, "c": 3}', "more than 2 columns"),
        ):
            response = await upload(client, dataset["id"], data)
            assert response.status_code == 422
            assert words in response.json()["detail"]
        assert (await dataset_of(client, dataset["id"]))["status"] == "Empty"


async def test_the_key_is_needed(client: httpx.AsyncClient) -> None:
    response = await client.get("/v1/datasets", auth=as_client(internal_key="w" * 32))
    assert response.status_code == 401


async def test_the_same_content_gives_the_same_snapshot_while_it_is_current(
    client: httpx.AsyncClient,
) -> None:
    dataset = await create(client)
    first = await snapshot_of(client, dataset["id"], b'{"q": 1}\n', filename="a.jsonl")
    assert await snapshot_of(client, dataset["id"], b'\n{ "q":1 }', filename="b.jsonl") == first
    other_split = await snapshot_of(client, dataset["id"], b'{"q": 1}\n', split="train")
    other_rows = await snapshot_of(client, dataset["id"], b'{"q": 2}\n')
    again = await snapshot_of(client, dataset["id"], b'{"q": 1}\n')
    ids = [snapshot["id"] for snapshot in (first, other_split, other_rows, again)]
    assert ids == sorted(set(ids))
    assert await history(client, dataset["id"]) == ids[::-1]
    assert (await dataset_of(client, dataset["id"]))["current_snapshot"] == again
    assert again["digest"] == first["digest"]


async def test_two_uploads_at_once_both_succeed_and_one_is_current(
    client: httpx.AsyncClient, killable_nats: LocalServer
) -> None:
    dataset = await create(client)
    # Each content twice: four snapshots that never existed before, six times.
    for turn in range(6):
        answers = await asyncio.gather(
            *(upload(client, dataset["id"], jsonl({"q": turn, "who": who % 2})) for who in range(4))
        )
        assert {answer.status_code for answer in answers} == {201}
    ids = await history(client, dataset["id"])
    current = (await dataset_of(client, dataset["id"]))["current_snapshot"]
    assert ids[0] == current["id"]
    async with events_on(killable_nats) as events:
        await eventually(lambda: len(events) > len(ids))
        ready = [event.snapshot_id for _, event in events if isinstance(event, SnapshotReady)]
        assert ready == ids[::-1]


async def test_each_change_is_told_once(client: httpx.AsyncClient, killable_nats: LocalServer) -> None:
    dataset = await create(client)
    snapshot = await snapshot_of(client, dataset["id"], b'{"q": "a", "n": 1}\n', split="train")
    await upload(client, dataset["id"], b'{"q": "a", "n": 1}\n', split="train")
    await upload(client, dataset["id"], b"{\n")
    last = await create(client)
    async with events_on(killable_nats) as events:
        await eventually(lambda: any(getattr(event, "dataset_id", "") == last["id"] for _, event in events))
        mine = [event for _, event in events if getattr(event, "dataset_id", "") == dataset["id"]]
        assert mine == [
            DatasetCreated(dataset_id=dataset["id"], name=dataset["name"], version="main"),
            SnapshotReady(
                dataset_id=dataset["id"],
                dataset_name=dataset["name"],
                snapshot_id=snapshot["id"],
                digest=snapshot["digest"],
                rows=1,
                columns={"q": "string", "n": "int64"},
                split="train",
                source_kind="jsonl",
            ),
        ]
        assert len({event_id for event_id, _ in events}) == len(events)


async def test_the_store_dies_in_the_middle_of_an_upload(
    killable_nats: LocalServer, killable_mongo: LocalServer, tmp_path: Path
) -> None:
    settings = settings_of(killable_nats, killable_mongo.uri, tmp_path, store_patience_s=1)
    async with served(settings) as client:
        dataset = await create(client)
        before = await snapshot_of(client, dataset["id"], b'{"q": "old"}\n')

        async def body() -> AsyncIterator[bytes]:
            yield b'{"q": "new"}\n'
            await asyncio.to_thread(killable_mongo.kill)
            yield b'{"q": "newer"}\n'

        response = await client.post(f"/v1/datasets/{dataset['id']}/data", content=body())
        assert response.status_code >= 500
        await asyncio.to_thread(killable_mongo.restart)
        assert (await dataset_of(client, dataset["id"]))["current_snapshot"] == before
        assert await history(client, dataset["id"]) == [before["id"]]
        after = await snapshot_of(client, dataset["id"], b'{"q": "new"}\n{"q": "newer"}\n')
        assert await history(client, dataset["id"]) == [after["id"], before["id"]]


async def test_rows_outlive_the_cache(killable_nats: LocalServer, mongo_uri: str, tmp_path: Path) -> None:
    async with served(settings_of(killable_nats, mongo_uri, tmp_path / "one")) as client:
        dataset = await create(client)
        snapshot = await snapshot_of(client, dataset["id"], jsonl({"q": unique()}))
    async with served(settings_of(killable_nats, mongo_uri, tmp_path / "two")) as client:
        page = (await client.get(f"/v1/snapshots/{snapshot['id']}/rows")).json()
        assert [item["row"]["q"] for item in page["items"]] == snapshot["columns"][0]["examples"]
        assert (await client.get("/readyz")).json()["status"] == "ready"
    assert not list((tmp_path / "two" / "uploads").iterdir())
