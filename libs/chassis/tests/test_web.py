from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from assay_chassis.errors import Conflict, Fault, InvalidRequest, Unavailable
from assay_chassis.service_client import DigestMismatch, open_service_client
from assay_chassis.telemetry import Telemetry
from assay_chassis.web import CLIENT_HEADER, INTERNAL_KEY_HEADER, client_of, create_web_app, problems

KEY = "the-internal-key"


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(ge=1)


def make_app(readiness_error: Exception | None = None) -> FastAPI:
    router = APIRouter(prefix="/v1")

    @router.get("/who")
    async def who(request: Request) -> dict[str, str]:
        return {"client": client_of(request)}

    @router.post("/things", responses=problems(Conflict, InvalidRequest))
    async def things(body: Body) -> dict[str, int]:
        if body.limit == 5:
            raise InvalidRequest("line 17 is broken", faults=[Fault("broken", line=17, column=3)])
        if body.limit == 6:
            raise RuntimeError("a surprise with a secret in it")
        return {"limit": body.limit}

    async def readiness() -> Mapping[str, Any]:
        if readiness_error:
            raise readiness_error
        return {"detail": 1}

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield

    return create_web_app(
        name="thing",
        title="Things",
        description="",
        version="1",
        routers=[router],
        internal_key=KEY,
        telemetry=Telemetry(service_name="thing", otlp_endpoint=None),
        lifespan=lifespan,
        readiness=readiness,
    )


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=make_app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://thing") as client:
        yield client


async def test_a_route_needs_the_internal_key_and_health_does_not(http: httpx.AsyncClient) -> None:
    refused = await http.get("/v1/who", headers={CLIENT_HEADER: "admin"})
    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == "urn:assay:problem:unauthorized"
    wrong = await http.get("/v1/who", headers={INTERNAL_KEY_HEADER: "guess"})
    assert wrong.status_code == 401
    allowed = await http.get("/v1/who", headers={CLIENT_HEADER: "ci", INTERNAL_KEY_HEADER: KEY})
    assert allowed.json() == {"client": "ci"}
    assert (await http.get("/healthz")).status_code == 200
    assert (await http.get("/readyz")).json() == {"status": "ready", "detail": 1}
    assert (await http.get("/docs/thing")).status_code == 200


async def test_what_is_wrong_is_named(http: httpx.AsyncClient) -> None:
    headers = {INTERNAL_KEY_HEADER: KEY, "x-request-id": "abc"}
    answer = await http.post("/v1/things", json={"limit": 0, "limitt": 1}, headers=headers)
    assert answer.status_code == 422
    problem = answer.json()
    assert {fault["field"] for fault in problem["errors"]} == {"limit", "limitt"}
    assert problem["request_id"] == "abc"
    assert answer.headers["x-request-id"] == "abc"
    lined = await http.post("/v1/things", json={"limit": 5}, headers=headers)
    assert lined.json()["errors"] == [{"message": "broken", "line": 17, "column": 3}]


async def test_a_surprise_is_500_and_tells_nothing(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/things", json={"limit": 6}, headers={INTERNAL_KEY_HEADER: KEY})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_unknown_routes_and_methods_are_problems_too(http: httpx.AsyncClient) -> None:
    for answer in (await http.get("/nowhere"), await http.delete("/v1/who")):
        assert answer.headers["content-type"] == "application/problem+json"
    assert (await http.delete("/v1/who")).status_code == 405


async def test_readiness_says_what_is_missing() -> None:
    transport = httpx.ASGITransport(app=make_app(Unavailable("the bus is not connected")))
    async with httpx.AsyncClient(transport=transport, base_url="http://thing") as http:
        answer = await http.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["detail"] == "the bus is not connected"


async def test_openapi_declares_the_refusals(http: httpx.AsyncClient) -> None:
    document = (await http.get("/openapi/thing.json")).json()
    responses = document["paths"]["/v1/things"]["post"]["responses"]
    assert {"200", "401", "409", "422"} <= set(responses)
    assert "application/problem+json" in responses["409"]["content"]


async def test_downloads_are_checked_and_kept_by_digest(tmp_path: Any, serve: Any) -> None:
    import hashlib

    app = FastAPI()
    calls: list[str] = []

    @app.get("/file")
    async def file() -> Any:
        from fastapi.responses import Response

        calls.append("file")
        return Response(b"content")

    @app.get("/refused")
    async def refused() -> Any:
        raise AssertionError

    telemetry = Telemetry(service_name="caller", otlp_endpoint=None)
    digest = hashlib.sha256(b"content").hexdigest()
    async with (
        serve(app) as url,
        open_service_client(
            url, peer="thing-svc", caller="test", internal_key=KEY, telemetry=telemetry
        ) as client,
    ):
        path = await client.download("/file", sha256=digest, directory=tmp_path / "cache")
        assert path.read_bytes() == b"content"
        await client.download("/file", sha256=digest, directory=tmp_path / "cache")
        assert calls == ["file"]
        with pytest.raises(DigestMismatch):
            await client.download("/file", sha256="0" * 64, directory=tmp_path / "cache")
        assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [digest]
