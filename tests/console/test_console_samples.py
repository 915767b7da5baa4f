"""Samples of an evaluation: pages of them by outcome, and one of them."""

import json
import re
from typing import Any
from urllib.parse import urlencode

import pytest
from console_looks import assert_accessible
from playwright.sync_api import Locator, Page, expect

from assay.models import Run

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

HOSTILE = [
    "<img src=x onerror=document.title='owned'>",
    '"><script>document.title="owned"</script>',
    "w" * 5000,
    "\N{RIGHT-TO-LEFT OVERRIDE}\N{HEBREW LETTER ALEF} turned round",
    "\N{PILE OF POO}" * 40,
    "{{7*7}} {% raw %}",
    "two\nlines",
]


@pytest.fixture(scope="module")
def hostile_run(evaluated: Any, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run over hostile rows of which every third request fails for good."""
    path = tmp_path_factory.mktemp("hostile") / "hostile.jsonl"
    rows = [{"input": text, "expected_output": text} for text in HOSTILE]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assay = evaluated.assay
    assay.datasets.create("hostile-samples")
    assay.datasets.upload("hostile-samples", path)
    assay.artifacts.create(
        "failing-sometimes",
        model="scripted",
        backend="cpu",
        uri="scripted://answers",
        serving_parameters={"fail": "busy@3"},
    )
    run = assay.runs.start(
        name="hostile-samples",
        artifact="failing-sometimes",
        dataset="hostile-samples",
        method="questions-qa",
        options={"max_retries": 0},
    )
    found: Run = assay.wait_run(run.id, timeout_s=60)
    assert found.state == "Succeeded", found.error
    assert 0 < found.progress.samples_failed < len(HOSTILE)
    return found


def open_samples(page: Page, evaluated: Any, run: Run, query: str = "") -> None:
    page.goto(f"{evaluated.url}/evaluations/{run.id}?tab=samples{query}")


def outcome_link(page: Page, outcome: str) -> Locator:
    """The way to the samples with this outcome."""
    return page.get_by_role("navigation", name="Outcome").get_by_role("link", name=outcome, exact=True)


def outcomes(page: Page) -> list[str]:
    """The outcome of every sample on the page."""
    rows = page.get_by_role("row").all()[1:]
    return [row.get_by_role("cell").first.inner_text() for row in rows]


def test_samples_are_paged(page: Page, evaluated: Any) -> None:
    open_samples(page, evaluated, evaluated.base)
    opened = page.get_by_role("link", name=re.compile(r"^Open sample \d+$"))
    expect(opened).to_have_count(50)
    first = set(opened.all_inner_texts())
    page.get_by_role("link", name="Next").click()
    expect(opened).to_have_count(10)
    assert len(first | set(opened.all_inner_texts())) == 60
    # What is on a later page opens, with its times.
    opened.first.click()
    expect(page.get_by_role("heading", name="Requests and their times")).to_be_visible()
    expect(page.get_by_role("row", name=re.compile("generate"))).to_contain_text("ms")
    page.get_by_role("link", name="Back to the list").click()
    expect(opened).to_have_count(10)
    page.get_by_role("link", name="To the beginning").click()
    expect(opened).to_have_count(50)


@pytest.mark.parametrize(("outcome", "count"), [("Right", 40), ("Wrong", 20)])
def test_samples_are_filtered_by_outcome(page: Page, evaluated: Any, outcome: str, count: int) -> None:
    open_samples(page, evaluated, evaluated.base)
    page.get_by_label("By metric").select_option("jsonl_qa.exact_match,strict")
    page.get_by_role("button", name="Filter").click()
    outcome_link(page, outcome).click()
    expect(page.get_by_role("row")).to_have_count(count + 1)
    assert set(outcomes(page)) == {outcome}
    assert_accessible(page)


def test_a_sample_has_prompt_response_target_extractions_and_times(page: Page, evaluated: Any) -> None:
    wanted = next(iter(evaluated.assay.runs.scored_samples(evaluated.base.id, limit=1)))
    open_samples(page, evaluated, evaluated.base)
    page.get_by_role("link", name=f"Open sample {wanted.index}", exact=True).click()
    expect(page.get_by_role("heading", name=f"Sample {wanted.index}", level=1)).to_be_visible()
    for label, text in (("Prompt", wanted.prompt), ("Response", wanted.response), ("Target", wanted.target)):
        assert page.get_by_label(label, exact=True).text_content() == text
    strict = page.get_by_role("row").filter(has=page.get_by_role("rowheader", name="strict", exact=True))
    expect(strict).to_contain_text("jsonl_qa.exact_match,strict")
    expect(strict).to_contain_text(str(wanted.filtered["strict"]))
    expect(page.get_by_role("row", name=re.compile("generate"))).to_be_visible()
    assert_accessible(page)
    heading = page.get_by_role("heading", level=1)
    before = heading.inner_text()
    page.get_by_role("link", name="Next").press("Enter")
    expect(heading).not_to_have_text(before)
    page.go_back()
    expect(heading).to_have_text(before)


def test_failed_samples_are_found_and_say_why(page: Page, evaluated: Any, hostile_run: Run) -> None:
    open_samples(page, evaluated, hostile_run)
    outcome_link(page, "Failed").click()
    expect(page.get_by_role("row")).to_have_count(hostile_run.progress.samples_failed + 1)
    assert set(outcomes(page)) == {"Failed"}
    page.get_by_role("link", name=re.compile("^Open sample")).first.click()
    expect(page.get_by_role("status").or_(page.get_by_role("alert")).first).to_be_visible()
    expect(page.get_by_text("error").first).to_be_visible()


def test_a_run_without_failures_says_so(page: Page, evaluated: Any) -> None:
    open_samples(page, evaluated, evaluated.base, "&outcome=failed")
    expect(page.get_by_text("No sample failed.")).to_be_visible()


def test_a_filter_that_the_platform_refuses_is_explained(page: Page, evaluated: Any) -> None:
    open_samples(page, evaluated, evaluated.base, "&cursor=nonsense")
    expect(page.get_by_role("alert")).to_contain_text("cursor")


@pytest.mark.parametrize("width", [390, 1280])
def test_hostile_samples_are_shown_and_nothing_is_executed(
    page: Page, evaluated: Any, hostile_run: Run, width: int
) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    for number, text in enumerate(HOSTILE):
        open_samples(page, evaluated, hostile_run)
        expect(page.get_by_role("row")).to_have_count(len(HOSTILE) + 1)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.get_by_role("link", name=f"Open sample {number}", exact=True).click()
        shown = page.get_by_label("Target", exact=True)
        assert shown.text_content() == text
        expect(page.get_by_role("row", name=re.compile("generate"))).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width, text[:40]
        assert "owned" not in page.title()


def test_a_sample_that_is_not_there_is_told(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/evaluations/{evaluated.base.id}/samples/99999")
    expect(page.get_by_role("heading", name="This does not exist")).to_be_visible()
    expect(page.get_by_text("No sample 99999 of this run has been scored")).to_be_visible()


def test_samples_are_found_by_text_and_the_outcome_keeps_it(page: Page, evaluated: Any) -> None:
    wanted = next(iter(evaluated.assay.runs.scored_samples(evaluated.base.id, limit=1)))
    open_samples(page, evaluated, evaluated.base)
    box = page.get_by_role("searchbox", name="Text")
    box.fill(wanted.prompt.strip().splitlines()[-1].upper())
    box.press("Enter")
    found = page.get_by_role("link", name=re.compile(r"^Open sample \d+$"))
    numbers = set(found.all_inner_texts())
    assert str(wanted.index) in numbers
    assert len(numbers) < 60
    assert_accessible(page)
    for outcome in ("Right", "Wrong"):
        outcome_link(page, outcome).click()
        expect(outcome_link(page, outcome)).to_have_attribute("aria-current", "true")
        expect(box).to_have_value(wanted.prompt.strip().splitlines()[-1].upper())
        assert set(found.all_inner_texts()) <= numbers
    box.fill("nothing of the kind is in any sample")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_text("No sample matches")).to_be_visible()
    page.get_by_role("link", name="Show all").click()
    expect(found).to_have_count(50)


def test_a_sample_of_any_page_is_opened_by_its_number(page: Page, evaluated: Any) -> None:
    listed = list(evaluated.assay.runs.scored_samples(evaluated.base.id))
    last = listed[-1]
    open_samples(page, evaluated, evaluated.base)
    page.get_by_label("Sample", exact=True).fill(str(last.index))
    page.get_by_role("button", name="Go").click()
    expect(page.get_by_role("heading", name=f"Sample {last.index}", level=1)).to_be_visible()
    assert page.get_by_label("Prompt", exact=True).text_content() == last.prompt
    expect(page.get_by_role("row", name=re.compile("generate"))).to_contain_text("ms")
    page.get_by_role("link", name="To the list").click()
    page.get_by_label("Sample", exact=True).fill("60")
    page.get_by_role("button", name="Go").click()
    expect(page.get_by_text("No sample 60 of this run has been scored")).to_be_visible()


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_searched_for_as_it_is(
    page: Page, evaluated: Any, hostile_run: Run, text: str
) -> None:
    open_samples(page, evaluated, hostile_run, "&" + urlencode({"search": text}))
    expect(page.get_by_role("row")).to_have_count(2)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert "owned" not in page.title()
