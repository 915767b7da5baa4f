"""The console's web application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.routing import Route

from assay.models import Fault, Problem
from assay_console.browser_rules import BrowserRules, add_headers
from assay_console.error_words import advice_of, title_of
from assay_console.gateway import ApiError
from assay_console.pages import PREFIX, STATIC, Pages, is_part, pages_of, path_of
from assay_console.role_refusals import not_offered, refused_by_role
from assay_console.roles import NotOffered
from assay_console.screens import ROUTERS
from assay_console.settings import Settings
from assay_console.sign_in import NotSignedIn, forget, safe_target


def create_app(settings: Settings) -> FastAPI:
    """The application; everything it answers is under ``/console``, and ``/readyz``."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        timeout = httpx.Timeout(settings.timeout_s, connect=5.0)
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=50)
        # The user's HTTP proxy is not for calls to our own gateway.
        async with httpx.AsyncClient(
            base_url=str(settings.gateway_url), timeout=timeout, limits=limits, trust_env=False
        ) as http:
            app.state.http = http
            yield

    app = FastAPI(title="Assay console", lifespan=lifespan, openapi_url=None, docs_url=None, redoc_url=None)
    app.state.settings = settings
    app.state.pages = Pages()
    app.add_middleware(BrowserRules)
    app.add_exception_handler(NotSignedIn, _to_sign_in)  # type: ignore[arg-type]
    app.add_exception_handler(NotOffered, not_offered)  # type: ignore[arg-type]
    app.add_exception_handler(ApiError, _told)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _misread)  # type: ignore[arg-type]
    app.add_exception_handler(HTTPException, _unanswerable)  # type: ignore[arg-type]
    app.add_exception_handler(Exception, _failed)
    app.mount(f"{PREFIX}/static", StaticFiles(directory=STATIC), name="static")
    app.add_api_route("/readyz", _ready, name="readyz", include_in_schema=False)
    for router in ROUTERS:
        app.include_router(router, prefix=PREFIX)
    app.state.path_parameters = {
        route.name: frozenset(route.param_convertors)
        for router in ROUTERS
        for route in router.routes
        if isinstance(route, Route)
    }
    return app


async def _ready() -> JSONResponse:
    return JSONResponse({"status": "ready"})


async def _to_sign_in(request: Request, _: NotSignedIn) -> Response:
    """To the sign-in page, and back afterwards to what could be looked at again."""
    here = _address(request) if request.method == "GET" else None
    target = path_of(request, "sign_in", next=_page_of_part(request) if is_part(request) else here)
    response: Response = (
        Response(headers={"HX-Redirect": target}) if is_part(request) else RedirectResponse(target, 303)
    )
    forget(response)
    return response


async def _told(request: Request, error: ApiError) -> Response:
    """What the platform refused or could not do."""
    if error.status == 401:
        return await _to_sign_in(request, NotSignedIn())
    if error.status == 403:
        try:
            return await refused_by_role(request, error)
        except (ApiError, NotSignedIn):
            return await _to_sign_in(request, NotSignedIn())
    return _error_page(
        request,
        title_of(error.status),
        status=error.status if error.status >= 400 else 503,
        problem=error.problem,
        advice=advice_of(error.status),
    )


async def _misread(request: Request, error: RequestValidationError) -> Response:
    """An address or a form that no page of ours makes; the parts that are wrong are named."""
    faults = [
        Fault(message=str(each["msg"]), field=str(each["loc"][-1]) if each["loc"] else None)
        for each in error.errors()
    ]
    title = "This address cannot be read"
    return _error_page(request, title, status=422, problem=Problem(title=title, errors=faults))


async def _failed(request: Request, _: Exception) -> Response:
    """A mistake of ours; the log has it."""
    title = "The console failed"
    problem = Problem(title=title, detail="This is a mistake of the console; its log says more.")
    page = _error_page(request, title, status=500, problem=problem)
    # Answered outside of all middleware.
    add_headers(page.headers)
    return page


async def _unanswerable(request: Request, error: HTTPException) -> Response:
    """An address that leads nowhere, or that only takes forms; or a form that cannot be read."""
    if error.status_code in (404, 405):
        return _error_page(request, "There is no such page", status=404, problem=None, advice=advice_of(404))
    title = "This cannot be read"
    problem = Problem(title=title, detail=str(error.detail))
    return _error_page(request, title, status=error.status_code, problem=problem)


def _error_page(
    request: Request, title: str, *, status: int, problem: Problem | None, advice: str = ""
) -> Response:
    """A page or, for a part of a page, a part, with the ways on.

    A part comes with status 200: htmx throws the content of error answers away, and nobody would see it.
    """
    part = is_part(request)
    is_for_now = status >= 500 or status == 429
    again = _address(request) if is_for_now and request.method == "GET" else None
    back = _own_address(request.headers.get("referer"))
    return pages_of(request).page(
        request,
        "parts/error.html" if part else "error.html",
        status=200 if part else status,
        title=title,
        problem=problem,
        is_part=part,
        advice=advice,
        again=_page_of_part(request) if part else again,
        back=back if back != _address(request) else None,
    )


def _address(request: Request) -> str:
    """What was asked for, as a link."""
    return f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path


def _page_of_part(request: Request) -> str | None:
    """The page that a part belongs to, as htmx tells it."""
    return _own_address(request.headers.get("hx-current-url"))


def _own_address(url: str | None) -> str | None:
    """The path and query of a page of ours; None of any other."""
    parts = urlsplit(url or "")
    path = f"{parts.path}?{parts.query}" if parts.query else parts.path
    return safe_target(path, otherwise="") or None
