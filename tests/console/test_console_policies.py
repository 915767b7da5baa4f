"""Policies: reading them, making one, its versions, and refusals that name the line."""

from typing import Any

import pytest
from console_looks import assert_looks_right
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

STRICT = """\
name: {name}
description: {description}
quality:
  - metric: "*.exact_match,strict*"
    margin: 0.015
    order: 1
  - metric: "*"
    role: supporting
    margin: 0.05
    margin_kind: relative
runtime:
  - metric: ttftP50
    max_ratio: 1.1
min_samples: 200
"""
HOSTILE = (
    "<img src=x onerror=document.title='owned'> {{7*7}} \"><script>document.title='owned'</script> שלום 🦙 "
)


def test_the_list_says_what_each_policy_demands(page: Page, evaluated: Any) -> None:
    page.get_by_role("link", name="Policies").click()
    row = page.get_by_role("row").filter(has=page.get_by_role("link", name="default", exact=True))
    expect(row).to_contain_text("Every metric of the run's own task: not worse by 0.02.")
    assert_looks_right(page)
    row.get_by_role("link").click()
    expect(page.get_by_role("heading", name="default", level=1)).to_be_visible()
    expect(page.get_by_role("row", name="Paired samples at least 100")).to_be_visible()
    assert_looks_right(page)


def test_a_policy_is_made_from_the_example_and_grows_versions(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/policies")
    page.get_by_role("link", name="Create Policy").click()
    editor = page.get_by_label("Policy document")
    assert "coverage_floor" in editor.input_value()
    assert_looks_right(page)
    editor.fill(STRICT.format(name="f-strict", description="Few losses"))
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("status")).to_contain_text("Version 1 is kept")
    rule = page.get_by_role("row").filter(has_text="*.exact_match,strict*")
    expect(rule).to_contain_text("not worse by 0.015")
    expect(rule).to_contain_text("order 1")
    expect(rule).to_contain_text("critical")
    expect(page.get_by_role("row", name="ttftP50 Runtime at most 1.1 × the base")).to_be_visible()
    expect(page.get_by_role("row").filter(has_text="supporting")).to_contain_text(
        "not worse by 5.0 % of the base's score"
    )
    page.get_by_role("link", name="New Version").click()
    text = editor.input_value()
    assert "min_samples: 200" in text
    editor.fill(text.replace("min_samples: 200", "min_samples: 400"))
    page.get_by_role("button", name="Keep as Version 2").click()
    expect(page.get_by_role("row", name="Paired samples at least 400")).to_be_visible()
    page.get_by_role("link", name="Version 1", exact=True).click()
    expect(page).to_have_url(f"{evaluated.url}/policies/f-strict?version=1")
    expect(page.get_by_role("row", name="Paired samples at least 200")).to_be_visible()
    expect(page.get_by_role("status")).to_contain_text("The newest is version 2")
    assert_looks_right(page)
    page.go_back()
    expect(page.get_by_role("row", name="Paired samples at least 400")).to_be_visible()


def test_a_version_that_says_the_same_is_none(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/policies/default/versions/new")
    page.get_by_role("button", name="Keep as Version 2").click()
    expect(page.get_by_role("status")).to_contain_text("Version 1 says the same already")


@pytest.mark.parametrize(
    ("document", "told"),
    [
        (
            "name: f-x\nquality:\n  - metric: '*'\n    margin: 2\n",
            ["Line 4", "quality.0.margin: Input should be"],
        ),
        ("name: f-x\nquality:\n  - metric: '*'\n", ["Line 3", "quality.0.margin: Field required"]),
        ("name: f-x\nalpah: 1\nquality: [{metric: '*', margin: 0.02}]\n", ["Line 2", "alpah: Extra inputs"]),
        ('{\n\t"name": "f-x",\n\t"quality": "all"\n}', ["Line 3", "quality: Input should be a valid list"]),
        ("name: [f-x\nquality: a", ["Line 2", "This is no YAML"]),
        ("name: a\nname: b\n", ["Line 2", "'name' is given twice"]),
        ("name: &x a\ndescription: *x\n", ["Line 2", "no aliases"]),
        ("just a text", ["no names and values"]),
        ("name: default\nquality: [{metric: '*', margin: 0.02}]", ["Line 1", "a policy default already"]),
        (
            "quality: [{metric: '*', margin: 0.02, role: advisory}]\nname: f-x",
            ["no quality rule is critical"],
        ),
    ],
)
def test_a_refusal_names_the_line(page: Page, evaluated: Any, document: str, told: list[str]) -> None:
    page.goto(f"{evaluated.url}/policies/_new")
    page.get_by_label("Policy document").fill(document)
    page.get_by_role("button", name="Create").click()
    alert = page.get_by_role("alert")
    for text in told:
        expect(alert).to_contain_text(text)
    expect(alert).to_be_focused()
    expect(page.get_by_label("Policy document")).to_have_value(document)


def test_a_fault_leads_to_its_line(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/policies/_new")
    editor = page.get_by_label("Policy document")
    editor.fill("name: f-x\nquality:\n  - metric: '*'\n    margin: 2\n")
    page.get_by_role("button", name="Create").click()
    assert_looks_right(page)
    page.get_by_role("link", name="Line 4").click()
    expect(editor).to_be_focused()
    assert editor.evaluate("(e) => e.value.slice(e.selectionStart, e.selectionEnd)") == "    margin: 2"


def test_a_version_keeps_the_name_of_its_policy(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/policies/default/versions/new")
    editor = page.get_by_label("Policy document")
    editor.fill(editor.input_value().replace("name: default", "name: other"))
    page.get_by_role("button", name="Keep as Version 2").click()
    expect(page.get_by_role("alert")).to_contain_text("write “name: default”")


def test_hostile_texts_are_texts(page: Page, evaluated: Any) -> None:
    description = HOSTILE + "x" * 5000
    policy = evaluated.assay.policies.create(
        {
            "name": "f-hostile",
            "description": description,
            "quality": [{"metric": f"*{HOSTILE}*", "margin": 0.02}, {"metric": "y" * 300, "margin": 0.05}],
            "allowed_plan_differences": [HOSTILE, "z" * 1000],
        }
    )
    for path in ("policies", f"policies/{policy.name}", f"policies/{policy.name}/versions/new"):
        page.goto(f"{evaluated.url}/{path}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert_looks_right(page)
        assert "owned" not in page.title()
    # What the form was given is what the platform has: keeping it changes nothing.
    page.get_by_role("button", name="Keep as Version 2").click()
    expect(page.get_by_role("status")).to_contain_text("says the same already")


def test_a_policy_or_a_version_that_is_not_there(page: Page, evaluated: Any) -> None:
    for path in ("policies/nobody", "policies/default?version=99", "policies/default?version=x"):
        page.goto(f"{evaluated.url}/{path}")
        expect(page.get_by_role("heading", name="This does not exist")).to_be_visible()
