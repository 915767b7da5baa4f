"""Groups: members' and groups' numbers are lm-eval's, whatever their sizes and however deep they nest."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from assay_harness.errors import GroupRowsMismatch, InvalidScores, RowProblem, UnmappedColumn
from assay_harness.index import TaskIndex
from assay_harness.process import HarnessProcess
from assay_harness.spec import BuiltinTask, GroupRows, RowFiles, TaskOptions

Fixture = Callable[..., Any]


def subject(name: str, count: int, *, seed: int) -> list[dict[str, Any]]:
    draw = Random(f"{name}{seed}")
    return [
        {
            "question": f"{name} question {index}?",
            "choices": [f"choice {draw.randrange(50)}" for _ in range(4)],
            "answer": draw.randrange(4),
        }
        for index in range(count)
    ]


def sentences(name: str, count: int) -> list[dict[str, Any]]:
    return [
        {"sentence_good": f"{name} cats sit {index}.", "sentence_bad": f"{name} cats sits {index}."}
        for index in range(count)
    ]


async def test_a_nested_group_of_many_tasks_equals_lm_eval(
    group_parity: Fixture, task_index: TaskIndex
) -> None:
    members = {
        task: {
            "test": subject(task, 1 + position % 4, seed=1),
            "dev": subject(task, 3, seed=2),
        }
        for position, task in enumerate(task_index.tasks_of("mmlu"))
    }
    ours = await group_parity(
        "mmlu",
        "mmlu/default",
        members,
        evaluation="test",
        fewshot="dev",
        options=TaskOptions(num_fewshot=2, limit=3),
    )
    metrics = ours.aggregate.metrics
    assert {"mmlu.acc,none", "mmlu_stem.acc,none", "mmlu_anatomy.acc,none"} < set(metrics)
    # One member of a single document has no standard error, so neither has what it is part of.
    assert metrics["mmlu.acc_stderr,none"] is None
    assert ours.aggregate.sample_counts["mmlu.acc,none"] == len(ours.documents)
    assert len({document.task for document in ours.documents}) == 57


async def test_members_of_unequal_size_with_equal_weight_equal_lm_eval(
    group_parity: Fixture, task_index: TaskIndex
) -> None:
    tasks = task_index.tasks_of("blimp")
    members = {task: {"train": sentences(task, 2 + position % 3)} for position, task in enumerate(tasks)}
    ours = await group_parity("blimp", "blimp", members, evaluation="train")
    assert ours.aggregate.metrics["blimp.acc_stderr,none"]


async def test_a_group_that_generates_equals_lm_eval(
    group_parity: Fixture, task_index: TaskIndex, hash_model: Fixture
) -> None:
    """Every member picks its rows out of the same file."""
    draw = Random(3)
    tasks = task_index.tasks_of("mmlu_pro")
    categories = [task.removeprefix("mmlu_pro_").replace("_", " ") for task in tasks]
    data = [
        {
            "question": f"Question {index}?",
            "options": [f"option {draw.randrange(9)}" for _ in range(4)],
            "answer": draw.choice("ABCD"),
            "cot_content": "A: Let's think step by step. The answer is (B).",
            "category": categories[index % len(categories)],
        }
        for index in range(len(categories) * 4)
    ]
    members = {task: {"test": data, "validation": data[: len(categories) * 2]} for task in tasks}
    ours = await group_parity(
        "mmlu_pro",
        "mmlu_pro",
        members,
        evaluation="test",
        fewshot="validation",
        options=TaskOptions(num_fewshot=1, limit=3, bootstrap_iterations=10),
        model=hash_model(fallback=("the answer is (A)", "answer is B", "no idea")),
    )
    assert 0 < ours.aggregate.metrics["mmlu_pro.exact_match,custom-extract"] < 1


async def test_a_group_numbers_its_documents_on_and_says_whose_they_are(
    write_rows: Fixture, task_index: TaskIndex
) -> None:
    files = RowFiles(evaluation=write_rows("train", sentences("all", 3)), evaluation_split="train")
    async with HarnessProcess.open(
        BuiltinTask(task="blimp"), TaskOptions(limit=2), files, index=task_index
    ) as harness:
        facts = harness.facts
        documents = [document async for batch in harness.documents(batch_size=5) for document in batch]
        assert [document.index for document in documents] == list(range(2 * 67))
        assert facts.document_count == 2 * 67
        assert facts.row_count == 3 * 67
        assert [(member.start, member.stop) for member in facts.members[:2]] == [(0, 2), (2, 4)]
        for member in facts.members:
            assert {document.task for document in documents[member.start : member.stop]} == {member.task}
        # Where examples were drawn, or what was left out, changes no prompt: the same as all in one go.
        resumed = [
            document
            async for batch in harness.documents(skip=set(range(3, 130)), batch_size=50)
            for document in batch
        ]
        assert resumed == documents[:3] + documents[130:]
        scores = await harness.score(
            [
                (document.index, [[-1.0, True], [-2.0, False]])
                for document in (documents[5], documents[0], documents[130])
            ]
        )
        assert [(score.index, score.task) for score in scores] == [
            (document.index, document.task) for document in (documents[5], documents[0], documents[130])
        ]
        with pytest.raises(InvalidScores, match="no document of 'blimp_"):
            await harness.aggregate(scores)


async def test_rows_for_other_tasks_than_the_groups_are_refused(
    write_rows: Fixture, task_index: TaskIndex
) -> None:
    files = RowFiles(evaluation=write_rows("train", sentences("all", 3)))
    given = {task: files for task in task_index.tasks_of("blimp")[2:]} | {"gsm8k": files}
    with pytest.raises(GroupRowsMismatch) as caught:
        async with HarnessProcess.open(
            BuiltinTask(task="blimp"), TaskOptions(), GroupRows(members=given), index=task_index
        ):
            pytest.fail("it must not open")
    assert caught.value.missing == task_index.tasks_of("blimp")[:2]
    assert caught.value.unknown == ["gsm8k"]


async def test_what_is_wrong_with_one_member_names_it(write_rows: Fixture, task_index: TaskIndex) -> None:
    tasks = task_index.tasks_of("blimp")
    good = RowFiles(evaluation=write_rows("good", sentences("all", 3)))
    bad = RowFiles(evaluation=write_rows("bad", [{"sentence_good": "x", "other": "y"}]))
    rows = GroupRows(members=dict.fromkeys(tasks, good) | {tasks[5]: bad})
    with pytest.raises(UnmappedColumn, match=f"in task '{tasks[5]}': .*'sentence_bad'") as caught:
        async with HarnessProcess.open(BuiltinTask(task="blimp"), TaskOptions(), rows, index=task_index):
            pytest.fail("it must not open")
    assert caught.value.available == ["sentence_good", "other"]
    rows = GroupRows(members=dict.fromkeys(tasks, good))
    async with HarnessProcess.open(
        BuiltinTask(task="blimp"), TaskOptions(), rows, index=task_index
    ) as harness:
        with pytest.raises(RowProblem, match=f"row 7 .*row 1 of task '{tasks[2]}'"):
            await harness.score([(7, [])])


async def test_a_tag_runs_as_a_group_without_numbers_of_its_own(
    write_rows: Fixture, task_index: TaskIndex, evaluate: Fixture, hash_model: Fixture
) -> None:
    draw = Random(5)
    data = [
        {
            "question": f"Question {index}?",
            "choices": {"text": ["yes", "no", "perhaps"], "label": ["A", "B", "C"]},
            "answerKey": draw.choice("ABC"),
        }
        for index in range(4)
    ]
    files = RowFiles(evaluation=write_rows("test", data))
    ours = await evaluate(BuiltinTask(task="ai2_arc"), TaskOptions(), files, hash_model())
    assert {key.partition(".")[0] for key in ours.aggregate.metrics} == {"arc_challenge", "arc_easy"}
