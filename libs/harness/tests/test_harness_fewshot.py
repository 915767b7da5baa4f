"""Where few-shot examples come from, what never stands among them, and how a run differs from its task."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from assay_harness.errors import FewshotPoolTooSmall, RowProblem
from assay_harness.index import TaskIndex
from assay_harness.process import HarnessProcess
from assay_harness.results import FewshotSource, TaskFacts
from assay_harness.spec import BuiltinTask, RowFiles, RowOrigin, TaskOptions

Fixture = Callable[..., Any]
ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 2)), min_size=2, max_size=12)


@given(drawn=ROWS, num_fewshot=st.integers(1, 4), seed=st.integers(0, 3))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("task", ["gsm8k", "nq_open", "boolq", "mmlu_anatomy"])
def test_no_prompt_holds_its_own_row(
    task: str,
    drawn: list[tuple[int, int]],
    num_fewshot: int,
    seed: int,
    tmp_path: Path,
    task_index: TaskIndex,
) -> None:
    """Rows repeat, in whole or but for a column that no prompt shows; the roles and samplers differ."""
    from assay_harness.engine import Engine

    path = tmp_path / "rows.parquet"
    data = [_row(task, question, extra) for question, extra in drawn]
    pq.write_table(pa.Table.from_pylist(data), path)
    engine_arguments = {
        "recipe": BuiltinTask(task=task),
        "options": TaskOptions(num_fewshot=num_fewshot, fewshot_seed=seed),
        # The same file named as the source of examples is the same case.
        "rows": RowFiles(evaluation=path, fewshot=path if seed % 2 else None),
        "definition": task_index.definition(task),
    }
    try:
        engine = Engine(**engine_arguments)  # type: ignore[arg-type]
        documents = [document for batch in engine.batches(batch_size=3) for document in batch]
    except FewshotPoolTooSmall:
        assert len(drawn) <= num_fewshot
        return
    except RowProblem as error:
        question = drawn[error.row_index][0]
        assert sum(other != question for other, _ in drawn) < num_fewshot
        return
    assert engine.facts.fewshot_source is FewshotSource.EVALUATION_ROWS
    for document, (question, _) in zip(documents, drawn, strict=True):
        context = document.requests[0].context
        assert context.count(f"case <{question}>") == 1
        assert f"ANSWER{question} " not in context
        assert context.count("is it in case") == num_fewshot + 1


def _row(task: str, question: int, extra: int) -> dict[str, Any]:
    text = f"What is it in case <{question}>"
    if task == "nq_open":
        return {"question": text, "answer": [f"ANSWER{question} x"], "hidden": extra}
    if task == "boolq":
        return {"passage": text, "question": "so", "label": question % 2, "hidden": extra}
    if task == "mmlu_anatomy":
        return {"question": text, "choices": ["w", "x", "y", "z"], "answer": question % 4, "hidden": extra}
    return {"question": text, "answer": f"ANSWER{question} x", "hidden": extra}


HUB = RowOrigin(kind="huggingface", repo_id="openai/gsm8k", subset="main", split="test")
TRAIN = HUB.model_copy(update={"split": "train"})
UPLOAD = RowOrigin(kind="jsonl")


@pytest.fixture
def facts_of(write_rows: Fixture, task_index: TaskIndex) -> Fixture:
    files = {
        name: write_rows(name, [_row("gsm8k", first + index, 0) for index in range(8)])
        for first, name in enumerate(("test", "train"))
    }

    async def facts(options: TaskOptions, *, fewshot: bool = True, **arguments: Any) -> TaskFacts:
        rows = RowFiles(evaluation=files["test"], fewshot=files["train"] if fewshot else None, **arguments)
        async with HarnessProcess.open(BuiltinTask(task="gsm8k"), options, rows, index=task_index) as harness:
            return harness.facts

    return facts


async def test_the_tasks_own_arrangement_deviates_in_nothing(facts_of: Fixture) -> None:
    facts = await facts_of(TaskOptions(), evaluation_origin=HUB, fewshot_origin=TRAIN, fewshot_split="train")
    assert facts.deviations == []
    assert facts.fewshot_canonical


@pytest.mark.parametrize(
    ("options", "arguments", "deviations"),
    [
        (
            {},
            {"evaluation_origin": TRAIN, "evaluation_split": "train", "fewshot": False},
            {"evaluation_split": ("test", "train"), "fewshot_source": ("train", "evaluation_rows")},
        ),
        (
            {},
            {"evaluation_origin": UPLOAD, "fewshot_origin": UPLOAD, "fewshot_split": "train"},
            {"dataset_path": ("openai/gsm8k", None), "fewshot_source": ("openai/gsm8k", None)},
        ),
        (
            {},
            {
                "evaluation_origin": HUB.model_copy(update={"subset": "socratic"}),
                "fewshot_origin": HUB,
                "fewshot_split": "test",
            },
            {"dataset_name": ("main", "socratic"), "fewshot_split": ("train", "test")},
        ),
        (
            {"num_fewshot": 0, "repeats": 3, "generation_kwargs": {"max_gen_toks": 9}},
            {"evaluation_origin": HUB.model_copy(update={"repo_id": "someone/gsm8k"}), "fewshot": False},
            {
                "dataset_path": ("openai/gsm8k", "someone/gsm8k"),
                "num_fewshot": (5, 0),
                "repeats": (1, 3),
                "generation_kwargs": ({"max_gen_toks": None}, {"max_gen_toks": 9}),
            },
        ),
    ],
)
async def test_what_differs_from_the_task_is_said(
    options: dict[str, Any],
    arguments: dict[str, Any],
    deviations: dict[str, tuple[Any, Any]],
    facts_of: Fixture,
) -> None:
    facts = await facts_of(TaskOptions(**options), **arguments)
    assert {item.field: (item.task_value, item.run_value) for item in facts.deviations} == deviations
    assert all(item.message for item in facts.deviations)
