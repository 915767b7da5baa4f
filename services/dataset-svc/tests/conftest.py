"""dataset-svc on real servers; eval-svc is played by a small server with its contract."""

import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Response
from pydantic import SecretStr
from starlette.types import ASGIApp

from assay_chassis.local import LocalServer
from assay_chassis.testing import INTERNAL_KEY, as_client
from dataset_svc.settings import Settings
from dataset_svc.wiring import create_app

Serve = Callable[[ASGIApp], AbstractAsyncContextManager[str]]


@dataclass
class Runs:
    """The part of eval-svc's contract that dataset-svc uses."""

    using: dict[str, list[str]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fails: bool = False
    while_asked: Callable[[str], Awaitable[None]] | None = None

    def app(self) -> FastAPI:
        app = FastAPI()

        @app.get("/v1/evaluations", response_model=None)
        async def evaluations(
            limit: int, uses_dataset: str = "", uses_snapshot: str = ""
        ) -> Response | dict[str, Any]:
            used = uses_dataset or uses_snapshot
            self.asked.append(used)
            if self.while_asked is not None:
                await self.while_asked(used)
            if self.fails:
                return Response(status_code=500)
            runs = [{"id": run, "name": f"name of {run}"} for run in self.using.get(used, [])]
            return {"items": runs[:limit], "next_cursor": None}

        return app


@dataclass
class Api:
    """dataset-svc and what it asks."""

    http: httpx.AsyncClient
    runs: Runs
    home: Path

    async def create(self, name: str | None = None) -> str:
        name = name or f"rows-{uuid.uuid4().hex[:12]}"
        response = await self.http.post("/v1/datasets", json={"name": name})
        assert response.status_code == 201, response.text
        return str(response.json()["id"])

    async def send(self, dataset_id: str, data: bytes, **more: Any) -> httpx.Response:
        return await self.http.post(f"/v1/datasets/{dataset_id}/data", content=data, **more)

    async def upload(self, dataset_id: str, *rows: object) -> dict[str, Any]:
        response = await self.send(dataset_id, b"".join(json.dumps(row).encode() + b"\n" for row in rows))
        assert response.status_code == 201, response.text
        return dict(response.json())

    async def get(self, path: str, **query: Any) -> Any:
        response = await self.http.get(path, params=query)
        assert response.status_code == 200, response.text
        return response.json()

    async def status(self, path: str) -> int:
        return (await self.http.get(path)).status_code

    async def rows(self, snapshot_id: str) -> list[Any]:
        return [item["row"] for item in (await self.get(f"/v1/snapshots/{snapshot_id}/rows"))["items"]]


@pytest.fixture
def api_at(serve: Serve, killable_nats: LocalServer, mongo_uri: str) -> Callable[..., Any]:
    @asynccontextmanager
    async def opened(home: Path, **more: Any) -> AsyncIterator[Api]:
        runs = Runs()
        async with serve(runs.app()) as url:
            settings = Settings(
                home=home,
                nats_url=killable_nats.url,
                mongo_uri=mongo_uri,
                internal_key=SecretStr(INTERNAL_KEY),
                **{"eval_url": url, "deletion_sweep_s": 0.2, **more},
                _env_file=None,
            )
            app = create_app(settings)
            async with (
                app.router.lifespan_context(app),
                httpx.AsyncClient(
                    transport=httpx.ASGITransport(app=app, raise_app_exceptions=False),
                    base_url="http://dataset",
                    auth=as_client(),
                    timeout=60,
                ) as http,
            ):
                yield Api(http, runs, home)

    return opened


@pytest.fixture
async def api(api_at: Callable[..., Any], tmp_path: Path) -> AsyncIterator[Api]:
    async with api_at(tmp_path) as opened:
        yield opened
