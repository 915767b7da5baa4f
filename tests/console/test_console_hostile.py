"""Hostile text in everything that takes text: on every screen and in every file it is only text."""

import csv
import io
import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from console_looks import WIDTHS, assert_accessible, assert_fits
from hostile_model import FAILS, hostile_model
from playwright.sync_api import Dialog, Page, Request

from assay.errors import AssayError

pytestmark = [pytest.mark.browser, pytest.mark.timeout(300)]

SCRIPT = "<img src=x onerror=document.title='owned'>\"><script>document.title='owned'</script>"
TEXTS = [
    SCRIPT,
    "javascript:document.title='owned'",
    "W" * 5000,
    "\N{RIGHT-TO-LEFT OVERRIDE}\N{HEBREW LETTER ALEF} turned \N{ZERO WIDTH SPACE}\N{ZERO WIDTH JOINER}",
    "\N{PILE OF POO}" * 60 + " {{7*7}} ${7*7} {% raw %} </textarea></pre></script>",
    "tab\tand\nnewline\r\n\x1b[31m\x07",
    *("=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1+1", '=HYPERLINK("http://evil.example","x")'),
]
EVERYTHING = (
    f"{SCRIPT} {{{{7*7}}}} javascript: \N{RIGHT-TO-LEFT OVERRIDE}\N{HEBREW LETTER ALEF} " + "w" * 1000
)


@dataclass(frozen=True, slots=True)
class Hostile:
    """The ids of what has hostile texts in it."""

    dataset: Any
    method: Any
    artifact: Any
    odd: Any
    run: Any
    other: Any
    failed: Any
    comparison: Any
    decision: Any


@pytest.fixture(scope="module")
def hostile(evaluated: Any, tmp_path_factory: pytest.TempPathFactory) -> Hostile:
    assay = evaluated.assay
    path = tmp_path_factory.mktemp("hostile") / "=<img src=x onerror=alert(1)>\u202e;\"'.jsonl"
    rows = [
        {"input": f"{text} {number}", "expected_output": text, SCRIPT: text}
        for number, text in enumerate(TEXTS)
    ]
    rows.append({"input": FAILS, "expected_output": SCRIPT, SCRIPT: "x"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = assay.datasets.create("hostile-all", description=EVERYTHING[:1000])
    assay.datasets.upload("hostile-all", path)
    recipe = {
        "template": "jsonl-qa-lm-eval",
        "input_field": "input",
        "expected_output_field": "expected_output",
        "prompt_template": f"{SCRIPT}{{{{input}}}}",
        "max_tokens": 16,
    }
    method = assay.methods.create("hostile-all", recipe, dataset="hostile-all", description=EVERYTHING[:1000])
    assay.policies.create(
        {
            "name": "hostile-all",
            "description": EVERYTHING,
            "quality": [{"metric": f"*{SCRIPT}*", "margin": 0.02}, {"metric": "*", "margin": 0.05}],
        }
    )
    about = {"model": SCRIPT + "M" * 60, "backend": "cpu", "description": EVERYTHING}
    with hostile_model(TEXTS) as url:
        artifact = assay.artifacts.create("hostile-model", uri=url, revision=SCRIPT, **about)
        assay.artifacts.create("hostile-other", uri="scripted://answers", **about)
        odd = assay.artifacts.create("hostile-odd", uri=f"javascript:alert(1){SCRIPT}", **about)
        runs = [
            assay.wait_run(
                assay.runs.start(
                    artifact=name, dataset="hostile-all", method="hostile-all", options={"max_retries": 0}
                ).id,
                timeout_s=60,
            )
            for name in ("hostile-model", "hostile-other", "hostile-odd")
        ]
    run, other, failed = runs
    assert (run.state, other.state, failed.state) == ("Succeeded", "Succeeded", "Failed"), (
        run.error,
        failed.error,
    )
    assert run.progress.samples_failed == 1
    comparison = assay.comparisons.create(other.id, [run.id])
    decision = assay.decisions.create(other.id, run.id, policy="hostile-all")
    return Hostile(dataset, method, artifact, odd, run, other, failed, comparison, decision)


SCREENS = [
    "/datasets",
    "/datasets/{on.dataset.id}",
    "/datasets/{on.dataset.id}/methods",
    "/datasets/{on.dataset.id}/data?source=jsonl",
    "/datasets/{on.dataset.id}/delete",
    "/methods",
    "/methods/new?dataset_id={on.dataset.id}",
    "/methods/{on.method.id}",
    "/artifacts",
    "/artifacts/{on.artifact.id}",
    "/artifacts/{on.odd.id}",
    "/evaluations",
    "/evaluations/new",
    "/evaluations/new?dataset_id={on.dataset.id}",
    "/evaluations/new?dataset_id={on.dataset.id}&method_id={on.method.id}",
    "/evaluations/new?clone_of={on.run.id}",
    "/evaluations/{on.run.id}",
    "/evaluations/{on.failed.id}",
    "/evaluations/{on.run.id}?tab=quality",
    "/evaluations/{on.run.id}?tab=runtime",
    "/evaluations/{on.run.id}?tab=samples",
    "/evaluations/{on.run.id}?tab=logs",
    "/evaluations/{on.run.id}?tab=plan",
    *(f"/evaluations/{{on.run.id}}/samples/{number}" for number in range(0, len(TEXTS) + 1, 3)),
    "/comparisons",
    "/comparisons/new?run={on.run.id}&run={on.other.id}",
    "/comparisons/{on.comparison.id}",
    "/comparisons/{on.comparison.id}/items",
    "/decisions",
    "/decisions/{on.decision.id}",
    "/policies",
    "/policies/hostile-all",
    "/policies/hostile-all/versions/new",
    "/trends?method_id={on.method.id}",
]


@pytest.mark.parametrize("path", SCREENS)
def test_hostile_texts_are_only_text(page: Page, evaluated: Any, hostile: Hostile, path: str) -> None:
    dialogs: list[str] = []
    elsewhere: list[str] = []
    host = urlsplit(evaluated.url).netloc

    def told(dialog: Dialog) -> None:
        dialogs.append(dialog.message)
        dialog.dismiss()

    def asked(request: Request) -> None:
        if urlsplit(request.url).netloc not in (host, ""):
            elsewhere.append(request.url)

    page.on("dialog", told)
    page.on("request", asked)
    answer = page.goto(f"{evaluated.url}{path.format(on=hostile)}", wait_until="networkidle")
    assert answer is not None
    assert answer.status == 200, page.inner_text("body")[:500]
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 844})
        assert_fits(page)
    if path.endswith(("items", "}", "samples/0")):
        assert_accessible(page)
    assert "owned" not in page.title().replace(SCRIPT, "")
    made = page.evaluate(
        """[...document.querySelectorAll('img[src=x], script:not([src]), [onerror], a[href^="javascript"]')]
            .map((one) => one.outerHTML)"""
    )
    assert (made, dialogs, elsewhere) == ([], [], [])


FILES = [
    *(
        f"/evaluations/{{on.run.id}}/export/{name}"
        for name in ("samples.csv", "samples.parquet", "lm-eval.zip")
    ),
    "/evaluations/{on.run.id}/export/lm-eval-samples.jsonl",
    "/evaluations/{on.run.id}/export/lm-eval-results.json",
    "/comparisons/{on.comparison.id}/files/items.csv",
    "/comparisons/{on.comparison.id}/files/report.html",
    "/comparisons/{on.comparison.id}/files/report.md",
    "/decisions/{on.decision.id}/files/evidence.zip",
    "/decisions/{on.decision.id}/files/report.html",
]


@pytest.mark.parametrize("path", FILES)
def test_files_are_saved_never_shown_and_compute_nothing(
    page: Page, evaluated: Any, hostile: Hostile, path: str
) -> None:
    answer = page.request.get(f"{evaluated.url}{path.format(on=hostile)}")
    assert answer.status == 200, answer.text()[:300]
    assert answer.headers["content-disposition"].startswith("attachment")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert re.fullmatch(r"attachment; filename\*=UTF-8''[\w.%-]+", answer.headers["content-disposition"])
    if path.endswith(".csv"):
        cells = [cell for row in csv.reader(io.StringIO(answer.body().decode("utf-8-sig"))) for cell in row]
        assert any("1+1" in cell for cell in cells)
        number = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?")
        assert not [
            cell for cell in cells if cell.strip()[:1] in tuple("=+-@") and not number.fullmatch(cell)
        ]
    if path.endswith(".html"):
        assert "<img src=x" not in answer.text()
        assert "<script>document" not in answer.text()


@pytest.mark.parametrize("name", [SCRIPT, "javascript:x", "\u202eabc", "a\nb", "=1+1", "{{7*7}}", "w" * 5000])
def test_names_cannot_be_hostile(evaluated: Any, name: str) -> None:
    assay = evaluated.assay
    recipe = {
        "template": "jsonl-qa-lm-eval",
        "input_field": "input",
        "expected_output_field": "expected_output",
    }
    with pytest.raises(AssayError):
        assay.datasets.create(name)
    with pytest.raises(AssayError):
        assay.datasets.create("hostile-version", version=name)
    with pytest.raises(AssayError):
        assay.methods.create(name, recipe)
    with pytest.raises(AssayError):
        assay.artifacts.create(name, model="m", backend="cpu", uri="scripted://answers")
    with pytest.raises(AssayError):
        assay.policies.create({"name": name, "quality": [{"metric": "*", "margin": 0.02}]})
    with pytest.raises(AssayError):
        assay.runs.start(name=name, artifact="base", dataset="questions", method="questions-qa")
