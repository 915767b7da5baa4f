"""Fail closed: pairs of runs that prove nothing, or prove the contrary, are never accepted.

Every case goes the whole way: tables on disk, comparison, judgement. Each starts from a pair that is accepted
(``test_the_pair_that_every_case_starts_from_is_accepted``) and spoils one thing of it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy
import pytest

from assay_evidence.comparison import compare
from assay_evidence.decision import Judgement, Verdict, judge
from assay_evidence.facts import EarlyStop
from assay_evidence.policy import DEFAULT_POLICY, PolicySpec
from assay_evidence.report import ComparisonSettings
from assay_evidence.statistics.sequential import evaluation_order
from assay_evidence.tables import VALUE_PREFIX
from assay_evidence.testing import (
    CONTINUOUS,
    FLEXIBLE,
    STRICT,
    Changes,
    Speed,
    SyntheticRun,
    Task,
    synthetic_run,
)

DOCUMENTS = 600
VALUES = [f"{VALUE_PREFIX}{key}" for key in (STRICT, FLEXIBLE, CONTINUOUS)]
HASHES = ("doc_hash", "prompt_hash", "target_hash")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """What is judged, and the code of a reason that must be among those that block or reject."""

    baseline: SyntheticRun
    candidate: SyntheticRun
    code: str | None = None
    verdict: Verdict = Verdict.INCONCLUSIVE
    policy: PolicySpec = DEFAULT_POLICY
    noise_floor: SyntheticRun | None = None
    clusters: dict[int, str] | None = None


@cache
def run(name: str, **how: Any) -> SyntheticRun:
    documents = how.pop("documents", DOCUMENTS)
    task = Task(documents=documents, accuracy=how.pop("accuracy", 0.6), choices=how.pop("choices", 0))
    changes = Changes(**{kind: how.pop(kind) for kind in list(how) if kind in Changes.__slots__})
    return synthetic_run(run_id=name, tasks=[task], changes=changes, **how)


def baseline(**how: Any) -> SyntheticRun:
    return run("run_a", **how)


def candidate(**how: Any) -> SyntheticRun:
    changes = {"gained": 4, "lost": 4, "reworded": 10} if not set(how) & set(Changes.__slots__) else {}
    return run("run_b", **changes, **how, seed=2)


def judged(pair: Pair, directory: Path) -> Judgement:
    noise = pair.noise_floor.evidence(directory / "noise") if pair.noise_floor else None
    outcome = compare(
        pair.baseline.evidence(directory / "baseline"),
        [pair.candidate.evidence(directory / "candidate")],
        settings=ComparisonSettings(bootstrap_resamples=200),
        policy=pair.policy,
        noise_floor=noise,
        clusters=pair.clusters,
    )
    return judge(outcome.report.candidates[0], pair.policy)


def policy(*rules: dict[str, object], **fields: object) -> PolicySpec:
    rules = rules or ({"metric": "*", "margin": 0.02},)
    return PolicySpec.model_validate({"name": "p", "quality": list(rules), **fields})


def with_values(of: SyntheticRun, change: Callable[[list[Any]], list[Any]]) -> SyntheticRun:
    """With other scores, of every metric, and the run's own numbers made from them."""
    for column in VALUES:
        of = of.with_column(column, change(of.column(column)))
    return of.counted()


def with_hashes(of: SyntheticRun, prefix: bytes, rows: range, *names: str) -> SyntheticRun:
    """With other digests of these rows."""
    for name in names:
        digests = of.column(name)
        for row in rows:
            digests[row] = prefix + digests[row][len(prefix) :]
        of = of.with_column(name, digests)
    return of


def early_stopped(of: SyntheticRun, planned_looks: list[int], look: int, **changed: Any) -> SyntheticRun:
    """What is left of a run that ended at a look, as the service records it."""
    planned = planned_looks[-1]
    rule = EarlyStop(
        baseline_run_id="run_a",
        metric=f"synthetic.{STRICT}",
        margin=0.02,
        alpha=0.05,
        order_seed=1,
        planned_samples=planned,
        looks=planned_looks,
        stopped_at_look=look,
        outcome="proven",
    )
    plan = {"looks": planned_looks, "order_seed": 1, "planned_samples": planned, "metric": rule.metric}
    kept = sorted(evaluation_order(planned, 1)[: planned_looks[look]].tolist())
    return (
        of.take(kept)
        .counted()
        .with_plan({"early_stop": plan})
        .with_facts(early_stop=rule.model_copy(update=changed))
    )


def empty(of: SyntheticRun) -> SyntheticRun:
    return of.take([]).counted()


def all_failed(of: SyntheticRun) -> SyntheticRun:
    gone = of.with_column("failed", [True] * len(of.samples)).with_column("response", [None] * DOCUMENTS)
    for column in VALUES:
        gone = gone.with_column(column, [None] * DOCUMENTS)
    return gone.counted()


def easy_half(of: SyntheticRun) -> list[int]:
    """Rows that the baseline has right."""
    return [row for row, value in enumerate(baseline().column(VALUES[0])) if value == 1.0]


def same_prompts_other_targets() -> Pair:
    """The candidate was asked the same and scored against other answers."""
    return Pair(
        baseline=baseline(),
        candidate=with_hashes(candidate(), b"other", range(DOCUMENTS), "target_hash"),
        code="no-shared-items",
    )


def one_metric_fails() -> Pair:
    """Two metrics are as good as before, the strict one is lost in 8 % of the items."""
    return Pair(
        baseline=baseline(),
        candidate=candidate(format_only=48),
        code="inferior",
        verdict=Verdict.REJECT,
    )


def swapped_scores() -> Pair:
    """Every row has the score of its neighbour: the mean is the same, the items are not."""
    return Pair(
        baseline=baseline(),
        candidate=with_values(candidate(), lambda values: [*values[1:], values[0]]),
        code="not-shown",
    )


def negative_direction() -> Pair:
    """A rate that should be low goes up by 10 points."""
    down = dict.fromkeys([f"synthetic.{key}" for key in (STRICT, FLEXIBLE, CONTINUOUS)], False)
    first = baseline().with_facts(higher_is_better=down)
    second = candidate(gained=60).with_facts(higher_is_better=down)
    return Pair(baseline=first, candidate=second, code="inferior", verdict=Verdict.REJECT)


def group_without_member() -> Pair:
    """The candidate of a group lacks one of three members, and says that it had two."""
    tasks = [Task(name=name, documents=300, choices=4) for name in ("m1", "m2", "m3")]
    first = synthetic_run(run_id="run_a", tasks=tasks, group="grp")
    second = synthetic_run(run_id="run_b", tasks=tasks[:2], group="grp")
    return Pair(baseline=first, candidate=second, code="coverage-below-floor")


def clusters_of_few() -> Pair:
    """600 items that are really four: the flips fall into one cluster."""
    right = [row for row, value in enumerate(baseline().column(VALUES[0])) if value == 1.0][:20]
    lost = with_values(
        baseline().with_facts(run_id="run_b"),
        lambda values: [0.0 if row in right else value for row, value in enumerate(values)],
    )
    labels = {row: "hit" if row in right else str(row % 3) for row in range(DOCUMENTS)}
    return Pair(baseline=baseline(), candidate=lost, clusters=labels)


def early_stop_at_a_lucky_look() -> Pair:
    """What passes at 5 % does not at a first look's level; see ``test_a_look_is_judged_at_its_own_level``."""
    return Pair(baseline=baseline(), candidate=lucky_at_first_look(), code="not-shown")


def lucky_at_first_look() -> SyntheticRun:
    return early_stopped(candidate(gained=10, lost=10), [300, 600], 0)


CASES: dict[str, Callable[[], Pair]] = {
    # Nothing, or next to nothing.
    "both empty": lambda: Pair(
        baseline=empty(baseline()), candidate=empty(candidate()), code="nothing-evaluated"
    ),
    "empty baseline": lambda: Pair(
        baseline=empty(baseline()), candidate=candidate(), code="nothing-evaluated"
    ),
    "empty candidate": lambda: Pair(
        baseline=baseline(), candidate=empty(candidate()), code="nothing-evaluated"
    ),
    "all of the candidate failed": lambda: Pair(
        baseline=baseline(), candidate=all_failed(candidate()), code="failed-samples-candidate"
    ),
    "all of both failed": lambda: Pair(
        baseline=all_failed(baseline()), candidate=all_failed(candidate()), code="failed-samples-baseline"
    ),
    "no flip in ten": lambda: Pair(
        baseline=baseline(documents=10), candidate=run("run_b", documents=10), code="no-change-in-few-pairs"
    ),
    "no flip in 120": lambda: Pair(
        baseline=baseline(documents=120),
        candidate=run("run_b", documents=120),
        code="no-change-in-few-pairs",
    ),
    "ninety pairs and a margin of five points": lambda: Pair(
        baseline=baseline(documents=90),
        candidate=run("run_b", documents=90),
        policy=policy({"metric": "*", "margin": 0.05}),
        code="too-few-samples",
    ),
    "the same run under another name": lambda: Pair(
        baseline=baseline(),
        candidate=baseline().with_facts(run_id="run_z", artifact=candidate().facts.artifact),
        code="same-run",
    ),
    "the same run under another name, its rows in another order": lambda: Pair(
        baseline=baseline(),
        candidate=baseline()
        .with_facts(run_id="run_z", artifact=candidate().facts.artifact)
        .take(range(DOCUMENTS)[::-1]),
        code="same-run",
    ),
    # Not the same questions.
    "other prompts under equal indices": lambda: Pair(
        baseline=baseline(), candidate=run("run_b", content_seed=99), code="no-shared-items"
    ),
    "other few-shot prompts of the same documents": lambda: Pair(
        baseline=baseline(),
        candidate=with_hashes(candidate(), b"five", range(DOCUMENTS), "prompt_hash"),
        code="no-shared-items",
    ),
    "equal prompts, other targets": same_prompts_other_targets,
    "five per cent coverage": lambda: Pair(
        baseline=baseline(), candidate=candidate().take(range(30)).counted(), code="coverage-below-floor"
    ),
    "coverage just below the floor": lambda: Pair(
        baseline=baseline(),
        candidate=with_hashes(candidate(), b"x", range(7), *HASHES),
        code="coverage-below-floor",
    ),
    "a truncated candidate": lambda: Pair(
        baseline=baseline(), candidate=candidate().take(range(500)).counted(), code="coverage-below-floor"
    ),
    "a truncated candidate that says it is whole": lambda: Pair(
        baseline=baseline(), candidate=candidate().take(range(500)), code="table-incomplete"
    ),
    "only what the baseline gets right": lambda: Pair(
        baseline=baseline(),
        candidate=candidate().take(easy_half(baseline())).counted(),
        code="coverage-below-floor",
    ),
    "the easy items again and again": lambda: Pair(
        baseline=baseline(),
        candidate=(lambda easy: candidate().take((easy * 2)[:DOCUMENTS]).counted())(easy_half(baseline())),
        code="repeated-documents",
    ),
    "every row twice on both sides": lambda: Pair(
        baseline=baseline().take([*range(150)] * 4).counted(),
        candidate=run("run_b").take([*range(150)] * 4).counted(),
        code="repeated-documents",
    ),
    "one item under 600 indices": lambda: Pair(
        baseline=with_one_item(baseline()), candidate=with_one_item(candidate())
    ),
    "a better score on other rows": lambda: Pair(
        baseline=baseline(),
        candidate=run("run_b", content_seed=99, accuracy=0.9),
        code="no-shared-items",
    ),
    "another task": lambda: Pair(
        baseline=baseline(), candidate=candidate().with_facts(task="other"), code="different-task"
    ),
    # Not asked in the same way.
    "other generation arguments": lambda: Pair(
        baseline=baseline(),
        candidate=candidate().with_plan({"task.generation_kwargs.temperature": 0.7}),
        code="generation-differs",
    ),
    "another stop list": lambda: Pair(
        baseline=baseline(),
        candidate=candidate().with_plan({"task.until": ["."]}),
        code="generation-differs",
    ),
    "another number of examples in the plan": lambda: Pair(
        baseline=baseline(),
        candidate=candidate().with_plan({"task.num_fewshot": 0, "options.num_fewshot": 0}),
        code="plan-differs",
    ),
    "another version of the task": lambda: Pair(
        baseline=baseline(), candidate=candidate().with_plan({"task.version": "2.0"}), code="plan-differs"
    ),
    "other seeds": lambda: Pair(
        baseline=baseline(), candidate=candidate().with_plan({"seeds.fewshot": 7}), code="plan-differs"
    ),
    "no plan at all": lambda: Pair(
        baseline=baseline(), candidate=candidate().with_facts(plan={}), code="plan-missing"
    ),
    "a candidate scored with other filters of the same names": lambda: Pair(
        baseline=baseline(),
        candidate=candidate().with_facts(scoring_id="scr_1", scoring={"filters": [{"name": "strict-match"}]}),
        code="scored-otherwise",
    ),
    "two views with other filters of the same names": lambda: Pair(
        baseline=baseline().with_facts(scoring_id="scr_1", scoring={"filters": [{"name": "strict-match"}]}),
        candidate=candidate().with_facts(scoring_id="scr_2", scoring={"filters": []}),
        code="scored-otherwise",
    ),
    # Scores that are none.
    "NaN scores": lambda: Pair(
        baseline=baseline(),
        candidate=with_values(candidate(), lambda values: [math.nan] * 3 + values[3:]),
    ),
    "infinite scores": lambda: Pair(
        baseline=baseline(),
        candidate=with_values(candidate(), lambda values: [math.inf] * 3 + values[3:]),
    ),
    "all scores NaN": lambda: Pair(
        baseline=baseline(), candidate=with_values(candidate(), lambda values: [math.nan] * len(values))
    ),
    "NaN in the baseline": lambda: Pair(
        baseline=with_values(baseline(), lambda values: [*values[:-9], *[math.nan] * 9]),
        candidate=candidate(),
    ),
    "scores missing in half of the candidate": lambda: Pair(
        baseline=baseline(),
        candidate=with_half_of_its_values(candidate()),
        code="metric-coverage-below-floor",
    ),
    "a metric missing on one side": lambda: Pair(
        baseline=baseline(),
        candidate=without_metric(candidate(), STRICT),
        code="metric-not-paired",
    ),
    "a metric missing on both sides that the policy names": lambda: Pair(
        baseline=without_metric(baseline(), STRICT),
        candidate=without_metric(candidate(), STRICT),
        policy=policy({"metric": f"synthetic.{STRICT}", "margin": 0.02}, {"metric": "*", "margin": 0.02}),
        code="metric-missing",
    ),
    "a policy that names no metric of the run": lambda: Pair(
        baseline=baseline(),
        candidate=candidate(),
        policy=policy({"metric": "gsm8k.exact_match,strict-match", "margin": 0.02}),
        code="metric-missing",
    ),
    "nobody says which direction is better": lambda: Pair(
        baseline=baseline().with_facts(higher_is_better={}),
        candidate=candidate().with_facts(higher_is_better={}),
        code="direction-unknown",
    ),
    "the sides disagree on the direction": lambda: Pair(
        baseline=baseline(),
        candidate=candidate().with_facts(
            higher_is_better=dict.fromkeys(candidate().facts.higher_is_better, False)
        ),
        code="direction-unknown",
    ),
    "the run's number is not the mean of its scores": lambda: Pair(
        baseline=baseline(),
        candidate=candidate(lost=60).with_facts(quality=baseline().facts.quality),
        code="direction-unknown",
    ),
    "a constant score": lambda: Pair(
        baseline=with_values(baseline(), lambda values: [0.5] * len(values)),
        candidate=with_values(candidate(), lambda values: [0.5] * len(values)),
        code="constant-metric",
    ),
    # Tasks that show nothing.
    "a baseline at the floor": lambda: Pair(
        baseline=baseline(accuracy=0.01), candidate=run("run_b", accuracy=0.01), code="floor-effect"
    ),
    "a baseline that guesses among four": lambda: Pair(
        baseline=baseline(accuracy=0.26, choices=4),
        candidate=run("run_b", accuracy=0.26, choices=4),
        code="floor-effect",
    ),
    "both always wrong": lambda: Pair(
        baseline=baseline(accuracy=0.0), candidate=run("run_b", accuracy=0.0), code="floor-effect"
    ),
    "both always right": lambda: Pair(
        baseline=baseline(accuracy=1.0, choices=4),
        candidate=run("run_b", accuracy=1.0, choices=4),
        code="ceiling-effect",
    ),
    "a margin that guessing would pass": lambda: Pair(
        baseline=baseline(accuracy=0.35, choices=4),
        candidate=run("run_b", accuracy=0.35, choices=4, lost=20),
        policy=policy({"metric": "*", "margin": 0.3}, allow_wide_margin=True),
        code="floor-effect",
    ),
    # Failures.
    "failures scored 0": lambda: Pair(
        baseline=baseline(), candidate=candidate(failed=12), code="failed-samples-candidate"
    ),
    "failures left out": lambda: Pair(
        baseline=baseline(),
        candidate=candidate(failed=12).with_facts(failure_policy="exclude").counted(),
        code="failed-samples-candidate",
    ),
    "failures of the baseline": lambda: Pair(
        baseline=run("run_a", failed=12), candidate=candidate(), code="failed-samples-baseline"
    ),
    "failures that the run does not count": lambda: Pair(
        baseline=baseline(),
        candidate=candidate(failed=60).with_facts(samples_failed=0, samples_scored=DOCUMENTS),
        code="table-incomplete",
    ),
    # Worse, in one way or another.
    "one of three metrics fails": one_metric_fails,
    "scores of the neighbours": swapped_scores,
    "a rate that should be low": negative_direction,
    "a loss of three points": lambda: Pair(
        baseline=baseline(), candidate=candidate(gained=2, lost=20), code="not-shown"
    ),
    "a loss of the margin": lambda: Pair(baseline=baseline(), candidate=candidate(lost=12), code="not-shown"),
    "a loss of ten points": lambda: Pair(
        baseline=baseline(), candidate=candidate(lost=60), code="inferior", verdict=Verdict.REJECT
    ),
    "much churn without a loss": lambda: Pair(
        baseline=baseline(), candidate=candidate(gained=80, lost=80), code="not-shown"
    ),
    "empty responses that happen to score": lambda: Pair(
        baseline=with_values(baseline(), lambda values: [1.0] * len(values)),
        candidate=with_values(
            candidate().with_column("response", [""] * DOCUMENTS), lambda values: [1.0] * len(values)
        ),
        code="ceiling-effect",
    ),
    "flips in one of four clusters": clusters_of_few,
    "a group without one of its members": group_without_member,
    # Early stops.
    "a first look at the level of the last": early_stop_at_a_lucky_look,
    "an early stop that claims a later look than it has": lambda: Pair(
        baseline=baseline(),
        candidate=early_stopped(candidate(), [400, 600], 0, stopped_at_look=1),
        code="coverage-below-floor",
    ),
    "an early stop with other looks than its plan": lambda: Pair(
        baseline=baseline(),
        candidate=early_stopped(candidate(), [400, 600], 0, looks=[400], planned_samples=400),
        code="early-stop-unclear",
    ),
    "an early stop in another order than its plan": lambda: Pair(
        baseline=baseline(),
        candidate=early_stopped(candidate(), [400, 600], 0, order_seed=2),
        code="early-stop-unclear",
    ),
    "an early stop that is not told": lambda: Pair(
        baseline=baseline(),
        candidate=early_stopped(candidate(), [400, 600], 0).with_facts(early_stop=None),
        code="early-stop-unclear",
    ),
    "an early stop whose looks make no sense": lambda: Pair(
        baseline=baseline(),
        candidate=early_stopped(candidate(), [400, 600], 0, looks=[600, 400]),
        code="early-stop-unclear",
    ),
    "an early stop of fewer planned documents than the baseline's": lambda: Pair(
        baseline=baseline(),
        candidate=early_stopped(candidate(), [200, 400], 1),
        code="early-stop-other-documents",
    ),
    # What a policy wants beside quality.
    "no power sensor for a critical energy bound": lambda: Pair(
        baseline=baseline(),
        candidate=candidate(),
        policy=policy(runtime=[{"metric": "joulesPerToken", "max_ratio": 1.0}]),
        code="not-measured",
    ),
    "a candidate twice as slow": lambda: Pair(
        baseline=baseline(),
        candidate=candidate(speed=Speed(first_token_ms=160)),
        policy=policy(runtime=[{"metric": "ttftP50", "max_ratio": 1.1}]),
        code="beyond-bound",
        verdict=Verdict.REJECT,
    ),
    "faster by saying less": lambda: Pair(
        baseline=baseline(),
        candidate=candidate(speed=Speed(tokens=3)),
        policy=policy(runtime=[{"metric": "latencyP50", "max_ratio": 1.0}]),
        code="unlike-work",
    ),
    "no noise floor where the policy wants one": lambda: Pair(
        baseline=baseline(),
        candidate=candidate(),
        policy=policy(require_noise_floor=True),
        code="noise-floor-missing",
    ),
    "the candidate itself as noise floor": lambda: Pair(
        baseline=baseline(),
        candidate=candidate(),
        noise_floor=candidate(),
        policy=policy(require_noise_floor=True),
        code="noise-floor-missing",
    ),
    "the baseline itself as noise floor": lambda: Pair(
        baseline=baseline(),
        candidate=candidate(),
        noise_floor=baseline(),
        policy=policy(require_noise_floor=True),
        code="noise-floor-missing",
    ),
}


def with_one_item(of: SyntheticRun) -> SyntheticRun:
    """600 rows that are all the same item."""
    for name in HASHES:
        of = of.with_column(name, [of.column(name)[0]] * len(of.samples))
    return of


def with_half_of_its_values(of: SyntheticRun) -> SyntheticRun:
    """Scores of the first half of the rows only, and the run's numbers are the means of those."""
    half = with_values(of, lambda values: [*values[:300], *[None] * 300])
    means = {
        f"synthetic.{column.removeprefix(VALUE_PREFIX)}": float(numpy.mean(half.column(column)[:300]))
        for column in VALUES
    }
    return half.with_facts(quality=half.facts.quality | means)


def without_metric(of: SyntheticRun, key: str) -> SyntheticRun:
    metric = f"{of.facts.task}.{key}"
    kept = replace(of, samples=of.samples.drop_columns([f"{VALUE_PREFIX}{key}"]))
    return kept.with_facts(
        sample_metrics=[name for name in of.facts.sample_metrics if name != metric],
        quality={name: value for name, value in of.facts.quality.items() if name != metric},
    )


@pytest.mark.parametrize("name", CASES)
def test_a_hostile_pair_is_never_accepted(name: str, tmp_path: Path) -> None:
    pair = CASES[name]()
    found = judged(pair, tmp_path)
    assert found.verdict is not Verdict.ACCEPT
    assert found.verdict is pair.verdict
    against = [reason.code for reason in found.reasons if reason.effect in ("blocks", "rejects")]
    assert against, "a verdict against the candidate has a reason"
    assert pair.code is None or pair.code in against
    assert found.summary
    assert all(reason.message for reason in found.reasons)


ACCEPTED: dict[str, Callable[[], Pair]] = {
    "the pair that every case starts from": lambda: Pair(baseline=baseline(), candidate=candidate()),
    "rows in another order": lambda: Pair(
        baseline=baseline(),
        candidate=candidate().take(numpy.random.default_rng(3).permutation(DOCUMENTS)),
    ),
    "no flip in 600": lambda: Pair(baseline=baseline(choices=4), candidate=run("run_b", choices=4, seed=2)),
    "coverage at the floor": lambda: Pair(
        baseline=baseline(), candidate=with_hashes(candidate(), b"x", range(6), *HASHES)
    ),
    "failures within the limit": lambda: Pair(baseline=baseline(), candidate=run("run_b", failed=3)),
    "a better candidate": lambda: Pair(baseline=baseline(), candidate=candidate(gained=60, lost=2)),
    "choices": lambda: Pair(
        baseline=baseline(choices=4), candidate=run("run_b", choices=4, gained=3, lost=3)
    ),
    "a rate that should be low and falls": lambda: Pair(
        baseline=negative_direction().baseline,
        candidate=candidate(lost=60).with_facts(
            higher_is_better=negative_direction().baseline.facts.higher_is_better
        ),
    ),
    "an early stop": lambda: Pair(
        baseline=baseline(), candidate=early_stopped(candidate(gained=8, lost=1), [400, 600], 0)
    ),
    "a difference of plans that the policy allows": lambda: Pair(
        baseline=baseline(),
        candidate=candidate().with_plan({"seeds.fewshot": 7}),
        policy=policy(allowed_plan_differences=["seeds.*"]),
    ),
    "another concurrency": lambda: Pair(
        baseline=baseline(), candidate=candidate().with_plan({"options.concurrency": 16})
    ),
    "a faster candidate": lambda: Pair(
        baseline=baseline(),
        candidate=candidate(speed=Speed(first_token_ms=40)),
        policy=policy(runtime=[{"metric": "ttftP50", "max_ratio": 0.9}]),
    ),
    "less energy for each token": lambda: Pair(
        baseline=baseline(speed=Speed(watts=300.0)),
        candidate=candidate(speed=Speed(watts=100.0)),
        policy=policy(runtime=[{"metric": "joulesPerToken", "max_ratio": 0.8}]),
    ),
    "a noise floor": lambda: Pair(
        baseline=baseline(),
        candidate=candidate(),
        noise_floor=run("run_a2", gained=2, lost=2, seed=9, artifact="run_a"),
        policy=policy(require_noise_floor=True),
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_a_sound_pair_is_accepted(name: str, tmp_path: Path) -> None:
    """Else a judge that accepts nothing would pass the cases above."""
    found = judged(ACCEPTED[name](), tmp_path)
    assert found.verdict is Verdict.ACCEPT, found.summary
    assert found.valid


WORSE: dict[str, Callable[[SyntheticRun], SyntheticRun]] = {
    "more items lost": lambda of: with_values(of, lambda values: lose(values, 20)),
    "items not answered": lambda of: fail(of, 9),
    "items not evaluated": lambda of: of.take(range(len(of.samples) - 8)).counted(),
    "NaN instead of right": lambda of: with_values(of, lambda values: [math.nan, *values[1:]]),
}


def lose(values: list[Any], count: int) -> list[Any]:
    right = [row for row, value in enumerate(values) if value is not None and value > 0][:count]
    return [0.0 if row in right else value for row, value in enumerate(values)]


def fail(of: SyntheticRun, count: int) -> SyntheticRun:
    rows = range(len(of.samples))
    of = of.with_column(
        "failed", [row < count or failed for row, failed in zip(rows, of.column("failed"), strict=True)]
    )
    for column in ("response", *VALUES):
        of = of.with_column(
            column, [None if row < count else value for row, value in enumerate(of.column(column))]
        )
    return of.counted()


@pytest.mark.parametrize("how", WORSE)
@pytest.mark.parametrize(("gained", "lost"), [(4, 4), (2, 20), (80, 80), (0, 60)])
def test_a_worse_candidate_is_not_accepted_where_the_better_one_was_not(
    how: str, gained: int, lost: int, tmp_path: Path
) -> None:
    before = run("run_b", gained=gained, lost=lost, seed=2)
    after = WORSE[how](before)
    first = judged(Pair(baseline=baseline(), candidate=before), tmp_path / "before")
    second = judged(Pair(baseline=baseline(), candidate=after), tmp_path / "after")
    assert not (second.verdict is Verdict.ACCEPT and first.verdict is not Verdict.ACCEPT)


@pytest.mark.parametrize("change", [{"gained": 4, "lost": 4}, {"gained": 2, "lost": 20}, {"lost": 60}])
def test_order_and_numbers_of_rows_change_nothing(change: dict[str, int], tmp_path: Path) -> None:
    """Rows in another order, and other indices: the same items."""
    second = candidate(**change)
    shuffled = second.take(numpy.random.default_rng(7).permutation(DOCUMENTS))
    shuffled = shuffled.with_column("block", [0] * DOCUMENTS).with_column("position", range(DOCUMENTS))
    plain = judged(Pair(baseline=baseline(), candidate=second), tmp_path / "plain")
    moved = judged(Pair(baseline=baseline(), candidate=shuffled), tmp_path / "moved")
    assert moved == plain


def test_a_look_is_judged_at_its_own_level(tmp_path: Path) -> None:
    """The same samples, once as a first look and once as all that was ever planned."""
    looked = judged(Pair(baseline=baseline(), candidate=lucky_at_first_look()), tmp_path / "look")
    kept = sorted(evaluation_order(DOCUMENTS, 1)[:300].tolist())
    whole = Pair(
        baseline=baseline().take(kept).counted(), candidate=candidate(gained=10, lost=10).take(kept).counted()
    )
    planned = judged(whole, tmp_path / "whole")
    assert (looked.early_stop, planned.early_stop) == (True, False)
    pairs = [
        next(reason.details["n"] for reason in found.reasons if reason.metric) for found in (looked, planned)
    ]
    assert pairs == [300, 300]
    assert (looked.verdict, planned.verdict) == (Verdict.INCONCLUSIVE, Verdict.ACCEPT)
