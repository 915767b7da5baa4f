"""What was scored of a run so far, and the numbers that it gives."""

from assay_harness.results import DocumentScore, TaskFacts
from metrics_svc.domain.runs import (
    CompleteScores,
    FailurePolicy,
    RunMetrics,
    RunPlan,
    RunSubject,
    ScoringState,
    complete_scores,
)
from metrics_svc.domain.runtime import RuntimeTally
from metrics_svc.domain.samples import SampleRecord, ScoredSample
from metrics_svc.errors import Unscorable


class ScoringProgress:
    """What was scored so far in one attempt, including what earlier attempts stored.

    Attributes:
        blocks: blocks taken in, from number 0 on.
        tally: times of all requests.
        reported_at: when the live metrics were last written, on the monotonic clock.
        reported_blocks: how many blocks they covered.
    """

    def __init__(self, *, subject: RunSubject, plan: RunPlan, facts: TaskFacts) -> None:
        self.plan = plan
        self.tally = RuntimeTally()
        self.blocks = 0
        self.reported_at = float("-inf")
        self.reported_blocks = 0
        self._subject = subject
        self._directions = facts.higher_is_better
        self._scores: dict[int, DocumentScore] = {}
        self._failed: set[int] = set()

    def add(self, samples: list[ScoredSample]) -> None:
        """Take in the next block.

        Raises:
            Unscorable: it repeats a document.
        """
        records: list[SampleRecord] = []
        for sample in samples:
            index = sample.record.index
            if index in self._scores or index in self._failed:
                raise Unscorable("repeated-sample", f"document {index} is in the sample log twice")
            if sample.score is None:
                self._failed.add(index)
            else:
                self._scores[index] = sample.score
            records.append(sample.record)
        self.tally.add(records)
        self.blocks += 1

    def complete(self, *, blocks: int, samples: int) -> CompleteScores:
        """All scores, failed samples treated by the policy.

        Raises:
            Unscorable: the log does not hold what the run announced, or see ``complete_scores``.
        """
        found = len(self._scores) + len(self._failed)
        if (self.blocks, found) != (blocks, samples):
            raise Unscorable(
                "incomplete-log",
                f"the run announced {samples} samples in {blocks} blocks; the log has {found} in "
                f"{self.blocks}",
            )
        return complete_scores(
            self._scores,
            self._failed,
            policy=self.plan.options.on_failure,
            higher_is_better=self._directions,
        )

    def counted(self, run_id: str) -> RunMetrics:
        """Counts and subject, without any metric."""
        return RunMetrics(
            run_id=run_id,
            state=ScoringState.SCORING,
            samples_scored=len(self._scores),
            samples_failed=len(self._failed),
            failure_policy=self.plan.options.on_failure,
            subject=self._subject,
        )

    def live(self, run_id: str) -> RunMetrics:
        """Metrics of the samples so far: means of the per-sample numbers, and runtime metrics."""
        task = self.plan.task.task
        sums: dict[str, float] = {}
        for score in self._scores.values():
            for key, value in score.numbers.items():
                sums[f"{task}.{key}"] = sums.get(f"{task}.{key}", 0.0) + value
        counted = len(self._scores)
        if self.plan.options.on_failure is FailurePolicy.SCORE_ZERO:
            counted += len(self._failed)
        runtime = self.tally.report()
        directions = {name: self._directions.get(_metric_of(name, task)) for name in sums}
        return self.counted(run_id).model_copy(
            update={
                "quality": {name: total / counted for name, total in sums.items()},
                "higher_is_better": {name: up for name, up in directions.items() if up is not None},
                "sample_metrics": list(sums),
                "runtime": runtime.metrics,
                "runtime_details": runtime.details,
            }
        )


def _metric_of(name: str, task: str) -> str:
    """``acc`` of ``sciq.acc,none``."""
    return name.removeprefix(f"{task}.").rpartition(",")[0]
