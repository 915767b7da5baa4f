"""What each role is offered in a browser, with real keys; and keys, for admins."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest
from console_looks import assert_accessible, assert_fits, assert_looks_right
from console_screens import SCREENS
from playwright.sync_api import BrowserContext, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

_FORMS_AMONG_SCREENS = (
    *("dataset-new", "dataset-data", "method-new", "artifact-new", "wizard-1", "wizard-2", "wizard-3"),
    "comparison-new",
)
FORMS: dict[str, Callable[[Any], str]] = {
    **{name: SCREENS[name] for name in _FORMS_AMONG_SCREENS},
    "dataset-delete": lambda on: f"/datasets/{on.dataset.id}/delete",
    "snapshot-delete": lambda on: f"/datasets/snapshots/{on.dataset.current_snapshot.id}/delete",
    "method-datasets": lambda on: "/methods/datasets",
    "method-version-new": lambda on: f"/methods/{on.method.id}/versions/new?dataset_id={on.dataset.id}",
    "clone": lambda on: f"/evaluations/new?clone_of={on.base.id}",
    "decision-new": lambda on: "/decisions/new",
    "policy-new": lambda on: "/policies/_new",
    "policy-version-new": lambda on: "/policies/default/versions/new",
}
"""Every page with a form that changes something."""

KEYS = ("/keys", "/keys/new")
READ = {name: address for name, address in SCREENS.items() if name not in {*FORMS, "keys"}}
MORE: dict[str, Callable[[Any], str]] = {
    "snapshot": lambda on: f"/datasets/snapshots/{on.dataset.current_snapshot.id}",
    "preview": lambda on: f"/methods/{on.method.id}?dataset_id={on.dataset.id}",
}


@dataclass(frozen=True, slots=True)
class Issued:
    """A key that was made for a test."""

    id: str
    name: str
    secret: str


@dataclass(frozen=True, slots=True)
class KeyMaker:
    """Makes keys by the API, as an admin."""

    api: httpx.Client

    def make(self, role: str) -> Issued:
        """A key with a name of its own that ends in an hour."""
        name = f"{role}-{uuid4().hex[:8]}"
        body = {
            "name": name,
            "role": role,
            "expires_at": (datetime.now(UTC) + timedelta(hours=1)).isoformat(),
        }
        answer = self.api.post("/v1/access/keys", json=body)
        assert answer.status_code == 201, answer.text
        made = answer.json()
        return Issued(id=made["id"], name=name, secret=made["secret"])


@pytest.fixture(scope="module")
def keys(evaluated: Any) -> Iterator[KeyMaker]:
    """Makes keys of the platform."""
    url = evaluated.url.removesuffix("/console")
    with httpx.Client(base_url=url, headers={"X-API-Key": evaluated.api_key}, trust_env=False) as api:
        yield KeyMaker(api)


def signed_in(context: BrowserContext, evaluated: Any, secret: str) -> Page:
    """A page of the holder of a key."""
    page = context.new_page()
    page.goto(f"{evaluated.url}/sign-in")
    page.get_by_label("API key").fill(secret)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/console/datasets")
    return page


def _forms_that_change(page: Page) -> list[str]:
    """Where forms of the page go that are not for reading, beside signing out."""
    return page.evaluate(  # type: ignore[no-any-return]
        """[...document.querySelectorAll('form[method=post], [hx-post], [formmethod=post]')]
            .map((one) => one.getAttribute('action') || one.outerHTML)
            .filter((action) => action !== '/console/sign-out')"""
    )


def _links(page: Page) -> set[str]:
    """Paths of all links and of forms for reading."""
    return set(
        page.evaluate(
            """[...document.querySelectorAll('a[href], form[action]')]
                .map((one) => one.getAttribute('href') || one.getAttribute('action'))
                .map((address) => new URL(address, location).pathname)"""
        )
    )


def _paths(addresses: dict[str, Callable[[Any], str]], evaluated: Any) -> set[str]:
    return {f"/console{address(evaluated).partition('?')[0]}" for address in addresses.values()}


def test_a_viewer_is_offered_nothing_that_changes_anything(
    context: BrowserContext, evaluated: Any, keys: KeyMaker
) -> None:
    key = keys.make("viewer")
    page = signed_in(context, evaluated, key.secret)
    forbidden = _paths(FORMS, evaluated) | {f"/console{path}" for path in KEYS}
    for name, address in {**READ, **MORE}.items():
        answer = page.goto(f"{evaluated.url}{address(evaluated)}", wait_until="networkidle")
        assert answer is not None
        assert answer.status == 200, (name, page.inner_text("body"))
        expect(page.get_by_role("navigation", name="Main")).to_contain_text(f"{key.name} Role: viewer")
        assert not _forms_that_change(page), name
        assert not _links(page) & forbidden, name
        assert_fits(page)
        if name in ("datasets", "evaluations", "comparison", "artifact"):  # they look otherwise to editors
            assert_accessible(page)


def test_every_form_opened_by_its_address_tells_a_viewer_who_may(
    context: BrowserContext, evaluated: Any, keys: KeyMaker
) -> None:
    key = keys.make("viewer")
    page = signed_in(context, evaluated, key.secret)
    for name, address in FORMS.items():
        answer = page.goto(f"{evaluated.url}{address(evaluated)}")
        assert answer is not None
        assert answer.status == 403, name
        expect(page.get_by_role("heading", name="Another role is needed", level=1)).to_be_visible()
        expect(page.get_by_role("status")).to_contain_text("This needs the role editor.")
        expect(page.get_by_role("status")).to_contain_text(f"as {key.name} with the role viewer")
        assert not _forms_that_change(page)
    assert_looks_right(page)
    page.get_by_role("link", name="Sign in with another key").click()
    page.get_by_label("API key").fill(keys.make("editor").secret)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="New Version", level=1)).to_be_visible()


def test_an_editor_is_offered_everything_but_keys(
    context: BrowserContext, evaluated: Any, keys: KeyMaker
) -> None:
    page = signed_in(context, evaluated, keys.make("editor").secret)
    for name, address in FORMS.items():
        answer = page.goto(f"{evaluated.url}{address(evaluated)}")
        assert answer is not None
        assert answer.status == 200, (name, page.inner_text("body"))
        assert not _links(page) & {f"/console{path}" for path in KEYS}, name
    for path in KEYS:
        answer = page.goto(f"{evaluated.url}{path}")
        assert answer is not None
        assert answer.status == 403
        expect(page.get_by_role("status")).to_contain_text("This needs the role admin.")


def test_an_editor_changes_things(context: BrowserContext, evaluated: Any, keys: KeyMaker) -> None:
    page = signed_in(context, evaluated, keys.make("editor").secret)
    page.get_by_role("link", name="Create Dataset").click()
    page.get_by_label("Name").fill(f"roles-{uuid4().hex[:8]}")
    page.get_by_role("main").get_by_role("button", name="Create").click()
    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Datasets", level=1)).to_be_visible()


def test_what_the_platform_forbids_is_told_with_the_role_of_now(
    context: BrowserContext, evaluated: Any, keys: KeyMaker
) -> None:
    key = keys.make("viewer")
    page = signed_in(context, evaluated, key.secret)
    (kept,) = [cookie for cookie in context.cookies() if cookie["name"] == "assay_role"]
    assert (kept["httpOnly"], kept["sameSite"], kept["path"]) == (True, "Strict", "/console")
    # As if the key had been an editor's when it signed in.
    context.add_cookies([{**kept, "value": kept["value"].replace("viewer", "admin", 1)}])  # type: ignore[list-item]
    page.goto(f"{evaluated.url}/datasets/new")
    page.get_by_label("Name").fill("forbidden")
    page.get_by_role("main").get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name="Another role is needed", level=1)).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text(f"as {key.name} with the role viewer")
    page.goto(f"{evaluated.url}/datasets")
    expect(page.get_by_role("link", name="Create Dataset")).to_have_count(0)
    page.goto(f"{evaluated.url}/keys")
    expect(page.get_by_role("status")).to_contain_text("This needs the role admin.")


def test_a_session_without_a_role_signs_in_again(page: Page, evaluated: Any) -> None:
    page.context.clear_cookies(name="assay_role")
    page.goto(f"{evaluated.url}/policies")
    page.get_by_label("API key").fill(evaluated.api_key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="Policies", level=1)).to_be_visible()


def test_an_admin_gives_rotates_and_revokes_a_key(
    page: Page, context: BrowserContext, evaluated: Any, keys: KeyMaker
) -> None:
    name = f"given-{uuid4().hex[:8]}"
    page.get_by_role("link", name="Keys").click()
    assert_looks_right(page)
    page.get_by_role("link", name="Create Key").first.click()
    assert_looks_right(page)
    page.get_by_label("Name").fill("no spaces allowed")
    page.get_by_role("button", name="Create Key").click()
    expect(page.get_by_text("Letters, digits, dots, dashes")).to_be_visible()
    page.get_by_label("Name").fill(name)
    page.get_by_label("Role").select_option("viewer")
    page.get_by_label("Last day").fill("2020-01-01")
    page.get_by_role("button", name="Create Key").click()
    expect(page.get_by_text("the time is over already").first).to_be_visible()
    page.get_by_label("Last day").fill("")
    page.get_by_role("button", name="Create Key").click()
    first = page.get_by_role("region", name=f"Key of {name}").locator("code").inner_text()
    assert_looks_right(page)
    page.get_by_role("button", name="Copy").click()
    assert page.evaluate("navigator.clipboard.readText()") == first

    page.get_by_role("main").get_by_role("link", name="Keys").last.click()
    expect(page.get_by_role("row", name=name)).to_contain_text("viewer")
    assert first not in page.content()
    page.get_by_role("link", name=name).click()
    assert_looks_right(page)
    page.get_by_label("The old secret ends").select_option(label="in an hour")
    page.get_by_role("button", name="Rotate").click()
    second = page.get_by_role("region", name=f"Key of {name}").locator("code").inner_text()
    assert second != first
    url = evaluated.url.removesuffix("/console")
    for secret in (first, second):
        answer = httpx.get(f"{url}/v1/access/me", headers={"X-API-Key": secret}, trust_env=False)
        assert (answer.status_code, answer.json()["client"]) == (200, name)

    page.get_by_role("main").get_by_role("link", name="Keys").last.click()
    page.get_by_role("link", name=name).click()
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_role("status")).to_contain_text(f"The key {name} was revoked.")
    expect(page.get_by_role("row", name=name)).to_contain_text("revoked")
    page.get_by_role("link", name=name).click()
    expect(page.get_by_role("button", name="Rotate")).to_have_count(0)
    assert_looks_right(page)


def test_an_admin_cannot_revoke_the_key_in_use(
    context: BrowserContext, evaluated: Any, keys: KeyMaker
) -> None:
    key = keys.make("admin")
    page = signed_in(context, evaluated, key.secret)
    page.get_by_role("link", name="Keys").click()
    expect(page.get_by_role("row", name=key.name)).to_contain_text("yours")
    page.get_by_role("link", name=key.name).click()
    expect(page.get_by_text("You are signed in with this key.")).to_be_visible()
    expect(page.get_by_role("button", name="Revoke")).to_have_count(0)
