"""The task index and the harness process: refusals, order, resuming, and what is left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from assay_harness.errors import (
    FewshotPoolTooSmall,
    HarnessProcessDied,
    InvalidOptions,
    InvalidScores,
    RowFileProblem,
    RowProblem,
    TaskRefused,
    UnknownTask,
    UnmappedColumn,
)
from assay_harness.index import EntryKind, TaskIndex, TaskStatus
from assay_harness.process import HarnessProcess
from assay_harness.results import Document
from assay_harness.spec import BuiltinTask, RowFiles, TaskOptions

Fixture = Callable[..., Any]
GSM8K = BuiltinTask(task="gsm8k")


def rows(count: int, *, first: int = 0) -> list[dict[str, Any]]:
    return [{"question": f"What is {i} + 1?", "answer": f"#### {i + 1}"} for i in range(first, first + count)]


@pytest.fixture
def files(write_rows: Fixture) -> RowFiles:
    return RowFiles(evaluation=write_rows("test", rows(12)), fewshot=write_rows("train", rows(20, first=100)))


async def collect(harness: HarnessProcess, **options: Any) -> list[Document]:
    return [document async for batch in harness.documents(**options) for document in batch]


def test_the_index_knows_tasks_groups_and_refusals(task_index: TaskIndex) -> None:
    entry = task_index.get("gsm8k")
    assert (entry.output_type, entry.columns, entry.num_fewshot) == (
        "generate_until",
        ["answer", "question"],
        5,
    )
    assert entry.splits == {"training": "train", "test": "test", "fewshot": "train"}
    assert not entry.needs_log_probabilities
    assert entry.refusal is None
    assert task_index.get("arc_easy").needs_log_probabilities
    assert len(task_index) > 14_000
    for name, reason in [
        ("humaneval", "executes code"),
        ("mmmu_val_accounting", "images"),
        ("squadv2", "downloaded and executed"),
        ("slr_bench_all", "downloaded and executed"),
        ("realtoxicityprompts", "a service over the network"),
        ("scrolls_quality", "Python class that loads its rows itself"),
        ("xsum", "Python class that loads its rows itself"),
        ("kobest_boolq", "downloaded and executed"),
        ("pisa_en_llm_judged", "asks another language model"),
        ("babilong", "'babilong_qa1' cannot be run here: it generates"),
        ("openllm", "'truthfulqa' in a way that gives all of its tasks one name"),
    ]:
        with pytest.raises(TaskRefused, match=reason):
            task_index.runnable(name)
    assert task_index.get("mmlu").kind is EntryKind.GROUP
    assert task_index.get("mmlu").status is TaskStatus.NEEDS_LOG_PROBABILITIES
    assert len(task_index.tasks_of("mmlu")) == 57
    assert task_index.tasks_of("gsm8k") == ["gsm8k"]


def test_every_status_has_its_reason(task_index: TaskIndex) -> None:
    seen = {}
    for name in task_index:
        entry = task_index.get(name)
        assert (entry.refusal is None) == (entry.status in RUNNABLE), name
        assert bool(entry.reason) == (entry.status is not TaskStatus.OK), name
        seen[entry.status] = name
    assert set(seen) == set(TaskStatus)


RUNNABLE = (TaskStatus.OK, TaskStatus.NEEDS_LOG_PROBABILITIES)


@pytest.mark.parametrize("name", ["gsm8", "GSM8K", "gms8k", "gsm-8k"])
def test_an_unknown_name_brings_the_nearest(name: str, task_index: TaskIndex) -> None:
    with pytest.raises(UnknownTask) as caught:
        task_index.get(name)
    assert caught.value.nearest[0] == "gsm8k"
    assert len(caught.value.nearest) == 5


@pytest.mark.parametrize(
    ("text", "name"),
    [("mlmu", "mmlu"), ("mmlu anatmy", "mmlu_anatomy"), ("hella swag", "hellaswag"), ("ai2_arc", "ai2_arc")],
)
def test_words_with_typing_errors_bring_what_was_meant(text: str, name: str, task_index: TaskIndex) -> None:
    assert name in task_index.nearest(text)


def test_search_by_status_and_kind(task_index: TaskIndex) -> None:
    unsafe = task_index.search("humaneval", status=TaskStatus.UNSAFE_CODE)
    assert "humaneval" in [entry.name for entry in unsafe]
    assert task_index.search("humaneval", status=TaskStatus.OK) == []
    groups = task_index.search("mmlu", limit=5, kind=EntryKind.GROUP)
    assert [entry.kind for entry in groups] == [EntryKind.GROUP] * 5
    assert groups[0].name == "mmlu"


def test_search_puts_the_closest_name_first(task_index: TaskIndex) -> None:
    assert [entry.name for entry in task_index.search("gsm8k", limit=2)] == ["gsm8k", "gsm8k_cot"]
    assert task_index.search("mmlu anatomy")[0].name == "mmlu_anatomy"
    assert task_index.search("no such thing at all") == []


@pytest.mark.slow
def test_every_task_that_may_be_run_loads_here(tmp_path: Path) -> None:
    """The index is made without running any task's code; here each file's code is imported, offline."""
    program = """
        import contextlib, json, os
        from assay_harness.settings import isolate_environment
        isolate_environment()
        from lm_eval.tasks._yaml_loader import load_yaml
        from assay_harness.index import EntryKind, load_task_index
        from assay_harness.sources import PACKAGE_ROOT
        index, problems, count = load_task_index(), {}, 0
        for entry in map(index.get, index):
            if entry.kind is EntryKind.TASK and not entry.refusal:
                count += 1
                try:
                    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere):
                        load_yaml(PACKAGE_ROOT / entry.yaml_path, resolve_func=True)
                except BaseException as error:
                    problems[entry.name] = repr(error)
        print(json.dumps([count, problems]))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
    )
    count, problems = json.loads(done.stdout.splitlines()[-1])
    assert problems == {}
    assert count > 10_000


def test_importing_the_client_loads_no_heavy_library() -> None:
    program = """
        import sys
        import assay_harness.errors, assay_harness.index, assay_harness.process, assay_harness.spec
        import assay_harness.results, assay_harness.template
        print([name for name in ("lm_eval", "datasets", "pandas", "pyarrow", "numpy") if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


async def test_a_yaml_path_is_no_task_name(files: RowFiles, tmp_path: Path, task_index: TaskIndex) -> None:
    path = tmp_path / "evil.yaml"
    path.write_text("task: evil\n")
    with pytest.raises(UnknownTask):
        async with HarnessProcess.open(BuiltinTask(task=str(path)), TaskOptions(), files, index=task_index):
            pytest.fail("it must not open")


async def test_a_limit_takes_a_prefix_and_resuming_keeps_the_prompts(
    files: RowFiles, task_index: TaskIndex
) -> None:
    async with HarnessProcess.open(GSM8K, TaskOptions(), files, index=task_index) as harness:
        whole = await collect(harness)
        assert [document.index for document in whole] == list(range(12))
        # The same process again, and with finished documents left out: the same draws.
        assert await collect(harness, batch_size=5) == whole
        resumed = await collect(harness, batch_size=4, skip={0, 1, 2, 3, 4, 5, 9})
        assert resumed == [whole[index] for index in (6, 7, 8, 10, 11)]
    async with HarnessProcess.open(GSM8K, TaskOptions(limit=5), files, index=task_index) as harness:
        assert harness.facts.document_count == 5
        assert await collect(harness) == whole[:5]
        assert (await harness.dry_render()).rendered_count == 5
        with pytest.raises(RowProblem, match="there are 5 documents"):
            await harness.score([(5, ["x"])])


async def test_mapped_columns_give_the_same_prompts(write_rows: Fixture, task_index: TaskIndex) -> None:
    renamed = [{"prompt": row["question"], "gold": row["answer"], "question": "decoy"} for row in rows(8)]
    options = TaskOptions(num_fewshot=2, column_mapping={"question": "prompt", "answer": "gold"})
    mapped = RowFiles(evaluation=write_rows("renamed", renamed))
    plain = RowFiles(evaluation=write_rows("plain", rows(8)))
    async with HarnessProcess.open(GSM8K, options, mapped, index=task_index) as harness:
        ours = await collect(harness)
    async with HarnessProcess.open(GSM8K, TaskOptions(num_fewshot=2), plain, index=task_index) as harness:
        assert ours == await collect(harness)
        assert harness.facts.fewshot_canonical is False


async def test_missing_columns_are_all_named(write_rows: Fixture, task_index: TaskIndex) -> None:
    mapped = RowFiles(evaluation=write_rows("other", [{"prompt": "x", "gold": "y"}]))
    with pytest.raises(UnmappedColumn) as caught:
        async with HarnessProcess.open(GSM8K, TaskOptions(num_fewshot=0), mapped, index=task_index):
            pytest.fail("it must not open")
    assert (caught.value.columns, caught.value.available) == (["answer", "question"], ["prompt", "gold"])
    # hellaswag prepares its documents in code: the column is known only when the code asks for it.
    with pytest.raises(UnmappedColumn) as caught:
        async with HarnessProcess.open(
            BuiltinTask(task="hellaswag"), TaskOptions(), mapped, index=task_index
        ):
            pytest.fail("it must not open")
    assert caught.value.available == ["prompt", "gold"]


async def test_options_that_do_not_fit_are_typed_errors(
    files: RowFiles, tmp_path: Path, task_index: TaskIndex
) -> None:
    empty = tmp_path / "broken.parquet"
    empty.write_text("not parquet")
    alone = RowFiles(evaluation=files.evaluation)
    for task, options, used, error in [
        ("gsm8k", TaskOptions(num_fewshot=12), alone, FewshotPoolTooSmall),
        ("gsm8k", TaskOptions(num_fewshot=21), files, FewshotPoolTooSmall),
        ("gsm8k", TaskOptions(), RowFiles(evaluation=empty), RowFileProblem),
        ("gsm8k", TaskOptions(), RowFiles(evaluation=tmp_path / "absent.parquet"), RowFileProblem),
        ("lambada_openai", TaskOptions(apply_chat_template=True), None, InvalidOptions),
    ]:
        if used is None:
            used = RowFiles(evaluation=tmp_path / "text.parquet")
            _write_text_rows(used.evaluation)
        with pytest.raises(error):
            async with HarnessProcess.open(BuiltinTask(task=task), options, used, index=task_index):
                pytest.fail("it must not open")


def _write_text_rows(path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"text": ["the cat sat on the mat"] * 3}), path)


async def test_a_class_says_what_it_reads_and_refuses_what_it_would_ignore(
    write_rows: Fixture, task_index: TaskIndex
) -> None:
    entry = task_index.get("fda")
    assert (entry.columns, entry.splits, entry.output_type, entry.dataset_path) == (
        ["text", "value"],
        {"validation": "validation"},
        "generate_until",
        "hazyresearch/based-fda",
    )
    recipe = BuiltinTask(task="fda")
    rows = RowFiles(
        evaluation=write_rows("rows", [{"text": "A ", "value": "b"}] * 3), evaluation_split="validation"
    )
    async with HarnessProcess.open(recipe, TaskOptions(), rows, index=task_index) as harness:
        assert (harness.facts.until, harness.facts.max_gen_toks) == (["\n"], 48)
        assert [deviation.field for deviation in harness.facts.deviations] == ["dataset_path"]
        (documents,) = [batch async for batch in harness.documents()]
        assert documents[0].requests[0].generation_kwargs["max_gen_toks"] == 48
    other = RowFiles(evaluation=write_rows("other", [{"text": "A "}]))
    for options, files, error in [
        (TaskOptions(num_fewshot=1), rows, InvalidOptions),
        (TaskOptions(generation_kwargs={"max_gen_toks": 9}), rows, InvalidOptions),
        (TaskOptions(), other, UnmappedColumn),
    ]:
        with pytest.raises(error):
            async with HarnessProcess.open(recipe, options, files, index=task_index):
                pytest.fail("it must not open")


async def test_scores_that_do_not_fit_are_refused(files: RowFiles, task_index: TaskIndex) -> None:
    async with HarnessProcess.open(GSM8K, TaskOptions(), files, index=task_index) as harness:
        (score,) = await harness.score([(3, ["#### 4"])])
        assert score.values["exact_match,strict-match"] == 1.0
        assert score.filtered["flexible-extract"] == ["4"]
        with pytest.raises(InvalidScores, match="twice"):
            await harness.aggregate([score, score])
        with pytest.raises(InvalidScores, match="nothing"):
            await harness.aggregate([])
        with pytest.raises(RowProblem, match="row 3"):
            await harness.score([(3, [])])
        assert (await harness.aggregate([score])).metrics["gsm8k.exact_match_stderr,strict-match"] is None


async def test_a_killed_process_is_a_typed_error_and_leaves_nothing(
    files: RowFiles, task_index: TaskIndex
) -> None:
    before = _harness_children()
    async with HarnessProcess.open(GSM8K, TaskOptions(), files, index=task_index) as harness:
        (child,) = _harness_children() - before
        os.kill(child, signal.SIGKILL)
        with pytest.raises(HarnessProcessDied) as caught:
            await harness.dry_render()
        assert caught.value.exit_code == -signal.SIGKILL
    assert _harness_children() == before


async def test_a_cancelled_caller_leaves_no_process(files: RowFiles, task_index: TaskIndex) -> None:
    before = _harness_children()
    opened = asyncio.Event()

    async def work() -> None:
        async with HarnessProcess.open(GSM8K, TaskOptions(), files, index=task_index) as harness:
            opened.set()
            while True:
                await harness.dry_render()

    task = asyncio.create_task(work())
    await opened.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert _harness_children() == before


def _harness_children() -> set[int]:
    """Processes of fork servers below this one; the servers themselves are left out."""
    return {
        child.pid
        for server in psutil.Process().children()
        if "forkserver" in " ".join(server.cmdline())
        for child in server.children()
    }


def test_the_process_dies_with_its_parent_even_on_sigkill(files: RowFiles) -> None:
    program = """
        import asyncio, json, os, signal, sys
        import psutil
        from assay_harness.process import HarnessProcess
        from assay_harness.spec import BuiltinTask, RowFiles, TaskOptions

        async def main():
            rows = RowFiles.model_validate_json(sys.argv[1])
            async with HarnessProcess.open(BuiltinTask(task="gsm8k"), TaskOptions(), rows):
                pids = [child.pid for child in psutil.Process().children(recursive=True)]
                print(json.dumps(pids), flush=True)
                os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
    """
    command = [sys.executable, "-c", textwrap.dedent(program), files.model_dump_json()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    processes = [psutil.Process(pid) for pid in json.loads(done.stdout) if psutil.pid_exists(pid)]
    _, alive = psutil.wait_procs(processes, timeout=30)
    assert alive == []
