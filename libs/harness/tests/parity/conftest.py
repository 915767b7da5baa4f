"""Fixtures: lm-eval's own evaluation of the same rows and responses, and the comparison with ours."""

import json
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from assay_harness.index import TaskIndex
from assay_harness.results import Document, DocumentScore, RequestKind
from assay_harness.spec import BuiltinTask, GroupRows, RowFiles, TaskOptions
from assay_harness.values import encode_metric

RowList = list[dict[str, Any]]
WriteRows = Callable[[str, RowList], Path]
Evaluate = Callable[..., Any]
Reference = Callable[..., dict[str, Any]]


@pytest.fixture
def reference() -> Reference:
    """Run `lm_eval.simple_evaluate` on a stock task or group, whose rows come from Parquet files.

    `splits` maps a split to a file; for a group, `members` maps each of its tasks to such a mapping.
    `process_docs_once` prepares documents once where lm-eval would prepare them anew on each access.
    """

    def run(
        family: str,
        task: str,
        splits: dict[str, Path],
        model: Any,
        *,
        members: dict[str, dict[str, Path]] | None = None,
        process_docs_once: bool = False,
        overrides: dict[str, Any] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        import datasets
        import lm_eval
        from lm_eval.api.task import ConfigurableTask
        from lm_eval.tasks import TaskManager

        root = Path(lm_eval.__file__).parent / "tasks"
        manager = TaskManager(include_defaults=False, include_path=str(root / family))

        def download(built: Any, *_: object, **__: object) -> None:
            files = splits if members is None else members[built.config.task]
            built.dataset = {split: datasets.Dataset(pq.read_table(path)) for split, path in files.items()}

        changes: dict[str, Any] = dict(overrides or {})
        if process_docs_once:
            changes["process_docs"] = _once(manager.task_index[task].yaml_path)
        item = task if members is not None else {"group": "reference", "task": [{"task": task, **changes}]}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ConfigurableTask, "download", download)
            return simple_evaluate(model, [item], manager, **options)

    return run


def _once(yaml_path: Path) -> Callable[[Any], Any]:
    """Return the function with which a task prepares its documents, which here remembers what it returned."""
    from lm_eval.tasks._yaml_loader import load_yaml

    prepare = load_yaml(yaml_path)["process_docs"]
    prepared: dict[int, Any] = {}

    def once(dataset: Any) -> Any:
        if id(dataset) not in prepared:
            prepared[id(dataset)] = prepare(dataset)
        return prepared[id(dataset)]

    return once


def simple_evaluate(model: Any, tasks: Sequence[Any], manager: Any, **options: Any) -> dict[str, Any]:
    """Call lm-eval with our model; its bootstrap runs in this process."""
    import lm_eval
    from lm_eval.api.model import LM

    class Adapter(LM):  # type: ignore[misc]
        tokenizer_name = "turns"

        def apply_chat_template(
            self, history: list[dict[str, str]], add_generation_prompt: bool = True
        ) -> str:
            return json.dumps(history, ensure_ascii=False)

        def generate_until(self, requests: list[Any]) -> list[str]:
            seen: Counter[tuple[str, int, str]] = Counter()
            texts = []
            for request in requests:
                key = (request.task_name, request.doc_id, request.args[0])
                texts.append(model.generate(request.args[0], seen[key]))
                seen[key] += 1
            return texts

        def loglikelihood(self, requests: list[Any]) -> list[tuple[float, bool]]:
            return [tuple(model.log_probability(*request.args)) for request in requests]

        def loglikelihood_rolling(self, requests: list[Any]) -> list[float]:
            return [model.log_probability("", request.args[0]).log_probability for request in requests]

    before = os.environ.get("DISABLE_MULTIPROC")
    os.environ["DISABLE_MULTIPROC"] = "1"
    try:
        options.setdefault("bootstrap_iters", 1000)
        # What it reports of the machine costs a second per call and has no part in the numbers.
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lm_eval.evaluator.add_env_info", lambda storage: None)
            patch.setattr("lm_eval.evaluator.get_git_commit_hash", lambda: None)
            results: dict[str, Any] = lm_eval.simple_evaluate(
                model=Adapter(), tasks=list(tasks), task_manager=manager, **options
            )
    finally:
        os.environ.pop("DISABLE_MULTIPROC") if before is None else os.environ.update(DISABLE_MULTIPROC=before)
    return results


def assert_identical(ours: Any, theirs: dict[str, Any], *names: str) -> None:
    """Compare prompts, hashes, each document's values and every number, bit by bit.

    `names` are the task, or a group's tasks in order followed by its groups.
    """
    documents = iter(ours.documents)
    scores = {score.index: score for score in ours.scores}
    expected: dict[str, Any] = {}
    counts = 0
    for name in names:
        found = theirs["results"][name]
        expected |= {f"{name}.{key}": value for key, value in found.items() if "," in key}
        if name not in theirs["samples"]:
            for key, count in found.get("sample_count", {}).items():
                assert ours.aggregate.sample_counts[f"{name}.{key}"] == count
            continue
        counts += found["sample_len"]
        by_document: dict[int, list[dict[str, Any]]] = defaultdict(list)
        for sample in theirs["samples"][name]:
            by_document[sample["doc_id"]].append(sample)
        for _, samples in sorted(by_document.items()):
            document = next(documents)
            _assert_same_prompts(document, samples[0], name)
            for sample in samples:
                _assert_same_values(scores[document.index], sample)
        for metric, better in theirs["higher_is_better"][name].items():
            for key, value in ours.aggregate.higher_is_better.items():
                if key.startswith(f"{name}.{metric},"):
                    assert value == better
    assert next(documents, None) is None
    not_finite = [key for key, value in expected.items() if value != "N/A" and not math.isfinite(value)]
    absent = {key for key, value in expected.items() if value == "N/A"} | set(not_finite)
    assert ours.aggregate.metrics == {
        key: None if key in absent else value for key, value in expected.items()
    }
    assert sorted(ours.aggregate.not_finite) == sorted(not_finite)
    assert ours.aggregate.sample_count == counts


def _assert_same_prompts(document: Document, sample: dict[str, Any], task: str) -> None:
    """Compare the requests of a document, each repeat once, and its hashes."""
    assert document.task == task
    asked = [
        (request.continuation,)
        if request.kind is RequestKind.ROLLING
        else (request.context, request.continuation)
        if request.kind is RequestKind.LOGLIKELIHOOD
        else (request.context,)
        for request in document.requests
        if request.repeat == 0
    ]
    generates = document.requests[0].kind is RequestKind.GENERATE
    assert asked == [tuple(arguments[:1] if generates else arguments) for arguments in sample["arguments"]]
    hashes = (document.doc_hash, document.prompt_hash, document.target_hash)
    assert hashes == (sample["doc_hash"], sample["prompt_hash"], sample["target_hash"])


def _assert_same_values(score: DocumentScore, sample: dict[str, Any]) -> None:
    """Compare what a document scored under one filter, types included."""
    for metric in sample["metrics"]:
        key = f"{metric},{sample['filter']}"
        assert (score.values[key], score.number_types.get(key, "")) == encode_metric(sample[metric]), key


@pytest.fixture
def identical() -> Callable[..., None]:
    """The comparison of an evaluation of ours with one of lm-eval's."""
    return assert_identical


Parity = Callable[..., Any]


@pytest.fixture
def parity(
    write_rows: WriteRows,
    evaluate: Evaluate,
    reference: Reference,
    hash_model: type[Any],
    task_index: TaskIndex,
) -> Parity:
    """Evaluate a task both ways on the same rows and responses, and compare everything.

    `evaluation` and `fewshot` name splits of `splits`; the task's splits that are not among them are taken
    from lm-eval's definition too. `overrides` change that definition further, to what ours must amount to.
    """

    async def run(
        task: str,
        family: str,
        splits: dict[str, RowList],
        *,
        evaluation: str,
        fewshot: str | None = None,
        options: TaskOptions | None = None,
        model: Any = None,
        overrides: dict[str, Any] | None = None,
        process_docs_once: bool = False,
    ) -> Any:
        files = {split: write_rows(split, rows) for split, rows in splits.items()}
        options, model = options or TaskOptions(bootstrap_iterations=100), model or hash_model()
        rows = RowFiles(
            evaluation=files[evaluation],
            evaluation_split=evaluation,
            fewshot=files[fewshot] if fewshot else None,
            fewshot_split=fewshot,
        )
        ours: Any = await evaluate(BuiltinTask(task=task), options, rows, model)
        own = task_index.get(task).splits
        changes: dict[str, Any] = {
            f"{role}_split": None for role, split in own.items() if split not in splits
        }
        changes |= (overrides or {}) | ({"repeats": options.repeats} if options.repeats else {})
        theirs = reference(
            family,
            task,
            files,
            model,
            overrides=changes,
            process_docs_once=process_docs_once,
            **_as_lm_eval_says(options),
        )
        assert_identical(ours, theirs, task)
        return ours

    return run


def _as_lm_eval_says(options: TaskOptions) -> dict[str, Any]:
    """Translate options into the arguments of `simple_evaluate`."""
    return {
        "num_fewshot": options.num_fewshot,
        "limit": options.limit,
        "gen_kwargs": dict(options.generation_kwargs) or None,
        "system_instruction": options.system_instruction,
        "apply_chat_template": options.apply_chat_template,
        "fewshot_as_multiturn": options.fewshot_as_multiturn,
        "random_seed": options.random_seed,
        "numpy_random_seed": options.numpy_seed,
        "fewshot_random_seed": options.fewshot_seed,
        "bootstrap_iters": options.bootstrap_iterations,
    }


@pytest.fixture
def group_parity(
    write_rows: WriteRows, evaluate: Evaluate, reference: Reference, hash_model: type[Any]
) -> Parity:
    """Evaluate a group both ways; `members` maps each of its tasks to its rows by split."""

    async def run(
        group: str,
        family: str,
        members: dict[str, dict[str, RowList]],
        *,
        evaluation: str,
        fewshot: str | None = None,
        options: TaskOptions | None = None,
        model: Any = None,
    ) -> Any:
        options, model = options or TaskOptions(), model or hash_model()
        files = {
            task: {split: write_rows(f"{task}-{split}", rows) for split, rows in splits.items()}
            for task, splits in members.items()
        }
        rows = GroupRows(
            members={
                task: RowFiles(
                    evaluation=found[evaluation],
                    evaluation_split=evaluation,
                    fewshot=found[fewshot] if fewshot else None,
                )
                for task, found in files.items()
            }
        )
        ours: Any = await evaluate(BuiltinTask(task=group), options, rows, model)
        theirs = reference(family, group, {}, model, members=files, **_as_lm_eval_says(options))
        names = list(theirs["results"])
        assert_identical(ours, theirs, *names)
        return ours

    return run


@pytest.fixture
def direct_evaluate() -> Callable[..., dict[str, Any]]:
    """`simple_evaluate` on a task object or config of the test's own."""
    return simple_evaluate
