"""Documents of policies: values and places of YAML and JSON, and what a policy demands in words."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assay.models import Fault, Policy, Problem
from assay_console.gateway import ApiError
from assay_console.screens.policies_document import (
    LONGEST,
    document_of,
    example_document,
    read_document,
)
from assay_console.screens.policies_words import conditions, gates, sentence

YAML = """\
name: strict
# of the strict score
quality:
  - metric: "*"
    margin: 0.02
  - {metric: a, margin: 0.01}
runtime: []
"""
_texts = st.text(max_size=30)
_numbers = st.floats(min_value=1e-6, max_value=0.99)


def _policy(**values: Any) -> Policy:
    whole = {"id": "pol_1", "version": 1, "name": "a", "quality": [{"metric": "*", "margin": 0.02}], **values}
    return Policy.model_validate(whole)


def _refusal(text: str) -> Fault:
    with pytest.raises(ApiError) as caught:
        read_document(text)
    assert caught.value.is_refusal
    (fault,) = caught.value.faults
    return fault


def test_values_and_places_of_yaml() -> None:
    found = read_document(YAML)
    assert found.values == {
        "name": "strict",
        "quality": [{"metric": "*", "margin": 0.02}, {"metric": "a", "margin": 0.01}],
        "runtime": [],
    }
    assert found.places["name"] == (1, 1)
    assert found.places["quality.0.margin"] == (5, 5)
    assert found.places["quality.1.margin"] == (6, 17)


def test_json_with_tabs_is_read_as_well() -> None:
    found = read_document('{\n\t"name": "a",\n\t"alpha": 5e-2\n}')
    assert found.values == {"name": "a", "alpha": 0.05}
    assert found.places["alpha"][0] == 3


@pytest.mark.parametrize(
    ("field", "line", "message"),
    [
        ("quality.1.margin", 6, "quality.1.margin: too large"),
        ("quality.0.direction", 4, "quality.0.direction: too large"),
        ("quality.7", 3, "quality.7: too large"),
        ("alpha", None, "alpha: too large"),
        ("body", None, "too large"),
    ],
)
def test_a_fault_is_told_with_the_nearest_line(field: str, line: int | None, message: str) -> None:
    fault = Fault(message="Value error, too large", field=field)
    error = ApiError(422, Problem(errors=[fault], request_id="req-1"))
    located = read_document(YAML).located(error)
    assert [(one.line, one.message) for one in located.faults] == [(line, message)]
    assert located.problem.request_id == "req-1"


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("", None, "no names and values"),
        ("- a\n- b", None, "no names and values"),
        ("a: 1\nb: [", 2, "no YAML"),
        ("a: 1\na: 2", 2, "given twice"),
        ("a:\n  b: 1\n  b: 2", 3, "given twice"),
        ("a: &x 1\nb: *x", 2, "no aliases"),
        ("a: .nan", 1, "no finite number"),
        ("a: -.inf", 1, "no finite number"),
        ("[a]: 1", 1, "name must be a text"),
        ("a: !!python/object:os.system x", 1, "could not determine a constructor"),
        ("a: 1\n---\nb: 2", 2, "but found another document"),
        ("a: \x00", None, "no YAML"),
        ("[" * 50_000, 1, "not nested so deeply"),
        ("a: " + "x" * LONGEST, None, "more than 100,000 characters"),
    ],
)
def test_what_is_no_document_is_refused(text: str, line: int | None, told: str) -> None:
    fault = _refusal(text)
    assert told in fault.message
    assert fault.line == line


def test_what_looks_like_a_date_is_the_text_that_was_written() -> None:
    assert read_document("description: 2026-01-31").values == {"description": "2026-01-31"}


@given(text=st.text(alphabet="ab:-[]{}&*!|>#'\"%@`, \n\t0.~", max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ApiError):
        assert isinstance(read_document(text).values, dict)


@given(
    name=_texts, description=_texts, metric=_texts, margin=_numbers, differences=st.lists(_texts, max_size=3)
)
def test_a_stored_policy_reads_back_as_itself(
    name: str, description: str, metric: str, margin: float, differences: list[str]
) -> None:
    policy = _policy(
        name=name or "a",
        description=description,
        quality=[{"metric": metric, "margin": margin, "order": None}],
        allowed_plan_differences=differences,
        digest="0" * 64,
        created_at="2026-01-31T00:00:00Z",
    )
    values = dict(read_document(document_of(policy)).values)
    assert values.pop("description", "") == description
    assert values == {
        "name": name or "a",
        "quality": [{"metric": metric, "margin": margin}],
        "runtime": [],
        "allowed_plan_differences": differences,
    }


def test_the_example_can_be_kept_as_it_is() -> None:
    text = example_document()
    values = read_document(text).values
    assert values["name"] == "quality-and-speed"
    assert "assay policy" not in text


def test_a_policy_in_a_sentence() -> None:
    policy = _policy(
        quality=[
            {"metric": "*.acc", "margin": 0.015},
            {"metric": "b", "margin": 0.05, "margin_kind": "relative", "test": "equivalence"},
            {"metric": "c", "margin": 0.1, "role": "advisory"},
        ],
        runtime=[{"metric": "tps", "min_ratio": 1.2}, {"metric": "ttftP99", "max_value": 0.5}],
    )
    assert sentence(policy) == (
        "*.acc: not worse by 0.015; b: equal within 5.0 % of the base's score; tps: at least 1.2 × the base; "
        "ttftP99: at most 0.5."
    )
    assert [gate.role for gate in gates(policy)] == [
        "critical",
        "critical",
        "advisory",
        "critical",
        "critical",
    ]


def test_conditions_tell_what_is_not_given_apart_from_zero() -> None:
    found = {row.name: row.demand for row in conditions(_policy(max_failed_share=0.0, min_samples=None))}
    assert found["Failed samples"] == "at most 0.0 %"
    assert found["Paired samples"] == "at least –"
    assert found["Plans may differ in"] == "nothing"
