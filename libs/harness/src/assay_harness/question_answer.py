"""The JSONL question-answer recipe as an lm-eval task: documents, prompt, filters, metrics.

Two filters read each response. `strict` takes it as it is, without outer whitespace. `flexible` takes the
first line with text, drops a lead-in such as "The answer is" and surrounding quotes, emphasis and full stop.

Four metrics compare the filtered response with the expected output (also without outer whitespace):

- `exact_match`: equal, character by character;
- `exact_match_normalized`: equal after `normalize`, without articles;
- `contains`: the normalised expected output occurs in the normalised response, at token borders;
- `token_f1`: harmonic mean of precision and recall over the normalised tokens, without articles.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import datasets
from lm_eval.api.filter import Filter

from assay_harness.errors import UnmappedColumn
from assay_harness.spec import JsonlQuestionAnswer
from assay_harness.template import PromptTemplate, parse_template

TASK_NAME = "jsonl_qa"

_ARTICLES = frozenset({"a", "an", "the"})
_DIGIT_GROUP = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
# A sign or a decimal point that opens a number belongs to the number.
_TOKEN_EDGE = re.compile(r"^(?:(?![-+.]*\d)[\W_])+|[\W_]+$")
_LEAD_IN = re.compile(
    r"^(?:so,?\s+)?(?:the\s+)?(?:final\s+|correct\s+)?answer\s*(?:is\b)?\s*:?\s*", re.IGNORECASE
)
_WRAPPING = " \t\"'`*_“”‘’"


class QuestionAnswerRows(NamedTuple):
    """Documents with the fields `input`, `expected` and `fields`, and what is wrong with some of them.

    `problems` maps a row's index to the reason why it cannot be evaluated; such a row holds empty text.
    """

    dataset: "datasets.Dataset"
    problems: dict[int, str]


def build_rows(recipe: JsonlQuestionAnswer, rows: "datasets.Dataset") -> QuestionAnswerRows:
    """Reduce rows to the columns that the recipe reads, as text.

    Numbers and booleans become their JSON text. Raises `UnmappedColumn` for a missing column and
    `TemplateError` for a placeholder that is no column, or is the expected output.
    """
    available: list[str] = rows.column_names
    missing = [name for name in (recipe.input_field, recipe.expected_output_field) if name not in available]
    if missing:
        raise UnmappedColumn(columns=missing, available=available)
    template = parse_template(recipe.prompt_template)
    template.check(["input", *(name for name in available if name != recipe.expected_output_field)])
    extra = [name for name in template.names if name != "input"]
    problems: dict[int, str] = {}
    columns = {
        name: _texts(rows[name], name=name, problems=problems)
        for name in dict.fromkeys([recipe.input_field, recipe.expected_output_field, *extra])
    }
    expected = [text.strip() for text in columns[recipe.expected_output_field]]
    for index, text in enumerate(expected):
        if not text:
            problems.setdefault(
                index, f"column {recipe.expected_output_field!r} is empty; every answer would match"
            )
    documents: dict[str, Any] = {"input": columns[recipe.input_field], "expected": expected}
    features: dict[str, Any] = {"input": datasets.Value("string"), "expected": datasets.Value("string")}
    if extra:
        documents["fields"] = [
            {name: columns[name][index] for name in extra} for index in range(len(expected))
        ]
        features["fields"] = {name: datasets.Value("string") for name in extra}
    for index in range(len(expected)):
        if not template.render(
            {name: columns[recipe.input_field if name == "input" else name][index] for name in template.names}
        ).strip():
            problems.setdefault(index, "the prompt is empty: so is every field that the template names")
    return QuestionAnswerRows(
        dataset=datasets.Dataset.from_dict(documents, features=datasets.Features(features)), problems=problems
    )


def task_config(recipe: JsonlQuestionAnswer) -> dict[str, Any]:
    """Return the lm-eval config; what lm-eval renders or resolves is ours, never the user's."""
    template = parse_template(recipe.prompt_template)

    def doc_to_text(doc: Mapping[str, Any]) -> str:
        return render_prompt(template, doc)

    return {
        "task": TASK_NAME,
        "output_type": "generate_until",
        "test_split": "test",
        "doc_to_text": doc_to_text,
        # The name of a feature: a template here would be read as Jinja and its result as Python.
        "doc_to_target": "expected",
        "target_delimiter": recipe.target_delimiter,
        "fewshot_delimiter": recipe.fewshot_delimiter,
        "generation_kwargs": {
            "until": list(recipe.stop),
            "max_gen_toks": recipe.max_tokens,
            "temperature": 0.0,
            "do_sample": False,
        },
        "filter_list": [
            {"name": "strict", "filter": [{"function": StripFilter}, {"function": "take_first"}]},
            {"name": "flexible", "filter": [{"function": ShortAnswerFilter}, {"function": "take_first"}]},
        ],
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True}
            for metric in ("exact_match", exact_match_normalized, contains, token_f1)
        ],
        "metadata": {"version": 1.0},
    }


def render_prompt(template: PromptTemplate, doc: Mapping[str, Any]) -> str:
    """Render the prompt of a document that `build_rows` made."""
    return template.render({**(doc.get("fields") or {}), "input": doc["input"]})


def _texts(values: Iterable[object], *, name: str, problems: dict[int, str]) -> list[str]:
    """Turn a column into text, noting the rows where it cannot be."""
    texts = []
    for index, value in enumerate(values):
        match value:
            case str():
                texts.append(value)
            case bool() | int() | float():
                texts.append(json.dumps(value))
            case None:
                problems.setdefault(index, f"column {name!r} is missing or null")
                texts.append("")
            case _:
                problems.setdefault(index, f"column {name!r} holds a {type(value).__name__}, not text")
                texts.append("")
    return texts


class StripFilter(Filter):  # type: ignore[misc]
    """Removes outer whitespace."""

    def apply(self, resps: Iterable[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
        """Return the responses of each document, stripped, in the order given."""
        return [[text.strip() for text in responses] for responses in resps]


class ShortAnswerFilter(Filter):  # type: ignore[misc]
    """Finds the short answer in a talkative response; see `short_answer`."""

    def apply(self, resps: Iterable[Sequence[str]], docs: Sequence[Mapping[str, Any]]) -> list[list[str]]:
        """Return the short answers of each document, in the order given."""
        return [[short_answer(text) for text in responses] for responses in resps]


def short_answer(response: str) -> str:
    """Return the first line with text, without lead-in, surrounding quotes, emphasis or final full stop."""
    line = next((line for line in response.splitlines() if line.strip()), "").strip(_WRAPPING)
    answer = _LEAD_IN.sub("", line)
    return (answer or line).strip(_WRAPPING).removesuffix(".").strip(_WRAPPING)


def normalize(text: str) -> list[str]:
    """Return the tokens that a comparison should see.

    Unicode NFKC, case folded, digit grouping commas removed, split at whitespace, punctuation cut from the
    ends of each token (a sign or decimal point before a digit stays).
    """
    folded = _DIGIT_GROUP.sub("", unicodedata.normalize("NFKC", text).casefold())
    return [token for raw in folded.split() if (token := _TOKEN_EDGE.sub("", raw))]


def _without_articles(tokens: list[str]) -> list[str]:
    """Drop articles, unless nothing else is there (the answer "A" is a letter)."""
    return [token for token in tokens if token not in _ARTICLES] or tokens


def exact_match_normalized(*, references: Sequence[str], predictions: Sequence[str]) -> float:
    """1.0 where the normalised texts without articles are equal and not empty, else 0.0."""
    expected = _without_articles(normalize(references[0]))
    given = _without_articles(normalize(predictions[0]))
    return float(references[0] == predictions[0] or (bool(expected) and expected == given))


def contains(*, references: Sequence[str], predictions: Sequence[str]) -> float:
    """1.0 where the expected tokens occur in the response in one piece, else 0.0."""
    expected, given = normalize(references[0]), normalize(predictions[0])
    if not expected:
        return float(references[0] in predictions[0])
    width = len(expected)
    return float(any(given[start : start + width] == expected for start in range(len(given) - width + 1)))


def token_f1(*, references: Sequence[str], predictions: Sequence[str]) -> float:
    """F1 over the bags of normalised tokens without articles, between 0.0 and 1.0."""
    expected = _without_articles(normalize(references[0]))
    given = _without_articles(normalize(predictions[0]))
    if not expected or not given:
        return float(references[0] == predictions[0])
    shared = (Counter(expected) & Counter(given)).total()
    return 2.0 * shared / (len(expected) + len(given))
