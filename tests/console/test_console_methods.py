"""Evaluation methods: the list, the form that the API describes, the live preview, versions."""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from console_looks import assert_accessible
from playwright.sync_api import Browser, Locator, Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

HOSTILE = "<img src=x onerror=document.title='owned'>"
HOSTILE_ROWS = [
    {
        "input": f"{HOSTILE} \"><script>document.title='owned'</script> {{{{7*7}}}} שלום 🚀",
        "expected_output": "W" * 5000,
        f"{HOSTILE}{{{{7*7}}}}": "x",
    },
    {"input": "</pre>" + "y" * 5000, "expected_output": "</textarea><b>", f"{HOSTILE}{{{{7*7}}}}": "x"},
]
FITS = "document.documentElement.scrollWidth <= innerWidth"


@pytest.fixture
def upload(evaluated: Any, tmp_path: Path) -> Callable[[str, Sequence[Mapping[str, Any]]], str]:
    """Makes a dataset of rows and answers its id."""

    def make(name: str, rows: Sequence[Mapping[str, Any]]) -> str:
        made = evaluated.assay.datasets.create(name)
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        evaluated.assay.datasets.upload(name, path)
        return str(made.id)

    return make


@pytest.fixture(scope="module")
def hub_dataset(evaluated: Any) -> str:
    """The id of a dataset that was imported from the hub: openai/gsm8k."""
    made = evaluated.assay.datasets.create("methods-gsm8k")
    job = evaluated.assay.ingests.start(
        "methods-gsm8k", repo_id="openai/gsm8k", subset="main", split="test", revision="main"
    )
    done = evaluated.assay.wait_ingest(job.id)
    assert done.state == "Succeeded", done.error
    return str(made.id)


def open_form(page: Page, evaluated: Any, dataset_id: str, more: str = "") -> None:
    page.goto(f"{evaluated.url}/methods/new?dataset_id={dataset_id}{more}")
    expect(page.get_by_role("heading", name="Create Evaluation Method")).to_be_visible()


def preview(page: Page) -> Locator:
    return page.get_by_role("region", name="Preview", exact=True)


def prompt(page: Page) -> Locator:
    return page.get_by_role("region", name="Prompt", exact=True)


def test_a_method_for_uploaded_rows_is_made_from_its_dataset(page: Page, evaluated: Any) -> None:
    page.get_by_role("link", name="Methods").click()
    page.get_by_role("link", name="Create Evaluation Method").click()
    page.get_by_role("link", name="questions", exact=True).click()
    page.get_by_label("Name", exact=True).fill("methods-jsonl")
    expect(page.get_by_label("Evaluation Method template")).to_have_value("jsonl-qa-lm-eval")
    expect(page.get_by_label("Input field")).to_have_value("input")
    expect(page.get_by_label("Expected output field")).to_have_value("expected_output")
    expect(page.get_by_label("Task", exact=True)).to_have_count(0)
    expect(preview(page)).to_contain_text("Question 0: how many?")

    page.get_by_label("Prompt template").fill("Count. {{input}} =")
    expect(prompt(page)).to_contain_text("Count. Question 0: how many? =")
    page.get_by_role("button", name="Next row").click()
    expect(prompt(page)).to_contain_text("Count. Question 1: how many? =")
    expect(page.get_by_label("Row", exact=True)).to_have_value("1")
    page.get_by_label("Few-shot count").fill("2")
    expect(page.get_by_text("Example 2 of 2")).to_be_visible()
    expect(page.get_by_text("Question of this row")).to_be_visible()
    expect(page.get_by_label("Row", exact=True)).to_have_value("1")
    shown = evaluated.assay.methods.preview(
        {
            "template": "jsonl-qa-lm-eval",
            "input_field": "input",
            "expected_output_field": "expected_output",
            "prompt_template": "Count. {{input}} =",
        },
        "questions",
        offset=1,
        rows=1,
        num_fewshot=2,
    ).items[0]
    parts = prompt(page).locator("pre").all()
    assert "".join(part.text_content() or "" for part in parts) == shown.prompt
    page.get_by_text("Hashes that a run records").click()
    expect(preview(page)).to_contain_text(shown.prompt_hash)

    page.get_by_text("More settings").click()
    expect(page.get_by_label("Stop texts")).to_have_value('"\\n\\n"')
    page.get_by_label("Stop texts").fill('"\\n\\n"\nQuestion:')
    page.get_by_label("Longest answer (tokens)").fill("8")
    page.get_by_role("button", name="Create Evaluation Method").click()
    expect(page.get_by_role("heading", name="methods-jsonl")).to_be_visible()
    recipe = evaluated.assay.methods.get("methods-jsonl").recipe
    assert recipe["prompt_template"] == "Count. {{input}} ="
    assert (recipe["stop"], recipe["max_tokens"]) == (["\n\n", "Question:"], 8)
    assert (recipe["target_delimiter"], recipe["fewshot_delimiter"]) == (" ", "\n\n")
    expect(prompt(page)).to_contain_text("Count. Question 0: how many? =")
    expect(page.get_by_role("link", name="Eval", exact=True)).to_have_attribute(
        "href", re.compile(r"/evaluations/new\?method_id=mth_.*dataset_id=ds_")
    )


def test_rows_of_the_hub_have_another_form_with_their_task_filled_in(
    page: Page, evaluated: Any, hub_dataset: str
) -> None:
    open_form(page, evaluated, hub_dataset)
    expect(page.get_by_label("Evaluation Method template")).to_have_value("builtin-lm-eval")
    expect(page.get_by_label("Task", exact=True)).to_have_value("gsm8k")
    expect(page.get_by_label("Input field")).to_have_count(0)
    expect(page.get_by_text("HF dataset, split test, 8 rows")).to_be_visible()
    expect(page.get_by_text("Example 5 of 5")).to_be_visible()
    expect(prompt(page)).to_contain_text("1 apples and 2 more?")
    assert_accessible(page)

    # The other template has another form, and what was typed stays.
    page.get_by_label("Name", exact=True).fill("methods-hub")
    page.get_by_label("Evaluation Method template").select_option(label="JSONL QA lm-eval")
    expect(page.get_by_label("Input field")).to_have_value("question")
    expect(page.get_by_label("Name", exact=True)).to_have_value("methods-hub")
    expect(page).to_have_url(re.compile(r"template=jsonl-qa-lm-eval"))
    page.get_by_label("Evaluation Method template").select_option(label="Built-in-lm-eval")
    expect(page.get_by_label("Task", exact=True)).to_have_value("gsm8k")
    page.get_by_role("button", name="Create Evaluation Method").click()
    expect(page.get_by_role("heading", name="methods-hub")).to_be_visible()
    assert evaluated.assay.methods.get("methods-hub").recipe == {
        "template": "builtin-lm-eval",
        "task": "gsm8k",
    }


def test_a_task_is_searched_and_chosen_by_keyboard(page: Page, evaluated: Any, upload: Any) -> None:
    dataset_id = upload(
        "methods-renamed", [{"problem": f"{one}+1?", "solution": f"#### {one + 1}"} for one in range(8)]
    )
    open_form(page, evaluated, dataset_id, "&template=builtin-lm-eval")
    expect(preview(page)).to_contain_text("Fill in: Task.")
    task = page.get_by_role("combobox", name="Task")
    task.press_sequentially("20_news")
    blocked = page.get_by_role("option", name="20_newsgroups")
    expect(blocked).to_contain_text("cannot be given registered ones")
    expect(blocked).to_have_attribute("aria-disabled", "true")
    task.press("ArrowDown")
    task.press("Enter")
    expect(task).to_have_value("20_news")
    task.fill("gsm8")
    expect(page.get_by_role("option", name="gsm8k", exact=False).first).to_be_visible()
    expect(page.get_by_role("option", name="20_newsgroups")).to_have_count(0)
    task.press("ArrowDown")
    expect(task).to_have_attribute("aria-activedescendant", "task-option-1")
    assert_accessible(page)
    task.press("Enter")
    expect(task).to_have_value("gsm8k")
    expect(page.get_by_role("listbox")).to_be_hidden()
    expect(page.get_by_label("question from")).to_have_value("problem")
    expect(page.get_by_text("Example 5 of 5")).to_be_visible()
    expect(prompt(page)).to_contain_text("Question: 0+1?")

    # The mapping is the user's: another column shows in the prompt.
    page.get_by_label("question from").select_option("solution")
    expect(prompt(page)).not_to_contain_text("0+1?")


def test_what_the_platform_refuses_stands_at_its_field(page: Page, evaluated: Any) -> None:
    open_form(page, evaluated, evaluated.dataset.id)
    page.get_by_label("Prompt template").fill("{{nothing}}")
    field = page.get_by_label("Prompt template")
    expect(field).to_have_attribute("aria-invalid", "true")
    expect(field).to_have_accessible_description(re.compile("there is no field 'nothing'"))
    page.get_by_label("Name", exact=True).fill("questions-qa")
    page.get_by_role("button", name="Create Evaluation Method").click()
    expect(page.get_by_role("alert").first).to_contain_text("nothing")
    expect(page.get_by_label("Prompt template")).to_have_value("{{nothing}}")
    expect(field).to_have_accessible_description(re.compile("there is no field 'nothing'"))
    assert_accessible(page)

    page.get_by_label("Prompt template").fill("{{input}}")
    expect(prompt(page)).to_contain_text("Question 0")
    page.get_by_role("button", name="Create Evaluation Method").click()
    name = page.get_by_label("Name", exact=True)
    expect(name).to_have_attribute("aria-invalid", "true")
    expect(name).to_have_accessible_description(re.compile("there is a method 'questions-qa' already"))

    page.get_by_label("Few-shot count").fill("999")
    expect(page.get_by_label("Few-shot count")).to_have_accessible_description(re.compile("need 1000 rows"))
    expect(preview(page)).to_contain_text("No preview")
    open_form(page, evaluated, evaluated.dataset.id, "&template=builtin-lm-eval&task=gsm8kk")
    task = page.get_by_role("combobox", name="Task")
    expect(task).to_have_value("gsm8kk")
    expect(task).to_have_accessible_description(re.compile("nearest names are gsm8k"))


def test_a_new_version_leaves_the_old_one_as_it_is(page: Page, evaluated: Any) -> None:
    made = evaluated.assay.methods.create(
        "methods-versions", dict(evaluated.method.recipe), dataset="questions"
    )
    page.goto(f"{evaluated.url}/methods/{made.id}?dataset_id={evaluated.dataset.id}")
    page.get_by_role("link", name="New version").click()
    page.get_by_role("button", name="Create version 2").click()
    expect(page.get_by_text("No new version was made.")).to_be_visible()
    page.get_by_role("link", name="New version").click()
    expect(page.get_by_label("Name", exact=True)).to_have_count(0)
    page.get_by_label("Prompt template").fill("Q: {{input}}")
    page.get_by_label("Description").fill("Asks by letter")
    page.get_by_role("button", name="Create version 2").click()
    expect(
        page.get_by_role("row", name=re.compile("^Version 2 Prompt template, description"))
    ).to_be_visible()
    expect(prompt(page)).to_contain_text("Q: Question 0")
    assert_accessible(page)
    page.get_by_role("link", name="Version 1", exact=True).click()
    expect(page.get_by_text("This is version 1.")).to_be_visible()
    expect(prompt(page)).to_have_text(re.compile("Prompt\\s*Question 0: how many"))
    page.get_by_role("link", name="Next row").click()
    expect(prompt(page)).to_contain_text("Question 1")
    page.go_back()
    expect(prompt(page)).to_contain_text("Question 0")


def test_the_list_filters_by_name_and_says_when_nothing_matches(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/methods")
    page.get_by_label("Name", exact=True).fill("questions-qa")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_role("row")).to_have_count(2)
    row = page.get_by_role("row", name=re.compile("questions-qa JSONL QA lm-eval"))
    expect(row).to_contain_text("input → expected_output")
    assert_accessible(page)
    page.get_by_label("Name", exact=True).fill(HOSTILE)
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("No method matches")).to_be_visible()
    page.get_by_role("link", name="Show all").first.click()
    expect(page.get_by_role("link", name="questions-qa")).to_be_visible()


def test_a_dataset_without_rows_leads_to_its_data(page: Page, evaluated: Any) -> None:
    empty = evaluated.assay.datasets.create("methods-empty")
    page.goto(f"{evaluated.url}/methods/new?dataset_id={empty.id}")
    expect(page.get_by_text("This dataset cannot be used yet")).to_be_visible()
    expect(page.get_by_role("link", name="Add/Replace Data")).to_be_visible()
    page.goto(f"{evaluated.url}/methods/new?dataset_id=ds_nothing")
    expect(page.get_by_role("heading", name="This does not exist")).to_be_visible()
    page.goto(f"{evaluated.url}/methods/mth_nothing")
    expect(page.get_by_role("heading", name="This does not exist")).to_be_visible()


def test_hostile_rows_are_text_and_stay_within_the_page(page: Page, evaluated: Any, upload: Any) -> None:
    dataset_id = upload("methods-hostile", HOSTILE_ROWS)
    made = evaluated.assay.methods.create(
        "methods-hostile",
        {
            "template": "jsonl-qa-lm-eval",
            "input_field": "input",
            "expected_output_field": "expected_output",
            "prompt_template": HOSTILE + "{{input}}" + "z" * 5000,
        },
        description=HOSTILE + "v" * 1500,
    )
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        for address in (
            f"/methods/new?dataset_id={dataset_id}&name={'n' * 300}&template=jsonl-qa-lm-eval",
            f"/methods/new?dataset_id={dataset_id}&template=builtin-lm-eval&task={HOSTILE}",
            f"/methods/{made.id}?dataset_id={dataset_id}&num_fewshot=1",
            f"/methods/{made.id}/versions/new?dataset_id={dataset_id}",
            "/methods",
            "/methods/datasets",
        ):
            page.goto(f"{evaluated.url}{address}", wait_until="networkidle")
            assert page.evaluate(FITS), (address, width)
            assert "owned" not in page.title()
            assert page.locator("img[src='x']").count() == 0
    page.goto(f"{evaluated.url}/methods/{made.id}?dataset_id={dataset_id}&row=1")
    expect(prompt(page)).to_contain_text("</pre>yyy")
    expect(preview(page)).to_contain_text("</textarea><b>")
    page.goto(f"{evaluated.url}/methods/new?dataset_id={dataset_id}")
    expect(prompt(page)).to_contain_text("{{7*7}} שלום 🚀")


def test_the_form_works_without_scripts(chromium: Browser, evaluated: Any) -> None:
    context = chromium.new_context(java_script_enabled=False)
    try:
        page = context.new_page()
        page.goto(f"{evaluated.url}/sign-in")
        page.get_by_label("API key").fill(evaluated.api_key)
        page.get_by_role("button", name="Sign in").click()
        open_form(page, evaluated, evaluated.dataset.id)
        page.get_by_label("Prompt template").fill("Say: {{input}}")
        page.get_by_label("Few-shot count").fill("1")
        page.get_by_role("button", name="Preview").click()
        expect(prompt(page)).to_contain_text("Say: Question 0")
        expect(page.get_by_text("Example 1 of 1")).to_be_visible()
        page.get_by_role("button", name="Next row").click()
        expect(prompt(page)).to_contain_text("Say: Question 1")
        page.get_by_label("Evaluation Method template").select_option(label="Built-in-lm-eval")
        page.get_by_role("button", name="Show its form").click()
        page.get_by_label("Task", exact=True).fill("gsm8k")
        page.get_by_role("button", name="Look this task up").click()
        expect(page.get_by_label("question from")).to_have_value("input")
        page.get_by_label("Name", exact=True).fill("methods-scriptless")
        page.get_by_role("button", name="Create Evaluation Method").click()
        expect(page.get_by_role("heading", name="methods-scriptless")).to_be_visible()
    finally:
        context.close()
