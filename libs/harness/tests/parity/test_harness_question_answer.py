"""The JSONL question-answer recipe: same numbers as lm-eval on an equivalent task, and its refusals."""

from collections.abc import Callable
from typing import Any

import pytest

from assay_harness.errors import FewshotPoolTooSmall, RowProblem, TemplateError, UnmappedColumn
from assay_harness.process import HarnessProcess
from assay_harness.results import FewshotSource
from assay_harness.spec import JsonlQuestionAnswer, RowFiles, TaskOptions

Fixture = Callable[..., Any]

RECIPE = JsonlQuestionAnswer(
    input_field="q",
    expected_output_field="a",
    prompt_template="{{topic}}: {{input}}\nAnswer:",
    stop=("\n\n",),
)


def rows(count: int) -> list[dict[str, Any]]:
    return [
        {"q": f"What is item {i}? {{{{7*7}}}}", "a": f" thing {i} ", "topic": f"T{i % 3}", "x": i}
        for i in range(count)
    ]


def answers(count: int) -> dict[str, list[str]]:
    return {
        f"item {i}?": [f" thing {i}", f"The answer is Thing {i}.", f"a thing\nor {i}", "something"]
        for i in range(count)
    }


@pytest.mark.parametrize("num_fewshot", [0, 2])
async def test_numbers_equal_those_of_an_equivalent_task(
    num_fewshot: int,
    write_rows: Fixture,
    evaluate: Fixture,
    direct_evaluate: Fixture,
    identical: Fixture,
    hash_model: Fixture,
) -> None:
    import datasets
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks import TaskManager

    from assay_harness.question_answer import (
        ShortAnswerFilter,
        StripFilter,
        contains,
        exact_match_normalized,
        token_f1,
    )

    model = hash_model(answers=answers(11))
    options = TaskOptions(num_fewshot=num_fewshot)
    ours = await evaluate(RECIPE, options, RowFiles(evaluation=write_rows("rows", rows(11))), model)
    documents = [
        {"input": row["q"], "expected": row["a"].strip(), "fields": {"topic": row["topic"]}}
        for row in rows(11)
    ]
    config = {
        "task": "jsonl_qa",
        "custom_dataset": lambda **_: {"only": datasets.Dataset.from_list(documents)},
        "test_split": "only",
        "fewshot_split": "only",
        "doc_to_text": lambda doc: f"{doc['fields']['topic']}: {doc['input']}\nAnswer:",
        "doc_to_target": "expected",
        "generation_kwargs": {"until": ["\n\n"], "max_gen_toks": 64, "temperature": 0.0, "do_sample": False},
        "filter_list": [
            {"name": "strict", "filter": [{"function": StripFilter}, {"function": "take_first"}]},
            {"name": "flexible", "filter": [{"function": ShortAnswerFilter}, {"function": "take_first"}]},
        ],
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True}
            for metric in ("exact_match", exact_match_normalized, contains, token_f1)
        ],
    }
    manager = TaskManager(include_defaults=False)
    theirs = direct_evaluate(model, [ConfigurableTask(config=config)], manager, num_fewshot=num_fewshot)
    identical(ours, theirs, "jsonl_qa")
    assert len(ours.aggregate.metrics) == 2 * 4 * 2
    values = ours.aggregate.metrics
    assert 0 < values["jsonl_qa.exact_match,strict"] < values["jsonl_qa.exact_match_normalized,flexible"]
    assert "{{7*7}}" in ours.documents[0].requests[0].context


async def test_facts_and_the_default_prompt(write_rows: Fixture) -> None:
    recipe = JsonlQuestionAnswer(input_field="question", expected_output_field="a")
    files = RowFiles(evaluation=write_rows("rows", rows(5)), evaluation_split="train")
    options = TaskOptions(limit=3, column_mapping={"question": "q"}, generation_kwargs={"max_gen_toks": 5})
    async with HarnessProcess.open(recipe, options, files) as harness:
        facts = harness.facts
        assert (facts.task, facts.row_count, facts.document_count) == ("jsonl_qa", 5, 3)
        assert (facts.until, facts.max_gen_toks, facts.needs_log_probabilities) == (["\n\n"], 5, False)
        assert (facts.fewshot_source, facts.evaluation_split) == (FewshotSource.NONE, "train")
        assert facts.filters == ["strict", "flexible"]
        report = await harness.dry_render()
        assert (report.rendered_count, report.prompts[0]) == (3, "What is item 0? {{7*7}}")


async def test_a_dry_render_names_every_bad_row_and_the_run_stops_at_the_first(write_rows: Fixture) -> None:
    bad: list[dict[str, Any]] = rows(60)
    bad[0]["q"] = None
    for index in range(30, 60):
        bad[index]["a"] = " "
    recipe = JsonlQuestionAnswer(input_field="q", expected_output_field="a")
    async with HarnessProcess.open(
        recipe, TaskOptions(), RowFiles(evaluation=write_rows("bad", bad))
    ) as harness:
        report = await harness.dry_render()
        assert (report.rendered_count, report.problem_count, len(report.problems)) == (29, 31, 20)
        assert report.problems[0] == (0, "column 'q' is missing or null")
        assert report.problems[1].row_index == 30
        with pytest.raises(RowProblem, match="row 0 of the evaluation rows: column 'q'"):
            await anext(harness.documents())


async def test_numbers_and_booleans_become_their_json_text(write_rows: Fixture) -> None:
    data = [{"q": True, "a": 4, "l": ["x"]}, {"q": False, "a": 5, "l": ["y"]}]
    files = RowFiles(evaluation=write_rows("typed", data))
    recipe = JsonlQuestionAnswer(input_field="q", expected_output_field="a")
    async with HarnessProcess.open(recipe, TaskOptions(), files) as harness:
        documents = [document async for batch in harness.documents() for document in batch]
        assert [document.doc for document in documents] == [
            {"input": "true", "expected": "4"},
            {"input": "false", "expected": "5"},
        ]
    listed = JsonlQuestionAnswer(input_field="q", expected_output_field="a", prompt_template="{{l}}")
    async with HarnessProcess.open(listed, TaskOptions(), files) as harness:
        assert (await harness.dry_render()).problems[0] == (0, "column 'l' holds a list, not text")


@pytest.mark.parametrize(
    ("recipe", "options", "error", "message"),
    [
        (RECIPE.model_copy(update={"input_field": "question"}), TaskOptions(), UnmappedColumn, "'question'"),
        (
            RECIPE.model_copy(update={"prompt_template": "{{input}} {{nope}}"}),
            TaskOptions(),
            TemplateError,
            "column 11",
        ),
        (
            RECIPE.model_copy(update={"prompt_template": "{{input}} {{a}}"}),
            TaskOptions(),
            TemplateError,
            "no field 'a'",
        ),
        (RECIPE, TaskOptions(column_mapping={"q": "nowhere"}), UnmappedColumn, "'nowhere'"),
        (RECIPE, TaskOptions(num_fewshot=4), FewshotPoolTooSmall, "need 5 rows"),
    ],
)
async def test_what_does_not_fit_the_rows_is_a_typed_error(
    recipe: JsonlQuestionAnswer,
    options: TaskOptions,
    error: type[Exception],
    message: str,
    write_rows: Fixture,
) -> None:
    files = RowFiles(evaluation=write_rows("rows", rows(4)))
    with pytest.raises(error, match=message):
        async with HarnessProcess.open(recipe, options, files):
            pytest.fail("it must not open")
