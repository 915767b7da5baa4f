"""The console's web application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse
from fastapi.staticfiles import StaticFiles
from starlette.routing import Route

from assay.models import Fault, Problem
from assay_console.browser_rules import BrowserRules
from assay_console.gateway import ApiError
from assay_console.pages import PREFIX, STATIC, Pages, is_part, pages_of, path_of
from assay_console.screens import ROUTERS
from assay_console.settings import Settings
from assay_console.sign_in import NotSignedIn, forget

_TITLES = {
    404: "This does not exist",
    409: "That is not possible now",
    422: "Something is wrong with the input",
}


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
    app.add_exception_handler(ApiError, _told)  # type: ignore[arg-type]
    app.add_exception_handler(RequestValidationError, _misread)  # type: ignore[arg-type]
    app.add_exception_handler(404, _not_found)
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
    back = request.url.path if request.method == "GET" and not is_part(request) else None
    if back and request.url.query:
        back = f"{back}?{request.url.query}"
    target = path_of(request, "sign_in", next=back)
    response: Response = (
        Response(headers={"HX-Redirect": target}) if is_part(request) else RedirectResponse(target, 303)
    )
    forget(response)
    return response


async def _told(request: Request, error: ApiError) -> Response:
    """What the platform refused or could not do."""
    if error.status == 401:
        return await _to_sign_in(request, NotSignedIn())
    status = error.status if error.status >= 400 else 503
    title = _TITLES.get(error.status) or (
        "The platform does not answer" if status >= 500 else "The platform refused this"
    )
    return _error_page(request, title, status=status, problem=error.problem)


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
    return _error_page(
        request, title, status=500, problem=Problem(title=title, detail="The console's log says more.")
    )


async def _not_found(request: Request, _: Exception) -> Response:
    return _error_page(request, "There is no such page", status=404, problem=None)


def _error_page(request: Request, title: str, *, status: int, problem: Problem | None) -> Response:
    """A page or, for a part of a page, a part.

    A part comes with status 200: htmx throws the content of error answers away, and nobody would see it.
    """
    part = is_part(request)
    return pages_of(request).page(
        request,
        "parts/error.html" if part else "error.html",
        status=200 if part else status,
        title=title,
        problem=problem,
        problem_status=status,
    )
