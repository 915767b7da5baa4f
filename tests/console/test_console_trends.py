"""Trends: a metric of one method over artifacts and time."""

import json
from typing import Any

import pytest
from console_looks import assert_looks_right, shown_name
from playwright.sync_api import Locator, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]


def points_table(page: Page) -> Locator:
    """The table of the points; the charts' legends are tables as well."""
    return page.get_by_role("region", name="Evaluations").get_by_role("table")


def test_a_method_is_chosen_and_its_evaluations_are_drawn_and_listed(page: Page, evaluated: Any) -> None:
    page.get_by_role("link", name="Trends").click()
    expect(page.get_by_text("Its finished evaluations are then shown")).to_be_visible()
    assert_looks_right(page)
    page.get_by_label("Method").select_option(label="questions-qa")
    page.get_by_role("button", name="Show").click()
    rows = points_table(page).get_by_role("row")
    for run, artifact in ((evaluated.base, "base"), (evaluated.candidate, "candidate")):
        (point,) = [one for one in evaluated.assay.trends.list(evaluated.method.id) if one.run_id == run.id]
        row = rows.filter(has=page.get_by_role("link", name=shown_name(run.name)))
        expect(row).to_contain_text(f"{point.value:.4f} ± {point.stderr:.4f}")
        expect(row.get_by_role("link", name=artifact, exact=True)).to_be_visible()
        expect(row.get_by_role("link", name=shown_name(run.name))).to_have_attribute(
            "href", f"/console/evaluations/{run.id}"
        )
    for chart in page.get_by_role("img").all():
        expect(chart.locator("canvas")).to_be_visible()
    drawn = json.loads(page.get_by_role("img").first.get_attribute("data-chart") or "")
    assert len(drawn["x"]) == rows.count() - 1
    assert {one["label"] for one in drawn["series"]} >= {"base on cpu", "candidate on cpu"}
    assert_looks_right(page)


def test_a_metric_an_artifact_and_a_runtime_metric_are_chosen(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/trends?method_id={evaluated.method.id}")
    metrics = page.get_by_label("Quality metric")
    metric = metrics.get_by_role("option").last.inner_text()
    metrics.select_option(metric)
    page.get_by_label("Artifact", exact=True).select_option(label="candidate")
    page.get_by_label("Runtime metric").select_option("ttftP50")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("heading", name=metric)).to_be_visible()
    expect(page.get_by_role("heading", name="ttftP50")).to_contain_text("s")
    expect(page.get_by_role("columnheader", name="ttftP50 (s)")).to_be_visible()
    names = points_table(page).get_by_role("link", name="candidate", exact=True)
    expect(names).to_have_count(points_table(page).get_by_role("row").count() - 1)
    page.reload()
    expect(metrics).to_have_value(metric)


def test_nothing_in_that_time(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/trends?method_id={evaluated.method.id}")
    page.get_by_label("Until").fill("2020-01-31")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("No evaluation matches")).to_be_visible()
    assert_looks_right(page)
    page.get_by_role("link", name="Show all of this method").click()
    expect(points_table(page)).to_be_visible()


def test_a_method_without_evaluations(page: Page, evaluated: Any) -> None:
    recipe = {
        "template": "jsonl-qa-lm-eval",
        "input_field": "input",
        "expected_output_field": "expected_output",
    }
    hostile = evaluated.assay.methods.create(
        "f-unused", recipe, dataset="questions", description="<img src=x onerror=document.title='owned'>"
    )
    page.goto(f"{evaluated.url}/trends?method_id={hostile.id}")
    expect(page.get_by_text("No finished evaluation yet")).to_be_visible()
    assert "owned" not in page.title()
    assert_looks_right(page)
    evaluate = page.get_by_role("main").get_by_role("link", name="Evaluate")
    expect(evaluate).to_have_attribute("href", f"/console/evaluations/new?method_id={hostile.id}")


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("&metric=<b>nothing</b>", "has a metric '<b>nothing</b>'"),
        ("&since=yesterday", "'yesterday' is no time"),
    ],
)
def test_a_refusal_stands_at_its_field(page: Page, evaluated: Any, query: str, told: str) -> None:
    page.goto(f"{evaluated.url}/trends?method_id={evaluated.method.id}{query}")
    expect(page.get_by_role("alert")).to_contain_text(told)
    field = page.get_by_label("Quality metric" if "metric" in query else "Since")
    expect(field).to_have_attribute("aria-invalid", "true")
    assert_looks_right(page)
