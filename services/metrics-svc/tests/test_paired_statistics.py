"""Statistics against scipy, brute force and simulation."""

import itertools
import math

import numpy
import pytest
from scipy import stats

from metrics_svc.domain.pairing import ItemKey, Pair, pair_items
from metrics_svc.domain.statistics import (
    mcnemar_exact,
    paired_difference,
    percentile,
    quantile_ranks,
    rate_upper_bound,
)


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 5), (3, 9), (31, 46), (0, 20), (400, 523)])
def test_mcnemar_is_the_exact_binomial_test(gained: int, lost: int) -> None:
    flips = gained + lost
    expected = stats.binomtest(gained, flips, 0.5).pvalue if flips else 1.0
    assert mcnemar_exact(gained, lost) == pytest.approx(expected, rel=1e-10)
    assert mcnemar_exact(lost, gained) == mcnemar_exact(gained, lost)


def test_mcnemar_by_counting_every_outcome() -> None:
    for flips in range(1, 11):
        for gained in range(flips + 1):
            distance = abs(gained - flips / 2)
            outcomes = itertools.product((0, 1), repeat=flips)
            as_far = sum(abs(sum(outcome) - flips / 2) >= distance for outcome in outcomes)
            assert mcnemar_exact(gained, flips - gained) == pytest.approx(as_far / 2**flips)


@pytest.mark.parametrize(("events", "n"), [(0, 10), (0, 299), (3, 10), (7, 100), (10, 10)])
def test_rate_bound_is_clopper_pearson(events: int, n: int) -> None:
    expected = stats.binomtest(events, n).proportion_ci(0.90, method="exact").high
    assert rate_upper_bound(events, n) == pytest.approx(expected, abs=1e-9)


def test_paired_difference_agrees_with_the_paired_t_test() -> None:
    random = numpy.random.default_rng(7)
    baseline = random.normal(0.5, 0.2, 90)
    candidate = baseline + random.normal(-0.03, 0.1, 90)
    found = paired_difference(list(baseline), list(candidate))
    reference = stats.ttest_rel(candidate, baseline)
    assert found.difference == pytest.approx(candidate.mean() - baseline.mean())
    assert found.stderr == pytest.approx(stats.sem(candidate - baseline))
    assert found.interval == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert found.changed == 90


def test_stderr_is_that_of_the_paired_difference_not_of_two_samples() -> None:
    # 2 of 10 change, in opposite directions: mean 0, and (2 / 9) / 10 under the root.
    baseline = [1.0, 0.0, *[1.0] * 4, *[0.0] * 4]
    candidate = [0.0, 1.0, *[1.0] * 4, *[0.0] * 4]
    found = paired_difference(baseline, candidate)
    assert found.difference == 0
    assert found.stderr == pytest.approx(math.sqrt(2 / 9 / 10))


def test_no_flips_has_the_exact_bound_and_never_a_zero_width_interval() -> None:
    found = paired_difference([1.0, 0.0] * 5, [1.0, 0.0] * 5)
    assert found.stderr == 0.0
    assert found.interval == pytest.approx((-0.2588655, 0.2588655), abs=1e-6)  # 1 - 0.05 ** (1 / 10)
    continuous = paired_difference([0.25, 0.5], [0.25, 0.5])
    assert continuous.interval is None


def test_one_pair_has_no_spread() -> None:
    found = paired_difference([0.0], [1.0])
    assert (found.stderr, found.interval) == (None, None)
    assert found.difference == 1.0


@pytest.mark.parametrize("values", [([], []), ([1.0], [1.0, 0.0])])
def test_pairs_must_be_pairs(values: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="equal, positive length"):
        paired_difference(*values)


def test_nearest_rank_by_definition() -> None:
    random = numpy.random.default_rng(3)
    for n in (1, 2, 3, 7, 99, 100, 101, 250):
        values = numpy.sort(random.exponential(size=n))
        for share in (0.5, 0.99):
            estimate = percentile(values, share)
            assert estimate is not None
            wanted = next(value for value in values if (values <= value).sum() >= share * n - 1e-9)
            assert estimate.value == wanted
    assert percentile(numpy.empty(0), 0.5) is None


def test_p99_is_bounded_from_299_observations_on() -> None:
    assert quantile_ranks(298, 0.99).high is None
    assert quantile_ranks(299, 0.99).high == 299
    estimate = percentile(numpy.arange(298.0), 0.99)
    assert estimate is not None
    assert estimate.at_least
    assert estimate.low is not None


@pytest.mark.parametrize("share", [0.5, 0.99])
def test_ranks_have_the_promised_coverage_by_the_binomial_itself(share: float) -> None:
    for n in (6, 40, 299, 330, 368, 1000, 4321):
        ranks = quantile_ranks(n, share)
        below = stats.binom(n, share)
        miss_low = below.cdf(ranks.low - 1) if ranks.low else 0.0
        miss_high = below.sf(ranks.high - 1) if ranks.high else 0.0
        assert miss_low + miss_high <= 0.05 + 1e-12
        if ranks.low and ranks.high:  # and neither end can come closer
            assert below.sf(ranks.high - 2) > 0.025
            assert below.cdf(ranks.low) + miss_high > 0.05 or below.cdf(ranks.low) > 0.025


@pytest.mark.parametrize(("share", "n"), [(0.5, 51), (0.99, 320), (0.99, 700)])
def test_interval_covers_the_true_percentile_in_simulation(share: float, n: int) -> None:
    random = numpy.random.default_rng(20)
    truth = float(stats.lognorm(0.8).ppf(share))
    covered = 0
    for _ in range(2000):
        estimate = percentile(numpy.sort(random.lognormal(0, 0.8, n)), share)
        assert estimate is not None
        assert estimate.low is not None
        assert estimate.high is not None
        covered += estimate.low <= truth <= estimate.high
    assert covered / 2000 >= 0.94  # at least 0.95, less two standard errors of 2000 repetitions


def key(document: str, prompt: str = "p", target: str = "t") -> ItemKey:
    return ItemKey(document, prompt, target)


def test_pairs_go_by_content_and_not_by_position() -> None:
    pairing = pair_items([key("a"), key("b"), key("c")], [key("c"), key("a"), key("d")])
    assert pairing.pairs == [Pair(0, 1), Pair(2, 0)]
    assert (pairing.baseline_only, pairing.candidate_only) == ([1], [2])
    assert pairing.fraction == pytest.approx(2 / 3)


def test_equal_items_pair_in_order_as_far_as_both_have_them() -> None:
    pairing = pair_items([key("a"), key("b"), key("a"), key("a")], [key("a"), key("a"), key("b")])
    assert pairing.pairs == [Pair(0, 0), Pair(1, 2), Pair(2, 1)]
    assert pairing.baseline_only == [3]
    assert pairing.fraction == 0.75


def test_another_prompt_or_target_is_another_item() -> None:
    pairing = pair_items([key("a"), key("b")], [key("a", prompt="other"), key("b", target="other")])
    assert not pairing.pairs
    assert pairing.same_document_only == 2
    assert pairing.fraction == 0.0


def test_nothing_pairs_with_nothing() -> None:
    assert pair_items([], []).fraction == 0.0
