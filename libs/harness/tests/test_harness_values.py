"""Metric values survive JSON with their types; the scores of question answering mean what they say."""

import json
import math
from dataclasses import asdict

import numpy
import pytest

from assay_harness.columns import required_columns
from assay_harness.question_answer import contains, exact_match_normalized, normalize, short_answer, token_f1
from assay_harness.results import DocumentScore
from assay_harness.values import EncodedValue, decode_metric, encode_metric


@pytest.mark.parametrize(
    "value",
    [
        0.1 + 0.2,
        7,
        2**80,
        True,
        None,
        "text",
        numpy.float64(0.1),
        numpy.float32(0.1),
        numpy.int64(3),
        numpy.bool_(True),
        (1, numpy.int64(2)),
        [(-3.5, 12), {"a": (1, 2)}],
        {1: "one", "two": [None]},
        float("inf"),
        (0, (-1.5, -2.5)),
    ],
)
def test_a_value_keeps_its_type_and_every_bit(value: object) -> None:
    encoded = encode_metric(value)
    again = decode_metric(EncodedValue(*json.loads(json.dumps(encoded, allow_nan=False))))
    assert again == value
    assert type(again) is type(value)


def test_arrays_and_nan_come_back() -> None:
    gold, probabilities = decode_metric(encode_metric((numpy.int64(1), numpy.array([0.1, 0.9]))))  # type: ignore[misc]
    assert (type(gold), probabilities.dtype, probabilities.tolist()) == (
        numpy.int64,
        numpy.float64,
        [0.1, 0.9],
    )
    assert math.isnan(decode_metric(encode_metric(float("nan"))))  # type: ignore[arg-type]


def test_only_plain_numbers_are_compared_document_by_document() -> None:
    encoded = encode_metric((1, 0))
    values = {"acc,none": 1.0, "f1,none": encoded.value}
    score = DocumentScore(index=0, values=values, number_types={}, filtered={"none": ["x"]})
    assert score.numbers == {"acc,none": 1.0}
    assert DocumentScore(**json.loads(json.dumps(asdict(score)))) == score


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (" Paris.\n\nQuestion: what", "Paris"),
        ("\n\nThe answer is: **42**.", "42"),
        ("Answer: 'yes'", "yes"),
        ("The final answer is -3.5", "-3.5"),
        ("answer", "answer"),
        ("", ""),
    ],
)
def test_the_flexible_filter_finds_the_short_answer(response: str, answer: str) -> None:
    assert short_answer(response) == answer


@pytest.mark.parametrize(
    ("expected", "given", "exact", "inside", "f1"),
    [
        ("Paris", "paris.", 1.0, 1.0, 1.0),
        ("Eiffel Tower", "The Eiffel Tower!", 1.0, 1.0, 1.0),
        ("4", "42", 0.0, 0.0, 0.0),
        ("-5", "5", 0.0, 0.0, 0.0),
        ("3,000", "3000", 1.0, 1.0, 1.0),
        ("3.14", "314", 0.0, 0.0, 0.0),
        ("A", "The answer is A", 0.0, 1.0, 0.0),
        ("A", "a", 1.0, 1.0, 1.0),
        ("red fox", "a quick red fox ran", 0.0, 1.0, 2 * 2 / (2 + 4)),
        ("red fox", "", 0.0, 0.0, 0.0),
        ("?!", "?!", 1.0, 1.0, 1.0),
        ("?!", "...", 0.0, 0.0, 0.0),
        ("Straße", "STRASSE", 1.0, 1.0, 1.0),
    ],
)
def test_text_metrics(expected: str, given: str, exact: float, inside: float, f1: float) -> None:
    pair = {"references": [expected], "predictions": [given]}
    assert exact_match_normalized(**pair) == exact
    assert contains(**pair) == inside
    assert token_f1(**pair) == pytest.approx(f1)


def test_tokens_lose_punctuation_at_their_ends_only() -> None:
    assert normalize("Don't (e.g.) pay $1,234.50 or -.5!") == ["don't", "e.g", "pay", "1234.50", "or", "-.5"]


@pytest.mark.parametrize(
    ("template", "columns"),
    [
        ("{{support.lstrip()}}\nQ: {{question}}", {"support", "question"}),
        ("{{answer if answer is defined else target}}", set()),
        ("{% for c in choices %}{{c}}{% endfor %}{% if hint %}{{extra}}{% endif %}", {"choices", "hint"}),
        ("{{note|default('')}}{{range(3)}}", set()),
        ("label", {"label"}),
        ("Answer:", set()),
    ],
)
def test_columns_that_a_template_cannot_do_without(template: str, columns: set[str]) -> None:
    assert required_columns(template) == columns
