"""What all screens have around them: signing in, the sidebar, health, colours, errors; at both widths."""

from typing import Any

import pytest
from console_looks import assert_accessible, assert_fits
from playwright.sync_api import BrowserContext, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

WIDE = {"width": 1280, "height": 800}
NARROW = {"width": 390, "height": 844}
PAGES = ["health", "nowhere", "datasets/ds_nothing", "policies"]


@pytest.mark.parametrize("colours", ["light", "dark"])
def test_the_frame_is_accessible_and_fits(page: Page, evaluated: Any, colours: Any) -> None:
    page.emulate_media(color_scheme=colours)
    for size in (WIDE, NARROW):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        for path in PAGES:
            page.goto(f"{evaluated.url}/{path}")
            expect(page.get_by_role("heading", level=1)).to_have_count(1)
            assert page.evaluate("document.documentElement.dataset.bsTheme") == colours
            assert_fits(page)
            assert_accessible(page)


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_signing_in_is_accessible_and_fits(context: BrowserContext, evaluated: Any, size: Any) -> None:
    page = context.new_page()
    page.set_viewport_size(size)
    page.goto(f"{evaluated.url}/sign-in")
    expect(page.get_by_label("API key")).to_be_focused()
    assert_fits(page)
    assert_accessible(page)
    page.keyboard.type("no key")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("This is no API key")
    assert_fits(page)
    assert_accessible(page)


def test_signing_in_never_leads_to_another_site(context: BrowserContext, evaluated: Any) -> None:
    page = context.new_page()
    page.goto(f"{evaluated.url}/sign-in?next=//evil.example/console/")
    page.get_by_label("API key").fill(evaluated.api_key)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{evaluated.url}/datasets")


def test_the_key_is_out_of_reach_of_scripts(page: Page, evaluated: Any) -> None:
    assert evaluated.api_key not in page.evaluate("document.cookie")
    assert evaluated.api_key not in page.content()
    cookies = page.context.cookies()
    assert {cookie["name"] for cookie in cookies} == {"assay_key", "assay_role"}
    for cookie in cookies:
        assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Strict", "/console")


def test_the_sidebar_leads_to_every_screen_and_says_where_one_is(page: Page, evaluated: Any) -> None:
    sidebar = page.get_by_role("navigation", name="Main")
    names = [link.inner_text().strip() for link in sidebar.get_by_role("link").all()]
    assert names[1:] == [
        *("Datasets", "Methods", "Artifacts"),
        *("Evaluations", "Comparisons", "Decisions", "Policies", "Trends"),
        *("Health", "Keys"),
    ]
    for name in names[1:]:
        sidebar.get_by_role("link", name=name, exact=True).click()
        expect(sidebar.get_by_role("link", name=name, exact=True)).to_have_attribute("aria-current", "page")
        expect(page.get_by_role("heading", level=1)).to_have_count(1)
    page.go_back()
    expect(sidebar.get_by_role("link", name="Health")).to_have_attribute("aria-current", "page")


def test_the_sidebar_is_a_drawer_where_the_page_is_narrow(page: Page, evaluated: Any) -> None:
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    page.goto(f"{evaluated.url}/health")
    policies = page.get_by_role("link", name="Policies")
    expect(policies).to_be_hidden()
    page.get_by_role("button", name="Open the menu").click()
    expect(page.get_by_role("dialog", name="Main")).to_be_focused()
    expect(policies).to_be_visible()
    page.keyboard.press("Escape")
    expect(policies).to_be_hidden()
    page.get_by_role("button", name="Open the menu").click()
    policies.click()
    expect(page.get_by_role("heading", name="Policies", level=1)).to_be_visible()


def test_the_keyboard_skips_to_the_content(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/health")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("main")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Ask again")).to_be_focused()


def test_colours_are_chosen_and_kept(page: Page, evaluated: Any) -> None:
    page.emulate_media(color_scheme="light")
    switch = page.get_by_role("button", name="Colours")
    expect(switch).to_have_text("Colours: System")
    switch.click()
    expect(switch).to_have_text("Colours: Light")
    switch.click()
    expect(switch).to_have_text("Colours: Dark")
    page.goto(f"{evaluated.url}/health")
    expect(switch).to_have_text("Colours: Dark")
    assert page.evaluate("document.documentElement.dataset.bsTheme") == "dark"


def test_health_asks_every_part_and_every_backend(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/health")
    for part in ("Datasets", "Evaluation methods", "Evaluations and serving", "Metrics and decisions"):
        expect(page.get_by_role("row", name=f"{part} Answers")).to_be_visible()
    expect(page.get_by_role("row", name="cpu Healthy")).to_be_visible()


def test_wide_tables_are_scrolled_by_keyboard(page: Page, evaluated: Any) -> None:
    page.set_viewport_size(NARROW)  # type: ignore[arg-type]
    page.goto(f"{evaluated.url}/policies/default")
    scrolled = page.evaluate(
        """[...document.querySelectorAll('.table-wrap')].map(
            (one) => [one.scrollWidth > one.clientWidth, one.tabIndex === 0])"""
    )
    assert any(scrolls for scrolls, _ in scrolled)
    assert all(scrolls == is_stop for scrolls, is_stop in scrolled)


def test_errors_say_what_and_lead_on(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/policies/<img src=x onerror=document.title='owned'>")
    expect(page.get_by_role("heading", name="This does not exist")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("<img src=x onerror=document.title='owned'>")
    assert "owned" not in page.title()
    page.get_by_role("main").get_by_role("link", name="Datasets").click()
    expect(page.get_by_role("heading", name="Datasets", level=1)).to_be_visible()
