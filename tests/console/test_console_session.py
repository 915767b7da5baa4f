"""Signing in and out, and pages that are not there."""

from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def test_who_is_not_signed_in_comes_back_to_the_page_that_was_asked_for(
    context: BrowserContext, evaluated: Any
) -> None:
    page = context.new_page()
    page.goto(f"{evaluated.url}/health")
    page.get_by_label("API key").fill("wrong")
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("alert")).to_contain_text("does not accept this key")
    page.get_by_label("API key").fill(evaluated.api_key)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("heading", name="System health")).to_be_visible()
    expect(page.get_by_role("row", name="Datasets Answers")).to_be_visible()


def test_signing_out_forgets_the_key(page: Page, evaluated: Any) -> None:
    page.get_by_role("button", name="Sign out").click()
    expect(page.get_by_label("API key")).to_be_visible()
    page.goto(f"{evaluated.url}/datasets")
    expect(page.get_by_label("API key")).to_be_visible()


def test_a_page_that_is_not_there_says_so(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/nowhere")
    expect(page.get_by_role("heading", name="There is no such page")).to_be_visible()
    page.goto(f"{evaluated.url}/datasets/ds_nothing")
    expect(page.get_by_role("heading", name="This does not exist")).to_be_visible()
