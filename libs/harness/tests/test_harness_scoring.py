"""Other filters and metrics over the same responses: the menu, its results and its refusals."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from assay_harness.errors import InvalidOptions, RowProblem
from assay_harness.filters import NOT_FOUND, apply_text_step, choice_letter, numbers, strip_thinking
from assay_harness.index import TaskIndex
from assay_harness.process import HarnessProcess
from assay_harness.spec import (
    BuiltinTask,
    FilterFunction,
    FilterPipeline,
    FilterStep,
    JsonlQuestionAnswer,
    QuestionAnswerScoring,
    RowFiles,
    Scoring,
    TaskOptions,
)

Fixture = Callable[..., Any]
GSM8K = BuiltinTask(task="gsm8k")
THOUGHT = "<think>It is 9, or 8.</think>\nThe total is $1,018 (see page 3)."


def steps(*functions: str) -> tuple[FilterStep, ...]:
    return tuple(FilterStep(function=FilterFunction(function)) for function in functions)


def pipeline(name: str, *functions: str) -> FilterPipeline:
    return FilterPipeline(name=name, steps=steps(*functions))


@pytest.fixture
def files(write_rows: Fixture) -> RowFiles:
    rows = [
        {"question": f"What is {i}?", "answer": f"It is 1, then {i}.\n#### {1000 + i}"} for i in range(20)
    ]
    return RowFiles(evaluation=write_rows("test", rows))


async def test_other_filters_score_the_same_responses(files: RowFiles, task_index: TaskIndex) -> None:
    own = FilterPipeline(
        name="own-then-lower",
        steps=(
            FilterStep(function=FilterFunction.TASK_FILTER, arguments={"name": "flexible-extract"}),
            *steps("lowercase"),
        ),
    )
    scoring = Scoring(filters=(pipeline("first", "strip-thinking", "first-number"), own))
    options = TaskOptions(num_fewshot=2)
    async with HarnessProcess.open(GSM8K, options, files, index=task_index) as harness:
        before = [document async for batch in harness.documents() for document in batch]
        plain = harness.facts
    async with HarnessProcess.open(GSM8K, options, files, index=task_index, scoring=scoring) as harness:
        after = [document async for batch in harness.documents() for document in batch]
        assert after == before
        assert harness.facts.filters == ["first", "own-then-lower"]
        assert harness.facts.config_sha256 == plain.config_sha256
        scores = await harness.score([(18, [THOUGHT]), (3, ["#### 1003"])])
        assert scores[0].filtered == {"first": ["1018"], "own-then-lower": ["3"]}
        assert scores[0].numbers == {"exact_match,first": 1.0, "exact_match,own-then-lower": 0.0}
        aggregate = await harness.aggregate(scores)
    assert aggregate.metrics["gsm8k.exact_match,first"] == 1.0
    assert set(aggregate.metrics) == {
        f"gsm8k.exact_match{part},{name}" for part in ("", "_stderr") for name in ("first", "own-then-lower")
    }


async def test_question_answer_metrics_over_a_tasks_responses(files: RowFiles, task_index: TaskIndex) -> None:
    scoring = Scoring(
        filters=(pipeline("last", "last-number"),),
        question_answer=QuestionAnswerScoring(expected_steps=steps("last-number")),
    )
    async with HarnessProcess.open(
        GSM8K, TaskOptions(num_fewshot=0), files, index=task_index, scoring=scoring
    ) as harness:
        (score,) = await harness.score([(7, ["So it is 1,007."])])
    assert score.numbers == {
        "exact_match,last": 1.0,
        "exact_match_normalized,last": 1.0,
        "contains,last": 1.0,
        "token_f1,last": 1.0,
    }
    scoring = Scoring(question_answer=QuestionAnswerScoring(expected_output_field="answer"))
    async with HarnessProcess.open(
        GSM8K, TaskOptions(num_fewshot=0), files, index=task_index, scoring=scoring
    ) as harness:
        assert harness.facts.filters == ["strict", "flexible"]
        (score,) = await harness.score([(7, ["It is 1, then 7.\n#### 1007 "])])
        assert score.numbers["exact_match,strict"] == 1.0
        assert score.numbers["exact_match,flexible"] == 0.0


async def test_a_question_answer_recipe_scored_with_its_own_metrics_again_is_unchanged(
    write_rows: Fixture,
) -> None:
    rows = RowFiles(evaluation=write_rows("qa", [{"q": f"Q{i}", "a": f" thing {i}"} for i in range(4)]))
    recipe = JsonlQuestionAnswer(input_field="q", expected_output_field="a")
    answers = [(index, [f"The answer is thing {index % 2}."]) for index in range(4)]
    found = []
    for scoring in (None, Scoring(question_answer=QuestionAnswerScoring())):
        async with HarnessProcess.open(recipe, TaskOptions(), rows, scoring=scoring) as harness:
            found.append(await harness.aggregate(await harness.score(answers)))
    assert found[0] == found[1]


async def test_repeats_are_voted_on(files: RowFiles, task_index: TaskIndex) -> None:
    scoring = Scoring(
        filters=(pipeline("vote", "last-number", "majority-vote"), pipeline("first", "last-number"))
    )
    options = TaskOptions(num_fewshot=0, repeats=3)
    async with HarnessProcess.open(GSM8K, options, files, index=task_index, scoring=scoring) as harness:
        (score,) = await harness.score([(5, ["It is 3.", "1,005", "so 1005"])])
    assert score.filtered == {"vote": ["1005"], "first": ["3"]}


@pytest.mark.parametrize(
    ("task", "scoring", "message"),
    [
        ("lambada_openai", Scoring(filters=(pipeline("x", "none"),)), "log-probabilities; there is no text"),
        (
            "gsm8k",
            Scoring(
                filters=(
                    FilterPipeline(
                        name="x",
                        steps=(
                            FilterStep(function=FilterFunction.TASK_FILTER, arguments={"name": "absent"}),
                        ),
                    ),
                )
            ),
            "no filter named 'absent'; it has strict-match, flexible-extract",
        ),
        (
            "gsm8k",
            Scoring(question_answer=QuestionAnswerScoring(expected_output_field="gold")),
            "no field 'gold'; they have question, answer",
        ),
    ],
)
async def test_scorings_that_do_not_fit_the_task_are_refused_before_anything_is_scored(
    task: str, scoring: Scoring, message: str, files: RowFiles, write_rows: Fixture, task_index: TaskIndex
) -> None:
    rows = files if task == "gsm8k" else RowFiles(evaluation=write_rows("text", [{"text": "the cat sat"}]))
    with pytest.raises(InvalidOptions, match=message):
        async with HarnessProcess.open(
            BuiltinTask(task=task), TaskOptions(num_fewshot=0), rows, index=task_index, scoring=scoring
        ):
            pytest.fail("it must not open")


async def test_a_step_after_a_filter_that_gives_no_text_is_an_error_of_the_row(
    write_rows: Fixture, task_index: TaskIndex
) -> None:
    rows = RowFiles(evaluation=write_rows("test", [{"question": "What?", "answer": "#### 1"}] * 2))
    own = FilterStep(function=FilterFunction.TASK_FILTER, arguments={"name": "maj@8"})
    scoring = Scoring(filters=(FilterPipeline(name="x", steps=(own, *steps("lowercase"))),))
    async with HarnessProcess.open(
        BuiltinTask(task="gsm8k_cot_self_consistency"), TaskOptions(), rows, index=task_index, scoring=scoring
    ) as harness:
        (score,) = await harness.score([(0, ["The answer is 1."] * 64)])
        assert score.filtered == {"x": ["1"]}
        with pytest.raises(RowProblem, match="do not fit"):
            await harness.score([(0, ["The answer is 1."] * 63)])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, "at least one filter"),
        ({"filters": [{"name": "a", "steps": []}]}, "at least 1 item"),
        ({"filters": [{"name": "a", "steps": [{"function": "regex"}]}]}, "Input should be"),
        (
            {"filters": [{"name": "a", "steps": [{"function": "none", "arguments": {"pattern": "x"}}]}]},
            "no arguments",
        ),
        ({"filters": [{"name": "a", "steps": [{"function": "task-filter"}]}]}, "exactly the argument 'name'"),
        (
            {
                "filters": [
                    {
                        "name": "a",
                        "steps": [
                            {"function": "none"},
                            {"function": "task-filter", "arguments": {"name": "x"}},
                        ],
                    }
                ]
            },
            "must be the first step",
        ),
        ({"filters": [{"name": "a,b", "steps": [{"function": "none"}]}]}, "should match pattern"),
        ({"filters": [{"name": "a", "steps": [{"function": "none"}]}] * 2}, "same name"),
        ({"question_answer": {"expected_steps": [{"function": "majority-vote"}]}}, "expected output"),
    ],
)
def test_a_scoring_that_means_nothing_is_refused_where_it_is_made(
    content: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValidationError, match=message):
        Scoring.model_validate(content)


def test_a_scoring_survives_json() -> None:
    scoring = Scoring(
        filters=(pipeline("a", "strip-thinking", "choice-letter"),),
        question_answer=QuestionAnswerScoring(expected_steps=steps("lowercase")),
    )
    assert Scoring.model_validate_json(scoring.model_dump_json()) == scoring


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("18 eggs, i.e., 3", ["18", "3"]),
        ("$1,234.50 or -7", ["1234.50", "-7"]),
        ("5-3 = 2", ["5", "3", "2"]),
        ("x2 and 1.5.", ["1.5"]),
        ("12,34 and .5", ["12", "34", ".5"]),
        ("none", []),
    ],
)
def test_numbers(text: str, found: list[str]) -> None:
    assert numbers(text) == found


@pytest.mark.parametrize(
    ("text", "letter"),
    [
        ("The answer is (B).", "B"),
        ("I first thought the answer is A, but the answer is: **C**", "C"),
        ("(d) because of this", "D"),
        ("b) iron", "B"),
        ("C", "C"),
        ("It must be D here", "D"),
        ("A", "A"),
        ("A.\nbecause", "A"),
        ("A man walks", NOT_FOUND),
        ("There is no choice here", NOT_FOUND),
        ("I don't know", NOT_FOUND),
    ],
)
def test_choice_letters(text: str, letter: str) -> None:
    assert choice_letter(text) == letter


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (THOUGHT, "The total is $1,018 (see page 3)."),
        ("no tags", "no tags"),
        ("thought without opening</think> 7", "7"),
        ("<thinking>never closed 7", ""),
        ("a <think>b</think> c <think>d</think> e", "e"),
    ],
)
def test_thinking_is_dropped(text: str, rest: str) -> None:
    assert strip_thinking(text) == rest


@pytest.mark.parametrize(
    "function", [item for item in FilterFunction if item.value not in ("task-filter", "majority-vote")]
)
@pytest.mark.parametrize(
    "unit", ["9,", "9", ",999", "<think>", "</think>", "(A", "answer is ", "A ", "\n", "-", ".9"]
)
def test_no_text_takes_a_filter_long(function: FilterFunction, unit: str) -> None:
    """A hundred thousand repetitions: anything but linear time would run into the test's own limit."""
    assert isinstance(apply_text_step(function, unit * 100_000), str)
