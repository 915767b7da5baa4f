"""Artifacts in the browser: the list, registering one, its key, its evaluations."""

import re
from typing import Any

import pytest
from console_looks import assert_accessible, assert_fits_at_all_widths, shown_name
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

HOSTILE = (
    "<img src=x onerror=document.title='owned'>\"><script>document.title='owned'</script> {{7*7}} שלום 🚀 "
)


def assert_harmless(page: Page) -> None:
    """Nothing of a hostile text was executed, and the page is no wider than the screen."""
    assert_fits_at_all_widths(page)
    assert "owned" not in page.title()
    expect(page.get_by_text("49", exact=True)).to_have_count(0)


def fill_registration(page: Page, name: str, **values: str) -> None:
    """Fill the form of Register Artifact but do not send it; ``values`` are by label, with _ for a space."""
    page.get_by_label("Name").fill(name)
    page.get_by_label("Model", exact=True).fill("scripted")
    page.get_by_label("Backend", exact=True).select_option("cpu")
    page.get_by_label("URI").fill("scripted://answers")
    for label, value in values.items():
        page.get_by_label(label.replace("_", " ")).fill(value)


def test_the_list_leads_to_an_artifact_and_its_evaluations(page: Page, evaluated: Any) -> None:
    page.get_by_role("link", name="Artifacts").click()
    expect(page.get_by_role("row", name="candidate scripted cpu gguf")).to_be_visible()
    assert_accessible(page)
    page.get_by_role("link", name="candidate", exact=True).click()
    expect(page.get_by_role("heading", name="candidate", exact=True)).to_be_visible()
    evaluations = page.get_by_role("region", name="Evaluations of this artifact")
    expect(evaluations.get_by_role("link", name=shown_name(evaluated.candidate.name))).to_be_visible()
    expect(evaluations.get_by_role("link", name=shown_name(evaluated.base.name))).to_have_count(0)
    assert_accessible(page)
    evaluate = page.get_by_role("link", name="Evaluate", exact=True)
    expect(evaluate).to_have_attribute(
        "href", f"/console/evaluations/new?artifact_id={evaluated.candidate.plan.artifact['id']}"
    )


def test_a_name_that_nothing_has_says_so_and_leads_back(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/artifacts")
    page.get_by_label("Name").fill("no-such-artifact")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("No artifact matches")).to_be_visible()
    page.get_by_role("link", name="Show all").first.click()
    expect(page.get_by_role("link", name="base", exact=True)).to_be_visible()


def test_a_refused_registration_keeps_what_was_typed_and_says_what_is_wrong(
    page: Page, evaluated: Any
) -> None:
    page.goto(f"{evaluated.url}/artifacts/new")
    assert_accessible(page)
    fill_registration(page, "refused", Format="onnx", Serving_parameters="bits=3", Endpoint_key="topsecret")
    page.get_by_role("button", name="Register Artifact").click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Model", exact=True)).to_have_value("scripted")
    expect(page.get_by_label("Endpoint key")).to_have_value("")
    assert "topsecret" not in page.content()
    page.get_by_label("Endpoint key").fill("")
    page.get_by_role("button", name="Register Artifact").click()
    expect(page.get_by_label("Format")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_label("Serving parameters")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_text(re.compile("^bits: unknown parameter"))).to_be_visible()
    page.get_by_label("Serving parameters").fill("bits")
    page.get_by_role("button", name="Register Artifact").click()
    expect(page.get_by_text("Line 1 is no name=value")).to_be_visible()
    assert_accessible(page)


def test_an_endpoint_is_registered_and_its_key_replaced_but_never_shown(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/artifacts/new")
    fill_registration(page, "theirs", Format="endpoint", Endpoint_key="first-secret")
    page.get_by_label("URI").fill("https://models.example.com/v1")
    page.get_by_label("Description").fill(HOSTILE + "W" * 5000)
    page.get_by_role("button", name="Register Artifact").click()
    expect(page.get_by_role("heading", name="theirs", exact=True)).to_be_visible()
    expect(page.get_by_text("A key is set.")).to_be_visible()
    expect(page.get_by_text("Not evaluated yet").or_(page.get_by_text("None among these"))).to_be_visible()
    assert_harmless(page)
    page.get_by_label("New endpoint key").fill("second-secret")
    page.get_by_role("button", name="Replace key").click()
    expect(page.get_by_text("The key was replaced.")).to_be_visible()
    for secret in ("first-secret", "second-secret"):
        assert secret not in page.content()
    page.get_by_label("New endpoint key").evaluate("field => { field.removeAttribute('maxlength') }")
    page.get_by_label("New endpoint key").fill("x" * 9000)
    page.get_by_role("button", name="Replace key").click()
    expect(page.get_by_label("New endpoint key")).to_have_attribute("aria-invalid", "true")
    assert_accessible(page)


def test_hostile_text_in_an_artifact_is_only_text(page: Page, evaluated: Any) -> None:
    artifact = evaluated.assay.artifacts.create(
        "hostile",
        model=HOSTILE + "M" * 100,
        backend="cpu",
        uri="scripted://" + HOSTILE + "U" * 1800,
        revision=HOSTILE,
        description=HOSTILE,
    )
    for path in ("artifacts", f"artifacts/{artifact.id}", f"evaluations/new?artifact_id={artifact.id}"):
        page.goto(f"{evaluated.url}/{path}")
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        assert_harmless(page)
    page.goto(
        f"{evaluated.url}/evaluations/new?dataset_id={evaluated.dataset.id}"
        f"&method_id={evaluated.method.id}&artifact_id={artifact.id}"
    )
    expect(page.get_by_text("hostile on cpu")).to_be_visible()
    assert_harmless(page)
