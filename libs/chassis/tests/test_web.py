import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt
import pytest
from fastapi import APIRouter, FastAPI, Request
from pydantic import BaseModel, ConfigDict, Field

from assay_chassis.errors import Conflict, Fault, InvalidRequest, Unavailable
from assay_chassis.guard import GuardedRoute, needs
from assay_chassis.identity import IDENTITY_HEADER, IdentityReader, Role
from assay_chassis.service_client import DigestMismatch, open_service_client
from assay_chassis.telemetry import Telemetry
from assay_chassis.testing import INTERNAL_KEY, as_client
from assay_chassis.web import client_of, create_web_app, problems


class Body(BaseModel):
    model_config = ConfigDict(extra="forbid")

    limit: int = Field(ge=1)


def make_app(readiness_error: Exception | None = None, *, more: APIRouter | None = None) -> FastAPI:
    router = APIRouter(route_class=GuardedRoute, prefix="/v1")

    @router.get("/who", openapi_extra=needs(Role.VIEWER))
    async def who(request: Request) -> dict[str, str]:
        return {"client": client_of(request)}

    @router.post("/things", openapi_extra=needs(Role.EDITOR), responses=problems(Conflict, InvalidRequest))
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
        routers=[router, *([more] if more else [])],
        internal_key=INTERNAL_KEY,
        telemetry=Telemetry(service_name="thing", otlp_endpoint=None),
        lifespan=lifespan,
        readiness=readiness,
    )


@pytest.fixture
async def http() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=make_app(), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://thing") as client:
        yield client


async def test_a_route_needs_a_signed_identity_and_health_does_not(http: httpx.AsyncClient) -> None:
    refused = await http.get("/v1/who", headers={"x-assay-client": "admin"})
    assert refused.status_code == 401
    assert refused.headers["content-type"] == "application/problem+json"
    assert refused.json()["type"] == "urn:assay:problem:unauthorized"
    allowed = await http.get("/v1/who", auth=as_client("ci", role=Role.VIEWER))
    assert allowed.json() == {"client": "ci"}
    assert (await http.get("/healthz")).status_code == 200
    assert (await http.get("/readyz")).json() == {"status": "ready", "detail": 1}
    assert (await http.get("/docs/thing")).status_code == 200


async def test_a_role_that_is_too_low_is_refused_before_the_body_is_looked_at(
    http: httpx.AsyncClient,
) -> None:
    viewer = as_client("reader", role=Role.VIEWER)
    refused = await http.post("/v1/things", content=b"{no JSON", auth=viewer)
    assert refused.status_code == 403
    assert refused.json()["type"] == "urn:assay:problem:forbidden"
    for word in ("role editor", "'reader' is viewer", "assay keys create NAME --role editor"):
        assert word in refused.json()["detail"]
    for role in (Role.EDITOR, Role.ADMIN):
        assert (await http.post("/v1/things", json={"limit": 1}, auth=as_client(role=role))).is_success


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    made = {"iss": "access-svc", "sub": "x", "role": "admin", "iat": now, "exp": now + 60, **changes}
    return {name: value for name, value in made.items() if value is not None}


FORGED = {
    "another key": lambda: jwt.encode(claims(), "another key of 32 bytes and more", algorithm="HS256"),
    "no signature": lambda: jwt.encode(claims(), None, algorithm="none"),
    "another algorithm": lambda: jwt.encode(claims(), INTERNAL_KEY + "x" * 32, algorithm="HS512"),
    "expired": lambda: jwt.encode(claims(exp=int(time.time()) - 60), INTERNAL_KEY),
    "without an end": lambda: jwt.encode(claims(exp=None), INTERNAL_KEY),
    "without a role": lambda: jwt.encode(claims(role=None), INTERNAL_KEY),
    "a role that there is not": lambda: jwt.encode(claims(role="root"), INTERNAL_KEY),
    "no token": lambda: "admin",
}


@pytest.mark.parametrize("forge", FORGED.values(), ids=FORGED)
async def test_an_identity_that_nobody_of_us_signed_now_is_refused(
    http: httpx.AsyncClient, forge: Callable[[], str]
) -> None:
    assert (await http.get("/v1/who", headers={IDENTITY_HEADER: forge()})).status_code == 401
    # The same claims, signed as they should be, are believed.
    good = jwt.encode(claims(), INTERNAL_KEY)
    assert (await http.get("/v1/who", headers={IDENTITY_HEADER: good})).json() == {"client": "x"}


def test_a_route_that_does_not_say_who_may_call_it_cannot_be_written() -> None:
    router = APIRouter(route_class=GuardedRoute)
    with pytest.raises(ValueError, match=r"/open \(read\) says not who may call it"):

        @router.get("/open")
        async def read() -> None: ...


async def test_a_route_of_another_kind_answers_nobody() -> None:
    router = APIRouter()

    @router.get("/v1/open")
    async def read() -> str:
        return "secret"

    transport = httpx.ASGITransport(app=make_app(more=router), raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://thing", auth=as_client()) as http:
        assert (await http.get("/v1/open")).status_code == 500


def test_a_short_internal_key_is_refused() -> None:
    with pytest.raises(ValueError, match="fewer than 32 bytes"):
        IdentityReader(internal_key="x" * 31)


async def test_what_is_wrong_is_named(http: httpx.AsyncClient) -> None:
    headers = {"x-request-id": "abc"}
    answer = await http.post("/v1/things", json={"limit": 0, "limitt": 1}, headers=headers, auth=as_client())
    assert answer.status_code == 422
    problem = answer.json()
    assert {fault["field"] for fault in problem["errors"]} == {"limit", "limitt"}
    assert problem["request_id"] == "abc"
    assert answer.headers["x-request-id"] == "abc"
    lined = await http.post("/v1/things", json={"limit": 5}, auth=as_client())
    assert lined.json()["errors"] == [{"message": "broken", "line": 17, "column": 3}]


async def test_a_surprise_is_500_and_tells_nothing(http: httpx.AsyncClient) -> None:
    answer = await http.post("/v1/things", json={"limit": 6}, auth=as_client())
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
    assert {"200", "401", "403", "409", "422"} <= set(responses)
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
            url, peer="thing-svc", caller="test", internal_key=INTERNAL_KEY, telemetry=telemetry
        ) as client,
    ):
        path = await client.download("/file", sha256=digest, directory=tmp_path / "cache")
        assert path.read_bytes() == b"content"
        await client.download("/file", sha256=digest, directory=tmp_path / "cache")
        assert calls == ["file"]
        with pytest.raises(DigestMismatch):
            await client.download("/file", sha256="0" * 64, directory=tmp_path / "cache")
        assert [entry.name for entry in (tmp_path / "cache").iterdir()] == [digest]
