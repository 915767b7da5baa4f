"""A browser on the console of a whole platform, whose models are scripted."""

import io
import json
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_server import Hub, running_hub
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from assay.client import AssayClient
from assay.models import Comparison, Dataset, Decision, Method, Run
from assay_serving.testing.answers import answer_text

ROWS = 60
MAX_TOKENS = 16
PATIENCE_MS = 20_000
"""How long a page may take to show what a test waits for; no test measures it."""


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What is on the platform: two runs of one method over one dataset, compared and judged."""

    assay: AssayClient
    url: str
    api_key: str
    dataset: Dataset
    method: Method
    base: Run
    candidate: Run
    comparison: Comparison
    decision: Decision


def expected_answer(number: int) -> str:
    """What row ``number`` expects: two of three times what the model says."""
    question = f"Question {number}: how many?"
    return answer_text(question, max_tokens=MAX_TOKENS).strip() if number % 3 else "12"


HUB_CARD = """---
configs:
- config_name: main
  data_files:
  - split: train
    path: main/train-*
  - split: test
    path: main/test-*
---
"""


def sums(prefix: str, *, rows: int) -> bytes:
    """A Parquet file with the columns of openai/gsm8k: sums, and answers that end with ``#### <number>``."""
    written = [
        {"question": f"{prefix}: {one} apples and {two} more?", "answer": f"{one} + {two}\n#### {one + two}"}
        for one, two in zip(range(1, rows + 1), range(2, rows + 2), strict=True)
    ]
    data = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(written), data)
    return data.getvalue()


@pytest.fixture(scope="session")
def hub() -> Iterator[Hub]:
    """A hub on this machine with ``openai/gsm8k``, whose rows are ours."""
    with running_hub() as running:
        running.add(
            "openai/gsm8k",
            {
                "README.md": HUB_CARD,
                "main/train-00000.parquet": sums("Train", rows=12),
                "main/test-00000.parquet": sums("Test", rows=8),
            },
        )
        yield running


@pytest.fixture(scope="session")
def evaluated(
    platform_with: Callable[..., Any], hub: Hub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Evaluated]:
    """A platform on which the walkthrough has been gone through once, by API."""
    platform = platform_with(HF_ENDPOINT=hub.url)
    path = tmp_path_factory.mktemp("rows") / "questions.jsonl"
    rows = [
        {"input": f"Question {number}: how many?", "expected_output": expected_answer(number)}
        for number in range(ROWS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = json.loads((platform.home / "run" / "gateway.json").read_text())
    with platform.client() as assay:
        dataset = assay.datasets.create("questions", description="Sixty counted things")
        assay.datasets.upload("questions", path)
        recipe = {
            "template": "jsonl-qa-lm-eval",
            "input_field": "input",
            "expected_output_field": "expected_output",
            "max_tokens": MAX_TOKENS,
        }
        method = assay.methods.create("questions-qa", recipe, dataset="questions")
        runs = []
        for name in ("base", "candidate"):
            assay.artifacts.create(name, model="scripted", backend="cpu", uri="scripted://answers")
            run = assay.runs.start(
                artifact=name, dataset="questions", method="questions-qa", options={"concurrency": 8}
            )
            runs.append(assay.wait_run(run.id, timeout_s=120))
        base, candidate = runs
        assert base.state == candidate.state == "Succeeded", (base.error, candidate.error)
        comparison = assay.comparisons.create(base.id, [candidate.id])
        decision = assay.decisions.create(base.id, candidate.id, policy="default")
        yield Evaluated(
            assay=assay,
            url=f"{found['url']}/console",
            api_key=Path(found["api_key_file"]).read_text().strip(),
            dataset=assay.datasets.get(dataset.id),
            method=method,
            base=base,
            candidate=candidate,
            comparison=comparison,
            decision=decision,
        )


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Headless Chromium of the system; ASSAY_CHROMIUM names another one."""
    program = os.environ.get("ASSAY_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if program is None:
        pytest.fail("no Chromium: install the package chromium, or set ASSAY_CHROMIUM to its program")
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def context(chromium: Browser, evaluated: Evaluated) -> Iterator[BrowserContext]:
    """A browser that nobody has used, 1280 pixels wide."""
    made = chromium.new_context(viewport={"width": 1280, "height": 800}, base_url=evaluated.url)
    made.set_default_timeout(PATIENCE_MS)
    made.grant_permissions(["clipboard-read", "clipboard-write"])
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext, evaluated: Evaluated) -> Iterator[Page]:
    """A page signed in; the test fails where a script failed, was blocked, or a resource was missing."""
    complaints: list[str] = []
    opened = context.new_page()
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    opened.goto(f"{evaluated.url}/sign-in")
    opened.get_by_label("API key").fill(evaluated.api_key)
    opened.get_by_role("button", name="Sign in").click()
    opened.wait_for_url("**/console/datasets")
    yield opened
    # Pages that are answered with an error on purpose are told of by the browser as well.
    real = [text for text in complaints if "Failed to load resource" not in text]
    assert not real, real
