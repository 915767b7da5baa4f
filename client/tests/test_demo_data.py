"""The data that ships with the demo."""

import json
from collections import Counter
from importlib.resources import files
from typing import Any

import pytest

from assay.demo import PROMPT_TEMPLATE


def rows_of(name: str) -> list[dict[str, Any]]:
    text = (files("assay") / "demo_data" / name).read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_questions_have_one_short_answer_each() -> None:
    rows = rows_of("questions.jsonl")
    assert len(rows) >= 220
    assert all(set(row) == {"input", "expected_output", "topic"} for row in rows)
    questions = Counter(row["input"].casefold() for row in rows)
    assert [question for question, count in questions.items() if count > 1] == []
    assert all(len(row["expected_output"].split()) == 1 for row in rows)
    assert all(text == text.strip() != "" for row in rows for text in row.values())


def test_questions_cover_facts_arithmetic_and_choices() -> None:
    topics = Counter(row["topic"] for row in rows_of("questions.jsonl"))
    assert topics["arithmetic"] >= 50
    assert topics["multiple choice"] >= 50
    assert sum(topics.values()) - topics["arithmetic"] - topics["multiple choice"] >= 120


def test_the_first_questions_are_of_every_topic() -> None:
    rows = rows_of("questions.jsonl")
    assert {row["topic"] for row in rows[: len(rows) // 3]} == {row["topic"] for row in rows}


def test_arithmetic_is_right() -> None:
    operations = {
        "+": lambda a, b: a + b,
        "-": lambda a, b: a - b,
        "x": lambda a, b: a * b,
        "/": lambda a, b: a / b,
    }
    for row in rows_of("questions.jsonl"):
        if row["topic"] == "arithmetic":
            left, sign, right, _ = row["input"].split()
            assert operations[sign](int(left), int(right)) == int(row["expected_output"]), row["input"]


def test_the_choices_contain_the_answer_once() -> None:
    for row in rows_of("questions.jsonl"):
        if row["topic"] == "multiple choice":
            offered = row["input"].removeprefix("Of ").partition(", the one that is ")[0]
            choices = offered.replace(" and ", ", ").split(", ")
            assert len(set(choices)) == len(choices) == 3
            assert choices.count(row["expected_output"]) == 1, row["input"]


def test_no_example_of_the_prompt_is_a_question() -> None:
    questions = {row["input"] for row in rows_of("questions.jsonl")}
    shown = PROMPT_TEMPLATE.splitlines()
    assert [line for line in shown for question in questions if line.startswith(question)] == []


def test_multiple_choice_has_the_columns_of_sciq() -> None:
    rows = rows_of("multiple_choice.jsonl")
    assert len(rows) >= 60
    columns = {"support", "question", "distractor1", "distractor2", "distractor3", "correct_answer"}
    assert all(set(row) == columns for row in rows)
    assert len({row["question"] for row in rows}) == len(rows)
    for row in rows:
        choices = {row["correct_answer"], *(row[f"distractor{number}"] for number in (1, 2, 3))}
        assert len(choices) == 4, row["question"]
        assert all(choices)


@pytest.mark.parametrize("name", ["questions.jsonl", "multiple_choice.jsonl"])
def test_files_end_with_a_line_end_and_have_no_empty_line(name: str) -> None:
    content = (files("assay") / "demo_data" / name).read_bytes()
    assert content.endswith(b"}\n")
    assert b"\n\n" not in content
    assert b"\r" not in content
