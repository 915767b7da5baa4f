"""One task of an evaluation: its requests in lm-eval's order, and the scores of its documents."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from lm_eval.api.instance import Instance
from lm_eval.evaluator_utils import _compute_task_aggregations
from lm_eval.utils import handle_non_serializable, hash_string
from pydantic import JsonValue

from assay_harness.errors import RowProblem
from assay_harness.facts import KINDS, generation_arguments
from assay_harness.results import (
    Document,
    DocumentScore,
    LoggedDocument,
    ModelRequest,
    RequestKind,
    Response,
)
from assay_harness.scoring import make_scorer
from assay_harness.spec import Scoring, TaskOptions
from assay_harness.task import BuiltTask
from assay_harness.values import EncodedValue, decode_metric, encode, encode_metric


class TaskMetrics(NamedTuple):
    """lm-eval's dictionary of a task's numbers, and how many documents are behind each `metric,filter`."""

    metrics: dict[str, Any]
    counts: dict[str, int]


class TaskEvaluation:
    """A constructed task. Row indices are its own, from 0; its documents begin at `start` in the run."""

    def __init__(
        self,
        built: BuiltTask,
        *,
        options: TaskOptions,
        scoring: Scoring | None,
        start: int,
        in_group: bool,
    ) -> None:
        self.built = built
        self.name: str = built.task.config.task
        self.scorer = make_scorer(built.task, scoring)
        self.row_count = len(built.task.eval_docs)
        self.count = min(self.row_count, options.limit or self.row_count)
        self.start = start
        self._in_group = in_group
        self._task = built.task
        self._options = options
        self._chat = _chat_text if options.apply_chat_template else None
        self._generation: tuple[dict[str, Any], dict[str, JsonValue]] | None = None
        self._repeats: int = built.task.config.repeats or 1
        self._rolling = built.task.OUTPUT_TYPE == "loglikelihood_rolling"

    def restart(self) -> None:
        """Draw few-shot examples from the beginning again."""
        self._task.set_fewshot_seed(seed=self._options.fewshot_seed)

    def rows(self) -> Iterator[tuple[int, Any]]:
        """Yield the documents up to the limit with their indices."""
        return iter(self._task.doc_iterator(limit=self._options.limit))

    def instances(self, index: int, doc: Any) -> list[Instance]:
        """Build the requests of one document as `Task.build_all_requests` does; raises `RowProblem`."""
        task, options = self._task, self._options
        problem = self.built.row_problems.get(index)
        try:
            context = task.fewshot_context(
                doc,
                num_fewshot=self.built.num_fewshot,
                system_instruction=options.system_instruction,
                apply_chat_template=options.apply_chat_template,
                fewshot_as_multiturn=options.fewshot_as_multiturn,
                chat_template=self._chat,
                gen_prefix=task.doc_to_prefix(doc),
            )
            built = task.construct_requests(
                doc=doc,
                ctx=context,
                metadata=(self.name, index, task.config.repeats),
                apply_chat_template=options.apply_chat_template,
                chat_template=self._chat,
            )
        except Exception as error:
            raise self._problem(index, problem or describe(error)) from error
        if problem:
            raise self._problem(index, problem)
        instances = built if isinstance(built, list) else [built]
        return sorted(instances, key=lambda instance: instance.idx)

    def document(self, index: int, doc: Any, instances: list[Instance]) -> Document:
        """Turn lm-eval's requests into ours, with the hashes that its sample log would hold."""
        target = str(self._task.doc_to_target(doc))
        text = json.dumps(instances[0].doc, indent=2, default=handle_non_serializable, ensure_ascii=False)
        return Document(
            index=self.start + index,
            doc_hash=hash_string(text),
            prompt_hash=hash_string(instances[0].arguments[0]),
            target_hash=hash_string(target),
            target=target,
            doc=json.loads(text),
            requests=[
                self._request(instance, index=position, repeat=repeat)
                for position, instance in enumerate(instances)
                for repeat in range(instance.repeats or 1)
            ],
            task=self.name,
        )

    def logged(self, index: int, doc: Any, instances: list[Instance]) -> LoggedDocument:
        """Turn lm-eval's requests into what its sample log holds of them."""
        document = self.document(index, doc, instances)
        arguments = {
            f"gen_args_{position}": {f"arg_{place}": value for place, value in enumerate(instance.args)}
            for position, instance in enumerate(instances)
        }
        return LoggedDocument(
            index=document.index,
            task=self.name,
            kind=document.requests[0].kind,
            doc_id=index,
            doc=document.doc,
            target=document.target,
            arguments=json.loads(json.dumps(arguments, default=handle_non_serializable)),
            doc_hash=document.doc_hash,
            prompt_hash=document.prompt_hash,
            target_hash=document.target_hash,
        )

    def score(self, answers: Sequence[tuple[int, Sequence[Response]]]) -> list[DocumentScore]:
        """Filter and score documents; raises `RowProblem`."""
        documents = [(index, self._doc(index)) for index, _ in answers]
        groups = [
            self._answered(index, doc, responses)
            for (index, doc), (_, responses) in zip(documents, answers, strict=True)
        ]
        # One call per filter for the whole batch: some filters spend 100 ms on each call.
        flat = [instance for group in groups for instance in group]
        for apply in self.scorer.filters.values():
            apply(flat)
        return [self._score(index, doc, group) for (index, doc), group in zip(documents, groups, strict=True)]

    def aggregate(self, scores: Sequence[DocumentScore], *, iterations: int) -> TaskMetrics:
        """Return lm-eval's numbers over this task's scores, which must be in order of their documents."""
        raw: dict[tuple[str, str], list[object]] = defaultdict(list)
        for filter_name in self.scorer.filters:
            for score in scores:
                for key, value in score.values.items():
                    metric, _, used = key.rpartition(",")
                    if used == filter_name:
                        encoded = EncodedValue(value, score.number_types.get(key, ""))
                        raw[metric, filter_name].append(decode_metric(encoded))
        metrics, sample_count = _compute_task_aggregations(self.scorer, raw, iterations)
        return TaskMetrics(
            metrics={"name": self.name, "sample_len": sample_count, **metrics},
            counts={f"{metric},{name}": len(values) for (metric, name), values in raw.items()},
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
            generation_kwargs=self._normalised(arguments[1]),
        )

    def _normalised(self, arguments: dict[str, Any]) -> dict[str, JsonValue]:
        """Return normalised generation arguments, the same object as long as a task gives the same ones."""
        if self._generation is None or self._generation[0] != arguments:
            self._generation = (dict(arguments), generation_arguments(arguments))
        return self._generation[1]

    def _doc(self, index: int) -> Any:
        """Return the document that the prompt was built from."""
        if not 0 <= index < self.count:
            raise self._problem(index, f"there are {self.count} documents, numbered from 0")
        return self._task.eval_docs[index]

    def _answered(self, index: int, doc: Any, responses: Sequence[Response]) -> list[Instance]:
        """Rebuild the document's instances around the responses to its requests."""
        repeats = self._repeats
        if not responses or len(responses) % repeats:
            problem = f"{len(responses)} responses do not fit requests of {repeats} repetition(s) each"
            raise self._problem(index, problem)
        values = [_lm_eval_response(response, rolling=self._rolling) for response in responses]
        return [
            Instance(
                request_type=self._task.OUTPUT_TYPE,
                doc=doc,
                arguments=(),
                idx=position,
                metadata=(self.name, index, repeats),
                resps=values[position * repeats : (position + 1) * repeats],
            )
            for position in range(len(values) // repeats)
        ]

    def _score(self, index: int, doc: Any, instances: list[Instance]) -> DocumentScore:
        """Score one document under every filter."""
        values, types, filtered = {}, {}, {}
        for name in self.scorer.filters:
            results = [instance.filtered_resps[name] for instance in instances]
            # Encoded before scoring: some scorers consume or change what they are given.
            filtered[name] = [_readable(item) for item in results]
            try:
                metrics: Mapping[str, object] = self.scorer.process(doc, results)
            except Exception as error:
                raise self._problem(index, f"scoring failed: {describe(error)}") from error
            for metric, value in metrics.items():
                encoded = encode_metric(value)
                values[f"{metric},{name}"] = encoded.value
                if encoded.number_type:
                    types[f"{metric},{name}"] = encoded.number_type
        return DocumentScore(
            index=self.start + index, values=values, number_types=types, filtered=filtered, task=self.name
        )

    def _problem(self, index: int, problem: str) -> RowProblem:
        """Return the error of a row, by its index in the run; in a group it tells the task's own row too."""
        if self._in_group:
            problem = f"row {index} of task {self.name!r}: {problem}"
        return RowProblem(row_index=self.start + index, problem=problem)


def describe(error: Exception) -> str:
    """Say what a task's own code complained about, in one line."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


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
