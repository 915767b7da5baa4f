"""Fixtures: method-svc on a real NATS server, a real store, the real task index and the real harness."""

import asyncio
import hashlib
import io
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi import FastAPI, Response
from pydantic import SecretStr
from starlette.types import ASGIApp

from assay_chassis.bus import Bus, open_bus
from assay_chassis.identifiers import new_id
from assay_chassis.local import LocalServer
from assay_chassis.telemetry import Telemetry
from assay_chassis.testing import INTERNAL_KEY, as_client
from assay_contracts.dataset_events import SnapshotReady
from assay_contracts.envelope import Event, envelop
from method_svc.settings import Settings
from method_svc.wiring import create_app

INDEX_SECONDS = 240
EVENT_SECONDS = 20

Rows = list[dict[str, Any]]


class Peer:
    """The part of dataset-svc's contract that method-svc calls, with datasets that the tests write."""

    def __init__(self) -> None:
        self.datasets: dict[str, dict[str, Any]] = {}
        self.snapshots: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.calls: list[str] = []
        self.app = FastAPI()
        self.app.get("/v1/datasets/{dataset_id}")(self.dataset)
        self.app.get("/v1/snapshots/{snapshot_id}")(self.snapshot)
        self.app.get("/v1/snapshots/{snapshot_id}/content.parquet")(self.content)

    async def dataset(self, dataset_id: str, response: Response) -> dict[str, Any]:
        self.calls.append(dataset_id)
        return self._find(self.datasets, dataset_id, response)

    async def snapshot(self, snapshot_id: str, response: Response) -> dict[str, Any]:
        return self._find(self.snapshots, snapshot_id, response)

    async def content(self, snapshot_id: str) -> Response:
        return Response(self.files[snapshot_id])

    @staticmethod
    def _find(table: dict[str, dict[str, Any]], name: str, response: Response) -> dict[str, Any]:
        if name in table:
            return table[name]
        response.status_code = 404
        return {"detail": f"there is no {name!r}", "status": 404}

    def add(self, rows: Rows | None, *, dataset_id: str | None = None, **fields: Any) -> str:
        """A dataset whose current snapshot has these rows, and these fields; without any if ``None``."""
        dataset_id = dataset_id or new_id("ds")
        current = self.add_snapshot(dataset_id, rows, **fields) if rows else None
        self.datasets[dataset_id] = {"id": dataset_id, "name": "questions", "current_snapshot": current}
        return dataset_id

    def add_snapshot(self, dataset_id: str, rows: Rows, **fields: Any) -> dict[str, Any]:
        """A snapshot that is not current."""
        snapshot_id = new_id("snap")
        table = pa.Table.from_pylist(rows)
        file = io.BytesIO()
        pq.write_table(table, file)
        self.files[snapshot_id] = file.getvalue()
        self.snapshots[snapshot_id] = {
            "id": snapshot_id,
            "dataset_id": dataset_id,
            "dataset_name": "questions",
            "digest": hashlib.sha256(file.getvalue()).hexdigest(),
            "rows": len(rows),
            "split": "test",
            "columns": [
                {
                    "name": field.name,
                    "type": str(field.type),
                    "nulls": table[field.name].null_count,
                    "examples": [value for value in table[field.name].to_pylist() if value is not None][:3],
                }
                for field in table.schema
            ],
            "source": {"kind": "jsonl", "filename": "questions.jsonl", "compression": "none"},
            "fewshot_snapshot_id": None,
            **fields,
        }
        return self.snapshots[snapshot_id]

    def event(self, dataset_id: str) -> SnapshotReady:
        """What dataset-svc would say of the dataset's current snapshot."""
        snapshot = self.datasets[dataset_id]["current_snapshot"]
        return SnapshotReady(
            dataset_id=dataset_id,
            dataset_name=snapshot["dataset_name"],
            snapshot_id=snapshot["id"],
            digest=snapshot["digest"],
            rows=snapshot["rows"],
            columns={column["name"]: column["type"] for column in snapshot["columns"]},
            split=snapshot["split"],
        )


@dataclass(frozen=True, slots=True)
class MethodApi:
    """The service's API as tests call it, and the application behind it."""

    http: httpx.AsyncClient
    app: FastAPI

    async def get(self, path: str, **parameters: Any) -> Any:
        """The answer's JSON; it must be a success."""
        response = await self.http.get(path, params=parameters)
        assert response.status_code == 200, response.text
        return response.json()

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """The answer's JSON; it must be a success."""
        response = await self.http.post(path, json=body)
        assert response.is_success, response.text
        return response.json()

    async def create(self, recipe: dict[str, Any], **fields: Any) -> Any:
        """A method with a name of its own; the database is shared by the tests of a worker."""
        name = f"method-{uuid.uuid4().hex[:12]}"
        return await self.post("/v1/methods", {"name": name, "recipe": recipe, **fields})

    async def refused(
        self, path: str, body: dict[str, Any] | None = None, *, status: int = 422, **parameters: Any
    ) -> tuple[list[str | None], str]:
        """Fields and detail of the refusal of a POST, or without a body of a GET."""
        method = "GET" if body is None else "POST"
        response = await self.http.request(method, path, json=body, params=parameters or None)
        assert response.status_code == status, response.text[:2000]
        assert response.headers["content-type"] == "application/problem+json"
        problem = response.json()
        return [fault.get("field") for fault in problem.get("errors", [])], problem["detail"]

    async def until_ready(self) -> None:
        """Wait until the task index is there."""
        deadline = time.monotonic() + INDEX_SECONDS
        while (await self.http.get("/readyz")).status_code == 503:
            assert time.monotonic() < deadline, "the task index was not loaded in time"
            await asyncio.sleep(0.05)


@asynccontextmanager
async def served(settings: Settings) -> AsyncIterator[MethodApi]:
    app = create_app(settings)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=transport, base_url="http://method", auth=as_client(), timeout=120
        ) as client,
    ):
        yield MethodApi(http=client, app=app)


@pytest.fixture
def peer() -> Peer:
    return Peer()


@pytest.fixture
def make_settings(killable_nats: LocalServer, mongo_uri: str, tmp_path: Path) -> Callable[..., Settings]:
    def make(**fields: Any) -> Settings:
        return Settings(
            home=tmp_path,
            nats_url=killable_nats.url,
            mongo_uri=mongo_uri,
            internal_key=SecretStr(INTERNAL_KEY),
            _env_file=None,
            **fields,
        )

    return make


@pytest.fixture
def open_api() -> Callable[[Settings], AbstractAsyncContextManager[MethodApi]]:
    """``async with open_api(settings) as api``: a service that may not be ready yet."""
    return served


@pytest.fixture
async def api(
    make_settings: Callable[..., Settings],
    peer: Peer,
    serve: Callable[[ASGIApp], AbstractAsyncContextManager[str]],
) -> AsyncIterator[MethodApi]:
    async with serve(peer.app) as peer_url, served(make_settings(dataset_url=peer_url)) as opened:
        await opened.until_ready()
        yield opened


@pytest.fixture
async def bus(killable_nats: LocalServer) -> AsyncIterator[Bus]:
    telemetry = Telemetry(service_name="test", otlp_endpoint=None)
    async with open_bus(killable_nats.url, name="test", telemetry=telemetry) as opened:
        await opened.ensure_streams()
        yield opened


@pytest.fixture
def tell(bus: Bus) -> Callable[[Event], Awaitable[None]]:
    """Publish an event as dataset-svc does."""

    async def publish(event: Event) -> None:
        envelope = envelop(event, source="/assay/dataset-svc")
        await bus.publish(event.SUBJECT, envelope.model_dump_json().encode(), message_id=envelope.id)

    return publish


@pytest.fixture
def eventually() -> Callable[[Callable[[], Awaitable[bool]]], Awaitable[None]]:
    """``await eventually(check)``: until the check says yes."""

    async def wait(check: Callable[[], Awaitable[bool]]) -> None:
        deadline = time.monotonic() + EVENT_SECONDS
        while not await check():
            assert time.monotonic() < deadline, "did not happen in time"
            await asyncio.sleep(0.02)

    return wait


@pytest.fixture
def question_rows() -> Rows:
    return [
        {"question": f"What is {n} + 1?", "answer": f"Sum.\n#### {n + 1}", "hint": f"h{n}"} for n in range(6)
    ]
