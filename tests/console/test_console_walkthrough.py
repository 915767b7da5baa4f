"""The walkthrough from its beginning to its end, as a user goes through it in a browser."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

ROWS = [
    {"input": "What is 2+2?", "expected_output": "4"},
    {"input": "Capital of France?", "expected_output": "Paris"},
    {"input": "Color of the sky?", "expected_output": "Blue"},
]
PATIENCE_MS = 60_000
"""For a run from its start to its numbers, on a busy machine."""


def create_dataset(page: Page, name: str) -> None:
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Datasets").click()
    page.get_by_role("link", name="Create Dataset").first.click()
    page.get_by_label("Name").fill(name)
    expect(page.get_by_label("Version")).to_have_value("main")
    page.get_by_role("button", name="Create").click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()


def evaluate(page: Page, *, dataset: str, method: str, artifact: str) -> str:
    """Through the three steps of the wizard to a run that is over; returns the run's address."""
    page.get_by_role("navigation", name="Main").get_by_role("link", name="Evaluations").click()
    page.get_by_role("link", name="Eval", exact=True).first.click()
    page.get_by_role("radio", name=dataset, exact=True).check()
    page.get_by_role("button", name="Next").click()
    page.get_by_role("radio", name=method, exact=True).check()
    page.get_by_role("button", name="Next").click()
    target = page.get_by_label("Target artifact")
    found = target.get_by_role("option", name=re.compile(rf"^{artifact}\b")).get_attribute("value")
    target.select_option(found)
    page.get_by_role("button", name="Run", exact=True).click()
    page.wait_for_url(re.compile(r"/evaluations/run_"))
    expect(page.get_by_text("Succeeded").first).to_be_visible(timeout=PATIENCE_MS)
    return page.url.partition("?")[0]


def test_a_jsonl_dataset_from_its_upload_to_a_decision(page: Page, evaluated: Any, tmp_path: Path) -> None:
    create_dataset(page, "tutorial-eval-jsonl")
    page.get_by_role("link", name="Add/Replace Data").click()
    page.get_by_role("radio", name="JSONL dataset").check()
    path = tmp_path / "tutorial.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    page.get_by_label("JSONL file").set_input_files(path)
    page.get_by_role("button", name="Upload").click()
    expect(page.get_by_text("Ready").first).to_be_visible()

    page.get_by_role("link", name="Evaluation Methods").click()
    page.get_by_role("link", name="Create Evaluation Method").first.click()
    page.get_by_label("Name", exact=True).fill("tutorial-eval-jsonl-method")
    page.get_by_label("Evaluation Method template").select_option(label="JSONL QA lm-eval")
    expect(page.get_by_label("Input field")).to_have_value("input")
    expect(page.get_by_label("Expected output field")).to_have_value("expected_output")
    expect(page.get_by_label("Prompt template")).to_have_value("{{input}}")
    expect(page.get_by_role("region", name="Preview")).to_contain_text("What is 2+2?")
    page.get_by_role("button", name="Create Evaluation Method").click()
    expect(page.get_by_role("heading", name="tutorial-eval-jsonl-method")).to_be_visible()

    names = {"dataset": "tutorial-eval-jsonl", "method": "tutorial-eval-jsonl-method"}
    for artifact in ("base", "candidate"):
        evaluate(page, **names, artifact=artifact)

    page.get_by_role("navigation", name="Main").get_by_role("link", name="Evaluations").click()
    boxes = page.get_by_role("row", name=re.compile("tutorial-eval-jsonl")).get_by_role("checkbox")
    expect(boxes).to_have_count(2)
    boxes.nth(0).check()
    boxes.nth(1).check()
    page.get_by_role("button", name="Compare").click()
    page.get_by_role("button", name="Compare").click()
    page.wait_for_url(re.compile(r"/comparisons/cmp_"))
    expect(page.get_by_role("heading", name="Quality Metrics")).to_be_visible()
    expect(page.get_by_role("heading", name="Runtime Metrics")).to_be_visible()
    expect(page.get_by_text("tokensPerWatt").first).to_be_visible()
    page.get_by_role("button", name="Decide").click()
    page.wait_for_url(re.compile(r"/decisions/dec_"))
    expect(page.get_by_text(re.compile("ACCEPT|REJECT|INCONCLUSIVE")).first).to_be_visible()


def test_a_dataset_of_the_hub_from_its_import_to_its_metrics(page: Page, evaluated: Any) -> None:
    create_dataset(page, "tutorial-eval")
    page.get_by_role("link", name="Add/Replace Data").click()
    page.get_by_role("radio", name="HF dataset").check()
    page.get_by_label("Hugging Face repo ID").fill("openai/gsm8k")
    page.get_by_label("Subset").fill("main")
    page.get_by_label("Split", exact=True).fill("train")
    expect(page.get_by_label("Revision")).to_have_value("main")
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_text("Ready").first).to_be_visible(timeout=PATIENCE_MS)

    page.get_by_role("link", name="Evaluation Methods").click()
    page.get_by_role("link", name="Create Evaluation Method").first.click()
    page.get_by_label("Name", exact=True).fill("tutorial-eval-method")
    page.get_by_label("Evaluation Method template").select_option(label="Built-in-lm-eval")
    page.get_by_label("Task").fill("gsm8k")
    page.get_by_label("Task").press("Tab")
    expect(page.get_by_role("region", name="Preview")).to_contain_text("apples")
    page.get_by_role("button", name="Create Evaluation Method").click()
    expect(page.get_by_role("heading", name="tutorial-eval-method")).to_be_visible()

    evaluate(page, dataset="tutorial-eval", method="tutorial-eval-method", artifact="base")
    page.get_by_role("link", name="Quality Metrics").click()
    for name in ("gsm8k.exact_match,strict-match", "gsm8k.exact_match,flexible-extract"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    page.get_by_role("link", name="Runtime Metrics").click()
    for name in ("ttftP50", "ttftP99", "itlP50", "itlP99", "tps", "power", "tokensPerWatt"):
        expect(page.get_by_text(name, exact=True).first).to_be_visible()
    expect(page.get_by_text("not measured").first).to_be_visible()
