"""The numbers of samples: what each contributes to the metrics, failed ones by the run's policy."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from assay_harness.results import DocumentScore
from metrics_svc.domain.plans import FailurePolicy
from metrics_svc.domain.runs import QualityMetrics
from metrics_svc.domain.samples import ScoredSample
from metrics_svc.errors import Unscorable


@dataclass(frozen=True, slots=True)
class CompleteScores:
    """The scores of all samples of a run, failed ones treated by the run's policy.

    Attributes:
        scores: in the order of the documents.
        numeric: by task, the keys ``metric,filter`` whose value per document is a number.
    """

    scores: list[DocumentScore]
    numeric: dict[str, list[str]]

    def sample_metrics(self, task: str, *, reported: Mapping[str, float | None]) -> list[str]:
        """Names of the metrics with a value per sample.

        Args:
            task: what was run. Where it is a group, a metric that it reports and that all its tasks have
                comes first.
            reported: the metrics of the run.
        """
        names = [f"{member}.{key}" for member, keys in self.numeric.items() for key in keys]
        if list(self.numeric) == [task]:
            return names
        shared = set.intersection(*(set(keys) for keys in self.numeric.values()))
        first = next(iter(self.numeric.values()))
        return [name for key in first if key in shared and (name := f"{task}.{key}") in reported] + names


def complete_scores(
    scores: Mapping[int, DocumentScore],
    failed: Mapping[int, str],
    *,
    policy: FailurePolicy,
    higher_is_better: Mapping[str, bool],
) -> CompleteScores:
    """Apply the policy for failed samples.

    Args:
        scores: by document index; each names its task.
        failed: indexes of documents without a response, and their tasks.
        policy: see ``FailurePolicy``.
        higher_is_better: ``TaskFacts.higher_is_better``, by metric.

    Raises:
        Unscorable: the policy forbids failed samples, a metric has no zero, or nothing was scored.
    """
    if not scores:
        raise Unscorable("nothing-scored", f"none of the {len(failed)} samples has a response")
    if failed and policy is FailurePolicy.FAIL:
        raise Unscorable("samples-failed", f"{len(failed)} samples failed, which the run's options forbid")
    by_task: dict[str, list[DocumentScore]] = defaultdict(list)
    for index in sorted(scores):
        by_task[scores[index].task].append(scores[index])
    numeric = {task: _numeric(members) for task, members in by_task.items()}
    ordered = list(scores.values())
    if policy is FailurePolicy.SCORE_ZERO:
        zeros: dict[str, DocumentScore] = {}
        for index, task in failed.items():
            if task not in by_task:
                raise Unscorable("nothing-scored", f"none of the samples of task {task!r} has a response")
            if task not in zeros:
                example = by_task[task][0]
                zeros[task] = _zero_score(example, numeric=numeric[task], higher_is_better=higher_is_better)
            ordered.append(_at(zeros[task], index))
    ordered.sort(key=lambda score: score.index)
    return CompleteScores(scores=ordered, numeric=numeric)


def _numeric(scores: Sequence[DocumentScore]) -> list[str]:
    return [
        key
        for key in scores[0].values
        if all(isinstance(score.values.get(key), int | float) for score in scores)
    ]


def _at(zero: DocumentScore, index: int) -> DocumentScore:
    return DocumentScore(
        index=index, values=dict(zero.values), number_types=zero.number_types, filtered={}, task=zero.task
    )


def _zero_score(
    example: DocumentScore, *, numeric: Sequence[str], higher_is_better: Mapping[str, bool]
) -> DocumentScore:
    """The score of a failed sample; NumPy types as in ``example``, because they add up in their own way."""
    for key in example.values:
        if key not in numeric:
            raise Unscorable(
                "no-zero-score",
                f"a failed sample cannot be scored 0 for {key}, whose value per sample is not a number; run "
                'again with on_failure "exclude"',
            )
        if not higher_is_better.get(key.rpartition(",")[0], True):
            raise Unscorable(
                "no-zero-score",
                f"for {key} lower is better, so 0 would reward a failed sample; run again with on_failure "
                '"exclude"',
            )
    return DocumentScore(
        index=-1,
        values=dict.fromkeys(example.values, 0.0),
        number_types=example.number_types,
        filtered={},
        task=example.task,
    )


class SampleNumbers:
    """Gives the numbers of samples as they enter ``metrics``, by ``<task>.<metric>,<filter>``."""

    def __init__(self, metrics: QualityMetrics) -> None:
        self._task = metrics.subject.task if metrics.subject else ""
        self._names = metrics.sample_metrics
        self._known = frozenset(metrics.sample_metrics)
        self._zeros: dict[str, dict[str, float]] = {}
        self._counts_failed = metrics.failure_policy is FailurePolicy.SCORE_ZERO

    def of(self, sample: ScoredSample) -> dict[str, float]:
        """The numbers of one sample; a failed one has zeros or nothing."""
        task = sample.record.task or self._task
        if sample.score is not None:
            return self._named(task, sample.score.numbers)
        if not self._counts_failed:
            return {}
        if task not in self._zeros:
            keys = [name.removeprefix(f"{task}.") for name in self._names if name.startswith(f"{task}.")]
            self._zeros[task] = self._named(task, dict.fromkeys(keys, 0.0))
        return self._zeros[task]

    def _named(self, task: str, numbers: Mapping[str, float]) -> dict[str, float]:
        named = {f"{task}.{key}": value for key, value in numbers.items()}
        if task != self._task:
            for key, value in numbers.items():
                if (name := f"{self._task}.{key}") in self._known:
                    named[name] = value
        return named


Correctness = Literal["right", "wrong"]


def correctness(value: float, *, higher_is_better: bool) -> Correctness | None:
    """Whether a 0-or-1 value means right; ``None`` for any other value."""
    if value not in (0.0, 1.0):
        return None
    return "right" if (value == 1.0) is higher_is_better else "wrong"
