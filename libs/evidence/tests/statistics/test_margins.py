"""Non-inferiority, equivalence and inferiority at a margin, absolute and relative."""

import dataclasses
import math
from typing import Any

import numpy
import pytest
from scipy import stats
from statsmodels.stats.weightstats import ttost_paired

from assay_evidence.report import MarginTest
from assay_evidence.statistics.paired import MarginResult, interval, margin_test, paired_difference


def flipped(random: numpy.random.Generator, n: int, *, gain: float, loss: float) -> Any:
    """0/1 pairs with a baseline of 0.6; rates are of all pairs."""
    kind = random.random(n)
    baseline = (random.random(n) < 0.6).astype(float)
    candidate = baseline.copy()
    baseline[kind < gain], candidate[kind < gain] = 0, 1
    lost = (kind >= gain) & (kind < gain + loss)
    baseline[lost], candidate[lost] = 1, 0
    return baseline, candidate


def samples(name: str) -> tuple[Any, Any, Any]:
    random = numpy.random.default_rng(9)
    if name == "binary":
        return *flipped(random, 400, gain=0.03, loss=0.03), None
    if name == "scores":
        first = random.random(400)
        return first, numpy.clip(first + random.normal(0.002, 0.05, 400), 0, 1), None
    if name == "unbounded":
        first = random.normal(-30, 9, 400)
        return first, first + random.normal(0.01, 0.1, 400), None
    first, second = flipped(random, 400, gain=0.03, loss=0.03)
    return first, second, numpy.repeat(numpy.arange(80), 5)


KINDS = ["binary", "scores", "unbounded", "clustered"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("alpha", [0.05, 0.01])
def test_the_test_agrees_with_the_interval(kind: str, alpha: float) -> None:
    baseline, candidate, clusters = samples(kind)
    ends = interval(baseline, candidate, confidence=1 - 2 * alpha, clusters=clusters)
    assert ends is not None
    low, high = ends
    for margin in [*numpy.linspace(0.001, 0.08, 30), abs(low) + 1e-6, abs(low) - 1e-6]:
        found = margin_test(
            baseline, candidate, margin=margin, alpha=alpha, higher_is_better=True, clusters=clusters
        )
        assert found.non_inferior == (low > -margin)
        assert found.equivalent == (low > -margin and high < margin)
        assert found.inferior == (high < -margin)
        assert found.non_inferiority_p is not None
        assert found.equivalence_p is not None
        assert (found.non_inferiority_p <= alpha) == found.non_inferior
        assert found.equivalence_p >= found.non_inferiority_p


@pytest.mark.parametrize("kind", KINDS)
def test_lower_is_better_is_the_mirror(kind: str) -> None:
    baseline, candidate, clusters = samples(kind)
    given = {"margin": 0.015, "alpha": 0.05, "clusters": clusters}
    if kind in ("binary", "clustered"):
        mirrored = margin_test(1 - baseline, 1 - candidate, higher_is_better=False, **given)
    else:
        mirrored = margin_test(candidate, baseline, higher_is_better=False, **given)
    straight = margin_test(baseline, candidate, higher_is_better=True, **given)
    assert mirrored.non_inferiority_p == pytest.approx(straight.non_inferiority_p, rel=1e-6)
    assert mirrored.equivalence_p == pytest.approx(straight.equivalence_p, rel=1e-6)
    assert (mirrored.non_inferior, mirrored.equivalent) == (straight.non_inferior, straight.equivalent)
    assert mirrored.inferior == straight.inferior


def test_a_rise_is_a_loss_where_lower_is_better() -> None:
    random = numpy.random.default_rng(2)
    errors = random.random(2000) < 0.2
    worse = errors | (random.random(2000) < 0.1)
    found = margin_test(errors, worse, margin=0.02, alpha=0.05, higher_is_better=False)
    assert (found.non_inferior, found.inferior) == (False, True)
    found = margin_test(errors, worse, margin=0.02, alpha=0.05, higher_is_better=True)
    assert (found.non_inferior, found.inferior, found.equivalent) == (True, False, False)


def test_tost_of_unbounded_values_is_that_of_statsmodels() -> None:
    baseline, candidate, _ = samples("unbounded")
    found = margin_test(baseline, candidate, margin=0.02, alpha=0.05, higher_is_better=True)
    p, (low, p_low, _), (_, p_high, _) = ttost_paired(candidate, baseline, -0.02, 0.02)
    assert found.non_inferiority_p == pytest.approx(p_low, rel=1e-9)
    assert found.equivalence_p == pytest.approx(p, rel=1e-9)
    assert p_high <= p
    assert low > 0


def test_relative_margin_of_unbounded_values_is_the_t_test_of_the_contrast() -> None:
    random = numpy.random.default_rng(3)
    baseline = random.normal(20, 4, 300)
    candidate = baseline + random.normal(-0.3, 1.0, 300)
    found = margin_test(baseline, candidate, margin=0.02, alpha=0.05, higher_is_better=True, relative=True)
    contrast = stats.ttest_1samp(candidate - 0.98 * baseline, 0, alternative="greater").pvalue
    absolute = margin_test(
        baseline, candidate, margin=0.02 * baseline.mean(), alpha=0.05, higher_is_better=True
    ).non_inferiority_p
    assert absolute is not None
    assert found.non_inferiority_p == pytest.approx(max(contrast, absolute), rel=1e-9)
    assert found.margin == pytest.approx(0.02 * baseline.mean())
    assert (found.kind, found.relative_margin) == ("relative", 0.02)


def test_relative_margin_of_negative_values_is_a_share_of_their_size() -> None:
    baseline, candidate, _ = samples("unbounded")  # log likelihoods of about -30
    found = margin_test(baseline, candidate, margin=0.01, alpha=0.05, higher_is_better=True, relative=True)
    assert found.margin == pytest.approx(0.01 * abs(baseline.mean()))
    assert found.non_inferior
    worse = margin_test(
        baseline, candidate * 1.03, margin=0.01, alpha=0.05, higher_is_better=True, relative=True
    )
    assert (worse.non_inferior, worse.inferior) == (False, True)


@pytest.mark.parametrize("higher_is_better", [True, False])
def test_relative_margin_of_proportions_errs_at_most_alpha(higher_is_better: bool) -> None:
    random = numpy.random.default_rng(11)
    n, share, level = 300, 0.05, 0.5
    sign = -1 if higher_is_better else 1
    shift = sign * share * level
    gain, loss = (0.06 + shift) / 2, (0.06 - shift) / 2
    draws = random.multinomial(n, [level - loss, loss, gain, 1 - level - gain], size=200)
    passed = 0
    for both, lost, gained, _ in draws:
        baseline, candidate = numpy.zeros(n), numpy.zeros(n)
        baseline[: both + lost] = 1
        candidate[:both] = 1
        candidate[both + lost : both + lost + gained] = 1
        found = margin_test(
            baseline, candidate, margin=share, alpha=0.05, higher_is_better=higher_is_better, relative=True
        )
        passed += found.non_inferior
    assert passed / len(draws) <= 0.05 + 2.5 * math.sqrt(0.05 * 0.95 / len(draws))
    assert passed > 0


@pytest.mark.parametrize("relative", [False, True])
@pytest.mark.parametrize("clusters", [None, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]])
def test_nothing_is_proven_by_ten_pairs_without_a_flip(relative: bool, clusters: list[int] | None) -> None:
    baseline = [1.0, 0.0] * 5
    found = margin_test(
        baseline,
        baseline,
        margin=0.05,
        alpha=0.05,
        higher_is_better=True,
        relative=relative,
        clusters=clusters,
    )
    assert (found.non_inferior, found.equivalent, found.inferior) == (False, False, False)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("margin", [0.1, 0.5, 0.9])
def test_a_wide_margin_does_not_make_equal_runs_inferior(kind: str, margin: float) -> None:
    baseline, candidate, clusters = samples(kind)
    for other in (candidate, baseline):
        found = margin_test(
            baseline, other, margin=margin, alpha=0.05, higher_is_better=True, clusters=clusters
        )
        assert not found.inferior


def test_relative_margin_of_a_score_of_zero_is_not_tested() -> None:
    found = margin_test(
        [0.0] * 500, [0.0] * 500, margin=0.05, alpha=0.05, higher_is_better=True, relative=True
    )
    assert (found.non_inferiority_p, found.non_inferior, found.equivalent) == (None, False, False)
    assert "score is 0" in found.method


@pytest.mark.parametrize(
    ("baseline", "candidate"),
    [([3.0], [4.0]), ([3.0, 4.0], [3.0, 4.0]), ([3.0, 4.0, 5.0], [3.5, 4.5, 5.5])],
    ids=["one pair", "no pair differs", "all differ by the same"],
)
def test_without_spread_nothing_is_said(baseline: list[float], candidate: list[float]) -> None:
    pairs = paired_difference(baseline, candidate)
    assert (pairs.interval_90, pairs.interval_95, pairs.difference_p) == (None, None, None)
    assert pairs.interval_method.startswith("none: ")
    found = margin_test(baseline, candidate, margin=1.0, alpha=0.05, higher_is_better=True)
    assert (found.non_inferiority_p, found.equivalence_p) == (None, None)
    assert (found.non_inferior, found.equivalent, found.inferior) == (False, False, False)
    assert found.method == pairs.interval_method


def test_the_result_has_the_fields_of_the_report() -> None:
    assert {field.name for field in dataclasses.fields(MarginResult)} == set(MarginTest.model_fields)
    found = margin_test([0, 1] * 100, [0, 1] * 100, margin=0.02, alpha=0.05, higher_is_better=True)
    assert MarginTest(**dataclasses.asdict(found)).non_inferior == found.non_inferior is True


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"margin": 0.0}, "margin is 0.0"),
        ({"margin": math.nan}, "margin is nan"),
        ({"margin": 1.0, "relative": True}, "relative margin is 1.0"),
        ({"alpha": 0.5}, "alpha is 0.5"),
        ({"candidate": [1.0, math.nan]}, "candidate's value of pair 1 is nan"),
        ({"baseline": [-math.inf, 1.0]}, "baseline's value of pair 0 is -inf"),
        ({"candidate": [1.0]}, "equal, positive length"),
        ({"baseline": [], "candidate": []}, "equal, positive length"),
        ({"clusters": [1]}, "1 cluster labels for 2 pairs"),
    ],
)
def test_bad_input_is_named(wrong: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"baseline": [1.0, 0.0], "candidate": [1.0, 0.0], "margin": 0.02, "alpha": 0.05}
    given |= {"higher_is_better": True} | wrong
    with pytest.raises(ValueError, match=message):
        margin_test(given.pop("baseline"), given.pop("candidate"), **given)
