"""One evaluation inside lm-eval: lazy requests in its order, scoring document by document, its numbers.

Runs in the main thread of a process of its own: tasks keep state in modules and some scorers need SIGALRM.
"""

import bisect
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy
from lm_eval.api.group import Group
from lm_eval.api.instance import Instance
from pydantic import JsonValue

from assay_harness.errors import InvalidScores, RowProblem
from assay_harness.evaluation import TaskEvaluation, TaskMetrics
from assay_harness.facts import definition_facts
from assay_harness.groups import aggregate_metrics, build_definition, rows_of
from assay_harness.index import Definition
from assay_harness.result_log import results_document
from assay_harness.results import (
    Aggregate,
    Document,
    DocumentScore,
    LoggedDocument,
    RenderProblem,
    RenderReport,
    Response,
    ScoreInput,
    TaskFacts,
)
from assay_harness.rows import RowReader
from assay_harness.spec import BuiltinTask, Recipe, Rows, Scoring, TaskOptions
from assay_harness.task import BuiltTask, build_question_answer, cache_compiled_templates

MAX_PROBLEMS = 20
SAMPLE_PROMPTS = 3


class Engine:
    """A task, or a group of tasks, on its rows.

    Documents come in the order of the tasks and their rows; examples are drawn from one generator, so every
    iteration starts at document 0 even where the caller skips what it has. Scoring needs no prompt: a second
    engine over the same rows scores what the first one asked.
    """

    def __init__(
        self,
        *,
        recipe: Recipe,
        options: TaskOptions,
        rows: Rows,
        definition: Definition | None = None,
        scoring: Scoring | None = None,
    ) -> None:
        """Construct the tasks; a built-in one needs its `definition`.

        Raises what `groups.build_definition`, `task.build_question_answer` and `scoring.make_scorer` raise.
        """
        cache_compiled_templates()
        random.seed(options.random_seed)
        numpy.random.seed(options.numpy_seed)
        built: list[BuiltTask]
        self._groups: dict[str, Group] = {}
        if isinstance(recipe, BuiltinTask):
            if definition is None:
                raise TypeError("a built-in task needs its definition")
            built, self._groups = _unpack(definition, options=options, rows=rows)
        else:
            files = rows_of(recipe.template, rows, tasks=[recipe.template])
            reader = RowReader(options.column_mapping)
            built = [build_question_answer(recipe, options=options, rows=files, reader=reader)]
        self._options = options
        self._fresh_state = (random.getstate(), numpy.random.get_state())
        self._build_state = self._fresh_state
        self._tasks: list[TaskEvaluation] = []
        for task in built:
            start = self._tasks[-1].start + self._tasks[-1].count if self._tasks else 0
            self._tasks.append(
                TaskEvaluation(task, options=options, scoring=scoring, start=start, in_group=len(built) > 1)
            )
        self._starts = [task.start for task in self._tasks]
        self._count = sum(task.count for task in self._tasks)
        self.facts: TaskFacts = definition_facts(self._tasks, definition=definition, groups=self._groups)

    def batches(self, *, batch_size: int, skip: Set[int] = frozenset()) -> Iterator[list[Document]]:
        """Yield all documents but those in `skip`, in order, `batch_size` rows of work at a time.

        Raises `RowProblem` at a row that cannot be rendered. Starting again invalidates an earlier iterator.
        """
        for batch in self._built(batch_size):
            yield [
                task.document(index, doc, instances)
                for task, index, doc, instances in batch
                if task.start + index not in skip
            ]

    def logged_batches(self, *, batch_size: int) -> Iterator[list[LoggedDocument]]:
        """Yield all documents as lm-eval's sample log shows them; else as `batches`."""
        for batch in self._built(batch_size):
            yield [task.logged(index, doc, instances) for task, index, doc, instances in batch]

    def results(
        self, metrics: Mapping[str, float | None], sample_counts: Mapping[str, int]
    ) -> dict[str, JsonValue]:
        """Return lm-eval's results document of stored numbers; see `result_log.results_document`."""
        return results_document(self._tasks, self._groups, metrics=metrics, sample_counts=sample_counts)

    def _built(self, batch_size: int) -> Iterator[list[tuple[TaskEvaluation, int, Any, list[Instance]]]]:
        """Build the requests of all documents from the first on, `batch_size` rows at a time."""
        rows = self._rows()
        while True:
            with self._building():
                batch = [
                    (task, index, doc, task.instances(index, doc))
                    for task, index, doc in islice(rows, batch_size)
                ]
            if not batch:
                return
            yield batch

    def dry_render(self) -> RenderReport:
        """Render every row up to the limit and report what fails, without raising."""
        problems: list[RenderProblem] = []
        prompts: list[str] = []
        failed = 0
        with self._building():
            for task, index, doc in self._rows():
                try:
                    instances = task.instances(index, doc)
                except RowProblem as error:
                    failed += 1
                    if len(problems) < MAX_PROBLEMS:
                        problems.append(RenderProblem(row_index=error.row_index, problem=error.problem))
                else:
                    if len(prompts) < SAMPLE_PROMPTS:
                        prompts.append(str(instances[0].args[0]))
        return RenderReport(
            rendered_count=self._count - failed, problem_count=failed, problems=problems, prompts=prompts
        )

    def score(self, answers: Sequence[ScoreInput]) -> list[DocumentScore]:
        """Filter and score documents in any order; responses go with the requests, repeats side by side.

        Raises `RowProblem` where the responses do not fit the document or the task's own scorer fails.
        """
        by_task: dict[int, list[tuple[int, Sequence[Response]]]] = defaultdict(list)
        for index, responses in answers:
            position = self._position(index)
            by_task[position].append((index - self._starts[position], responses))
        scores = {
            score.index: score
            for position, group in by_task.items()
            for score in self._tasks[position].score(group)
        }
        return [scores[index] for index, _ in answers]

    def aggregate(self, scores: Iterable[DocumentScore]) -> Aggregate:
        """Return lm-eval's numbers over the given documents, whatever order they come in.

        Raises `InvalidScores` for a document given twice, or where a task has none at all.
        """
        ordered = sorted(scores, key=lambda score: score.index)
        if len({score.index for score in ordered}) < len(ordered):
            raise InvalidScores("a document was scored twice; pass each document once")
        by_task: dict[int, list[DocumentScore]] = defaultdict(list)
        for score in ordered:
            by_task[self._position(score.index)].append(score)
        empty = [task.name for position, task in enumerate(self._tasks) if position not in by_task]
        if empty:
            raise InvalidScores(f"there is nothing to aggregate: no document of {empty[0]!r} was scored")
        results = {
            task.name: task.aggregate(by_task[position], iterations=self._options.bootstrap_iterations)
            for position, task in enumerate(self._tasks)
        }
        return self._aggregate(results, sample_count=len(ordered))

    def _aggregate(self, results: Mapping[str, TaskMetrics], *, sample_count: int) -> Aggregate:
        """Add the groups and shape lm-eval's dictionaries: full names, None for what is no finite number."""
        metrics, directions = aggregate_metrics(
            {name: result.metrics for name, result in results.items()},
            self._groups,
            higher_is_better={task.name: task.scorer.higher_is_better() for task in self._tasks},
        )
        counts = {
            f"{name}.{key}": count for name, result in results.items() for key, count in result.counts.items()
        }
        values: dict[str, float | None] = {}
        better: dict[str, bool] = {}
        not_finite = []
        for name, entries in metrics.items():
            for key, value in entries.items():
                if "," not in key:
                    continue
                full = f"{name}.{key}"
                values[full], is_finite = _number(value)
                if not is_finite:
                    not_finite.append(full)
                direction = directions.get(name, {}).get(key.rpartition(",")[0])
                if direction is not None:
                    better[full] = bool(direction)
            counts |= {f"{name}.{key}": count for key, count in entries.get("sample_count", {}).items()}
        return Aggregate(
            metrics=values,
            higher_is_better=better,
            sample_count=sample_count,
            not_finite=not_finite,
            sample_counts=counts,
        )

    def _position(self, index: int) -> int:
        """Return the position of the task that a document belongs to; raises `RowProblem`."""
        if not 0 <= index < self._count:
            raise RowProblem(row_index=index, problem=f"there are {self._count} documents, numbered from 0")
        return bisect.bisect_right(self._starts, index) - 1

    @contextmanager
    def _building(self) -> Iterator[None]:
        """Give the building of prompts its own random state, undisturbed by scoring in between."""
        random.setstate(self._build_state[0])
        numpy.random.set_state(self._build_state[1])
        try:
            yield
        finally:
            self._build_state = (random.getstate(), numpy.random.get_state())

    def _rows(self) -> Iterator[tuple[TaskEvaluation, int, Any]]:
        """Start over: fresh generators for the examples, then all rows up to the limit, task by task."""
        self._build_state = self._fresh_state
        for task in self._tasks:
            task.restart()
        return ((task, index, doc) for task in self._tasks for index, doc in task.rows())


def _unpack(
    definition: Definition, *, options: TaskOptions, rows: Rows
) -> tuple[list[BuiltTask], dict[str, Group]]:
    """Return the tasks and groups of a definition."""
    found = build_definition(definition, options=options, rows=rows)
    return found.tasks, found.groups


def _number(value: object) -> tuple[float | None, bool]:
    """Return a metric's number, None for "N/A" or what is not finite, and whether it is not the latter."""
    if isinstance(value, str):
        return None, True
    number = float(value)  # type: ignore[arg-type]
    return (number, True) if numpy.isfinite(number) else (None, False)
