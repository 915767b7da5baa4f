"""Who is looking: keys, the cookie, and where signing in leads."""

from collections.abc import AsyncIterator
from http.cookies import SimpleCookie
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st
from pydantic import HttpUrl

from assay_console.application import create_app
from assay_console.settings import Settings
from assay_console.sign_in import COOKIE, ROLE_COOKIE, is_sendable, safe_target

HOME = "/console/datasets"
HERE = "http://assay.example/console/sign-in"
SIGNED_IN = f"{COOKIE}=a-key; {ROLE_COOKIE}=viewer:somebody"


@pytest_asyncio.fixture
async def browser() -> AsyncIterator[httpx.AsyncClient]:
    """A client of the console, behind which there is no platform."""
    app = create_app(Settings(gateway_url=HttpUrl("http://127.0.0.1:9"), timeout_s=5))
    transport = httpx.ASGITransport(app=app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://assay.example") as client,
    ):
        yield client


@pytest.mark.parametrize(
    "wanted", ["/console/health", "/console/evaluations/run_1?tab=samples&cursor=a%2Fb", "/console/"]
)
def test_paths_of_the_console_are_followed(wanted: str) -> None:
    assert safe_target(wanted, otherwise=HOME) == wanted


HOSTILE = [
    None,
    "",
    "//evil.example",
    "//evil.example/console/",
    "///evil.example/console/",
    "https://evil.example",
    "https://evil.example/console/",
    "https:/console/",
    "https:console/",
    "javascript:alert(1)//console/",
    "/\\evil.example/console/",
    "\\\\evil.example/console/",
    "/console/\\evil.example",
    "/%5Cevil.example",
    "%2F%2Fevil.example/console/",
    "/%2Fevil.example/console/",
    " //evil.example/console/",
    "\t//evil.example/console/",
    "/\t/evil.example/console/",
    "/\n/evil.example",
    "@evil.example/console/",
    "console/health",
    "/consoleevil/",
    "/v1/datasets",
]


@pytest.mark.parametrize("wanted", HOSTILE)
def test_nothing_else_is_followed(wanted: str | None) -> None:
    assert safe_target(wanted, otherwise=HOME) == HOME


@pytest.mark.parametrize(
    "wanted", ["/console/../x", "/console/../../x", "/console/..//evil.example", "/console//evil"]
)
def test_dots_stay_on_this_site(wanted: str) -> None:
    target = safe_target(wanted, otherwise=HOME)
    assert urlsplit(urljoin(HERE, target)).netloc == "assay.example"


@given(wanted=st.text(alphabet="/\\.:@?#%2F5Cconsole evil\t\n\r", max_size=40) | st.text(max_size=40))
def test_no_text_leads_to_another_site(wanted: str) -> None:
    target = safe_target(wanted, otherwise=HOME)
    assert target.startswith("/console/")
    # As browsers read an address: without tabs and line ends, and with backslashes as slashes.
    read = "".join(letter for letter in target if letter not in "\t\r\n").replace("\\", "/").strip()
    assert urlsplit(urljoin(HERE, read)).netloc == "assay.example"


@pytest.mark.parametrize("key", ["a", "assay_0123456789-._~", "x" * 512])
def test_keys_can_be_sent(key: str) -> None:
    assert is_sendable(key)


@pytest.mark.parametrize(
    "key",
    ["", " ", "a b", "a\nb", "a\r\nX-Other: 1", "a;b", "a,b", 'a"b', "a\\b", "schlüssel", "x" * 513, "\x00"],
)
def test_what_is_no_key_is_not_sent(key: str) -> None:
    assert not is_sendable(key)


@given(key=st.text(max_size=20).filter(is_sendable))
def test_a_key_survives_the_cookie(key: str) -> None:
    cookie = SimpleCookie()
    cookie[COOKIE] = key
    read = SimpleCookie(cookie.output(header=""))
    assert read[COOKIE].value == key


async def test_pages_ask_who_is_looking_and_come_back(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/console/datasets?name=a%26b")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/console/sign-in?next=%2Fconsole%2Fdatasets%3Fname%3Da%2526b"


async def test_parts_of_pages_send_the_whole_page_to_sign_in(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/console/datasets", headers={"hx-request": "true"})
    assert answer.headers["hx-redirect"] == "/console/sign-in"


async def test_a_cookie_that_is_no_key_is_forgotten(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/console/datasets", headers={"cookie": f"{COOKIE}=a b"})
    assert answer.status_code == 303
    assert f"{COOKIE}=" in answer.headers["set-cookie"]
    assert "Max-Age=0" in answer.headers["set-cookie"]


@pytest.mark.parametrize("key", ["", "   ", "a\r\nb"])
async def test_what_is_no_key_is_refused_without_asking(browser: httpx.AsyncClient, key: str) -> None:
    answer = await browser.post("/console/sign-in", data={"api_key": key})
    assert answer.status_code == 422
    assert "set-cookie" not in answer.headers


async def test_a_key_that_nobody_can_check_is_not_remembered(browser: httpx.AsyncClient) -> None:
    answer = await browser.post("/console/sign-in", data={"api_key": "a-key"})
    assert answer.status_code == 503
    assert "could not check the key" in answer.text
    assert "a-key" not in answer.text
    assert "set-cookie" not in answer.headers


async def test_signing_out_takes_the_cookie_back(browser: httpx.AsyncClient) -> None:
    answer = await browser.post("/console/sign-out", headers={"cookie": SIGNED_IN})
    assert answer.headers["location"] == "/console/sign-in"
    cookies = answer.headers.get_list("set-cookie")
    assert [cookie.partition("=")[0] for cookie in cookies] == [COOKIE, ROLE_COOKIE]
    assert all("Max-Age=0" in cookie and "Path=/console" in cookie for cookie in cookies)


async def test_a_page_without_a_platform_says_so(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/console/datasets", headers={"cookie": SIGNED_IN})
    assert answer.status_code == 503
    assert "does not answer" in answer.text


async def test_a_part_of_a_page_without_a_platform_is_shown_by_htmx(browser: httpx.AsyncClient) -> None:
    headers = {"cookie": SIGNED_IN, "hx-request": "true"}
    answer = await browser.get("/console/datasets", headers=headers)
    assert answer.status_code == 200
    assert 'role="alert"' in answer.text
    assert "<html" not in answer.text


async def test_a_page_that_is_not_there_is_a_page(browser: httpx.AsyncClient) -> None:
    answer = await browser.get("/console/nowhere")
    assert answer.status_code == 404
    assert "There is no such page" in answer.text
