"""Synthetic runs: samples with known flips, requests with known times."""

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy
import pyarrow
from numpy.typing import NDArray

from assay_evidence.facts import RunFacts
from assay_evidence.tables import (
    FILTERED_PREFIX,
    SAMPLE_COLUMNS,
    VALUE_PREFIX,
    RunEvidence,
    read_run,
)
from assay_evidence.tables.writer import ROWS_PER_GROUP, open_table
from assay_evidence.testing.plans import synthetic_facts
from assay_evidence.testing.responses import Responses, generated_texts
from assay_evidence.testing.serving import Speed, synthetic_requests, synthetic_telemetry

STRICT = "exact_match,strict-match"
FLEXIBLE = "exact_match,flexible-extract"
CONTINUOUS = "f1,none"
ACCURACY = "acc,none"

Booleans = NDArray[numpy.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task: generated answers (``STRICT``, ``FLEXIBLE``, ``CONTINUOUS``), or choices (``ACCURACY``)."""

    name: str = "synthetic"
    documents: int = 500
    accuracy: float = 0.6
    choices: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """How a run differs from what ``content_seed`` alone would give; numbers of samples of each task.

    Attributes:
        gained: wrong before, right now.
        lost: right before, wrong now.
        format_only: right before, wrong now by the strict extraction only (generated answers).
        reworded: another text with the same values (generated answers).
        failed: without a response.
        truncated: of the lost, those that ran into the token limit.
    """

    gained: int = 0
    lost: int = 0
    format_only: int = 0
    reworded: int = 0
    failed: int = 0
    truncated: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class SyntheticRun:
    """Facts and tables, to be spoiled at will and then written."""

    facts: RunFacts
    samples: pyarrow.Table
    requests: pyarrow.Table

    def evidence(self, directory: Path) -> RunEvidence:
        """Write the tables into ``directory`` and read them back."""
        directory.mkdir(parents=True, exist_ok=True)
        files = directory / f"{self.facts.view_id}.samples", directory / f"{self.facts.view_id}.requests"
        for table, file in zip((self.samples, self.requests), files, strict=True):
            with open_table(file, table.schema) as writer:
                writer.write_table(table, row_group_size=ROWS_PER_GROUP)
        return read_run(self.facts, *files)

    def with_facts(self, **changed: Any) -> "SyntheticRun":
        """With other facts, by field of ``RunFacts``."""
        return replace(self, facts=self.facts.model_copy(update=changed))

    def with_plan(self, changed: Mapping[str, Any]) -> "SyntheticRun":
        """With another plan: by dotted path, such as ``options.limit``."""
        plan = self.facts.model_copy(deep=True).plan
        for path, value in changed.items():
            *parents, last = path.split(".")
            inner: Any = plan
            for name in parents:
                inner = inner[name]
            inner[last] = value
        return self.with_facts(plan=plan)

    def with_column(self, name: str, values: Sequence[Any]) -> "SyntheticRun":
        """With another column of samples."""
        place = self.samples.schema.get_field_index(name)
        column = self.samples.schema.field(place)
        array = pyarrow.array(list(values), column.type)
        return replace(self, samples=self.samples.set_column(place, column, array))

    def column(self, name: str) -> list[Any]:
        """A column of samples."""
        return list(self.samples.column(name).to_pylist())

    def take(self, rows: Sequence[int] | NDArray[numpy.int64]) -> "SyntheticRun":
        """With these rows of samples only, in this order; facts and requests as they are."""
        return replace(self, samples=self.samples.take(pyarrow.array(rows, pyarrow.int64())))

    def counted(self) -> "SyntheticRun":
        """With the counts and means that the samples have now, as if the run had been of these only."""
        failed = sum(self.column("failed"))
        quality = dict(self.facts.quality)
        for name in self.samples.schema.names:
            key = name.removeprefix(VALUE_PREFIX)
            if key != name:
                quality |= self._means(key)
        return self.with_facts(
            samples_scored=len(self.samples) - failed,
            samples_failed=failed,
            samples_expected=len(self.samples),
            quality=quality,
        )

    def _means(self, key: str) -> dict[str, float]:
        task, failed = self.column("task"), numpy.asarray(self.column("failed"), dtype=bool)
        values = numpy.array([value or 0.0 for value in self.column(VALUE_PREFIX + key)], dtype=numpy.float64)
        counted = numpy.ones(len(values), bool) if self.facts.failure_policy == "score_zero" else ~failed
        found = {}
        for name in {*task, self.facts.task}:
            if f"{name}.{key}" in self.facts.sample_metrics:
                of_task = numpy.array([name in (one, self.facts.task) for one in task], dtype=bool) & counted
                found[f"{name}.{key}"] = float(values[of_task].mean()) if of_task.any() else float("nan")
        return found


def synthetic_run(
    *,
    run_id: str = "run_a",
    tasks: Sequence[Task] = (Task(),),
    group: str | None = None,
    changes: Changes | None = None,
    speed: Speed | None = None,
    response_chars: int = 60,
    seed: int = 1,
    content_seed: int = 1,
    artifact: str | None = None,
    backend: str = "cpu",
) -> SyntheticRun:
    """A run whose documents and scores depend on ``content_seed``, and its ``changes`` on ``seed``.

    Args:
        run_id: also names artifact and run.
        tasks: of one task the run is of it; of several, of ``group``.
        group: name of the group; its metrics are the means over all samples.
        changes: from the run that ``content_seed`` alone gives.
        speed: times of the requests.
        response_chars: about so long are generated responses.
        seed: which samples change, and how times vary.
        content_seed: documents, and which of them are right.
        artifact: name; runs of one artifact have its digest in common.
        backend: of the artifact.
    """
    speed, random = speed or Speed(), numpy.random.default_rng(seed)
    parts = [
        _samples(
            task,
            changes or Changes(),
            content=numpy.random.default_rng([content_seed, number]),
            random=random,
            chars=response_chars,
            tokens=speed.tokens,
            first=sum(one.documents for one in tasks[:number]),
        )
        for number, task in enumerate(tasks)
    ]
    samples = pyarrow.concat_tables(parts, promote_options="default")
    times = numpy.random.default_rng([seed, zlib.crc32(run_id.encode())])  # no two runs have equal ones
    requests, window_ns = synthetic_requests(samples, speed, random=times, instance=f"inst_{run_id}")
    keys = [name.removeprefix(VALUE_PREFIX) for name in samples.schema.names if name.startswith(VALUE_PREFIX)]
    names = [f"{task.name}.{key}" for task in tasks for key in _keys(task)]
    shared = [f"{group}.{key}" for key in keys if group and all(key in _keys(task) for task in tasks)]
    facts = synthetic_facts(
        run_id=run_id,
        task=group or tasks[0].name,
        members=[task.name for task in tasks] if group else (),
        quality={},
        higher_is_better=dict.fromkeys([*shared, *names], True),
        sample_metrics=[*shared, *names],
        samples=len(samples),
        artifact=artifact,
        backend=backend,
    )
    facts = facts.model_copy(
        update={"telemetry": synthetic_telemetry(speed, instance=f"inst_{run_id}", window_ns=window_ns)}
    )
    run = SyntheticRun(facts, _ordered(samples), requests).counted()
    return run.with_facts(quality=run.facts.quality | _standard_errors(run))


def _keys(task: Task) -> list[str]:
    return [ACCURACY] if task.choices else [STRICT, FLEXIBLE, CONTINUOUS]


def _standard_errors(run: SyntheticRun) -> dict[str, float | None]:
    """Of means of zeros and ones, as lm-eval gives it."""
    found: dict[str, float | None] = {}
    for name, mean in run.facts.quality.items():
        metric, _, filter_name = name.rpartition(",")
        if mean is not None and not metric.endswith("f1"):
            found[f"{metric}_stderr,{filter_name}"] = float(
                numpy.sqrt(max(mean * (1 - mean), 0.0) / max(run.facts.samples_expected - 1, 1))
            )
    return found


def _chosen(from_: Booleans, count: int, random: numpy.random.Generator) -> Booleans:
    places = numpy.flatnonzero(from_)
    if count > len(places):
        raise ValueError(f"{count} samples are to change, but only {len(places)} can")
    chosen = numpy.zeros(len(from_), bool)
    chosen[random.choice(places, size=count, replace=False)] = True
    return chosen


def _samples(
    task: Task,
    changes: Changes,
    *,
    content: numpy.random.Generator,
    random: numpy.random.Generator,
    chars: int,
    tokens: int,
    first: int,
) -> pyarrow.Table:
    n = task.documents
    was_right = content.random(n) < task.accuracy
    unformatted = (content.random(n) < 0.03) & was_right  # right only for the flexible extraction
    overlap = content.random(n)
    targets = content.integers(10, 10_000, n)
    hashes = [content.bytes(32 * n) for _ in range(3)]
    gained = _chosen(~was_right, changes.gained, random)
    lost = _chosen(was_right & ~unformatted, changes.lost, random)
    only = 0 if task.choices else changes.format_only
    format_only = _chosen(was_right & ~unformatted & ~lost, only, random)
    failed = _chosen(~gained & ~lost & ~format_only, changes.failed, random)
    reworded = _chosen(~gained & ~lost & ~format_only & ~failed, changes.reworded, random)
    truncated = _chosen(lost, changes.truncated, random)
    right = (was_right | gained) & ~lost
    strict = right & ~unformatted & ~format_only
    made = Responses(
        right=right,
        strict=strict,
        changed=gained | lost | format_only | reworded,
        failed=failed,
        targets=targets,
        tokens=tokens,
        chars=chars,
        choices=task.choices,
    )
    columns = generated_texts(made, content=content, random=random)
    columns["finish_reason"] = ["length" if one else "stop" for one in truncated]
    values: dict[str, NDArray[Any]] = (
        {ACCURACY: right}
        if task.choices
        else {STRICT: strict, FLEXIBLE: right, CONTINUOUS: numpy.where(right, 0.5 + overlap / 2, overlap / 2)}
    )
    fixed: dict[str, Any] = {
        "index": first + numpy.arange(n),
        "task": [task.name] * n,
        **{
            name: pyarrow.FixedSizeBinaryArray.from_buffers(
                pyarrow.binary(32), n, [None, pyarrow.py_buffer(one)]
            )
            for name, one in zip(("doc_hash", "prompt_hash", "target_hash"), hashes, strict=True)
        },
        "block": (first + numpy.arange(n)) // 64,
        "position": (first + numpy.arange(n)) % 64,
        "failed": failed,
        "target": [str(number) for number in targets],
        "choices": numpy.full(n, task.choices),
    } | columns
    arrays = [_array(fixed.pop(one.name), one.type) for one in SAMPLE_COLUMNS]
    names = list(SAMPLE_COLUMNS)
    for key, numbers in values.items():
        arrays.append(pyarrow.array(numbers.astype(numpy.float64), mask=failed))
        names.append(pyarrow.field(VALUE_PREFIX + key, pyarrow.float64()))
    for name, texts in fixed.items():
        arrays.append(pyarrow.array(texts, pyarrow.string()))
        names.append(pyarrow.field(FILTERED_PREFIX + name, pyarrow.string()))
    return pyarrow.Table.from_arrays(arrays, schema=pyarrow.schema(names))


def _array(values: Any, kind: pyarrow.DataType) -> pyarrow.Array:
    return values if isinstance(values, pyarrow.Array) else pyarrow.array(values, kind)


def _ordered(samples: pyarrow.Table) -> pyarrow.Table:
    """Columns as the writer orders them: fixed ones, then values, then filters."""
    fixed = list(SAMPLE_COLUMNS.names)
    extra = sorted(
        (name for name in samples.schema.names if name not in fixed),
        key=lambda name: (name.startswith(FILTERED_PREFIX), name),
    )
    return samples.select([*fixed, *extra])
