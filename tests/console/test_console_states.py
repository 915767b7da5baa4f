"""Every screen while there is nothing, while an answer is awaited, and when there is none or an error."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from api_proxy import ApiProxy, running_proxy
from console_looks import assert_accessible, assert_fits_at_all_widths, shown_name
from playwright.sync_api import Browser, Page, Response, expect
from starlette.routing import Route

from assay_console.screens import ROUTERS

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

START_SECONDS = 60.0
PROBLEM = json.dumps(
    {"title": "Refused", "detail": "no more of <img src=x>; POST /v1/x later", "request_id": "r-1"}
)
PROBLEM_HEADERS = "Content-Type: application/problem+json\r\n"


@dataclass(frozen=True, slots=True)
class Console:
    """A console of its own; ``proxy`` stands between it and the gateway."""

    url: str
    proxy: ApiProxy


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Console]:
    with running_proxy() as proxy, socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
        free.close()
        settings = {"ASSAY_CONSOLE_GATEWAY_URL": proxy.url, "ASSAY_CONSOLE_PORT": str(port)}
        with (tmp_path_factory.mktemp("console") / "console.log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "assay_console"],
                env={**os.environ, **settings},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
            try:
                _wait_for(f"http://127.0.0.1:{port}/readyz", process)
                yield Console(f"http://127.0.0.1:{port}/console", proxy)
            finally:
                process.terminate()
                process.wait(timeout=20)


def _wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(url, trust_env=False).raise_for_status()
        except httpx.TransportError:
            time.sleep(0.1)
        else:
            return
    raise AssertionError("the console did not start")


def address_of(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return str(parts.hostname), int(parts.port or 80)


@dataclass(frozen=True, slots=True)
class Empty:
    """A platform on which nobody has made anything."""

    platform: Any
    address: tuple[str, int]
    api_key: str


@pytest.fixture(scope="module")
def empty(platform_with: Callable[..., Any]) -> Empty:
    platform = platform_with()
    found = json.loads((platform.home / "run" / "gateway.json").read_text())
    return Empty(platform, address_of(found["url"]), Path(found["api_key_file"]).read_text().strip())


def signed_in(chromium: Browser, console: Console, api_key: str) -> Iterator[Page]:
    """A page of a new browser; the test fails where a script failed or was blocked."""
    context = chromium.new_context(viewport={"width": 1280, "height": 844})
    page = context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(f"{console.url}/sign-in")
    page.get_by_label("API key").fill(api_key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/console/datasets")
    yield page
    context.close()
    assert not complaints


@pytest.fixture
def on_empty(chromium: Browser, console: Console, empty: Empty) -> Iterator[Page]:
    console.proxy.target = empty.address
    yield from signed_in(chromium, console, empty.api_key)


@pytest.fixture
def on_full(chromium: Browser, console: Console, evaluated: Any) -> Iterator[Page]:
    console.proxy.target = address_of(evaluated.url)
    yield from signed_in(chromium, console, evaluated.api_key)


def opened(page: Page, address: str) -> Response:
    answer = page.goto(address)
    assert answer is not None
    return answer


EMPTY = {
    # What there is not, and the way to it.
    "/datasets": ("No datasets yet", "Create Dataset"),
    "/methods": ("No evaluation methods yet", "Create Evaluation Method"),
    "/methods/new": ("No datasets yet", "Create Dataset"),
    "/artifacts": ("No artifacts yet", "Register Artifact"),
    "/evaluations": ("No evaluations yet", "Eval"),
    "/evaluations/new": ("No datasets yet", "Create Dataset"),
    "/comparisons": ("No comparisons yet", "Compare"),
    "/comparisons/new": ("No finished run to compare", "Eval"),
    "/decisions": ("No decisions yet", "Comparisons"),
    "/policies": ("default", "Create Policy"),
    "/trends": ("No methods yet", "Datasets"),
    "/health": ("Answers", "Ask again"),
}


@pytest.mark.parametrize("path", EMPTY)
def test_nothing_yet_says_what_there_would_be_and_leads_on(
    on_empty: Page, console: Console, path: str
) -> None:
    page = on_empty
    assert opened(page, f"{console.url}{path}").status == 200
    said, way = EMPTY[path]
    main = page.get_by_role("main")
    expect(main).to_contain_text(said)
    assert_fits_at_all_widths(page)
    assert_accessible(page)
    with page.expect_navigation() as there:
        main.get_by_role("link", name=way, exact=True).last.click()
    assert there.value.status == 200


# While an answer is awaited.


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        (lambda on: f"/datasets/{on.dataset.id}", r"/v1/snapshots/\w+/statistics"),
        (lambda on: f"/evaluations/{on.base.id}?tab=runtime", r"/v1/evaluations/\w+/samples"),
    ],
    ids=["statistics", "distribution"],
)
def test_a_part_says_that_it_loads_and_moves_nothing_when_it_comes(
    on_full: Page, console: Console, evaluated: Any, path: Any, asked: str
) -> None:
    page = on_full
    with console.proxy.holding(asked) as hold:
        page.goto(f"{console.url}{path(evaluated)}", wait_until="domcontentloaded")
        part = page.locator(".loads")
        expect(part).to_have_attribute("aria-busy", "true")
        assert hold.waiting.wait(20)
        assert "Loading" in part.evaluate("one => getComputedStyle(one, '::before').content")
        assert_accessible(page)
        before = places_above(page)
        assert before
        hold.released.set()
        expect(page.locator("[aria-busy=true]")).to_have_count(0)
    assert places_above(page) == before


def places_above(page: Page) -> list[float]:
    """Where the headings stand that come before the part."""
    found: list[float] = page.evaluate(
        """[...document.querySelectorAll('h1, h2')]
            .filter((one) => one.compareDocumentPosition(document.querySelector('.loads, .chart-pair')
                ?? document.querySelector('[aria-labelledby=statistics-title]')) & 4)
            .map((one) => one.getBoundingClientRect().top + scrollY)"""
    )
    return found


@pytest.mark.parametrize(
    ("path", "asked", "part"),
    [
        (
            lambda on: f"/evaluations/new?dataset_id={on.dataset.id}&method_id={on.method.id}",
            "POST /v1/evaluations/plan",
            "#plan",
        ),
        (
            lambda on: f"/methods/new?dataset_id={on.dataset.id}",
            "POST /v1/methods/preview",
            "#preview-result",
        ),
    ],
    ids=["plan", "preview"],
)
def test_a_preview_is_busy_until_it_is_there(
    on_full: Page, console: Console, evaluated: Any, path: Any, asked: str, part: str
) -> None:
    page = on_full
    address = f"{console.url}{path(evaluated)}"
    page.goto(address)
    if part == "#plan":
        choice = page.get_by_label("Target artifact").get_by_role("option", name=re.compile("^base "))
        wanted = choice.get_attribute("value")
    with console.proxy.holding(asked) as hold:
        if part == "#plan":
            page.get_by_label("Target artifact").select_option(wanted)
        else:
            page.goto(address, wait_until="domcontentloaded")
            page.get_by_label("Input field").select_option("input")
        assert hold.waiting.wait(20)
        expect(page.locator(part)).to_have_attribute("aria-busy", "true")
        assert_fits_at_all_widths(page)
        hold.released.set()
        expect(page.locator(part)).not_to_have_attribute("aria-busy", "true")


def test_a_form_is_sent_once_and_says_so(on_full: Page, console: Console, evaluated: Any) -> None:
    page = on_full
    page.goto(f"{console.url}/comparisons/new?run={evaluated.base.id}&run={evaluated.candidate.id}")
    button = page.get_by_role("main").get_by_role("button", name="Compare", exact=True)
    with console.proxy.holding("POST /v1/comparisons") as hold:
        # From inside the page: drivers wait for the answer of a form before they do anything else.
        button.evaluate(
            """(button) => {
                button.click();
                setTimeout(() => setTimeout(() => {
                    button.click();
                    button.form.requestSubmit(button);
                    const said = button.form.querySelector('[role=status]').textContent;
                    const busy = [button.form.ariaBusy, button.getAttribute('aria-disabled')];
                    sessionStorage.setItem('seen', JSON.stringify([said, ...busy]));
                }));
            }"""
        )
        assert hold.waiting.wait(20)
        hold.released.set()
        page.wait_for_url("**/comparisons/cmp_**")
    assert hold.count == 1
    seen = json.loads(page.evaluate("sessionStorage.getItem('seen')"))
    assert seen == ["Sent; waiting for the answer", "true", "true"]
    page.go_back()
    expect(button).to_be_enabled()


@pytest.fixture
def slow_run(evaluated: Any) -> Iterator[Any]:
    """A run that takes a minute if nobody ends it."""
    assay = evaluated.assay
    name = f"slow-{time.time_ns()}"
    assay.artifacts.create(
        name,
        model="scripted",
        backend="cpu",
        uri="scripted://answers",
        serving_parameters={"first_token": "1"},
    )
    run = assay.runs.start(artifact=name, dataset="questions", method="questions-qa")
    yield run
    assay.runs.cancel(run.id)


def test_a_running_evaluation_tells_what_it_waits_for_and_when_nobody_answers(
    on_full: Page, console: Console, evaluated: Any, slow_run: Any
) -> None:
    page = on_full
    page.goto(f"{console.url}/evaluations/{slow_run.id}")
    live = page.locator("#live")
    expect(live).to_contain_text(
        re.compile("Waiting for a worker|starting the model|not scored yet|Scores so far")
    )
    # The console itself is out of reach: said in place, and mended by itself.
    page.context.set_offline(True)
    alert = page.get_by_role("alert").filter(has_text="The console does not answer.")
    expect(alert).to_contain_text("What stands here may be old")
    assert_accessible(page)
    page.context.set_offline(False)
    expect(alert).to_have_count(0)
    # The platform is: said in place, with a way on, and not asked for again.
    with console.proxy.gone():
        expect(page.get_by_role("alert")).to_contain_text("The platform does not answer")
        expect(page.locator("[hx-trigger^=every]")).to_have_count(0)
        assert_fits_at_all_widths(page)
    page.get_by_role("link", name="Load the page again").click()
    expect(live).to_contain_text(re.compile("Provisioning|Running"))
    # The key has ended: to the sign-in page, and from there back.
    (key,) = [one for one in page.context.cookies() if one["name"] == "assay_key"]
    page.context.add_cookies([{**key, "value": "ended"}])  # type: ignore[typeddict-item]
    page.wait_for_url("**/sign-in?next=**")
    page.get_by_label("API key").fill(evaluated.api_key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**/evaluations/{slow_run.id}")


# When there is no answer, or an error.


def assert_tells(page: Page, answer: Response, *, status: int, title: str) -> None:
    """A whole page with the status says what happened, and leads on; it is protected like every other."""
    assert answer.status == status
    assert "script-src 'self'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "no-store"
    expect(page.get_by_role("heading", name=title, level=1)).to_be_visible()
    expect(page.get_by_role("navigation", name="Main")).to_be_visible()
    expect(page.get_by_role("main").get_by_role("link", name="System health")).to_be_visible()
    assert "/v1/" not in page.inner_text("body")


def test_without_a_gateway_pages_say_so_and_can_be_tried_again(
    on_full: Page, console: Console, evaluated: Any
) -> None:
    page = on_full
    address = f"{console.url}/evaluations?name={evaluated.base.name}"
    with console.proxy.gone():
        assert_tells(page, opened(page, address), status=503, title="The platform does not answer")
        assert_fits_at_all_widths(page)
        assert_accessible(page)
        assert opened(page, f"{console.url}/health").status == 200
        expect(page.get_by_role("alert").first).to_contain_text("4 of 4 services do not answer")
        opened(page, address)
    page.get_by_role("link", name="Try again").click()
    expect(page.get_by_role("link", name=shown_name(evaluated.base.name), exact=True)).to_be_visible()


def test_without_services_pages_say_so_until_they_are_back(
    on_empty: Page, console: Console, empty: Empty
) -> None:
    page = on_empty
    supervisor = psutil.Process(empty.platform.process.pid)
    supervisor.send_signal(signal.SIGSTOP)  # it would start them again
    try:
        killed = empty.platform.kill("services")
        answer = opened(page, f"{console.url}/comparisons")
        assert_tells(page, answer, status=503, title="The platform does not answer")
        expect(page.get_by_role("alert")).to_contain_text("try again in some seconds")
    finally:
        supervisor.send_signal(signal.SIGCONT)
    empty.platform.wait_for_successor("services", killed=killed)


def test_a_service_that_is_gone_takes_only_its_own_screens_with_it(on_full: Page, console: Console) -> None:
    page = on_full
    metrics = "/v1/(metrics|scorings|comparisons|policies|decisions|trends)"
    with console.proxy.answering(metrics, "503 No", PROBLEM, headers=PROBLEM_HEADERS):
        for path in ("comparisons", "decisions", "policies"):
            answer = opened(page, f"{console.url}/{path}")
            assert_tells(page, answer, status=503, title="The platform does not answer")
        opened(page, f"{console.url}/health")
        expect(page.get_by_role("row", name="Metrics and decisions Failing")).to_be_visible()
        expect(page.get_by_role("row", name="Datasets Answers")).to_be_visible()
        assert_fits_at_all_widths(page)
        for path in ("datasets", "methods", "artifacts", "evaluations"):
            assert opened(page, f"{console.url}/{path}").status == 200


@pytest.mark.parametrize(
    ("status", "title"),
    [
        (500, "The platform failed"),
        (502, "The platform does not answer"),
        (504, "The platform does not answer"),
        (413, "This is too large"),
        (429, "The platform has too much to do"),
        (418, "The platform refused this"),
    ],
)
def test_what_the_platform_refuses_is_told_in_words(
    on_full: Page, console: Console, status: int, title: str
) -> None:
    page = on_full
    with console.proxy.answering("GET /v1/methods", f"{status} No", PROBLEM, headers=PROBLEM_HEADERS):
        answer = opened(page, f"{console.url}/methods")
    assert_tells(page, answer, status=status, title=title)
    expect(page.get_by_role("alert")).to_have_text(re.compile("no more of <img src=x>\\s*Request r-1"))
    can_be_tried = status >= 500 or status == 429
    expect(page.get_by_role("link", name="Try again")).to_have_count(int(can_be_tried))
    assert_fits_at_all_widths(page)


def test_a_form_that_is_not_answered_leads_back_to_it(on_full: Page, console: Console) -> None:
    page = on_full
    page.goto(f"{console.url}/datasets/new")
    page.get_by_label("Name").fill("questions")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("alert")).to_contain_text("questions")
    expect(page.get_by_label("Name")).to_have_value("questions")
    page.goto(f"{console.url}/datasets/new")
    page.get_by_label("Name").fill("questions")
    with console.proxy.gone("POST /v1/datasets"), page.expect_navigation() as failed:
        page.get_by_role("button", name="Create").click()
    assert_tells(page, failed.value, status=503, title="The platform does not answer")
    page.get_by_role("main").get_by_role("link", name="Back").click()
    expect(page.get_by_label("Name")).to_be_visible()


def test_a_mistake_of_the_console_is_a_protected_page_too(on_full: Page, console: Console) -> None:
    page = on_full
    odd = json.dumps({"items": [{"id": "of another version"}], "next_cursor": None})
    headers = "Content-Type: application/json\r\n"
    with console.proxy.answering("GET /v1/backends", "200 OK", odd, headers=headers):
        answer = opened(page, f"{console.url}/health")
    assert_tells(page, answer, status=500, title="The console failed")
    assert_accessible(page)
    assert_fits_at_all_widths(page)


def addresses_with_parameters() -> list[str]:
    """Every page, part and file of the console that is of something, of which there is none."""
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, Route)]
    return sorted(
        {
            re.sub(r"\{[^}]*\}", "9", route.path.replace("{name}", "nothing"))
            for route in routes
            if route.param_convertors and "GET" in (route.methods or ())
        }
    )


def test_what_does_not_exist_is_told_at_every_address(on_full: Page, console: Console) -> None:
    page = on_full
    addresses = addresses_with_parameters()
    assert len(addresses) > 20
    for address in addresses:
        answer = page.request.get(f"{console.url}{address}")
        text = answer.text()
        assert answer.status in (404, 422), (address, answer.status)
        assert "script-src 'self'" in answer.headers["content-security-policy"], address
        assert answer.headers["content-type"].startswith("text/html"), address
        assert 'aria-label="Main"' in text, address
        assert "/v1/" not in text, (address, re.findall(r"[^<>]*/v1/[^<>]*", text))
    for address in ("/evaluations/9", "/comparisons/9", "/policies/nothing"):
        told = opened(page, f"{console.url}{address}")
        assert_tells(page, told, status=404, title="This does not exist")
    assert opened(page, f"{console.url}/sign-out").status == 404
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()


def test_a_key_that_has_ended_leads_to_signing_in_and_back(
    on_full: Page, console: Console, evaluated: Any
) -> None:
    page = on_full
    (key,) = [one for one in page.context.cookies() if one["name"] == "assay_key"]
    page.context.add_cookies([{**key, "value": "ended"}])  # type: ignore[typeddict-item]
    page.goto(f"{console.url}/trends?method_id={evaluated.method.id}")
    page.get_by_label("API key").fill(evaluated.api_key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**/trends?method_id={evaluated.method.id}")
