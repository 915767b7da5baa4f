"""Datasets in a browser: data from files and from the Hub, faults, snapshots, differences, deleting."""

import gzip
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from console_looks import assert_looks_right
from hub_server import Hub
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

PATIENCE_MS = 30_000

HOSTILE = [
    "<img src=x onerror=document.title='owned'>",
    "\"><script>document.title='owned'</script>",
    "W" * 5000,
    "\u202eمرحبا بالعالم",
    "🎉 {{7*7}} ${7*7}",
    "'; document.title='owned'; '",
]


def lines(rows: list[dict[str, Any]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def create(page: Page, evaluated: Any, name: str) -> str:
    """Create a dataset by the form; returns the address of its page."""
    page.goto(f"{evaluated.url}/datasets")
    page.get_by_role("link", name="Create Dataset").first.click()
    page.get_by_label("Name").fill(name)
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()
    return page.url


def choose_file(page: Page, path: Path) -> None:
    page.get_by_role("link", name="Add/Replace Data").click()
    page.get_by_role("radio", name="JSONL dataset").check()
    page.get_by_label("JSONL file").set_input_files(path)


def upload(page: Page, path: Path) -> None:
    choose_file(page, path)
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_text("The dataset is Ready")).to_be_visible()


@pytest.fixture(autouse=True)
def patience() -> None:
    """Machines that run the tests may be busy with other things."""
    expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture
def slow_hub(hub: Hub) -> Iterator[Hub]:
    """The hub with a repository whose file takes its time."""
    rows = [{"question": f"How many legs have {number} horses?", "answer": "4"} for number in range(30_000)]
    hub.add("acme/slow", {"data/test.jsonl": lines(rows)})
    hub.faults.chunk_delay_s = 0.2
    yield hub
    hub.faults.chunk_delay_s = 0.0


def test_a_refused_name_is_told_at_its_field_and_keeps_what_was_written(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/datasets/new")
    page.get_by_label("Name").fill(evaluated.dataset.name)
    page.get_by_label("Description").fill("again <b>")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("alert")).to_contain_text(evaluated.dataset.name)
    expect(page.get_by_label("Description")).to_have_value("again <b>")
    assert_looks_right(page)


def test_the_list_is_filtered_by_name_and_its_address_keeps_the_filter(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/datasets")
    page.get_by_label("Name").fill(evaluated.dataset.name)
    page.get_by_role("button", name="Search").click()
    row = page.get_by_role("row", name=re.compile(evaluated.dataset.name))
    expect(row).to_contain_text("Ready")
    expect(row).to_contain_text("questions.jsonl")
    expect(row).to_contain_text("60")
    assert "name=questions" in page.url
    page.get_by_label("Name").fill("nothing-has-this-name")
    page.get_by_role("button", name="Search").click()
    expect(page.get_by_text("No dataset matches")).to_be_visible()
    page.go_back()
    expect(row).to_be_visible()


def test_an_upload_with_many_faults_lists_fifty_by_line_and_changes_nothing(
    page: Page, evaluated: Any, tmp_path: Path
) -> None:
    address = create(page, evaluated, "faulty")
    expect(page.get_by_text("No data yet")).to_be_visible()
    assert_looks_right(page)
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"input": "a"}\n' + "broken {\n" * 70)
    choose_file(page, broken)
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("The uploaded data is not valid")
    table = page.get_by_role("table")
    expect(table.get_by_role("row")).to_have_count(51)
    expect(table.get_by_role("row").nth(1)).to_contain_text(re.compile(r"2\s*1\s*not valid JSON"))
    expect(page.get_by_text("And 20 more.")).to_be_visible()
    assert_looks_right(page)

    mended = tmp_path / "mended.jsonl.gz"
    mended.write_bytes(gzip.compress(lines([{"input": "a", "expected_output": "b"}]).encode()))
    page.get_by_label("JSONL file").set_input_files(mended)
    page.get_by_role("button", name="Upload", exact=True).click()
    expect(page.get_by_text("The dataset is Ready")).to_be_visible()
    assert page.url.startswith(address)
    expect(page.get_by_text("mended.jsonl.gz").first).to_be_visible()


def test_without_scripts_a_file_is_uploaded_and_its_faults_are_listed(
    page: Page, evaluated: Any, tmp_path: Path
) -> None:
    address = create(page, evaluated, "without-scripts")
    browser = page.context.browser
    assert browser is not None
    context = browser.new_context(java_script_enabled=False, storage_state=page.context.storage_state())
    plain = context.new_page()
    plain.goto(address)
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"input": 1}\n{"input": "two"}\n')
    choose_file(plain, broken)
    plain.get_by_role("button", name="Upload", exact=True).click()
    expect(plain.get_by_role("row", name=re.compile("make them one type"))).to_contain_text("2")
    broken.write_text('{"input": 1}\n{"input": 2}\n')
    plain.get_by_label("JSONL file").set_input_files(broken)
    plain.get_by_role("button", name="Upload", exact=True).click()
    expect(plain.get_by_text("The dataset is Ready")).to_be_visible()
    context.close()


def test_hostile_rows_are_shown_as_the_text_that_they_are(page: Page, evaluated: Any, tmp_path: Path) -> None:
    path = tmp_path / "<img src=x onerror=alert(1)>.jsonl"
    path.write_text(
        lines([{"input": text, "<script>": text, "W" * 200: number} for number, text in enumerate(HOSTILE)])
    )
    create(page, evaluated, "hostile")
    upload(page, path)
    expect(page.get_by_role("region", name="Rows")).to_contain_text(HOSTILE[0])
    expect(page.get_by_role("region", name="Statistics")).to_contain_text("5,000")
    assert_looks_right(page)
    page.get_by_role("link", name="Row 2, whole").click()
    expect(page.get_by_text("W" * 5000).first).to_be_visible()
    assert_looks_right(page)
    page.get_by_role("link", name="Previous").click()
    expect(page.get_by_text(HOSTILE[1], exact=True).first).to_be_visible()
    page.goto(f"{evaluated.url}/datasets")
    listed = page.get_by_role("row").filter(has=page.get_by_role("link", name="hostile", exact=True))
    expect(listed).to_contain_text("onerror")
    assert_looks_right(page)
    assert "owned" not in page.title()


def test_rows_are_paged_and_snapshots_compared_downloaded_and_deleted(
    page: Page, evaluated: Any, tmp_path: Path
) -> None:
    before = [{"id": number, "input": f"Question {number}", "kind": "old"} for number in range(45)]
    after = [{"id": number, "input": f"Question {number}"} for number in range(5, 50)]
    after[0]["input"] = "Another question"
    path = tmp_path / "before.jsonl"
    path.write_text(lines(before))
    home = create(page, evaluated, "snapshots")
    upload(page, path)
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_role("region", name="Rows")).to_contain_text("Question 20")
    expect(page.get_by_text("Rows 20 to 39 of 45")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("region", name="Rows")).to_contain_text("Question 19")

    path = tmp_path / "after.jsonl"
    path.write_text(lines(after))
    upload(page, path)
    page.get_by_role("button", name="Show the differences").click()
    expect(page.get_by_text("kind was removed.")).to_be_visible()
    page.get_by_label("Rows are the same").select_option("id")
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("link", name="Changed (40)").click()
    changed = page.get_by_role("region", name="Rows that differ")
    expect(changed).to_contain_text("Question 5")
    expect(changed).to_contain_text("Another question")
    assert_looks_right(page)

    page.goto(home)
    with page.expect_download() as download:
        page.get_by_role("link", name="JSONL", exact=True).click()
    assert [json.loads(line) for line in download.value.path().read_text().splitlines()] == after
    assert re.fullmatch(r"snapshots-test-[0-9a-f]{12}\.jsonl", download.value.suggested_filename)
    with page.expect_download() as download:
        page.get_by_role("link", name="Parquet").click()
    assert download.value.path().read_bytes()[:4] == b"PAR1"

    page.get_by_role("region", name="Snapshots").get_by_role("link").nth(1).click()
    expect(page.get_by_text("Rows that the dataset had")).to_be_visible()
    assert_looks_right(page)
    page.get_by_role("link", name="Delete").click()
    expect(page.get_by_text("No evaluation refers to it")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="snapshots", exact=True)).to_be_visible()
    expect(page.get_by_role("region", name="Snapshots").get_by_role("link")).to_have_count(1)

    page.get_by_role("link", name="Delete").click()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Datasets")).to_be_visible()
    page.goto(home)
    expect(page.get_by_role("heading", name="This does not exist")).to_be_visible()


def test_what_a_run_refers_to_is_not_deleted_and_the_runs_are_named(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/datasets/{evaluated.dataset.id}/delete")
    expect(page.get_by_text("so the platform will refuse")).to_be_visible()
    for run in (evaluated.base, evaluated.candidate):
        expect(page.get_by_role("link", name=run.name, exact=True)).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("alert")).to_contain_text(evaluated.base.id)
    assert_looks_right(page)
    page.get_by_role("link", name="Keep it").click()
    expect(page.get_by_role("heading", name=evaluated.dataset.name, exact=True)).to_be_visible()


def test_methods_that_fit_lead_to_an_evaluation_and_others_say_why_not(
    page: Page, evaluated: Any, tmp_path: Path
) -> None:
    page.goto(f"{evaluated.url}/datasets/{evaluated.dataset.id}")
    page.get_by_role("link", name="Evaluation Methods").click()
    expect(page.get_by_role("row", name=re.compile(evaluated.method.name))).to_contain_text("Fits")
    assert_looks_right(page)
    page.get_by_role("link", name=f"Eval with {evaluated.method.name}").click()
    page.wait_for_url(
        f"**/evaluations/new?dataset_id={evaluated.dataset.id}&method_id={evaluated.method.id}**"
    )

    path = tmp_path / "other.jsonl"
    path.write_text(lines([{"text": "a", "label": "b"}]))
    create(page, evaluated, "other-columns")
    upload(page, path)
    page.get_by_role("link", name="Evaluation Methods").click()
    unfit = page.get_by_role("region", name="Methods that do not fit")
    expect(unfit.get_by_role("row", name=re.compile(evaluated.method.name))).to_contain_text(
        "no column “input”, “expected_output”"
    )
    expect(page.get_by_role("link", name=f"Eval with {evaluated.method.name}")).to_have_count(0)


def test_a_split_that_is_not_there_is_told_at_its_field_with_those_there_are(
    page: Page, evaluated: Any
) -> None:
    home = create(page, evaluated, "from-the-hub")
    page.get_by_role("link", name="Add/Replace Data").click()
    page.get_by_label("Hugging Face repo ID").fill("not a name")
    page.get_by_label("Split", exact=True).fill("tset")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text("Write it as on the Hub")).to_be_visible()
    assert_looks_right(page)
    page.get_by_label("Hugging Face repo ID").fill("openai/gsm8k")
    page.get_by_label("Subset").fill("main")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("tset")
    expect(page.get_by_label("Split", exact=True)).to_have_attribute("aria-invalid", "true")
    assert_looks_right(page)
    page.goto(home)
    expect(page.get_by_role("heading", name="The last import failed")).to_be_visible()
    page.get_by_role("link", name="Mend and run it again").click()
    page.get_by_role("link", name="test", exact=True).click()
    expect(page.get_by_label("Split", exact=True)).to_have_value("test")
    page.get_by_label("Few-shot split").fill("train")
    page.get_by_role("button", name="Run", exact=True).click()

    expect(page.get_by_text("The dataset is Ready")).to_be_visible()
    commit = evaluated.assay.datasets.get("from-the-hub").current_snapshot.source["commit"]
    expect(page.get_by_text(commit, exact=True)).to_be_visible()
    assert_looks_right(page)
    page.get_by_role("link", name="Their snapshot").click()
    expect(page.get_by_text("Train: 1 apples and 2 more?").first).to_be_visible()


def test_an_import_is_live_everywhere_and_can_be_cancelled(page: Page, evaluated: Any, slow_hub: Hub) -> None:
    home = create(page, evaluated, "slow")
    page.get_by_role("link", name="Add/Replace Data").click()
    page.get_by_label("Hugging Face repo ID").fill("acme/slow")
    page.get_by_label("Split", exact=True).fill("test")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text(re.compile("Downloading: .*B"))).to_be_visible()
    assert_looks_right(page)
    page.goto(f"{evaluated.url}/datasets?name=slow")
    row = page.get_by_role("row", name=re.compile("slow"))
    expect(row).to_contain_text("Importing")
    other = page.context.new_page()
    other.goto(home)
    expect(other.get_by_role("heading", name="An import is under way")).to_be_visible()
    other.get_by_role("button", name="Cancel the import").click()
    expect(other.get_by_text("The dataset keeps what it had.")).to_be_visible()
    expect(row).to_contain_text("Empty")
