"""What every answer tells browsers, and which forms are refused."""

from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from assay_console.browser_rules import CONTENT_SECURITY_POLICY, BrowserRules

HOST = "http://assay.example"


async def _answer(request: Request) -> Response:
    status = int(request.query_params.get("status", "200"))
    return PlainTextResponse(f"{request.method} arrived", status_code=status)


async def _own_rule(request: Request) -> Response:
    return PlainTextResponse("kept", headers={"cache-control": "private, max-age=5"})


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    """A client of an application that says what arrived, behind the rules."""
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE"]
    app = Starlette(
        routes=[
            Route("/console/own-rule", _own_rule),
            Route("/console/static/{name}", _answer, methods=methods),
            Route("/console/{name}", _answer, methods=methods),
        ]
    )
    transport = httpx.ASGITransport(app=BrowserRules(app))
    async with httpx.AsyncClient(transport=transport, base_url=HOST) as client:
        yield client


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/console/page", 200),
        ("HEAD", "/console/page", 200),
        ("POST", "/console/page", 200),
        ("GET", "/console/page?status=500", 500),
        ("GET", "/nowhere", 404),
        ("GET", "/console/static/console.css", 200),
    ],
)
async def test_every_answer_has_the_headers(
    browser: httpx.AsyncClient, method: str, path: str, status: int
) -> None:
    answer = await browser.request(method, path)
    assert answer.status_code == status
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"


def test_the_policy_allows_nothing_inline_and_no_frames() -> None:
    rules = dict(rule.split(" ", 1) for rule in CONTENT_SECURITY_POLICY.split("; "))
    assert "unsafe" not in CONTENT_SECURITY_POLICY
    assert rules["default-src"] == rules["frame-ancestors"] == rules["base-uri"] == "'none'"
    assert rules["script-src"] == rules["style-src"] == rules["form-action"] == "'self'"


async def test_static_files_are_kept_and_pages_are_not(browser: httpx.AsyncClient) -> None:
    page = await browser.get("/console/page")
    static = await browser.get("/console/static/console.css")
    assert page.headers["cache-control"] == "no-store"
    assert static.headers["cache-control"] == "public, max-age=31536000, immutable"


async def test_what_a_handler_says_of_caching_holds(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/console/own-rule")
    assert answer.headers["cache-control"] == "private, max-age=5"


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"sec-fetch-site": "something-new"},
        # What the browser says of the site weighs more than an origin that looks right.
        {"sec-fetch-site": "cross-site", "origin": HOST},
        {"origin": "https://evil.example"},
        {"origin": "http://assay.example.evil.example"},
        {"origin": "http://assay.example:8080"},
        {"origin": "null"},
    ],
)
async def test_forms_of_other_sites_are_refused(
    browser: httpx.AsyncClient, method: str, headers: dict[str, str]
) -> None:
    answer = await browser.request(method, "/console/page", headers=headers)
    assert answer.status_code == 403
    assert "another site" in answer.text
    assert answer.headers["content-security-policy"] == CONTENT_SECURITY_POLICY


@pytest.mark.parametrize(
    "headers",
    [
        {"sec-fetch-site": "same-origin", "origin": HOST},
        {"sec-fetch-site": "none"},
        {"origin": HOST},
        {},  # no browser, so there is no cookie that it could misuse
    ],
)
async def test_our_own_forms_arrive(browser: httpx.AsyncClient, headers: dict[str, str]) -> None:
    answer = await browser.post("/console/page", headers=headers)
    assert (answer.status_code, answer.text) == (200, "POST arrived")


async def test_links_from_other_sites_arrive(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/console/page", headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 200
