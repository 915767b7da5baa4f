"""Deciding under a policy, and what a decision shows."""

import re
from pathlib import Path
from typing import Any

import pytest
from console_looks import assert_accessible
from playwright.sync_api import Page, expect

from assay_evidence.bundle import verify_bundle

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

HOSTILE = "\"><img src=x onerror=document.title='owned'>"


def test_deciding_from_a_comparison_leads_to_the_verdict(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/comparisons/{evaluated.comparison.id}")
    page.get_by_label("Policy").select_option("default")
    page.get_by_role("button", name="Decide").click()
    verdict = page.get_by_role("region", name="Verdict")
    expect(verdict).to_contain_text(evaluated.decision.verdict)
    expect(verdict).to_contain_text(evaluated.decision.summary)
    # Deciding the same again finds the decision that is kept.
    assert page.url.endswith(evaluated.decision.id)
    for reason in evaluated.decision.reasons:
        expect(page.get_by_role("listitem").filter(has_text=reason.message).first).to_be_visible()
    expect(page.get_by_role("link", name="default version 1")).to_be_visible()
    page.get_by_role("link", name="Comparison", exact=True).click()
    expect(page.get_by_text("those of policy default@1")).to_be_visible()
    table = page.get_by_role("region", name="Decisions on these two runs")
    expect(table.get_by_role("row").filter(has_text="default@1")).to_contain_text(evaluated.decision.verdict)


def test_the_evidence_verifies_with_the_command_that_is_shown(
    page: Page, evaluated: Any, tmp_path: Path
) -> None:
    page.goto(f"{evaluated.url}/decisions/{evaluated.decision.id}")
    with page.expect_download() as started:
        page.get_by_role("link", name="evidence.zip").click()
    path = tmp_path / started.value.suggested_filename
    started.value.save_as(path)
    page.get_by_role("button", name="Copy").click()
    command = page.evaluate("navigator.clipboard.readText()").split()
    assert command[:4] == ["assay", "verify", "bundle", path.name]
    assert command[4] == "--digest"
    assert verify_bundle(path, expected_digest=command[5]).ok
    for name, beginning in (("report.html", b"<!"), ("report.md", b"#")):
        with page.expect_download() as started:
            page.get_by_role("link", name=name).click()
        started.value.save_as(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(beginning)


def test_decisions_are_listed_by_verdict(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/decisions")
    page.get_by_label("Verdict").select_option(evaluated.decision.verdict)
    page.get_by_role("button", name="Show").click()
    rows = page.get_by_role("region", name="Decisions").get_by_role("row")
    mine = rows.filter(has=page.get_by_role("link", name=evaluated.candidate.name))
    expect(mine.first).to_contain_text("candidate in place of base")
    mine.first.get_by_role("link", name="candidate in place of base").click()
    expect(page.get_by_role("region", name="Verdict")).to_be_visible()
    page.go_back()
    expect(page.get_by_label("Verdict")).to_have_value(evaluated.decision.verdict)
    page.goto(f"{evaluated.url}/decisions?candidate_run_id=run_of_nobody")
    expect(page.get_by_text("No decision matches")).to_be_visible()
    page.get_by_role("link", name="Show all").click()
    expect(page.get_by_label("Verdict")).to_have_value("")


def test_a_refused_decision_keeps_what_was_typed(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/decisions/new")
    page.get_by_label("Base", exact=True).fill(HOSTILE)
    page.get_by_label("Candidate").fill(evaluated.candidate.id)
    page.get_by_role("button", name="Decide").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Base", exact=True)).to_have_value(HOSTILE)
    expect(page).to_have_title(re.compile("^Decide"))
    assert_accessible(page)
    page.get_by_label("Base", exact=True).fill(evaluated.base.id)
    page.get_by_role("button", name="Decide").click()
    expect(page.get_by_role("region", name="Verdict")).to_contain_text(evaluated.decision.verdict)


def test_every_screen_is_accessible_and_keeps_its_width(page: Page, evaluated: Any) -> None:
    for address in ("/decisions", "/decisions/new", f"/decisions/{evaluated.decision.id}"):
        page.goto(f"{evaluated.url}{address}")
        assert_accessible(page)
        for width in (1280, 390):
            page.set_viewport_size({"width": width, "height": 800})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, f"{address} at {width}"
    page.emulate_media(color_scheme="dark")
    page.goto(f"{evaluated.url}/decisions/{evaluated.decision.id}")
    assert_accessible(page)


def test_a_decision_that_is_not_there_says_so(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/decisions/dec_of_nobody")
    expect(page.get_by_role("heading", name="This does not exist")).to_be_visible()
