"""Looks at a run that may stop early: what the samples so far say against those of its baseline.

A look judges exactly the first so many documents of the run's random order, and only when all of them are
scored. Which documents are done first depends on how long their answers are; the look must not.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

import numpy
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from assay_contracts.metrics_events import RunSettled
from assay_evidence.facts import EarlyStop
from assay_evidence.statistics.sequential import evaluation_order, judge_look
from metrics_svc.domain.pairing import ItemKey
from metrics_svc.domain.plans import FailurePolicy
from metrics_svc.domain.runs import QualityMetrics
from metrics_svc.domain.samples import ScoredSample

LEAST_PAIRED = 0.99
"""Share of a look's documents that must have a value on both sides; a look with fewer decides nothing."""
LEAST_OF_A_TASK = 2
"""Scored samples that each task of a group needs before the run may end: lm-eval's stderr needs two."""
_TOLERANCE = 1e-9


class PlannedEarlyStop(BaseModel):
    """The ``early_stop`` part of a run's plan, as eval-svc freezes it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    baseline_run_id: str
    metric: str
    higher_is_better: bool
    margin: float
    alpha: float
    order_seed: int
    planned_samples: int
    looks: list[int]


@dataclass(frozen=True, slots=True)
class Settlement:
    """The look that decided: its position among the planned ones, the documents it judged, and how."""

    look: int
    samples: int
    outcome: Literal["proven", "hopeless"]


def planned_early_stop(run: Mapping[str, Any]) -> PlannedEarlyStop | None:
    """What the plan of a run (as eval-svc returns it) says; ``None`` of a run that goes to its end."""
    part = run["plan"].get("early_stop")
    return None if part is None else PlannedEarlyStop.model_validate(part)


def early_stop_of(run: Mapping[str, Any]) -> EarlyStop | None:
    """How the stopping rule of a run went that has all its responses; ``None`` of a run without one."""
    planned = planned_early_stop(run)
    if planned is None:
        return None
    stopped = run.get("stopped_early")
    return EarlyStop(
        **planned.model_dump(exclude={"higher_is_better"}),
        stopped_at_look=stopped["look"] if stopped else None,
        outcome=stopped["outcome"] if stopped else "completed",
    )


class DocumentValue(NamedTuple):
    """Content of a document in a run, and its value; NaN where it has none."""

    key: ItemKey
    value: float


class WatchedMetric:
    """Reads one metric off samples.

    Args:
        name: ``<task>.<metric>,<filter>``, of what the run as a whole evaluates.
        task: that task or group; its metric's value of a sample is the one for the sample's own task.
        counts_failed: whether a failed sample is a 0.
    """

    def __init__(self, name: str, *, task: str, counts_failed: bool) -> None:
        self._key = name.removeprefix(f"{task}.")
        self._task = task
        self._counts_failed = counts_failed

    def of(self, sample: ScoredSample) -> DocumentValue:
        """Content and value of a sample."""
        key = sample.record.key(task=self._task)
        if sample.score is None:
            return DocumentValue(key, 0.0 if self._counts_failed else math.nan)
        return DocumentValue(key, sample.score.numbers.get(self._key, math.nan))


class BaselineValues:
    """The baseline's values of the watched metric, gathered block by block.

    Args:
        metrics: the final ones of the baseline.
        planned: names the metric.
    """

    def __init__(self, metrics: QualityMetrics, *, planned: PlannedEarlyStop) -> None:
        assert metrics.subject is not None, "a final view knows its subject"
        counts_failed = metrics.failure_policy is FailurePolicy.SCORE_ZERO
        self._watched = WatchedMetric(planned.metric, task=metrics.subject.task, counts_failed=counts_failed)
        self._score = metrics.quality.get(planned.metric)
        self.by_document: dict[int, DocumentValue] = {}

    def add(self, samples: Iterable[ScoredSample]) -> None:
        """Take in samples."""
        self.by_document |= {sample.record.index: self._watched.of(sample) for sample in samples}

    def are_the_metric(self) -> bool:
        """Whether the metric is their mean; else looks at them would say nothing about it."""
        values = [each.value for each in self.by_document.values() if not math.isnan(each.value)]
        if not values or self._score is None:
            return False
        return math.isclose(math.fsum(values) / len(values), self._score, abs_tol=_TOLERANCE)


class SequentialWatch:
    """Takes in the scored samples of a run, and looks when a planned look is due.

    The same samples in any order and any portions give the same answer.

    Args:
        planned: when to look and what to show.
        baseline: values of the baseline, by document.
        watched: reads the run's own values.
    """

    def __init__(
        self, planned: PlannedEarlyStop, *, baseline: Mapping[int, DocumentValue], watched: WatchedMetric
    ) -> None:
        self._planned = planned
        self._baseline = baseline
        self._watched = watched
        self._order: NDArray[numpy.int64] = evaluation_order(planned.planned_samples, planned.order_seed)
        self._is_there = numpy.zeros(planned.planned_samples, dtype=bool)
        self._pairs = numpy.full((planned.planned_samples, 2), math.nan)
        tasks = sorted({each.key.task for each in baseline.values()})
        self._number_of = {task: number for number, task in enumerate(tasks)}
        # Number of the document's task where it is scored; else -1.
        self._scored_of = numpy.full(planned.planned_samples, -1)
        self._reached = 0
        self._look = 0

    def add(self, samples: Iterable[ScoredSample]) -> None:
        """Take in scored samples."""
        for sample in samples:
            index = sample.record.index
            own = self._watched.of(sample)
            self._is_there[index] = True
            # Both runs read the same rows, so the index finds the document; whether it was asked the same
            # way, the content has to say.
            other = self._baseline.get(index)
            if other is not None and other.key == own.key:
                self._pairs[index] = (other.value, own.value)
            if not sample.failed:
                self._scored_of[index] = self._number_of.get(own.key.task, -1)

    def judge(self) -> Settlement | None:
        """Take the looks that have become due, until one decides; the last is the run's end and not taken."""
        planned = self._planned
        while self._reached < len(self._order) and self._is_there[self._order[self._reached]]:
            self._reached += 1
        while self._look < len(planned.looks) - 1 and planned.looks[self._look] <= self._reached:
            look = self._look
            outcome = self._judge(look)
            if outcome != "continue":
                self._look = len(planned.looks)
                return Settlement(look=look, samples=planned.looks[look], outcome=outcome)
            self._look += 1
        return None

    def settled(self, run_id: str, settlement: Settlement) -> RunSettled:
        """The event that tells of it."""
        return RunSettled(
            run_id=run_id,
            baseline_run_id=self._planned.baseline_run_id,
            metric=self._planned.metric,
            **asdict(settlement),
        )

    def _judge(self, look: int) -> Literal["proven", "hopeless", "continue"]:
        planned = self._planned
        documents = self._order[: planned.looks[look]]
        pairs = self._pairs[documents]
        usable = pairs[numpy.isfinite(pairs).all(axis=1)]
        scored_of = self._scored_of[documents]
        by_task = numpy.bincount(scored_of[scored_of >= 0], minlength=len(self._number_of))
        if len(usable) < LEAST_PAIRED * len(pairs) or by_task.min() < LEAST_OF_A_TASK:
            return "continue"
        return judge_look(
            usable[:, 0],
            usable[:, 1],
            margin=planned.margin,
            higher_is_better=planned.higher_is_better,
            looks=planned.looks,
            look=look,
            alpha=planned.alpha,
        )
