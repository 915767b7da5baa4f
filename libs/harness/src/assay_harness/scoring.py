"""How responses become values: the task's own filters and metrics, or those that a `Scoring` asks for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean
from lm_eval.api.task import Task

from assay_harness.errors import InvalidOptions
from assay_harness.filters import apply_text_step, reduce_repeats
from assay_harness.question_answer import (
    contains,
    exact_match_normalized,
    short_answer,
    token_f1,
)
from assay_harness.spec import FilterFunction, FilterPipeline, QuestionAnswerScoring, Scoring

_TEXT_METRICS: dict[str, Callable[..., float]] = {
    "exact_match_normalized": exact_match_normalized,
    "contains": contains,
    "token_f1": token_f1,
}


@dataclass(frozen=True, slots=True)
class Scorer:
    """What scores the documents of one task.

    `filters` maps each name to a function that fills in `filtered_resps` of instances; `process` gives the
    values of a document from its filtered responses; `task_name`, `aggregation` and `higher_is_better` are
    what lm-eval's aggregation asks of a task.
    """

    task_name: str
    filters: dict[str, Callable[[Sequence[Instance]], None]]
    process: Callable[[Any, list[Any]], Mapping[str, Any]]
    aggregation: Callable[[], Mapping[str, Callable[..., Any]]]
    higher_is_better: Callable[[], Mapping[str, bool | None]]


def make_scorer(task: Task, scoring: Scoring | None) -> Scorer:
    """Return the task's own scorer, or the one that `scoring` asks for; raises `InvalidOptions`."""
    own = Scorer(
        task_name=task.config.task,
        filters={ensemble.name: ensemble.apply for ensemble in task._filters},
        process=task.process_results,
        aggregation=task.aggregation,
        higher_is_better=task.higher_is_better,
    )
    if scoring is None:
        return own
    if task.OUTPUT_TYPE != "generate_until":
        problem = (
            f"task {own.task_name!r} is scored from log-probabilities; there is no text that filters or "
            "question-answer metrics could read"
        )
        raise InvalidOptions(option="scoring", problem=problem)
    filters = {pipeline.name: _filter(pipeline, task) for pipeline in scoring.filters} or own.filters
    answers = scoring.question_answer
    if answers is None:
        return Scorer(own.task_name, filters, own.process, own.aggregation, own.higher_is_better)
    _check_field(task, answers)
    names = ("exact_match", *_TEXT_METRICS)
    return Scorer(
        task_name=own.task_name,
        filters=filters if scoring.filters else _SHORT_ANSWER_FILTERS,
        process=lambda doc, results: _compare(_expected(task, doc, answers), str(results[0])),
        aggregation=lambda: dict.fromkeys(names, mean),
        higher_is_better=lambda: dict.fromkeys(names, True),
    )


def _filter(pipeline: FilterPipeline, task: Task) -> Callable[[Sequence[Instance]], None]:
    """Return the function of a pipeline; raises `InvalidOptions` for a filter that the task does not have."""
    ensembles = {ensemble.name: ensemble for ensemble in task._filters}
    first, *rest = pipeline.steps
    own = None
    if first.function is FilterFunction.TASK_FILTER:
        own = ensembles.get(str(first.arguments["name"]))
        if own is None:
            problem = (
                f"task {task.config.task!r} has no filter named {first.arguments['name']!r}; it has "
                f"{', '.join(ensembles)}"
            )
            raise InvalidOptions(option="scoring.filters", problem=problem)
    steps = rest if own else [first, *rest]

    def apply(instances: Sequence[Instance]) -> None:
        if own is None:
            responses = [list(instance.resps) for instance in instances]
        else:
            own.apply(list(instances))
            responses = [[instance.filtered_resps.pop(own.name)] for instance in instances]
        for instance, texts in zip(instances, responses, strict=True):
            for step in steps:
                if step.function is FilterFunction.MAJORITY_VOTE:
                    texts = [reduce_repeats(texts)]
                else:
                    texts = [apply_text_step(step.function, text) for text in texts]
            instance.filtered_resps[pipeline.name] = texts[0]

    return apply


def _strict(instances: Sequence[Instance]) -> None:
    """Take the first repeat as it is, without outer whitespace."""
    for instance in instances:
        instance.filtered_resps["strict"] = instance.resps[0].strip()


def _flexible(instances: Sequence[Instance]) -> None:
    """Take the short answer in the first repeat."""
    for instance in instances:
        instance.filtered_resps["flexible"] = short_answer(instance.resps[0])


_SHORT_ANSWER_FILTERS: dict[str, Callable[[Sequence[Instance]], None]] = {
    "strict": _strict,
    "flexible": _flexible,
}


def _check_field(task: Task, answers: QuestionAnswerScoring) -> None:
    """Refuse an expected output that the task's documents do not have."""
    wanted, doc = answers.expected_output_field, task.eval_docs[0]
    if wanted is not None and not (isinstance(doc, Mapping) and wanted in doc):
        known = ", ".join(map(str, doc)) if isinstance(doc, Mapping) else "no fields"
        problem = f"the documents of task {task.config.task!r} have no field {wanted!r}; they have {known}"
        raise InvalidOptions(option="scoring.question_answer.expected_output_field", problem=problem)


def _expected(task: Task, doc: Any, answers: QuestionAnswerScoring) -> list[str]:
    """Return the texts that a response may match; a task's list of targets holds alternatives."""
    if answers.expected_output_field is not None:
        target = doc[answers.expected_output_field]
    else:
        target = task.doc_to_target(doc)
        if isinstance(target, int) and task.config.doc_to_choice is not None:
            target = task.doc_to_choice(doc)[target]
    texts = [str(item) for item in target] if isinstance(target, list | tuple) and target else [str(target)]
    for step in answers.expected_steps:
        texts = [str(apply_text_step(step.function, text)) for text in texts]
    return [text.strip() for text in texts]


def _compare(expected: list[str], given: str) -> dict[str, float]:
    """Score a response against the best of the expected texts, metric by metric."""
    text = given.strip()
    scores = {"exact_match": max(float(item == text) for item in expected)}
    for name, metric in _TEXT_METRICS.items():
        scores[name] = max(metric(references=[item], predictions=[text]) for item in expected)
    return scores
