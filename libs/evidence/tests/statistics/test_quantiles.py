"""Percentiles and their intervals against brute force, the binomial itself and simulation."""

import numpy
import pytest
from scipy import stats

from assay_evidence.statistics.quantiles import bounded_from, percentile, quantile_ranks


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


@pytest.mark.parametrize(("share", "needed"), [(0.5, 5), (0.9, 29), (0.95, 59), (0.99, 299), (0.999, 2995)])
def test_how_many_observations_bound_a_percentile(share: float, needed: int) -> None:
    assert bounded_from(share) == needed
    assert quantile_ranks(needed - 1, share).high is None
    assert quantile_ranks(needed, share).high == needed


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
