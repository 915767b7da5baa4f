"""Fixtures: rows as Parquet files, a deterministic model, and lm-eval's own evaluation to compare with."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay_harness.index import TaskIndex, load_task_index
from assay_harness.process import HarnessProcess
from assay_harness.results import Aggregate, Document, DocumentScore, LogProbability, RequestKind, Response
from assay_harness.spec import Recipe, RowFiles, TaskOptions

Rows = list[dict[str, Any]]
WriteRows = Callable[[str, Rows], Path]


@dataclass(frozen=True, slots=True)
class HashModel:
    """A model whose answers depend on nothing but the request.

    Text is drawn from `answers[key]` for the last key that occurs in the prompt, else from `fallback`.
    """

    answers: dict[str, list[str]] = field(default_factory=dict)
    fallback: tuple[str, ...] = ("I do not know.",)

    def generate(self, context: str, repeat: int) -> str:
        position = {key: context.rfind(key) for key in self.answers}
        key = max(position, key=lambda name: position[name], default="")
        found = key and position[key] >= 0
        return _draw(f"{context}#{repeat}").choice(self.answers[key] if found else self.fallback)

    def log_probability(self, context: str, continuation: str) -> LogProbability:
        draw = _draw(f"{context}|{continuation}")
        return LogProbability(-30 * draw.random(), draw.random() < 0.4)

    def answer(self, document: Document) -> list[Response]:
        return [
            self.generate(request.context, request.repeat)
            if request.kind is RequestKind.GENERATE
            else self.log_probability(request.context, request.continuation)
            for request in document.requests
        ]


def _draw(text: str) -> Random:
    return Random(hashlib.sha256(text.encode()).hexdigest())


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What our side produced; the scores went through JSON in a random order."""

    documents: list[Document]
    scores: list[DocumentScore]
    aggregate: Aggregate


Evaluate = Callable[..., Any]


@pytest.fixture
def write_rows(tmp_path: Path) -> WriteRows:
    """Write rows to a Parquet file; types come from all rows, so nulls are kept."""

    def write(name: str, rows: Rows) -> Path:
        path = tmp_path / f"{name}.parquet"
        names = list(dict.fromkeys(key for row in rows for key in row))
        pq.write_table(pa.table({key: pa.array([row.get(key) for row in rows]) for key in names}), path)
        return path

    return write


@pytest.fixture(scope="session")
def task_index() -> TaskIndex:
    """The index of the installed lm-eval, built once per machine."""
    return load_task_index()


@pytest.fixture
def evaluate(task_index: TaskIndex) -> Evaluate:
    """Evaluate in a harness process, scoring in random order with a second process aggregating."""

    async def run(recipe: Recipe, options: TaskOptions, rows: RowFiles, model: HashModel) -> Evaluation:
        documents: list[Document] = []
        stored: list[str] = []
        async with HarnessProcess.open(recipe, options, rows, index=task_index) as harness:
            async for batch in harness.documents(batch_size=7):
                documents += batch
            order = list(documents)
            Random(5).shuffle(order)
            for start in range(0, len(order), 5):
                answers = [(document.index, model.answer(document)) for document in order[start : start + 5]]
                stored += [
                    json.dumps(asdict(score), allow_nan=False) for score in await harness.score(answers)
                ]
        scores = [DocumentScore(**json.loads(text)) for text in stored]
        async with HarnessProcess.open(recipe, options, rows, index=task_index) as harness:
            aggregate = await harness.aggregate(scores)
        return Evaluation(documents=documents, scores=scores, aggregate=aggregate)

    return run


Reference = Callable[..., dict[str, Any]]


@pytest.fixture
def reference(tmp_path: Path) -> Reference:
    """Run `lm_eval.simple_evaluate` on a stock task whose dataset is replaced by Parquet files."""

    def run(
        family: str,
        task: str,
        splits: dict[str, Path],
        model: HashModel,
        *,
        overrides: dict[str, Any],
        **options: Any,
    ) -> dict[str, Any]:
        import lm_eval
        from lm_eval.tasks import TaskManager

        manager = TaskManager(
            include_defaults=False, include_path=str(Path(lm_eval.__file__).parent / "tasks" / family)
        )
        kwargs = {
            "data_files": {split: str(path) for split, path in splits.items()},
            "cache_dir": str(tmp_path / "hf"),
        }
        member = {
            "task": task,
            "dataset_path": "parquet",
            "dataset_name": None,
            "dataset_kwargs": kwargs,
            **overrides,
        }
        return simple_evaluate(model, [{"group": "reference", "task": [member]}], manager, **options)

    return run


def simple_evaluate(model: HashModel, tasks: Sequence[Any], manager: Any, **options: Any) -> dict[str, Any]:
    """Call lm-eval with our model; its bootstrap runs in this process."""
    import lm_eval
    from lm_eval.api.model import LM

    class Adapter(LM):  # type: ignore[misc]
        def generate_until(self, requests: list[Any]) -> list[str]:
            seen: Counter[tuple[int, str]] = Counter()
            texts = []
            for request in requests:
                key = (request.doc_id, request.args[0])
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
        results: dict[str, Any] = lm_eval.simple_evaluate(
            model=Adapter(), tasks=list(tasks), task_manager=manager, **options
        )
    finally:
        os.environ.pop("DISABLE_MULTIPROC") if before is None else os.environ.update(DISABLE_MULTIPROC=before)
    return results


def assert_identical(ours: Evaluation, theirs: dict[str, Any], task: str) -> None:
    """Compare hashes, prompts, per-document values and every number, bit by bit."""
    samples = {sample["doc_id"]: sample for sample in theirs["samples"][task]}
    assert [document.index for document in ours.documents] == sorted(samples)
    for document in ours.documents:
        sample = samples[document.index]
        assert (
            document.requests[0].context == sample["arguments"][0][0]
            or document.requests[0].kind == "rolling"
        )
        assert (document.doc_hash, document.prompt_hash, document.target_hash) == (
            sample["doc_hash"],
            sample["prompt_hash"],
            sample["target_hash"],
        )
    expected = {
        f"{task}.{key}": None if value == "N/A" else value
        for key, value in theirs["results"][task].items()
        if "," in key
    }
    assert ours.aggregate.metrics == expected
    assert ours.aggregate.sample_count == theirs["results"][task]["sample_len"]


@pytest.fixture
def identical() -> Callable[[Evaluation, dict[str, Any], str], None]:
    """The comparison of an evaluation of ours with one of lm-eval's."""
    return assert_identical


@pytest.fixture
def hash_model() -> type[HashModel]:
    """The deterministic model's class."""
    return HashModel


@pytest.fixture
def direct_evaluate() -> Callable[..., dict[str, Any]]:
    """`simple_evaluate` on a task object or config of the test's own."""
    return simple_evaluate


@pytest.fixture
def gsm8k_rows() -> dict[str, Rows]:
    """The first rows of GSM8K's two splits from the shared data; skips where they are absent."""
    root = Path(__file__).parents[3]
    folder = Path(os.environ.get("ASSAY_SHARED_DATA", root.parent / "shared" / "data")) / "gsm8k"
    if not (folder / "test.jsonl").is_file():
        pytest.skip("GSM8K is not here; set ASSAY_SHARED_DATA to a folder with gsm8k/{test,train}.jsonl")
    return {
        split: [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]
        for split in ("test", "train")
    }
