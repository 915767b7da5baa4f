"""The rules of a comparison, on evidence made by hand."""

import pytest

from metrics_svc.domain.comparison import Evidence, Flip, Item, compare, flip_of
from metrics_svc.domain.pairing import ItemKey
from metrics_svc.domain.runs import ArtifactReference, RunMetrics, RunSubject, ScoringState


def evidence(
    metric: str,
    values: list[float],
    *,
    reported: float | None = None,
    stderr: float | None = None,
    higher_is_better: bool = True,
    **runtime: float | None,
) -> Evidence:
    mean = sum(values) / len(values)
    name, _, filter_name = metric.rpartition(",")
    return Evidence(
        metrics=RunMetrics(
            run_id="run_1",
            state=ScoringState.FINAL,
            samples_scored=len(values),
            quality={
                metric: mean if reported is None else reported,
                f"{name}_stderr,{filter_name}": stderr,
            },
            higher_is_better={metric: higher_is_better},
            sample_metrics=[metric],
            runtime=runtime,
        ),
        subject=RunSubject(
            run_name="n",
            artifact=ArtifactReference(id="a", name="a", backend="cpu"),
            dataset_id="d",
            dataset_name="d",
            snapshot_digest="s",
            method_id="m",
            method_name="m",
            method_version=1,
            recipe_hash="r",
            task="t",
            conditions={},
        ),
        items=[
            Item(
                key=ItemKey(f"d{index}", "p", "t"),
                index=index,
                block=0,
                position=index,
                values={metric: value},
            )
            for index, value in enumerate(values)
        ],
    )


def test_lower_may_be_better() -> None:
    metric = "t.error,none"
    outcome = compare(
        evidence(metric, [1.0, 1.0, 0.0, 0.0, 1.0], higher_is_better=False),
        evidence(metric, [0.0, 1.0, 1.0, 0.0, 0.0], higher_is_better=False),
    )
    (compared,) = outcome.report.quality
    assert compared.flips is not None
    assert (compared.flips.gained, compared.flips.lost) == (2, 1)
    assert (compared.flips.both_right, compared.flips.both_wrong) == (1, 1)
    assert flip_of(1.0, 0.0, higher_is_better=False) is Flip.GAINED


def test_a_metric_that_is_no_mean_has_no_direction_per_sample() -> None:
    # As perplexity: per sample a log-likelihood, of which higher is better, over the run the reverse.
    metric = "t.perplexity,none"
    outcome = compare(
        evidence(metric, [-1.0, -2.0], reported=4.48, higher_is_better=False),
        evidence(metric, [-1.1, -2.5], reported=6.05, higher_is_better=False),
    )
    (compared,) = outcome.report.quality
    assert compared.higher_is_better is None
    assert (compared.baseline_run, compared.candidate_run) == (4.48, 6.05)
    assert compared.difference == pytest.approx(-0.3)
    assert compared.flips is None


@pytest.mark.parametrize(("stderr", "within"), [(0.3, True), (0.2, False), (None, None)])
def test_the_weak_rule_is_shown_as_what_it_is(stderr: float | None, within: bool | None) -> None:
    metric = "t.acc,none"
    outcome = compare(
        evidence(metric, [1.0, 1.0, 0.0, 0.0], stderr=stderr), evidence(metric, [1.0, 0.0, 0.0, 0.0])
    )
    rule = outcome.report.quality[0].weak_rule
    assert rule.within_stderr is within
    assert rule.label.startswith("weak rule")


def test_a_ratio_needs_both_sides() -> None:
    metric = "t.acc,none"
    outcome = compare(
        evidence(metric, [1.0], tps=20.0, power=None, ttftP50=0.0),
        evidence(metric, [1.0], tps=50.0, power=30.0, ttftP50=0.1),
    )
    ratios = {one.metric: one for one in outcome.report.runtime}
    assert ratios["tps"].ratio == 2.5
    assert ratios["tps"].higher_is_better
    assert ratios["power"].ratio is None
    assert ratios["power"].note == "baseline: not measured"
    assert ratios["ttftP50"].ratio is None
