"""The files that lm-eval writes of a run, made from stored scores: line by line what its tracker writes."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from assay_harness.index import TaskIndex
from assay_harness.process import HarnessProcess
from assay_harness.results import LoggedDocument, RequestKind
from assay_harness.sample_log import sample_lines
from assay_harness.spec import BuiltinTask, GroupRows, RowFiles, TaskOptions

Fixture = Callable[..., Any]


def gsm_rows(count: int, *, first: int = 0) -> list[dict[str, Any]]:
    return [
        {"question": f"What is {i} + 1? “é”", "answer": f"It is {i + 1}.\n#### {i + 1}"}
        for i in range(first, first + count)
    ]


def choice_rows(name: str, count: int) -> list[dict[str, Any]]:
    return [
        {"question": f"{name} {i}?", "choices": [f"c{i}{k}" for k in range(4)], "answer": i % 4}
        for i in range(count)
    ]


def saved_by_lm_eval(results: dict[str, Any], directory: Path) -> tuple[dict[str, Any], dict[str, list[str]]]:
    """What lm-eval's own tracker writes: the results file, and the lines of each task's samples file."""
    from lm_eval.loggers import EvaluationTracker

    tracker = EvaluationTracker(output_path=str(directory))
    tracker.general_config_tracker.log_experiment_args("hf", "pretrained=org/m", None, None, True)
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for task, lines in samples.items():
        tracker.save_results_samples(task_name=task, samples=lines)
    folder = directory / "org__m"
    (file,) = folder.glob("results_*.json")
    texts = {
        task: next(folder.glob(f"samples_{task}_*.jsonl")).read_text().splitlines(keepends=True)
        for task in samples
    }
    return json.loads(file.read_text()), texts


async def ours(
    harness: HarnessProcess, evaluation: Any, model: Any
) -> tuple[dict[str, Any], dict[str, list[str]]]:
    responses = {document.index: model.answer(document) for document in evaluation.documents}
    scores = {score.index: score for score in evaluation.scores}
    by_filter: dict[str, dict[str, list[str]]] = {}
    repeats = harness.facts.repeats
    async for batch in harness.logged_documents(batch_size=5):
        for document in batch:
            lines = sample_lines(document, responses[document.index], scores[document.index], repeats=repeats)
            for name, line in lines.items():
                by_filter.setdefault(document.task, {}).setdefault(name, []).append(line)
    counts = {task: len(next(iter(lines.values()))) for task, lines in by_filter.items()}
    document = await harness.results(evaluation.aggregate.metrics, counts)
    return document, {
        task: [line for part in lines.values() for line in part] for task, lines in by_filter.items()
    }


def assert_same_files(
    mine: tuple[dict[str, Any], dict[str, list[str]]], theirs: tuple[dict[str, Any], dict[str, list[str]]]
) -> None:
    assert mine[1] == theirs[1]
    for key, expected in theirs[0].items():
        if key not in mine[0]:
            continue
        if key == "configs":  # where the rows come from is ours; the definition is the task's
            for task, config in expected.items():
                same = ("task", "output_type", "doc_to_text", "doc_to_target", "metric_list", "repeats")
                assert {name: mine[0][key][task].get(name) for name in same} == {
                    name: config.get(name) for name in same
                }
            continue
        assert list(mine[0][key]) == list(expected), key
        assert mine[0][key] == expected, key
    assert {
        "results",
        "group_subtasks",
        "configs",
        "versions",
        "n-shot",
        "higher_is_better",
        "n-samples",
    } <= set(mine[0])


async def test_files_of_a_generating_task_with_two_filters(
    write_rows: Fixture,
    evaluate: Fixture,
    reference: Fixture,
    hash_model: Fixture,
    task_index: TaskIndex,
    tmp_path: Path,
) -> None:
    files = {"test": write_rows("test", gsm_rows(6)), "train": write_rows("train", gsm_rows(8, first=50))}
    model = hash_model(answers={f"What is {i} +": [f"#### {i + 1}", f"so {i}"] for i in range(6)})
    options = TaskOptions(num_fewshot=2, bootstrap_iterations=100)
    rows = RowFiles(evaluation=files["test"], fewshot=files["train"], fewshot_split="train")
    evaluation = await evaluate(BuiltinTask(task="gsm8k"), options, rows, model)
    results = reference("gsm8k", "gsm8k", files, model, num_fewshot=2, bootstrap_iters=100)
    results["group_subtasks"] = {}  # of the group around the task that the reference needs
    theirs = saved_by_lm_eval(results, tmp_path / "lm_eval")
    async with HarnessProcess.open(BuiltinTask(task="gsm8k"), options, rows, index=task_index) as harness:
        mine = await ours(harness, evaluation, model)
    for part in ("results", "versions", "n-shot", "higher_is_better"):
        theirs[0][part].pop("reference", None)
    assert_same_files(mine, theirs)
    assert len(mine[1]["gsm8k"]) == 12


async def test_files_of_a_group_of_multiple_choice_tasks(
    write_rows: Fixture,
    evaluate: Fixture,
    reference: Fixture,
    hash_model: Fixture,
    task_index: TaskIndex,
    tmp_path: Path,
) -> None:
    tasks = task_index.tasks_of("mmlu_stem")
    files = {
        task: {
            "test": write_rows(f"{task}-test", choice_rows(task, 1 + position % 3)),
            "dev": write_rows(f"{task}-dev", choice_rows(f"{task} shot", 3)),
        }
        for position, task in enumerate(tasks)
    }
    rows = GroupRows(
        members={
            task: RowFiles(evaluation=found["test"], fewshot=found["dev"]) for task, found in files.items()
        }
    )
    options = TaskOptions(num_fewshot=1, bootstrap_iterations=100)
    model = hash_model()
    group = BuiltinTask(task="mmlu_stem")
    evaluation = await evaluate(group, options, rows, model)
    results = reference(
        "mmlu/default", "mmlu_stem", {}, model, members=files, num_fewshot=1, bootstrap_iters=100
    )
    theirs = saved_by_lm_eval(results, tmp_path / "lm_eval")
    async with HarnessProcess.open(group, options, rows, index=task_index) as harness:
        mine = await ours(harness, evaluation, model)
    assert_same_files(mine, theirs)
    assert mine[0]["groups"] == theirs[0]["groups"]

    from lm_eval.utils import make_table

    assert make_table(mine[0]) == make_table(theirs[0])
    assert make_table(mine[0], "groups") == make_table(theirs[0], "groups")


async def test_a_metric_without_a_number_is_no_json_oddity(
    write_rows: Fixture, task_index: TaskIndex
) -> None:
    rows = RowFiles(evaluation=write_rows("test", gsm_rows(3)))
    options = TaskOptions(num_fewshot=0)
    async with HarnessProcess.open(BuiltinTask(task="gsm8k"), options, rows, index=task_index) as harness:
        metrics = {"gsm8k.exact_match,strict-match": None, "gsm8k.exact_match_stderr,strict-match": None}
        document = await harness.results(metrics, {"gsm8k": 3})
    json.dumps(document, allow_nan=False)

    from lm_eval.utils import make_table

    assert "N/A" in make_table(document)


@pytest.mark.parametrize("repeats", [1, 2])
def test_a_failed_document_has_an_empty_text_and_its_reason(repeats: int) -> None:
    document = LoggedDocument(
        index=7,
        task="t",
        kind=RequestKind.GENERATE,
        doc_id=2,
        doc={"q": "x"},
        target="y",
        arguments={"gen_args_0": {"arg_0": "x"}, "gen_args_1": {"arg_0": "z"}},
        doc_hash="d",
        prompt_hash="p",
        target_hash="h",
    )
    score: Any = SimpleNamespace(values={"acc,a": 0.0, "acc,b": 0.0}, filtered={}, number_types={})
    lines = sample_lines(document, None, score, repeats=repeats, error="ENGINE_ERROR: gone")
    assert list(lines) == ["a", "b"]
    line = json.loads(lines["a"])
    assert (line["resps"], line["filtered_resps"]) == ([[""], [""]], ["", ""])
    assert (line["acc"], line["metrics"], line["doc_id"]) == (0.0, ["acc"], 2)
    assert line["error"] == "ENGINE_ERROR: gone"


@pytest.mark.parametrize(
    ("task", "family", "row", "absent"),
    [
        (
            "gsm8k_cot_self_consistency",
            "gsm8k",
            lambda i: {"question": f"What is {i} + 1?", "answer": f"#### {i + 1}"},
            (),
        ),
        (
            "wikitext",
            "wikitext",
            lambda i: {"page": f" = Page {i} = \n The cat 's hat @-@ number {i} . "},
            ("training", "validation"),
        ),
        (
            "lambada_openai",
            "lambada",
            lambda i: {"text": f"In case {i} the box of iron held water"},
            (),
        ),
    ],
    ids=["64 repeats", "whole texts", "continuations"],
)
async def test_files_of_other_kinds_of_requests(
    task: str,
    family: str,
    row: Callable[[int], dict[str, Any]],
    absent: tuple[str, ...],
    write_rows: Fixture,
    evaluate: Fixture,
    reference: Fixture,
    hash_model: Fixture,
    task_index: TaskIndex,
    tmp_path: Path,
) -> None:
    path = write_rows("test", [row(i) for i in range(3)])
    model = hash_model(fallback=("The answer is 2.", "The answer is 3."))
    options = TaskOptions(bootstrap_iterations=100)
    rows = RowFiles(evaluation=path)
    evaluation = await evaluate(BuiltinTask(task=task), options, rows, model)
    overrides = {f"{role}_split": None for role in absent}
    results = reference(family, task, {"test": path}, model, overrides=overrides, bootstrap_iters=100)
    results["group_subtasks"] = {}
    theirs = saved_by_lm_eval(results, tmp_path / "lm_eval")
    async with HarnessProcess.open(BuiltinTask(task=task), options, rows, index=task_index) as harness:
        mine = await ours(harness, evaluation, model)
    for part in ("results", "versions", "n-shot", "higher_is_better"):
        theirs[0][part].pop("reference", None)
    assert_same_files(mine, theirs)
