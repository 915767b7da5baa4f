"""Fixtures: rows as Parquet files, a deterministic model, and lm-eval's own evaluation to compare with."""

import hashlib
import json
import os
from collections.abc import Callable
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
from assay_harness.spec import Recipe, Rows, Scoring, TaskOptions

RowList = list[dict[str, Any]]
WriteRows = Callable[[str, RowList], Path]


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

    def write(name: str, rows: RowList) -> Path:
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

    async def run(
        recipe: Recipe,
        options: TaskOptions,
        rows: Rows,
        model: HashModel,
        *,
        scoring: Scoring | None = None,
    ) -> Evaluation:
        documents: list[Document] = []
        stored: list[str] = []
        async with HarnessProcess.open(recipe, options, rows, index=task_index, scoring=scoring) as harness:
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
        async with HarnessProcess.open(recipe, options, rows, index=task_index, scoring=scoring) as harness:
            aggregate = await harness.aggregate(scores)
        return Evaluation(documents=documents, scores=scores, aggregate=aggregate)

    return run


@pytest.fixture
def hash_model() -> type[HashModel]:
    """The deterministic model's class."""
    return HashModel


@pytest.fixture
def gsm8k_rows() -> dict[str, RowList]:
    """The first rows of GSM8K's two splits from the shared data; skips where they are absent."""
    root = Path(__file__).parents[3]
    folder = Path(os.environ.get("ASSAY_SHARED_DATA", root.parent / "shared" / "data")) / "gsm8k"
    if not (folder / "test.jsonl").is_file():
        pytest.skip("GSM8K is not here; set ASSAY_SHARED_DATA to a folder with gsm8k/{test,train}.jsonl")
    return {
        split: [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]
        for split in ("test", "train")
    }
