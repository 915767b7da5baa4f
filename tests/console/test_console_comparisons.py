"""Choosing what is compared, what was found, the flips explorer and the files."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from console_looks import assert_accessible, assert_fits_at_all_widths
from playwright.sync_api import Browser, Page, expect

from assay.models import Comparison, Run
from assay_console.screens.comparisons_differences import (
    COMPARED_WORDS,
    SHOWN_CHARACTERS,
    text_difference,
)

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

HOSTILE = (
    "<img src=x onerror=document.title='owned'>",
    '"><script>document.title="owned"</script>',
    "W" * 5000,
    "שלום עולם مرحبا بالعالم",
    "😀 emoji 🧪",
    "{{7*7}} ${7*7} {% raw %}",
)


@dataclass(frozen=True, slots=True)
class Compared:
    """``short``: a run that may say half as much, and its comparison; ``hostile``: one over hostile rows."""

    short: Run
    invalid: Comparison
    hostile_run: Run
    hostile: Comparison


@pytest.fixture(scope="module")
def compared(evaluated: Any, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    assay = evaluated.assay
    recipe = {
        "template": "jsonl-qa-lm-eval",
        "input_field": "input",
        "expected_output_field": "expected_output",
    }
    assay.methods.create("e-short", {**recipe, "max_tokens": 5}, dataset="questions")
    path = tmp_path_factory.mktemp("e-rows") / "hostile.jsonl"
    rows = [{"input": text, "expected_output": text[:200]} for text in HOSTILE]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assay.datasets.create("e-hostile", description=HOSTILE[0])
    assay.datasets.upload("e-hostile", path)
    assay.methods.create("e-hostile-qa", {**recipe, "max_tokens": 8}, dataset="e-hostile")

    def finished(artifact: str, dataset: str, method: str) -> Run:
        run = assay.runs.start(artifact=artifact, dataset=dataset, method=method, options={"concurrency": 8})
        ended: Run = assay.wait_run(run.id, timeout_s=120)
        assert ended.state == "Succeeded", ended.error
        return ended

    short = finished("candidate", "questions", "e-short")
    hostile = [finished(name, "e-hostile", "e-hostile-qa") for name in ("base", "candidate")]
    return Compared(
        short=short,
        invalid=assay.comparisons.create(evaluated.base.id, [short.id]),
        hostile_run=hostile[1],
        hostile=assay.comparisons.create(hostile[0].id, [hostile[1].id]),
    )


def choose(page: Page, evaluated: Any, *run_ids: str) -> None:
    query = "&".join(f"run={run_id}" for run_id in run_ids)
    page.goto(f"{evaluated.url}/comparisons/new?{query}")


def test_chosen_runs_are_compared_and_the_result_shows_both_readings(page: Page, evaluated: Any) -> None:
    choose(page, evaluated, evaluated.candidate.id, evaluated.base.id)
    # The older one is the base, unless one of them ran on a GPU.
    base = page.get_by_role("radio", name=f"{evaluated.base.name} is the base")
    expect(base).to_be_checked()
    expect(page.get_by_text("the same rows and the same Evaluation Method")).to_be_visible()
    page.get_by_role("button", name="Compare").click()

    expect(page.get_by_role("heading", level=1)).to_have_text("candidate against base")
    quality = page.get_by_role("region", name="Quality Metrics of both runs with the paired evidence")
    row = quality.get_by_role("row", name=re.compile(r"exact_match,strict"))
    expect(row).to_contain_text("within stderr")
    expect(row).to_contain_text(re.compile(r"0\.\d{4} ± 0\.\d{4}"))
    expect(row).to_contain_text("margin 0.02")
    runtime = page.get_by_role("region", name="Runtime Metrics of both runs")
    expect(runtime.get_by_role("row", name=re.compile("^tps"))).to_contain_text("×")
    for metric in ("power", "tokensPerWatt"):
        expect(runtime.get_by_role("row", name=re.compile(f"^{metric}"))).to_contain_text("not measured")
    expect(page.get_by_role("heading", name="Workload")).to_be_visible()
    expect(page.get_by_text("the same work", exact=True)).to_be_visible()
    # The address is the comparison's own: a pipeline can link to it, and asking again finds the same one.
    address = page.url
    page.go_back()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("candidate against base")
    assert page.url == address


def test_another_base_can_be_chosen_by_keyboard(page: Page, evaluated: Any) -> None:
    choose(page, evaluated, evaluated.base.id, evaluated.candidate.id)
    page.get_by_role("radio", name=f"{evaluated.base.name} is the base").focus()
    page.keyboard.press("ArrowDown")
    expect(page.get_by_role("checkbox", name=f"Compare {evaluated.base.name} with the base")).to_be_checked()
    expect(page.get_by_role("checkbox", name=f"Compare {evaluated.candidate.name} ")).to_have_count(0)
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("base against candidate")


def test_what_cannot_be_compared_says_why(page: Page, evaluated: Any, compared: Compared) -> None:
    running = evaluated.assay.runs.start(
        artifact="base", dataset="questions", method="questions-qa", options={"concurrency": 1}
    )
    evaluated.assay.runs.cancel(running.id)
    cancelled = evaluated.assay.wait_run(running.id, timeout_s=60)
    choose(
        page,
        evaluated,
        *(evaluated.base.id, compared.short.id, compared.hostile_run.id, cancelled.id, "run_of_nobody"),
    )
    expect(page.get_by_text("there is no run run_of_nobody")).to_be_visible()
    expect(page.get_by_text("another Evaluation Method: e-short version 1")).to_be_visible()
    expect(page.get_by_text(re.compile("it evaluated other rows: snapshot e-hostile"))).to_be_visible()
    expect(page.get_by_text("Cannot be compared: it is Cancelled")).to_be_visible()
    expect(page.get_by_role("checkbox", name=f"Compare {cancelled.name} with the base")).to_be_disabled()
    expect(page.get_by_role("checkbox", name=f"Compare {compared.short.name} with")).not_to_be_checked()
    assert_fits_at_all_widths(page)


def test_a_refused_choice_keeps_what_was_typed(page: Page, evaluated: Any) -> None:
    choose(page, evaluated, evaluated.base.id, evaluated.candidate.id)
    page.get_by_text("Options", exact=True).click()
    page.get_by_label("Margin").fill("<img src=x onerror=document.title='owned'>")
    page.get_by_label("Cluster column").fill('"><script>document.title="owned"</script>')
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("alert")).to_be_visible()
    margin = page.get_by_label("Margin")
    expect(margin).to_have_value("<img src=x onerror=document.title='owned'>")
    expect(margin).to_have_attribute("aria-invalid", "true")
    expect(margin).to_have_accessible_description(re.compile("number"))
    expect(page.get_by_label("Cluster column")).to_have_value('"><script>document.title="owned"</script>')
    expect(page).to_have_title(re.compile("Compare"))
    assert_accessible(page)
    margin.fill("0.03")
    page.get_by_label("Cluster column").fill("")
    page.get_by_role("checkbox", name=f"Compare {evaluated.candidate.name} with the base").uncheck()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("alert")).to_contain_text("choose at least one other run as a candidate")
    page.get_by_role("checkbox", name=f"Compare {evaluated.candidate.name} with the base").check()
    page.get_by_role("button", name="Compare").click()
    expect(page.get_by_role("heading", name="Quality Metrics")).to_be_visible()
    expect(page.get_by_text("margin 0.03").first).to_be_visible()


def test_runs_can_be_added_where_too_few_were_chosen(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/comparisons")
    page.get_by_role("link", name="Compare", exact=True).click()
    page.get_by_label(re.compile(f"^{re.escape(evaluated.base.name)} ")).check()
    page.get_by_label(re.compile(f"^{re.escape(evaluated.candidate.name)} ")).check()
    page.get_by_role("button", name="Add").click()
    expect(page.get_by_role("radio", name=f"{evaluated.base.name} is the base")).to_be_checked()


def test_a_comparison_that_proves_nothing_says_so_first(
    page: Page, evaluated: Any, compared: Compared
) -> None:
    page.goto(f"{evaluated.url}/comparisons/{compared.invalid.id}")
    banner = page.get_by_role("alert")
    expect(banner).to_contain_text("Invalid: nothing may be concluded.")
    expect(banner).to_contain_text("max_gen_toks")
    quality = page.get_by_role("heading", name="Quality Metrics").bounding_box()
    above = banner.bounding_box()
    assert quality is not None
    assert above is not None
    assert above["y"] < quality["y"]
    expect(page.get_by_text("These runs cannot lead to an ACCEPT or a REJECT.")).to_be_visible()
    page.goto(f"{evaluated.url}/comparisons")
    row = page.get_by_role("row", name=re.compile(re.escape(compared.short.name)))
    expect(row).to_contain_text("invalid")


def test_flips_can_be_explored(page: Page, evaluated: Any, compared: Compared) -> None:
    page.goto(f"{evaluated.url}/comparisons/{compared.invalid.id}")
    lost = compared.invalid.candidates[0].quality[0].flips
    assert lost is not None
    assert lost.lost == 40
    page.get_by_role(
        "link", name=f"{lost.lost} lost under {compared.invalid.candidates[0].quality[0].metric}"
    ).click()
    items = page.get_by_role("article")
    expect(items).to_have_count(20)
    first = items.first
    expect(first).to_contain_text("score 1")
    expect(first).to_contain_text("score 0")
    # What only the base says is marked on its side.
    deleted = first.get_by_role("deletion")
    expect(deleted).to_have_count(1)
    assert len(deleted.inner_text().split()) == 11, "sixteen words against the first five of them"
    page.get_by_role("link", name="Next").click()
    expect(page.get_by_role("article")).to_have_count(20)
    expect(page.get_by_role("link", name="Next")).to_have_count(0)
    page.go_back()
    page.get_by_label("What became of it").select_option("both_wrong")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("both wrong", exact=True).first).to_be_visible()
    page.get_by_label("What became of it").select_option("gained")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_text("No item matches")).to_be_visible()
    page.get_by_role("link", name="Show all items").click()
    expect(page.get_by_role("article")).to_have_count(20)
    page.get_by_role("link", name="Result").click()
    expect(page.get_by_role("heading", name="Runtime Metrics")).to_be_visible()


def test_several_candidates_have_an_address_each(page: Page, evaluated: Any, compared: Compared) -> None:
    made = evaluated.assay.comparisons.create(evaluated.base.id, [evaluated.candidate.id, compared.short.id])
    page.goto(f"{evaluated.url}/comparisons/{made.id}")
    candidates = page.get_by_role("region", name="Candidates")
    expect(page.get_by_text("Invalid: nothing may be concluded.")).to_have_count(0)
    candidates.get_by_role("link", name=re.compile(re.escape(compared.short.name))).click()
    expect(page.get_by_text("Invalid: nothing may be concluded.")).to_be_visible()
    page.get_by_role("link", name="Flips").click()
    expect(page.get_by_label("Candidate")).to_have_value(compared.short.id)
    page.goto(f"{evaluated.url}/comparisons/{made.id}?candidate=run_of_nobody")
    expect(page.get_by_role("alert")).to_contain_text("run_of_nobody is not in this comparison")


def test_reports_are_saved_and_never_shown_here(page: Page, evaluated: Any, tmp_path: Path) -> None:
    page.goto(f"{evaluated.url}/comparisons/{evaluated.comparison.id}")
    beginnings = {
        "report.html": b"<!",
        "report.md": b"#",
        "items.csv": b"",
        "items.parquet": b"PAR1",
    }
    for name, beginning in beginnings.items():
        with page.expect_download() as started:
            page.get_by_role("link", name=name).click()
        saved = started.value
        assert saved.suggested_filename == f"comparison-{evaluated.comparison.id}-{name}"
        path = tmp_path / name
        saved.save_as(path)
        content = path.read_bytes()
        assert len(content) > 200
        assert content.startswith(beginning)
    answer = page.request.get(f"{evaluated.url}/comparisons/{evaluated.comparison.id}/files/report.html")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert not answer.headers["content-type"].startswith("text/html")
    missing = page.request.get(f"{evaluated.url}/comparisons/{evaluated.comparison.id}/files/passwd")
    assert missing.status == 404


def test_hostile_text_is_only_text(page: Page, evaluated: Any, compared: Compared) -> None:
    base = f"{evaluated.url}/comparisons"
    page.goto(f"{base}/{compared.hostile.id}/items")
    expect(page.get_by_role("article")).to_have_count(len(HOSTILE))
    for text in HOSTILE:
        expect(page.get_by_text(text, exact=True).first).to_be_visible()
    assert_fits_at_all_widths(page)
    expect(page).to_have_title(re.compile("^Flips"))
    for address in (
        f"{base}/new?run={HOSTILE[0]}&run={HOSTILE[2]}&base={HOSTILE[1]}",
        f"{base}/{compared.hostile.id}?candidate={HOSTILE[0]}",
        f"{base}/{compared.hostile.id}/items?metric={HOSTILE[0]}&flip={HOSTILE[2]}",
        f"{base}/{HOSTILE[2]}",
    ):
        page.goto(address)
        assert page.title() != "owned"
        assert_fits_at_all_widths(page)


def test_every_screen_is_accessible(page: Page, evaluated: Any, compared: Compared) -> None:
    base = f"{evaluated.url}/comparisons"
    addresses = (
        base,
        f"{base}/new",
        f"{base}/new?run={evaluated.base.id}&run={compared.short.id}",
        f"{base}/{evaluated.comparison.id}",
        f"{base}/{compared.invalid.id}",
        f"{base}/{compared.invalid.id}/items?flip=lost",
    )
    for address in addresses:
        page.goto(address)
        assert_accessible(page)
        assert_fits_at_all_widths(page)
    page.emulate_media(color_scheme="dark")
    for address in addresses[-2:]:
        page.goto(address)
        assert_accessible(page)


def test_without_scripts_everything_is_there(chromium: Browser, evaluated: Any, compared: Compared) -> None:
    context = chromium.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{evaluated.url}/sign-in")
    page.get_by_label("API key").fill(evaluated.api_key)
    page.get_by_role("button", name="Sign in").click()
    choose(page, evaluated, evaluated.base.id, evaluated.candidate.id)
    page.get_by_role("radio", name=f"{evaluated.candidate.name} is the base").check()
    page.get_by_role("button", name="Check again with this base").click()
    expect(page.get_by_role("checkbox", name=f"Compare {evaluated.base.name} with")).to_be_checked()
    page.get_by_role("button", name="Compare", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_have_text("base against candidate")
    page.get_by_text("Tests: margins, p values and changed items").click()
    expect(page.get_by_role("region", name="Tests of the quality metrics")).to_be_visible()
    context.close()


def test_a_comparison_that_is_not_there_says_so(page: Page, evaluated: Any) -> None:
    page.goto(f"{evaluated.url}/comparisons/cmp_of_nobody")
    expect(page.get_by_role("heading", name="This does not exist")).to_be_visible()


def test_words_that_differ_are_found_and_white_space_is_not() -> None:
    found = text_difference("the cat sat  down", "the dog sat down")
    assert [piece.text for piece in found.before if piece.differs] == ["cat "]
    assert [piece.text for piece in found.after if piece.differs] == ["dog "]
    assert "".join(piece.text for piece in found.before) == "the cat sat  down"
    assert text_difference("a  b", "a b").is_white_space
    assert text_difference("a b", "a b").is_equal


@pytest.mark.parametrize("word", ["word ", "W" * 5000 + " ", "a b a a b "])
def test_long_texts_are_cut_and_compared_in_bounds(word: str) -> None:
    found = text_difference(word * 5000, "x " + word * 4999)
    assert found.is_cut
    for pieces in (found.before, found.after):
        text = "".join(piece.text for piece in pieces)
        assert len(text) <= SHOWN_CHARACTERS
    assert found.is_partial == (len((word * 5000)[:SHOWN_CHARACTERS].split()) > COMPARED_WORDS)
