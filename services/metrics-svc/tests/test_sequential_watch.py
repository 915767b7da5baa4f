"""Looks at a run that may stop early: on whole prefixes only, whatever the order of completion."""

import random
from collections.abc import Callable, Sequence
from typing import Any

import numpy
import pytest

from assay_evidence.statistics.paired import margin_test
from assay_evidence.statistics.sequential import evaluation_order, nominal_alphas
from assay_harness.results import DocumentScore
from metrics_svc.domain.early_stop import (
    BaselineValues,
    PlannedEarlyStop,
    SequentialWatch,
    Settlement,
    WatchedMetric,
    early_stop_of,
)
from metrics_svc.domain.plans import FailurePolicy
from metrics_svc.domain.runs import RunMetrics, RunSubject, ScoringState
from metrics_svc.domain.samples import SampleRecord, ScoredSample

METRIC = "sums.exact_match,strict"
PLANNED = PlannedEarlyStop(
    baseline_run_id="run_baseline",
    metric=METRIC,
    higher_is_better=True,
    margin=0.05,
    alpha=0.05,
    order_seed=7,
    planned_samples=1000,
    looks=[200, 400, 600, 800, 1000],
)
ORDER = evaluation_order(1000, 7).tolist()


def scored(index: int, value: float | None, *, prompt: str = "p", task: str = "sums") -> ScoredSample:
    """A sample; ``None``: it failed."""
    record = SampleRecord(
        index=index,
        task=task,
        doc_hash=f"d{index}",
        prompt_hash=f"{prompt}{index}",
        target_hash=f"t{index}",
        target="",
        status="failed" if value is None else "ok",
        requests=[],
    )
    values = {"exact_match,strict": value, "f1,strict": 0.5}
    score = None if value is None else DocumentScore(index, values, {}, {}, task)
    return ScoredSample(record=record, score=score)


def run_of(value: Callable[[int], float | None], **more: Any) -> list[ScoredSample]:
    return [scored(index, value(index), **more) for index in range(1000)]


def right(index: int) -> float:
    """Two thirds right."""
    return float(index % 3 != 0)


def watch(
    baseline: Sequence[ScoredSample], *, planned: PlannedEarlyStop = PLANNED, counts_failed: bool = True
) -> SequentialWatch:
    watched = WatchedMetric(planned.metric, task="sums", counts_failed=counts_failed)
    values = {sample.record.index: watched.of(sample) for sample in baseline}
    return SequentialWatch(planned, baseline=values, watched=watched)


def settle(
    samples: Sequence[ScoredSample], watching: SequentialWatch, *, portion: int = 64
) -> Settlement | None:
    """Take in samples portion by portion, as from a log; what the first look that decides says."""
    for start in range(0, len(samples), portion):
        watching.add(samples[start : start + portion])
        if (settlement := watching.judge()) is not None:
            return settlement
    return None


def test_an_equal_candidate_is_proven_at_the_first_look_that_can() -> None:
    samples = run_of(right)
    found = settle([samples[index] for index in ORDER], watch(samples))
    zeros = numpy.zeros(1000)
    able = [
        look
        for look, level in enumerate(nominal_alphas(PLANNED.looks, 0.05))
        if margin_test(
            zeros[: PLANNED.looks[look]],
            zeros[: PLANNED.looks[look]],
            margin=0.05,
            alpha=level,
            higher_is_better=True,
        ).non_inferior
    ]
    assert found == Settlement(look=able[0], samples=PLANNED.looks[able[0]], outcome="proven")
    assert found.look < len(PLANNED.looks) - 1


def test_a_much_worse_candidate_is_hopeless() -> None:
    baseline = run_of(right)
    worse = run_of(lambda index: right(index) * (index % 5 > 1))
    found = settle([worse[index] for index in ORDER], watch(baseline))
    assert found is not None
    assert found.outcome == "hopeless"
    lower = PLANNED.model_copy(update={"higher_is_better": False})
    better = settle([worse[index] for index in ORDER], watch(baseline, planned=lower))
    assert better is not None
    assert better.outcome == "proven", "of an error rate, less is better"


@pytest.mark.parametrize("seed", range(2))
def test_order_and_portions_of_the_log_do_not_matter(seed: int) -> None:
    generator = random.Random(seed)
    baseline = run_of(right)
    candidate = run_of(lambda index: right(index) if index % 50 else 0.0)
    expected = settle([candidate[index] for index in ORDER], watch(baseline))
    assert expected is not None
    # As under concurrency: what is sent later may be done earlier.
    jittered = sorted(range(1000), key=lambda position: position + generator.uniform(0, 150))
    mixed = [candidate[ORDER[position]] for position in jittered]
    assert settle(mixed, watch(baseline), portion=generator.randrange(1, 100)) == expected
    shuffled = generator.sample(candidate, k=1000)
    assert settle(shuffled, watch(baseline), portion=1000) == expected


def test_a_look_waits_for_every_document_of_its_prefix() -> None:
    samples = run_of(right)
    expected = settle([samples[index] for index in ORDER], watch(samples))
    assert expected is not None
    watching = watch(samples)
    missing = ORDER[expected.samples - 1]
    watching.add([sample for sample in samples if sample.record.index != missing])
    assert watching.judge() is None
    watching.add([samples[missing]])
    assert watching.judge() == expected
    assert watching.judge() is None, "told once"


def test_the_end_of_the_run_is_no_look() -> None:
    samples = run_of(right)
    planned = PLANNED.model_copy(update={"looks": [50, 1000], "margin": 0.01})
    assert settle(samples, watch(samples, planned=planned)) is None


def test_what_was_not_asked_the_same_is_no_evidence() -> None:
    baseline = run_of(right)
    assert settle(run_of(right, prompt="q"), watch(baseline)) is None
    # Two in a hundred differ: more than a look may lack.
    partly = [scored(index, right(index), prompt="p" if index % 50 else "q") for index in range(1000)]
    assert settle(partly, watch(baseline)) is None
    hardly = [scored(index, right(index), prompt="p" if index % 500 else "q") for index in range(1000)]
    assert settle(hardly, watch(baseline)) is not None


def test_failed_samples_count_as_the_run_says() -> None:
    baseline = run_of(right)
    failing = run_of(lambda index: None if index % 4 == 0 else right(index))
    found = settle([failing[index] for index in ORDER], watch(baseline))
    assert found is not None
    assert found.outcome == "hopeless"
    excluding = watch(baseline, counts_failed=False)
    assert settle([failing[index] for index in ORDER], excluding) is None, "a quarter is missing"


def test_a_task_of_a_group_without_samples_keeps_the_run_going() -> None:
    """lm-eval cannot aggregate a group whose task has nothing."""
    rare = set(ORDER[-5:])
    samples = [
        scored(index, right(index), task="rare" if index in rare else "common") for index in range(1000)
    ]
    assert settle([samples[index] for index in ORDER[:800]], watch(samples)) is None
    all_common = [scored(index, right(index), task="common") for index in range(1000)]
    assert settle([all_common[index] for index in ORDER[:800]], watch(all_common)) is not None


def test_only_a_mean_of_samples_is_watched() -> None:
    samples = run_of(right)
    score = sum(right(index) for index in range(1000)) / 1000
    subject = RunSubject.model_construct(task="sums")
    for quality, expected in (({METRIC: score}, True), ({METRIC: score + 0.01}, False), ({}, False)):
        metrics = RunMetrics(run_id="r", state=ScoringState.FINAL, quality=quality, subject=subject)
        values = BaselineValues(metrics, planned=PLANNED)
        for start in range(0, 1000, 64):
            values.add(samples[start : start + 64])
        assert values.are_the_metric() is expected


def test_a_baselines_failed_samples_count_as_that_run_says() -> None:
    samples = run_of(lambda index: None if index % 4 == 0 else 1.0)
    subject = RunSubject.model_construct(task="sums")
    for policy, score in ((FailurePolicy.SCORE_ZERO, 0.75), (FailurePolicy.EXCLUDE, 1.0)):
        metrics = RunMetrics(
            run_id="r",
            state=ScoringState.FINAL,
            quality={METRIC: score},
            subject=subject,
            failure_policy=policy,
        )
        values = BaselineValues(metrics, planned=PLANNED)
        values.add(samples)
        assert values.are_the_metric()


def test_the_facts_say_how_the_rule_went() -> None:
    plan = {"early_stop": PLANNED.model_dump()}
    assert early_stop_of({"plan": {}}) is None
    completed = early_stop_of({"plan": plan, "stopped_early": None})
    assert completed is not None
    assert (completed.outcome, completed.stopped_at_look) == ("completed", None)
    stopped = early_stop_of(
        {"plan": plan, "stopped_early": {"look": 1, "samples": 400, "outcome": "hopeless"}}
    )
    assert stopped is not None
    assert (stopped.outcome, stopped.stopped_at_look, stopped.looks) == ("hopeless", 1, PLANNED.looks)
    assert (stopped.metric, stopped.margin, stopped.order_seed) == (METRIC, 0.05, 7)
