"""Fixtures: access-svc on a real NATS server and a real store."""

import uuid
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from pydantic import SecretStr

from access_svc.settings import Settings
from access_svc.wiring import create_app
from assay_chassis.identity import Identity, IdentityReader
from assay_chassis.testing import INTERNAL_KEY, as_client

FIRST_KEY = "the first admin's key"


@dataclass(frozen=True, slots=True)
class AccessApi:
    """The service's API as an admin calls it, and the question that the gateway asks."""

    http: httpx.AsyncClient
    app: FastAPI

    async def create(self, *, role: str = "viewer", **fields: Any) -> dict[str, Any]:
        """A key with a name of its own, with its secret."""
        body = {"name": f"key-{uuid.uuid4().hex[:12]}", "role": role, **fields}
        answer = await self.http.post("/v1/access/keys", json=body)
        assert answer.status_code == 201, answer.text
        created: dict[str, Any] = answer.json()
        return created

    async def rotate(self, key_id: str, **body: Any) -> str:
        """The new secret."""
        answer = await self.http.post(f"/v1/access/keys/{key_id}/rotate", json=body)
        assert answer.status_code == 200, answer.text
        secret: str = answer.json()["secret"]
        return secret

    async def listed(self, key_id: str) -> dict[str, Any]:
        """The key as the list shows it."""
        items = (await self.http.get("/v1/access/keys", params={"limit": 200})).json()["items"]
        found: dict[str, Any] = next(item for item in items if item["id"] == key_id)
        return found

    async def asked(self, key: str | None, *, method: str = "GET") -> httpx.Response:
        """What the gateway hears when a client sends the key."""
        headers = {} if key is None else {"x-api-key": key}
        return await self.http.request(method, "/authorize/v1/datasets", headers=headers, auth=None)

    async def identity(self, key: str) -> Identity:
        """Who holds the key."""
        answer = await self.asked(key)
        assert answer.status_code == 200, answer.text
        return IdentityReader(internal_key=INTERNAL_KEY).read(answer.headers["x-assay-identity"])


@pytest.fixture
def settings(nats_url: str, mongo_uri: str, database_name: str, tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path,
        nats_url=nats_url,
        mongo_uri=mongo_uri,
        database_prefix=f"{database_name}_",
        internal_key=SecretStr(INTERNAL_KEY),
        api_key=SecretStr(FIRST_KEY),
        accepted_for_s=1.0,
        _env_file=None,
    )


async def served(settings: Settings) -> AsyncIterator[AccessApi]:
    app = create_app(settings)
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://access", auth=as_client("admin")) as http,
    ):
        yield AccessApi(http=http, app=app)


@pytest.fixture
async def api(settings: Settings) -> AsyncIterator[AccessApi]:
    async for opened in served(settings):
        yield opened


@pytest.fixture
async def other(settings: Settings, api: AccessApi) -> AsyncIterator[AccessApi]:
    """A second instance on the same store."""
    async for opened in served(settings):
        yield opened
