"""Web application factory: problem+json, request ids, health, traces, documentation pages.

Errors follow RFC 9457 (problem details). Who may call a route is said at the route: ``assay_chassis.guard``.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from opentelemetry.trace import SpanKind
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from assay_chassis.errors import Fault, Forbidden, ServiceError, Unauthorized, Unavailable
from assay_chassis.guard import identity_of
from assay_chassis.identifiers import new_id
from assay_chassis.identity import IdentityReader
from assay_chassis.telemetry import TRACEPARENT, Telemetry

logger = logging.getLogger(__name__)

REQUEST_ID_HEADER = "x-request-id"
PROBLEM_MEDIA_TYPE = "application/problem+json"
PROBLEM_TYPE_PREFIX = "urn:assay:problem:"

ReadinessCheck = Callable[[], Awaitable[Mapping[str, Any]]]
Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


class FaultModel(BaseModel):
    """One thing that is wrong in the request."""

    message: str
    field: str | None = Field(default=None, description="dotted path of the field")
    line: int | None = Field(default=None, description="line of the upload, from 1")
    column: int | None = Field(default=None, description="column in that line, from 1")
    row: int | None = Field(default=None, description="row of the dataset, from 0")


class Problem(BaseModel):
    """RFC 9457 problem details, with the request's id and the single faults."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
    errors: list[FaultModel] = []


class PageModel(BaseModel):
    """What every list returns beside its items."""

    next_cursor: str | None = Field(default=None, description="pass as `cursor` for the next page")


def problems(*classes: type[ServiceError]) -> dict[int | str, dict[str, Any]]:
    """The ``responses`` argument of a route: the refusals that it may answer with."""
    responses: dict[int | str, dict[str, Any]] = {}
    for error in classes:
        responses[error.status] = {
            "model": Problem,
            "description": error.title,
            "content": {PROBLEM_MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
        }
    return responses


def client_of(request: Request) -> str:
    """Who sent the request: the name of the API key's holder, or the calling service."""
    return identity_of(request).client


class _RequestContext:
    """ASGI middleware: request id, trace, and a log line for every request. Streams pass untouched."""

    def __init__(self, app: ASGIApp, *, telemetry: Telemetry) -> None:
        self._app = app
        self._telemetry = telemetry

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        request_id = headers.get(REQUEST_ID_HEADER) or new_id("req")
        scope.setdefault("state", {})["request_id"] = request_id
        status = 500

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message.setdefault("headers", []).append(
                    (REQUEST_ID_HEADER.encode(), request_id.encode("latin-1"))
                )
            await send(message)

        with self._telemetry.span(
            f"{scope['method']} {scope['path']}",
            kind=SpanKind.SERVER,
            traceparent=headers.get(TRACEPARENT),
            attributes={"http.request.method": scope["method"], "url.path": scope["path"]},
        ) as span:
            await self._app(scope, receive, send_with_id)
            span.set_attribute("http.response.status_code", status)
        logger.info("%s %s %d %s", scope["method"], scope["path"], status, request_id)


def create_web_app(
    *,
    name: str,
    title: str,
    description: str,
    version: str,
    routers: Sequence[APIRouter],
    internal_key: str,
    telemetry: Telemetry,
    lifespan: Lifespan,
    readiness: ReadinessCheck,
) -> FastAPI:
    """Build a service's application.

    Args:
        name: short name in the documentation's addresses: ``dataset`` gives ``/docs/dataset`` and
            ``/openapi/dataset.json``.
        title: title of the API.
        description: Markdown shown on top of the documentation.
        version: version of the service.
        routers: the routes, each a ``GuardedRoute``: any other kind answers 500.
        internal_key: secret with which identities are signed, at least 32 bytes.
        telemetry: traces.
        lifespan: opens and closes what the routes use.
        readiness: asked by ``/readyz``; returns details, raises ``Unavailable`` when not ready.

    Raises:
        ValueError: the internal key is too short.
    """
    app = FastAPI(
        title=title,
        description=description,
        version=version,
        lifespan=lifespan,
        docs_url=f"/docs/{name}",
        redoc_url=None,
        openapi_url=f"/openapi/{name}.json",
        responses=problems(Unauthorized, Forbidden),
    )
    app.state.identities = IdentityReader(internal_key=internal_key)
    app.add_middleware(_RequestContext, telemetry=telemetry)
    app.add_exception_handler(ServiceError, _on_service_error)
    app.add_exception_handler(RequestValidationError, _on_invalid_request)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_surprise)

    # Declared as what a client sends, so that the documentation page can authorise. The gateway has
    # replaced it by a signed identity, which the route's guard has read before a dependency runs.
    public_key = APIKeyHeader(name="X-API-Key", auto_error=False, description="API key")

    async def is_guarded(request: Request, _: str | None = Depends(public_key)) -> None:
        identity_of(request)

    for router in routers:
        app.include_router(router, dependencies=[Depends(is_guarded)])

    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> dict[str, Any]:
        return {"status": "ready", **await readiness()}

    return app


def _problem(
    request: Request,
    *,
    status: int,
    slug: str,
    title: str,
    detail: str,
    faults: Sequence[Fault] = (),
    instance: str | None = None,
) -> JSONResponse:
    body: dict[str, Any] = {
        "type": f"{PROBLEM_TYPE_PREFIX}{slug}",
        "title": title,
        "status": status,
        "detail": detail,
        "instance": instance or request.url.path,
        "request_id": getattr(request.state, "request_id", ""),
    }
    if faults:
        body["errors"] = [
            {name: value for name, value in asdict(fault).items() if value is not None} for fault in faults
        ]
    return JSONResponse(body, status_code=status, media_type=PROBLEM_MEDIA_TYPE)


def refusal(request: Request, error: ServiceError, *, instance: str | None = None) -> JSONResponse:
    """The problem document for an error; ``instance`` is the path that was refused, if not the request's."""
    return _problem(
        request,
        status=error.status,
        slug=error.slug,
        title=error.title,
        detail=error.detail,
        faults=error.faults,
        instance=instance,
    )


async def _on_service_error(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ServiceError)
    return refusal(request, error)


async def _on_invalid_request(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    faults = []
    for item in error.errors():
        place, *path = item["loc"]
        name = ".".join(str(part) for part in path) or str(place)
        faults.append(Fault(message=item["msg"], field=name))
    detail = "; ".join(f"{fault.field}: {fault.message}" for fault in faults[:5])
    return _problem(
        request,
        status=422,
        slug="invalid-request",
        title="The request is not valid",
        detail=detail,
        faults=faults,
    )


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    status = HTTPStatus(error.status_code)
    response = _problem(
        request,
        status=status.value,
        slug=status.phrase.lower().replace(" ", "-"),
        title=status.phrase,
        detail=str(error.detail),
    )
    response.headers.update(error.headers or {})
    return response


async def _on_surprise(request: Request, error: Exception) -> JSONResponse:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=error)
    return _problem(
        request,
        status=500,
        slug="internal-error",
        title="Internal error",
        detail="The service failed unexpectedly; its log has the details under this request id.",
    )


def not_ready(component: str, error: Exception) -> Unavailable:
    """The refusal that ``readiness`` raises for a component that does not answer."""
    return Unavailable(f"{component} is not ready: {error}")
