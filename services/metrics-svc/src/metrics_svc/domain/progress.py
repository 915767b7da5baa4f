"""What was scored of a run so far, and the numbers that it gives."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import replace

from assay_harness.results import DocumentScore, TaskFacts
from metrics_svc.domain.plans import FailurePolicy, RunPlan
from metrics_svc.domain.runs import MemberCounts, RunMetrics, RunSubject, ScoringState
from metrics_svc.domain.runtime.tally import RuntimeTally
from metrics_svc.domain.samples import SampleRecord, ScoredSample
from metrics_svc.domain.values import CompleteScores, complete_scores
from metrics_svc.errors import Unscorable


class ScoringProgress:
    """What was scored so far in one attempt, including what earlier attempts stored.

    Attributes:
        run_id: the run.
        blocks: blocks taken in, from number 0 on.
        tally: times of all requests.
        reported_blocks: how many blocks the live metrics that were last written covered.
    """

    def __init__(self, *, run_id: str, subject: RunSubject, plan: RunPlan, facts: TaskFacts) -> None:
        self.run_id = run_id
        self.plan = plan
        self.tally = RuntimeTally()
        self.blocks = 0
        self.reported_blocks = 0
        self._subject = subject
        self._facts = facts
        self._scores: dict[int, DocumentScore] = {}
        self._failed: dict[int, str] = {}
        self._scored_of: Counter[str] = Counter()
        self._failed_of: Counter[str] = Counter()
        self._sums: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))

    def add(self, samples: list[ScoredSample]) -> None:
        """Take in the next block.

        Raises:
            Unscorable: it repeats a document.
        """
        records: list[SampleRecord] = []
        for sample in samples:
            index, task = sample.record.index, sample.record.task or self.plan.task.task
            if index in self._scores or index in self._failed:
                raise Unscorable("repeated-sample", f"document {index} is in the sample log twice")
            if sample.score is None:
                self._failed[index] = task
                self._failed_of[task] += 1
            else:
                self._scores[index] = replace(sample.score, task=task)
                self._scored_of[task] += 1
                sums = self._sums[task]
                for key, value in sample.score.numbers.items():
                    sums[key] += value
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
            higher_is_better=self._facts.higher_is_better,
        )

    def counted(self) -> RunMetrics:
        """Counts and subject, without any metric."""
        return RunMetrics(
            run_id=self.run_id,
            state=ScoringState.SCORING,
            canonical=self.plan.canonical,
            deviations=self.plan.deviations,
            samples_scored=len(self._scores),
            samples_failed=len(self._failed),
            failure_policy=self.plan.options.on_failure,
            members=[
                MemberCounts(
                    task=member.task,
                    samples_scored=self._scored_of[member.task],
                    samples_failed=self._failed_of[member.task],
                    samples_expected=member.stop - member.start,
                )
                for member in self._facts.members
            ],
            subject=self._subject,
        )

    def live(self) -> RunMetrics:
        """Metrics of the samples so far: means of the per-sample numbers, and runtime metrics.

        Of a group, the mean of a metric that several tasks have is that over all their samples.
        """
        quality: dict[str, float] = {}
        sums: dict[str, float] = defaultdict(float)
        counts: Counter[str] = Counter()
        for task, totals in self._sums.items():
            counted = self._counted_of(task)
            for key, total in totals.items():
                quality[f"{task}.{key}"] = total / counted
                sums[key] += total
                counts[key] += counted
        if self._facts.members:
            group = self.plan.task.task
            for key, total in sums.items():
                quality[f"{group}.{key}"] = total / counts[key]
        runtime = self.tally.report(bounds=self.plan.options.goodput)
        return self.counted().model_copy(
            update={
                "quality": quality,
                "higher_is_better": self._directions(quality),
                "sample_metrics": list(quality),
                "runtime": runtime.metrics,
                "runtime_details": runtime.details,
            }
        )

    def _counted_of(self, task: str) -> int:
        failed = self._failed_of[task] if self.plan.options.on_failure is FailurePolicy.SCORE_ZERO else 0
        return self._scored_of[task] + failed

    def _directions(self, names: Iterable[str]) -> dict[str, bool]:
        """Whether higher is better, by ``<task>.<metric>,<filter>``, where that is known."""
        found: dict[str, bool] = {}
        for name in names:
            for metric, up in self._facts.higher_is_better.items():
                if name.rpartition(",")[0].endswith(f".{metric}"):
                    found[name] = up
        return found
