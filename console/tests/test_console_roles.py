"""What a key's role is offered: by routes, by templates, and where the role is not what it was."""

import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from fastapi.routing import APIRoute
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import nodes
from pydantic import HttpUrl
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

import assay_console
from assay_console.application import create_app
from assay_console.pages import Pages
from assay_console.roles import May, Role
from assay_console.screens import ROUTERS
from assay_console.settings import Settings
from assay_console.sign_in import (
    COOKIE,
    ROLE_COOKIE,
    SignedIn,
    administering_gateway,
    editing_gateway,
    remember,
    signed_in_of,
)

TEMPLATES = Path(assay_console.__file__).parent / "templates"
NAMES = sorted(path.relative_to(TEMPLATES).as_posix() for path in TEMPLATES.rglob("*.html"))
NEEDED = {editing_gateway: Role.EDITOR, administering_gateway: Role.ADMIN}
OWN_SESSION = {"sign_in_submit", "sign_out"}

FORM_PAGES = frozenset(
    name
    for name in NAMES
    if name.startswith(("wizard/", "keys/"))
    or name
    in {
        *("artifacts/new.html", "comparisons/new.html", "decisions/new.html", "policies/form.html"),
        *("datasets/new.html", "datasets/data.html", "datasets/delete.html"),
        *("methods/edit.html", "methods/editor_part.html", "methods/no_rows.html"),
        *("methods/preview_result.html", "methods/parts.html"),
        # Chooses a dataset, too: a viewer's choice is for a preview, and the handler sees to it.
        "methods/datasets.html",
    }
)
"""Templates that only pages have which nobody sees without the role: what they link to is offered."""


def _routes() -> Iterator[tuple[APIRoute, Role | None]]:
    """Every route with the role that its dependencies ask for."""
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            calls = [dependency.call for dependency in route.dependant.dependencies]
            yield route, next((role for call, role in NEEDED.items() if call in calls), None)


ROLE_OF_ROUTE = {route.name: role for route, role in _routes() if role}
FORMS = [route for route, role in _routes() if role and "GET" in route.methods]


def _address(route: APIRoute) -> str:
    return "/console" + re.sub(r"\{\w+\}", "x", route.path)


def _cookies(role: str, client: str = "somebody") -> dict[str, str]:
    return {"cookie": f"{COOKIE}=a-key; {ROLE_COOKIE}={role}:{quote(client, safe='')}"}


@asynccontextmanager
async def _console(api: Callable[[Request], Response]) -> AsyncIterator[httpx.AsyncClient]:
    """A browser on the console, behind which ``api`` answers every call."""

    async def answer(request: Request) -> Response:
        return api(request)

    methods = ["GET", "POST", "PUT", "DELETE"]
    behind = Starlette(routes=[Route("/{path:path}", answer, methods=methods)])
    app = create_app(Settings(gateway_url=HttpUrl("http://127.0.0.1:9")))
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(behind), base_url="http://platform.example") as http,
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://assay.example") as browser,
    ):
        app.state.http = http
        yield browser


def _nothing(request: Request) -> Response:
    pytest.fail(f"the platform was asked for {request.url.path}")


def _platform(
    role: str, *, client: str = "somebody", forbids: str = "/never"
) -> Callable[[Request], Response]:
    """The part of the platform that knows keys, and forbids everything under one path."""

    def answer(request: Request) -> Response:
        if request.url.path == "/v1/access/me":
            return JSONResponse({"client": client, "role": role, "prefix": "assay_x", "expires_at": None})
        if request.url.path.startswith(forbids):
            told = {
                "title": "Forbidden",
                "status": 403,
                "detail": "needs the role editor; this key is viewer",
            }
            return JSONResponse(told, status_code=403, media_type="application/problem+json")
        return JSONResponse({"items": [], "next_cursor": None})

    return answer


def test_roles_are_ordered() -> None:
    assert [[one.includes(other) for other in Role] for one in Role] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]
    assert [May.of(role) for role in (None, *Role)] == [
        May(),
        May(),
        May(edit=True),
        May(edit=True, administer=True),
    ]


@given(client=st.text(max_size=60), role=st.sampled_from(Role))
def test_who_is_signed_in_survives_the_cookie(client: str, role: Role) -> None:
    client = client.encode(errors="replace").decode()
    scope: dict[str, Any] = {
        "type": "http",
        "scheme": "http",
        "server": ("a", 80),
        "path": "/",
        "headers": [],
    }
    response = Response()
    remember(response, Request(scope), "a-key", SignedIn(client, role))
    sent = SimpleCookie("; ".join(v.decode() for n, v in response.raw_headers if n == b"set-cookie"))
    back = "; ".join(f"{name}={sent[name].coded_value}" for name in (COOKIE, ROLE_COOKIE))
    assert signed_in_of(Request(scope | {"headers": [(b"cookie", back.encode())]})) == SignedIn(client, role)


def test_whatever_takes_a_form_needs_a_role() -> None:
    taking = {route.name for route, _ in _routes() if "POST" in route.methods}
    assert taking - ROLE_OF_ROUTE.keys() == OWN_SESSION


@pytest.mark.parametrize("route", FORMS, ids=lambda route: str(route.name))
async def test_a_form_opened_by_its_address_says_which_role_it_needs(route: APIRoute) -> None:
    async with _console(_nothing) as browser:
        answer = await browser.get(_address(route), headers=_cookies("viewer"))
    assert answer.status_code == 403
    assert f"This needs the role {ROLE_OF_ROUTE[str(route.name)]}." in answer.text
    assert (
        "You are signed in as <strong>somebody</strong> with the role <strong>viewer</strong>" in answer.text
    )
    assert answer.text.count('method="post"') == 1  # signing out


@pytest.mark.parametrize("query", ["", "?method_id=x", "?method_id=x&purpose=version", "?purpose=preview"])
async def test_choosing_a_dataset_for_a_method_is_for_its_form(query: str) -> None:
    async with _console(_nothing) as browser:
        answer = await browser.get(f"/console/methods/datasets{query}", headers=_cookies("viewer"))
    assert answer.status_code == 403


async def test_a_part_of_a_form_is_told_as_a_part() -> None:
    async with _console(_nothing) as browser:
        headers = _cookies("viewer") | {"hx-request": "true"}
        answer = await browser.post("/console/evaluations/new/plan", headers=headers)
    assert answer.status_code == 200
    assert "This needs the role editor." in answer.text
    assert "<html" not in answer.text


@pytest.mark.parametrize("cookie", ["", "root:somebody", "Admin:somebody", "editor", ":x", "viewer editor:x"])
async def test_a_role_that_is_missing_or_none_asks_for_signing_in(cookie: str) -> None:
    headers = {"cookie": f"{COOKIE}=a-key; {ROLE_COOKIE}={cookie}" if cookie else f"{COOKIE}=a-key"}
    async with _console(_nothing) as browser:
        answer = await browser.get("/console/policies", headers=headers)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/console/sign-in?next=%2Fconsole%2Fpolicies"


@pytest.mark.parametrize("role", Role)
async def test_signing_in_remembers_what_the_platform_says_of_the_key(role: Role) -> None:
    async with _console(_platform(role, client="Zoë <b>")) as browser:
        answer = await browser.post("/console/sign-in", data={"api_key": "a-key"})
        assert answer.headers["location"] == "/console/datasets"
        key, kept = answer.headers.get_list("set-cookie")
        assert kept.startswith(f"{ROLE_COOKIE}={role}:Zo%C3%AB%20%3Cb%3E;")
        assert kept.partition(";")[2] == key.partition(";")[2]
        page = await browser.get("/console/policies")
    assert f"<strong>Zoë &lt;b&gt;</strong> Role: {role}" in page.text
    assert ("Create Policy" in page.text) == (role != "viewer")
    assert ("Ask somebody with the role editor" in page.text) == (role == "viewer")


async def test_a_role_that_the_console_does_not_know_is_not_signed_in() -> None:
    async with _console(_platform("owner")) as browser:
        answer = await browser.post("/console/sign-in", data={"api_key": "a-key"})
    assert answer.status_code == 503
    assert "set-cookie" not in answer.headers


async def test_a_role_that_is_less_than_it_was_is_told_and_remembered() -> None:
    async with _console(_platform("viewer", forbids="/v1/datasets")) as browser:
        form = {"name": "a"}
        answer = await browser.post("/console/datasets", data=form, headers=_cookies("editor"))
    assert answer.status_code == 403
    assert "needs the role editor; this key is viewer" in answer.text
    assert "with the role <strong>viewer</strong>" in answer.text
    assert any(one.startswith(f"{ROLE_COOKIE}=viewer:") for one in answer.headers.get_list("set-cookie"))


async def test_nobody_is_offered_anything_where_nobody_is_signed_in() -> None:
    async with _console(_nothing) as browser:
        answer = await browser.get("/console/nowhere")
    assert answer.status_code == 404
    assert "Role:" not in answer.text


def _asks_whether(test: nodes.Node, what: str) -> bool:
    """Whether a condition holds only where ``may.<what>`` does."""
    if isinstance(test, nodes.And):
        return _asks_whether(test.left, what) or _asks_whether(test.right, what)
    return isinstance(test, nodes.Getattr) and test.attr == what and _is_may(test.node)


def _is_may(node: nodes.Node) -> bool:
    return isinstance(node, nodes.Name) and node.name == "may"


def _offered(node: nodes.Node, may: frozenset[str]) -> Iterator[tuple[nodes.Node, frozenset[str]]]:
    """Every node of a template with what is known of ``may`` where it stands."""
    yield node, may
    if isinstance(node, nodes.If):
        inside = may | {what for what in ("edit", "administer") if _asks_whether(node.test, what)}
        # {% if not may.edit %} ... {% else %}
        refused = isinstance(node.test, nodes.Not) and _asks_whether(node.test.node, "edit")
        beside = may | {"edit"} if refused else may
        for part, known in ((node.body, inside), (node.elif_, beside), (node.else_, beside)):
            for child in part:
                yield from _offered(child, known)
        return
    for child in node.iter_child_nodes():
        yield from _offered(child, may)


@pytest.mark.parametrize("name", sorted(set(NAMES) - FORM_PAGES))
def test_ways_to_forms_are_offered_only_to_who_may(name: str) -> None:
    source = (TEMPLATES / name).read_text(encoding="utf-8")
    tree = Pages()._environment.parse(source, name=name)
    for node, may in _offered(tree, frozenset()):
        if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name == "path":
            routes = {const.value for const in node.args[0].find_all(nodes.Const)} | (
                {node.args[0].value} if isinstance(node.args[0], nodes.Const) else set()
            )
            for needed in {ROLE_OF_ROUTE.get(str(route)) for route in routes} - {None}:
                asked = "administer" if needed is Role.ADMIN else "edit"
                assert asked in may, f"line {node.lineno}: {sorted(routes)} is offered to everybody"


def test_templates_name_no_roles() -> None:
    named = re.compile(rf"['\"]({'|'.join(Role)})['\"]", re.IGNORECASE)
    for name in NAMES:
        for expression in re.findall(r"\{[{%].*?[%}]\}", (TEMPLATES / name).read_text(encoding="utf-8")):
            assert not named.search(expression), f"{name}: {expression[:80]}"
