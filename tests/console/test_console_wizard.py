"""The wizard in the browser: from a dataset to an evaluation, in three steps."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from console_looks import assert_accessible, assert_fits_at_all_widths
from playwright.sync_api import BrowserContext, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

HOSTILE = (
    "<img src=x onerror=document.title='owned'>\"><script>document.title='owned'</script> {{7*7}} שלום 🚀"
)


def third_step(evaluated: Any, **more: str) -> str:
    """The address of the third step for the questions."""
    query = {"dataset_id": evaluated.dataset.id, "method_id": evaluated.method.id, **more}
    return f"{evaluated.url}/evaluations/new?" + "&".join(f"{name}={value}" for name, value in query.items())


def artifact_id(evaluated: Any) -> str:
    """The base."""
    return str(evaluated.base.plan.artifact["id"])


@pytest.fixture(scope="module")
def foreign(evaluated: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A dataset whose columns are hostile, with a method that reads columns of theirs and one that cannot."""
    path = tmp_path_factory.mktemp("foreign") / "rows.jsonl"
    rows = [{"question": f"{HOSTILE} {number}?", HOSTILE: "x", "answer": str(number)} for number in range(8)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = evaluated.assay.datasets.create("foreign", description=HOSTILE)
    evaluated.assay.datasets.upload("foreign", path)
    recipe = {
        "template": "jsonl-qa-lm-eval",
        "input_field": "input",
        "expected_output_field": "expected_output",
    }
    evaluated.assay.methods.create(
        "topics", {**recipe, "prompt_template": "{{input}} about {{topic}}"}, description=HOSTILE
    )
    evaluated.assay.methods.create("science", {"template": "builtin-lm-eval", "task": "sciq"})
    return dataset


def test_three_steps_lead_to_an_evaluation(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/evaluations/new")
    expect(page.get_by_role("heading", name="Step 1. Select Dataset")).to_be_visible()
    assert_accessible(page)
    page.get_by_role("radio", name="questions", exact=True).check()
    page.get_by_role("button", name="Next: Select Evaluation Method").click()
    expect(page.get_by_role("heading", name="Step 2. Select Evaluation Method")).to_be_visible()
    page.get_by_role("radio", name="questions-qa").check()
    page.get_by_role("button", name="Next: Column mapping and run options").click()
    expect(page.get_by_role("heading", name="Step 3. Column mapping and run options")).to_be_visible()
    expect(page.get_by_label("expected_output")).to_have_value("expected_output")
    expect(page.get_by_label("Batch size")).to_have_value("1")
    expect(page.get_by_label("Concurrent request count")).to_have_value("1")
    page.get_by_label("Target artifact").select_option(artifact_id(evaluated))
    plan = page.get_by_role("complementary", name="Effective plan")
    expect(plan.get_by_text("Nothing differs from the method")).to_be_visible()
    page.get_by_label("Limit").fill("10")
    expect(plan.get_by_text("of 60 rows")).to_be_visible()
    expect(page.get_by_text("10 samples show a loss of accuracy from")).to_be_visible()
    page.get_by_label("Few-shot count").fill("2")
    expect(plan.get_by_text("2 examples from the evaluated rows")).to_be_visible()
    assert_accessible(page)
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url(re.compile(r"/console/evaluations/run_\w+$"))
    run = evaluated.assay.runs.get(page.url.rsplit("/", 1)[1])
    assert run.plan.options["limit"] == 10
    assert run.plan.options["num_fewshot"] == 2
    assert run.plan.artifact["id"] == artifact_id(evaluated)
    page.go_back()
    expect(page.get_by_role("heading", name="Step 3. Column mapping and run options")).to_be_visible()
    page.get_by_role("link", name="Select Dataset").click()
    expect(page.get_by_role("radio", name="questions", exact=True)).to_be_checked()


def test_a_form_that_is_sent_twice_starts_one_evaluation(page: Page, evaluated: Any) -> None:
    page.goto(third_step(evaluated, artifact_id=artifact_id(evaluated), **{"options.limit": "3"}))
    page.get_by_label("Limit").wait_for()
    body = page.evaluate(
        "new URLSearchParams(new FormData(document.getElementById('wizard-form'))).toString()"
    )
    headers = {"content-type": "application/x-www-form-urlencoded", "origin": evaluated.url.rsplit("/", 1)[0]}
    first, second = (
        page.request.post(
            f"{evaluated.url}/evaluations/new", data=body, headers=headers, max_redirects=0
        ).headers["location"]
        for _ in range(2)
    )
    assert first == second
    assert "/evaluations/run_" in first


def test_what_cannot_be_run_is_said_while_one_types_and_at_the_fields(page: Page, evaluated: Any) -> None:
    page.goto(third_step(evaluated, artifact_id=artifact_id(evaluated)))
    plan = page.get_by_role("complementary", name="Effective plan")
    expect(plan.get_by_text("Nothing differs")).to_be_visible()
    page.get_by_label("Limit").fill("0")
    expect(plan.get_by_text("This cannot be run as it is.")).to_be_visible()
    expect(page.get_by_label("Limit")).to_have_attribute("aria-invalid", "true")
    page.get_by_label("Concurrent request count").fill("many")
    page.get_by_text("Advanced options").click()
    page.get_by_label("Generation arguments").fill("temperature")
    page.get_by_label("NumPy seed").fill("7")
    expect(plan.get_by_text("Line 1 is no name=value")).to_be_visible()
    page.get_by_label("Generation arguments").fill("temperature=0.5")
    expect(plan.get_by_text("Concurrent request count")).to_be_visible()
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page.get_by_label("Concurrent request count")).to_have_attribute("aria-invalid", "true")
    expect(page.get_by_text("Input should be greater than or equal to 1", exact=True)).to_be_visible()
    page.get_by_text("Advanced options").wait_for()
    expect(page.get_by_label("NumPy seed")).to_have_value("7")
    expect(page.get_by_label("Generation arguments")).to_have_value("temperature=0.5")
    assert_accessible(page)


def test_a_finished_evaluation_is_repeated_on_another_artifact(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/evaluations/new?clone_of={evaluated.base.id}")
    expect(page.get_by_text("Filled from an evaluation that has been run.")).to_be_visible()
    expect(page.get_by_label("Concurrent request count")).to_have_value("8")
    expect(page.get_by_label("Target artifact")).to_have_value("")
    page.get_by_label("Target artifact").select_option(str(evaluated.candidate.plan.artifact["id"]))
    plan = page.get_by_role("complementary", name="Effective plan")
    expect(plan.get_by_title(evaluated.candidate.plan.plan_hash)).to_be_visible()
    page.get_by_text("Advanced options").click()
    page.get_by_label("Stop early against").select_option(evaluated.base.id)
    expect(plan.get_by_text("60 rows are too few to stop early")).to_be_visible()
    page.get_by_label("Stop early against").select_option("")
    expect(plan.get_by_title(evaluated.candidate.plan.plan_hash)).to_be_visible()


def test_only_fitting_methods_can_be_chosen_and_the_others_say_why(
    page: Page, evaluated: Any, foreign: Any
) -> None:
    page.goto(f"{evaluated.url}/evaluations/new?dataset_id={evaluated.dataset.id}")
    expect(page.get_by_role("radio", name="questions-qa")).to_be_enabled()
    for name, reason in (("topics", "it reads 'topic'"), ("science", "nothing was found for 'distractor1'")):
        expect(page.get_by_role("radio", name=name)).to_be_disabled()
        expect(page.get_by_role("row", name=name)).to_contain_text(f"Does not fit: {reason}")
    assert_accessible(page)
    assert_fits_at_all_widths(page)


def test_columns_under_other_names_are_mapped(page: Page, evaluated: Any, foreign: Any) -> None:
    page.goto(f"{evaluated.url}/evaluations/new?dataset_id={foreign.id}&artifact_id={artifact_id(evaluated)}")
    page.get_by_role("radio", name="questions-qa").check()
    expect(page.get_by_role("row", name="questions-qa")).to_contain_text("'input' from 'question'")
    page.get_by_role("button", name="Next: Column mapping and run options").click()
    expect(page.get_by_label("input", exact=True)).to_have_value("question")
    expect(page.get_by_label("expected_output")).to_have_value("answer")
    plan = page.get_by_role("complementary", name="Effective plan")
    expect(plan.get_by_text("input from question")).to_be_visible()
    page.get_by_label("expected_output").select_option(HOSTILE)
    expect(plan.get_by_text(f"expected_output from {HOSTILE}")).to_be_visible()
    assert_fits_at_all_widths(page)
    assert "owned" not in page.title()
    assert_accessible(page)


def test_the_wizard_works_without_scripts(context: BrowserContext, evaluated: Any) -> None:
    browser = context.browser
    assert browser is not None
    plain = browser.new_context(java_script_enabled=False)
    page = plain.new_page()
    page.goto(f"{evaluated.url}/sign-in")
    page.get_by_label("API key").fill(evaluated.api_key)
    page.get_by_role("button", name="Sign in").click()
    page.goto(third_step(evaluated))
    page.get_by_label("Target artifact").select_option(artifact_id(evaluated))
    page.get_by_label("Limit").fill("7")
    page.get_by_role("button", name="Show the plan").click()
    plan = page.get_by_role("complementary", name="Effective plan")
    expect(plan.get_by_text("of 60 rows")).to_be_visible()
    expect(page.get_by_label("Limit")).to_have_value("7")
    expect(page.get_by_text("7 samples")).to_be_visible()
    plain.close()


def test_where_nothing_is_yet_each_step_says_what_to_do(
    context: BrowserContext, platform_with: Callable[..., Any], tmp_path: Path
) -> None:
    platform = platform_with()
    found = json.loads((platform.home / "run" / "gateway.json").read_text())
    url = f"{found['url']}/console"
    page = context.new_page()
    page.goto(f"{url}/sign-in")
    page.get_by_label("API key").fill(Path(found["api_key_file"]).read_text().strip())
    page.get_by_role("button", name="Sign in").click()
    page.goto(f"{url}/artifacts")
    expect(page.get_by_text("No artifacts yet")).to_be_visible()
    page.goto(f"{url}/evaluations/new")
    expect(page.get_by_text("No datasets yet")).to_be_visible()
    expect(page.get_by_role("link", name="Create Dataset")).to_be_visible()
    with platform.client() as assay:
        dataset = assay.datasets.create("bare")
        page.goto(f"{url}/evaluations/new")
        expect(page.get_by_role("radio", name="bare")).to_be_disabled()
        expect(page.get_by_role("link", name="Add data")).to_be_visible()
        page.goto(f"{url}/evaluations/new?dataset_id={dataset.id}")
        expect(page.get_by_text("This dataset has no data yet")).to_be_visible()
        rows = tmp_path / "rows.jsonl"
        rows.write_text('{"input": "1 + 1", "expected_output": "2"}\n')
        assay.datasets.upload("bare", rows)
        page.reload()
        expect(page.get_by_text("No evaluation methods yet")).to_be_visible()
        expect(page.get_by_role("link", name="Create Evaluation Method").first).to_be_visible()
        fields = {"input_field": "input", "expected_output_field": "expected_output"}
        method = assay.methods.create("bare-qa", {"template": "jsonl-qa-lm-eval", **fields})
    page.goto(f"{url}/evaluations/new?dataset_id={dataset.id}&method_id={method.id}")
    expect(page.get_by_text("No artifacts yet")).to_be_visible()
    expect(page.get_by_role("link", name="Register Artifact")).to_be_visible()
    assert_accessible(page)
