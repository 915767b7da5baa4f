"""One evaluation inside lm-eval: lazy requests in its order, scoring document by document, its numbers.

Runs in the main thread of a process of its own: tasks keep state in modules and some scorers need SIGALRM.
"""

import json
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence, Set
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy
from lm_eval.api.instance import Instance
from lm_eval.evaluator_utils import _compute_task_aggregations
from lm_eval.utils import handle_non_serializable, hash_string
from pydantic import JsonValue

from assay_harness.errors import InvalidScores, RowProblem
from assay_harness.facts import KINDS, generation_arguments, task_facts
from assay_harness.results import (
    Aggregate,
    Document,
    DocumentScore,
    ModelRequest,
    RenderProblem,
    RenderReport,
    RequestKind,
    Response,
    ScoreInput,
    TaskFacts,
)
from assay_harness.spec import BuiltinTask, Recipe, RowFiles, TaskOptions
from assay_harness.task import build_builtin, build_question_answer, cache_compiled_templates
from assay_harness.values import EncodedValue, decode_metric, encode, encode_metric

MAX_PROBLEMS = 20
SAMPLE_PROMPTS = 3


class Engine:
    """A task on its rows.

    Documents come in the order of the rows; examples are drawn from one generator, so every iteration
    starts at document 0 even where the caller skips what it has. Scoring needs no prompt: a second engine
    over the same rows scores what the first one asked.
    """

    def __init__(
        self, *, recipe: Recipe, options: TaskOptions, rows: RowFiles, yaml_path: Path | None = None
    ) -> None:
        """Construct the task; `yaml_path` (relative to the lm-eval package) is needed for a built-in one.

        Raises what `task.build_builtin` and `task.build_question_answer` raise.
        """
        cache_compiled_templates()
        random.seed(options.random_seed)
        numpy.random.seed(options.numpy_seed)
        if isinstance(recipe, BuiltinTask):
            if yaml_path is None:
                raise TypeError("a built-in task needs the path of its YAML file")
            self._built = build_builtin(recipe.task, yaml_path, options=options, rows=rows)
        else:
            self._built = build_question_answer(recipe, options=options, rows=rows)
        self._task = self._built.task
        self._options = options
        self._fresh_state = (random.getstate(), numpy.random.get_state())
        self._build_state = self._fresh_state
        self._row_count = len(self._task.eval_docs)
        self._count = min(self._row_count, options.limit or self._row_count)
        self.facts: TaskFacts = task_facts(
            self._built, rows=rows, count=self._count, row_count=self._row_count
        )

    def batches(self, *, batch_size: int, skip: Set[int] = frozenset()) -> Iterator[list[Document]]:
        """Yield all documents but those in `skip`, in order, `batch_size` rows of work at a time.

        Raises `RowProblem` at a row that cannot be rendered. Starting again invalidates an earlier iterator.
        """
        rows = self._rows()
        while True:
            with self._building():
                batch = [(index, doc, self._instances(index, doc)) for index, doc in islice(rows, batch_size)]
            if not batch:
                return
            yield [self._document(*item) for item in batch if item[0] not in skip]

    def dry_render(self) -> RenderReport:
        """Render every row up to the limit and report what fails, without raising."""
        problems: list[RenderProblem] = []
        prompts: list[str] = []
        failed = 0
        with self._building():
            for index, doc in self._rows():
                try:
                    instances = self._instances(index, doc)
                except RowProblem as error:
                    failed += 1
                    if len(problems) < MAX_PROBLEMS:
                        problems.append(RenderProblem(row_index=index, problem=error.problem))
                else:
                    if len(prompts) < SAMPLE_PROMPTS:
                        prompts.append(_prompt_text(instances[0]))
        return RenderReport(
            rendered_count=self._count - failed, problem_count=failed, problems=problems, prompts=prompts
        )

    def score(self, answers: Sequence[ScoreInput]) -> list[DocumentScore]:
        """Filter and score documents in any order; responses go with the requests, repeats side by side.

        Raises `RowProblem` where the responses do not fit the document or the task's own scorer fails.
        """
        if not answers:
            return []
        documents = [(index, self._doc(index)) for index, _ in answers]
        instances = [
            self._answered(index, doc, responses)
            for (index, doc), (_, responses) in zip(documents, answers, strict=True)
        ]
        # One call per filter for the whole batch: some filters spend 100 ms on each call.
        flat = [instance for group in instances for instance in group]
        for ensemble in self._task._filters:
            ensemble.apply(flat)
        return [
            self._score(index, doc, group) for (index, doc), group in zip(documents, instances, strict=True)
        ]

    def aggregate(self, scores: Iterable[DocumentScore]) -> Aggregate:
        """Return lm-eval's numbers over the given documents, whatever order they come in.

        Raises `InvalidScores` for a document given twice, or for none at all.
        """
        ordered = sorted(scores, key=lambda score: score.index)
        if not ordered:
            raise InvalidScores("there is nothing to aggregate: no document was scored")
        if len({score.index for score in ordered}) < len(ordered):
            raise InvalidScores("a document was scored twice; pass each document once")
        raw: dict[tuple[str, str], list[object]] = defaultdict(list)
        for filter_name in self.facts.filters:
            for score in ordered:
                for key, value in score.values.items():
                    metric, _, used = key.rpartition(",")
                    if used == filter_name:
                        encoded = EncodedValue(value, score.number_types.get(key, ""))
                        raw[metric, filter_name].append(decode_metric(encoded))
        metrics, sample_count = _compute_task_aggregations(
            self._task, raw, self._options.bootstrap_iterations
        )
        return self._aggregate(metrics, sample_count=sample_count)

    def _aggregate(self, metrics: dict[str, Any], *, sample_count: int) -> Aggregate:
        """Shape lm-eval's dictionary: names with the task in front, None for what is no finite number."""
        result: dict[str, float | None] = {}
        better: dict[str, bool] = {}
        not_finite = []
        directions = self._task.higher_is_better()
        for key, value in metrics.items():
            name = f"{self.facts.task}.{key}"
            number = None if isinstance(value, str) else float(value)
            finite = number is not None and numpy.isfinite(number)
            result[name] = number if finite else None
            if number is not None and not finite:
                not_finite.append(name)
            direction = directions.get(key.rpartition(",")[0])
            if direction is not None:
                better[name] = bool(direction)
        return Aggregate(
            metrics=result, higher_is_better=better, sample_count=sample_count, not_finite=not_finite
        )

    @contextmanager
    def _building(self) -> Iterator[None]:
        """Give the building of prompts its own random state, undisturbed by scoring in between."""
        random.setstate(self._build_state[0])
        numpy.random.set_state(self._build_state[1])
        try:
            yield
        finally:
            self._build_state = (random.getstate(), numpy.random.get_state())

    def _rows(self) -> Iterator[tuple[int, Any]]:
        """Start over: a fresh generator for the examples, then all rows up to the limit."""
        self._task.set_fewshot_seed(seed=self._options.fewshot_seed)
        self._build_state = self._fresh_state
        return iter(self._task.doc_iterator(limit=self._options.limit))

    def _instances(self, index: int, doc: Any) -> list[Instance]:
        """Build the requests of one document as `Task.build_all_requests` does."""
        task, options = self._task, self._options
        problem = self._built.row_problems.get(index)
        try:
            context = task.fewshot_context(
                doc,
                num_fewshot=self._built.num_fewshot,
                system_instruction=options.system_instruction,
                apply_chat_template=options.apply_chat_template,
                fewshot_as_multiturn=options.fewshot_as_multiturn,
                chat_template=_chat_text if options.apply_chat_template else None,
                gen_prefix=task.doc_to_prefix(doc),
            )
            built = task.construct_requests(
                doc=doc,
                ctx=context,
                metadata=(self.facts.task, index, task.config.repeats),
                apply_chat_template=options.apply_chat_template,
                chat_template=_chat_text if options.apply_chat_template else None,
            )
        except Exception as error:
            raise RowProblem(row_index=index, problem=problem or _describe(error)) from error
        if problem:
            raise RowProblem(row_index=index, problem=problem)
        instances = built if isinstance(built, list) else [built]
        return sorted(instances, key=lambda instance: instance.idx)

    def _document(self, index: int, doc: Any, instances: list[Instance]) -> Document:
        """Turn lm-eval's requests into ours, with the hashes that its sample log would hold."""
        target = self._task.doc_to_target(doc)
        text = json.dumps(instances[0].doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
        return Document(
            index=index,
            doc_hash=hash_string(text),
            prompt_hash=hash_string(instances[0].arguments[0]),
            target_hash=hash_string(str(target)),
            target=str(target),
            doc=json.loads(text),
            requests=[
                self._request(instance, index=position, repeat=repeat)
                for position, instance in enumerate(instances)
                for repeat in range(instance.repeats or 1)
            ],
        )

    def _request(self, instance: Instance, *, index: int, repeat: int) -> ModelRequest:
        """Translate one of lm-eval's requests."""
        kind = KINDS[instance.request_type]
        arguments = instance.args
        if kind is RequestKind.ROLLING:
            return ModelRequest(index=index, repeat=repeat, kind=kind, context="", continuation=arguments[0])
        if kind is RequestKind.LOGLIKELIHOOD:
            context, continuation = arguments
            return ModelRequest(
                index=index, repeat=repeat, kind=kind, context=context, continuation=continuation
            )
        return ModelRequest(
            index=index,
            repeat=repeat,
            kind=kind,
            context=arguments[0],
            messages=json.loads(arguments[0]) if self._options.apply_chat_template else None,
            generation_kwargs=generation_arguments(arguments[1]),
        )

    def _doc(self, index: int) -> Any:
        """Return the document that the prompt was built from."""
        if not 0 <= index < self._count:
            raise RowProblem(row_index=index, problem=f"there are {self._count} documents, numbered from 0")
        return self._task.eval_docs[index]

    def _answered(self, index: int, doc: Any, responses: Sequence[Response]) -> list[Instance]:
        """Rebuild the document's instances around the responses to its requests."""
        repeats = self._task.config.repeats or 1
        if not responses or len(responses) % repeats:
            problem = f"{len(responses)} responses do not fit requests of {repeats} repetition(s) each"
            raise RowProblem(row_index=index, problem=problem)
        rolling = self._task.OUTPUT_TYPE == "loglikelihood_rolling"
        values = [_lm_eval_response(response, rolling=rolling) for response in responses]
        return [
            Instance(
                request_type=self._task.OUTPUT_TYPE,
                doc=doc,
                arguments=(),
                idx=position,
                metadata=(self.facts.task, index, repeats),
                resps=values[position * repeats : (position + 1) * repeats],
            )
            for position in range(len(values) // repeats)
        ]

    def _score(self, index: int, doc: Any, instances: list[Instance]) -> DocumentScore:
        """Score one document under every filter."""
        values, types, filtered = {}, {}, {}
        for name in self.facts.filters:
            results = [instance.filtered_resps[name] for instance in instances]
            # Encoded before scoring: some scorers consume or change what they are given.
            filtered[name] = [_readable(item) for item in results]
            try:
                metrics = self._task.process_results(doc, results)
            except Exception as error:
                raise RowProblem(row_index=index, problem=f"scoring failed: {_describe(error)}") from error
            for metric, value in metrics.items():
                encoded = encode_metric(value)
                values[f"{metric},{name}"] = encoded.value
                if encoded.number_type:
                    types[f"{metric},{name}"] = encoded.number_type
        return DocumentScore(index=index, values=values, number_types=types, filtered=filtered)


def _chat_text(history: list[dict[str, str]], add_generation_prompt: bool = True) -> str:
    """Keep chat turns as JSON text, as lm-eval does for chat endpoints, so that prompt hashes agree."""
    return json.dumps(history, ensure_ascii=False)


def _lm_eval_response(response: Response, *, rolling: bool) -> str | float | tuple[float, bool]:
    """Give a response the Python type that lm-eval's own backends return."""
    if isinstance(response, str):
        return response
    if isinstance(response, int | float):
        return float(response)
    log_probability, is_greedy = response
    return float(log_probability) if rolling else (float(log_probability), bool(is_greedy))


def _readable(result: object) -> JsonValue:
    """Return a filter's result for people to read: JSON, with tuples as lists and odd types as text."""
    if isinstance(result, list | tuple):
        return [_readable(item) for item in result]
    try:
        return encode(result)
    except TypeError:
        return str(result)


def _prompt_text(instance: Instance) -> str:
    """Return what a person should see of a request: its context, or the text of a rolling one."""
    return str(instance.args[0])


def _describe(error: Exception) -> str:
    """Say what a task's own code complained about, in one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
