"""Evaluations: the list, what one shows in its tabs, and what can be done with it."""

import csv
import re
from pathlib import Path
from typing import Any

import pytest
from console_looks import assert_accessible, shown_name
from playwright.sync_api import Locator, Page, expect

from assay.models import Run

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

HOSTILE = "\"><img src=x onerror=document.title='owned'>{{7*7}} \N{RIGHT-TO-LEFT OVERRIDE}" + "w" * 120


def open_run(page: Page, evaluated: Any, run: Run, tab: str = "") -> None:
    page.goto(f"{evaluated.url}/evaluations/{run.id}{f'?tab={tab}' if tab else ''}")
    expect(page.get_by_role("heading", name=run.name, level=1)).to_be_visible()


def row_of(page: Page, name: str) -> Locator:
    return page.get_by_role("row").filter(has=page.get_by_text(shown_name(name), exact=True)).first


def slow_run(evaluated: Any, *, name: str, artifact: str) -> Run:
    """A run of several seconds."""
    assay = evaluated.assay
    parameters = {"first_token": "0.25", "chunks": "1"}
    assay.artifacts.create(
        artifact,
        model="scripted",
        backend="cpu",
        uri="scripted://answers",
        serving_parameters=parameters,
    )
    run: Run = assay.runs.start(
        name=name,
        artifact=artifact,
        dataset="questions",
        method="questions-qa",
        options={"limit": 40, "concurrency": 2},
    )
    return run


def test_runs_are_chosen_in_the_list_and_compared(page: Page, evaluated: Any) -> None:
    page.get_by_role("link", name="Evaluations", exact=True).click()
    compare = page.get_by_role("button", name="Compare")
    expect(compare).to_be_disabled()
    expect(page.get_by_text("Select two or more runs below")).to_be_visible()
    page.get_by_label(f"Select {evaluated.base.name}").check()
    expect(page.get_by_text("Select one more run.")).to_be_visible()
    expect(compare).to_be_disabled()
    page.get_by_label(f"Select {evaluated.candidate.name}").check()
    compare.click()
    page.wait_for_url(re.compile("/comparisons/new"))
    assert f"run={evaluated.base.id}" in page.url
    assert f"run={evaluated.candidate.id}" in page.url


def test_the_list_shows_the_first_metric_with_its_error_and_is_narrowed_by_links(
    page: Page, evaluated: Any
) -> None:
    metrics = evaluated.assay.runs.metrics(evaluated.base.id)
    name = "jsonl_qa.exact_match,strict"
    stderr = metrics.quality["jsonl_qa.exact_match_stderr,strict"]
    page.goto(f"{evaluated.url}/evaluations?name={evaluated.base.name}")
    row = row_of(page, evaluated.base.name)
    expect(row).to_contain_text(f"{metrics.quality[name]:.4f} ± {stderr:.4f}")
    expect(row).to_contain_text(name)
    expect(row).to_contain_text("Succeeded")
    page.get_by_label("State").select_option("Failed")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_text("No evaluation matches")).to_be_visible()
    page.go_back()
    expect(row_of(page, evaluated.base.name)).to_be_visible()
    page.get_by_label("Name", exact=True).fill("")
    page.get_by_label("Dataset").select_option(label="questions")
    page.get_by_role("button", name="Filter").click()
    expect(row_of(page, evaluated.candidate.name)).to_be_visible()
    assert f"dataset_id={evaluated.dataset.id}" in page.url


def test_a_run_is_followed_cancelled_and_resumed(page: Page, evaluated: Any) -> None:
    run = slow_run(evaluated, name="followed", artifact="slow")
    page.on("dialog", lambda dialog: dialog.accept())
    page.goto(f"{evaluated.url}/evaluations?name={run.name}")
    expect(row_of(page, run.name)).to_contain_text("Running")
    expect(row_of(page, run.name)).to_contain_text(re.compile(r"[1-9]\d* / 40"))
    open_run(page, evaluated, run)
    expect(page.get_by_role("heading", name="Scores so far")).to_be_visible()
    expect(row_of(page, "jsonl_qa.exact_match,strict")).to_contain_text(re.compile(r"\d\.\d{4} to \d\.\d{4}"))
    page.get_by_role("button", name="Cancel").click()
    resume = page.get_by_role("button", name="Resume")
    expect(resume).to_be_visible()
    expect(page.get_by_text("Cancelled", exact=True)).to_be_visible()
    resume.click()
    # Nobody reloads: the page finds out by itself that the run is over.
    expect(page.get_by_role("link", name="Samples as CSV")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("40 / 40")).to_be_visible()


def test_an_action_that_is_not_possible_any_more_is_explained(page: Page, evaluated: Any) -> None:
    answer = page.context.request.post(
        f"{evaluated.url}/evaluations/{evaluated.base.id}/cancel", headers={"sec-fetch-site": "same-origin"}
    )
    assert answer.status == 409
    assert "Succeeded" in answer.text()


def test_quality_metrics_have_their_whole_names_and_errors(page: Page, evaluated: Any) -> None:
    metrics = evaluated.assay.runs.metrics(evaluated.base.id)
    open_run(page, evaluated, evaluated.base, "quality")
    for name in ("jsonl_qa.exact_match,strict", "jsonl_qa.exact_match,flexible"):
        stderr = metrics.quality[name.replace("exact_match", "exact_match_stderr")]
        row = row_of(page, name)
        expect(row).to_contain_text(f"{metrics.quality[name]:.4f}")
        expect(row).to_contain_text(f"{stderr:.4f}")
        expect(row).to_contain_text("60")
    assert_accessible(page)


def test_runtime_metrics_begin_with_the_seven_and_say_what_was_not_measured(
    page: Page, evaluated: Any
) -> None:
    open_run(page, evaluated, evaluated.base, "runtime")
    table = page.get_by_role("table", name="Runtime metrics that are looked for first")
    names = [text.split()[0] for text in table.get_by_role("rowheader").all_inner_texts()]
    assert names == ["ttftP50", "ttftP99", "itlP50", "itlP99", "tps", "power", "tokensPerWatt"]
    power = row_of(page, "power")
    expect(power).to_contain_text("not measured")
    reason = evaluated.assay.runs.metrics(evaluated.base.id).runtime_details["null_reasons"]["power"]
    expect(power).to_contain_text(reason.removeprefix("not measured: "))
    expect(row_of(page, "ttftP50")).to_contain_text("ms to")
    # Percentiles and distributions, of the first token and of the gaps.
    expect(page.locator("canvas")).to_have_count(4)
    page.get_by_text("As a table").first.click()
    expect(page.get_by_role("row", name=re.compile("^ttftP90 "))).to_have_count(2)
    expect(page.get_by_role("heading", name="Calibration and timing errors")).to_be_visible()
    expect(page.get_by_text("before the run")).to_be_visible()
    assert_accessible(page)


def test_charts_are_drawn_again_in_the_colours_of_the_other_theme(page: Page, evaluated: Any) -> None:
    open_run(page, evaluated, evaluated.base, "runtime")
    expect(page.locator("canvas")).to_have_count(4)
    marker = page.locator(".u-series .u-marker").nth(1)
    page.get_by_role("button", name="Colours").click()
    light = marker.evaluate("element => getComputedStyle(element).borderColor")
    page.get_by_role("button", name="Colours").click()
    expect(page.locator("canvas")).to_have_count(4)
    assert marker.evaluate("element => getComputedStyle(element).borderColor") != light


def test_the_plan_is_shown_with_its_hash_and_as_json(page: Page, evaluated: Any) -> None:
    open_run(page, evaluated, evaluated.base, "plan")
    expect(page.get_by_text(evaluated.base.plan.plan_hash, exact=True)).to_be_visible()
    expect(row_of(page, "concurrency")).to_contain_text("8")
    page.get_by_text("The whole plan").click()
    expect(page.get_by_label("The plan as JSON")).to_contain_text(f'"{evaluated.base.plan.plan_hash}"')
    page.get_by_role("button", name="Copy the plan hash").click()
    assert page.evaluate("navigator.clipboard.readText()") == evaluated.base.plan.plan_hash


def test_phases_and_exports_of_a_finished_run(page: Page, evaluated: Any, tmp_path: Path) -> None:
    open_run(page, evaluated, evaluated.base)
    for phase in ("Cold start", "Serving", "Drain"):
        expect(row_of(page, phase)).to_contain_text(re.compile(r"\d (µs|ms|s)"))
    for link, end in (
        ("Samples as CSV", "samples.csv"),
        ("Samples as Parquet", "samples.parquet"),
        ("lm-eval results", "lm-eval-results.json"),
        ("lm-eval samples", "lm-eval-samples.jsonl"),
        ("lm-eval directory", "lm-eval.zip"),
    ):
        with page.expect_download() as download:
            page.get_by_role("link", name=link).click()
        assert download.value.suggested_filename == f"{evaluated.base.id}-{end}"
        target = tmp_path / end
        download.value.save_as(target)
        assert target.stat().st_size > 100
    with (tmp_path / "samples.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 60
    assert_accessible(page)


def test_responses_are_scored_another_way(page: Page, evaluated: Any) -> None:
    open_run(page, evaluated, evaluated.base)
    page.get_by_text("Score the same responses with other filters").click()
    page.get_by_label("Filters").fill("no equals sign")
    page.get_by_role("button", name="Score", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("Line 1 of the filters")
    expect(page.get_by_label("Filters")).to_have_value("no equals sign")
    page.get_by_label("Filters").fill("mine = no-such-step")
    page.get_by_role("button", name="Score", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("'last-number'")
    page.get_by_label("Name").fill(HOSTILE)
    page.get_by_label("Filters").fill("first = first-line\nlower = strip-whitespace, lowercase")
    page.get_by_role("button", name="Score", exact=True).click()
    expect(page.get_by_role("navigation", name="Scores").get_by_text(HOSTILE)).to_be_visible()
    # The view is shown while it is being scored; its numbers appear without a reload.
    expect(row_of(page, "jsonl_qa.exact_match,lower")).to_contain_text("60")
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert "owned" not in page.title()
    open_run(page, evaluated, evaluated.base)
    expect(page.get_by_role("link", name=HOSTILE)).to_be_visible()
    expect(page.get_by_text("first = first-line; lower = strip-whitespace, lowercase")).to_be_visible()
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_run_that_failed_says_why_and_what_to_do(page: Page, evaluated: Any) -> None:
    evaluated.assay.artifacts.create(
        "absent", model="<b>{{7*7}}</b>", backend="cpu", uri="scripted://<script>document.title='owned'"
    )
    run = evaluated.assay.runs.start(
        name="unservable", artifact="absent", dataset="questions", method="questions-qa"
    )
    evaluated.assay.wait_run(run.id, timeout_s=60)
    open_run(page, evaluated, run)
    expect(page.get_by_text("serving-failed")).to_be_visible()
    expect(page.get_by_text("Check the artifact's address")).to_be_visible()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()
    expect(page.get_by_text("No serving instance has been started.")).to_be_visible()
    for tab, told in (
        ("quality", "There are no final scores"),
        ("runtime", "No runtime metrics"),
        ("samples", "No samples"),
        ("logs", "No log"),
    ):
        open_run(page, evaluated, run, tab)
        expect(page.get_by_text(told, exact=True).first).to_be_visible()
    assert "owned" not in page.title()
    clone = page.get_by_role("link", name="Clone onto another artifact")
    assert (clone.get_attribute("href") or "").endswith(f"/evaluations/new?clone_of={run.id}")


def test_filters_take_hostile_text(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/evaluations")
    page.get_by_label("Name", exact=True).fill(HOSTILE)
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_text("No evaluation matches")).to_be_visible()
    expect(page.get_by_label("Name", exact=True)).to_have_value(HOSTILE)
    assert "owned" not in page.title()
    page.get_by_role("link", name="Show all").first.click()
    expect(page.get_by_label(f"Select {evaluated.base.name}")).to_be_visible()
    assert_accessible(page)
