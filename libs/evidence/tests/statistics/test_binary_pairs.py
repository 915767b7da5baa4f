"""Pairs of 0/1 scores against published examples, brute force, scipy and statsmodels."""

import itertools
import math

import numpy
import pytest
from scipy import optimize, stats
from statsmodels.stats.contingency_tables import mcnemar

from assay_evidence.statistics.paired import (
    interval,
    mcnemar_exact,
    paired_difference,
    rate_interval,
    rate_upper_bound,
)
from assay_evidence.statistics.pairs import is_binary
from assay_evidence.statistics.ratio import PairTable, ratio_score
from assay_evidence.statistics.trinomial import (
    ENOUGH_FLIPS,
    Flips,
    lower_limit,
    p_value,
    score,
    score_limit,
    score_variance,
)


def pairs_of(gained: int, lost: int, n: int, *, both: int = 0) -> tuple[numpy.ndarray, numpy.ndarray]:
    baseline, candidate = numpy.zeros(n), numpy.zeros(n)
    candidate[:gained] = 1
    baseline[gained : gained + lost] = 1
    baseline[gained + lost : gained + lost + both] = candidate[gained + lost : gained + lost + both] = 1
    return baseline, candidate


@pytest.mark.parametrize(("gained", "lost"), [(0, 0), (1, 0), (5, 5), (3, 9), (31, 46), (0, 20), (400, 523)])
def test_mcnemar_is_the_exact_binomial_test(gained: int, lost: int) -> None:
    flips = gained + lost
    expected = stats.binomtest(gained, flips, 0.5).pvalue if flips else 1.0
    assert mcnemar_exact(gained, lost) == pytest.approx(expected, rel=1e-10)
    assert mcnemar_exact(lost, gained) == mcnemar_exact(gained, lost)
    if flips:
        reference = mcnemar([[7, lost], [gained, 9]], exact=True).pvalue
        assert mcnemar_exact(gained, lost) == pytest.approx(min(reference, 1.0), rel=1e-10)


def test_mcnemar_by_counting_every_outcome() -> None:
    for flips in range(1, 11):
        for gained in range(flips + 1):
            distance = abs(gained - flips / 2)
            outcomes = itertools.product((0, 1), repeat=flips)
            as_far = sum(abs(sum(outcome) - flips / 2) >= distance for outcome in outcomes)
            assert mcnemar_exact(gained, flips - gained) == pytest.approx(as_far / 2**flips)


@pytest.mark.parametrize(("events", "n"), [(0, 10), (0, 299), (3, 10), (7, 100), (10, 10), (5000, 100_000)])
def test_rate_bound_is_clopper_pearson(events: int, n: int) -> None:
    expected = stats.binomtest(events, n).proportion_ci(0.90, method="exact").high
    assert rate_upper_bound(events, n) == pytest.approx(expected, abs=1e-9)


def test_score_of_tangos_example() -> None:
    # Tango (1998), contact lenses: 44 pairs, one lost, margin 10 points: Z = 1.709, p = 0.0438.
    z = float(score(0, 1, 44, -0.1))
    assert z == pytest.approx(1.709, abs=5e-4)
    assert stats.norm.sf(z) == pytest.approx(0.0438, abs=5e-5)


def test_score_interval_of_a_published_table() -> None:
    # Fagerland, Lydersen and Laake (2014), airway reactivity: 1, 1, 7, 12; Tango's interval -0.517 to -0.026.
    flips = Flips(1, 7, 21)
    found = score_limit(flips, 0.025), -score_limit(flips.reversed, 0.025)
    assert found == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize(
    ("gained", "lost", "n"), [(1, 7, 21), (0, 1, 44), (0, 0, 10), (40, 39, 1319), (9, 1, 10)]
)
@pytest.mark.parametrize("difference", [-0.3, -0.02, 0.0, 0.05, 0.4])
def test_variance_is_at_the_constrained_maximum_of_the_likelihood(
    gained: int, lost: int, n: int, difference: float
) -> None:
    same = n - gained - lost

    def unlikely(rate_lost: float) -> float:
        rates = (rate_lost + difference, rate_lost, 1 - 2 * rate_lost - difference)
        return -sum(
            count * math.log(max(rate, 1e-300))
            for count, rate in zip((gained, lost, same), rates, strict=True)
            if count
        )

    low, high = max(0.0, -difference), (1 - difference) / 2
    best = optimize.minimize_scalar(
        unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-12}
    ).x
    ends = [end for end in (low, high) if unlikely(end) <= unlikely(best)]
    expected = 2 * (ends[0] if ends else best) + difference - difference**2
    assert float(score_variance(gained / n, lost / n, difference)) == pytest.approx(expected, abs=2e-6)


def test_ratio_score_is_at_the_constrained_maximum_of_the_likelihood() -> None:
    for table in (
        PairTable(1, 7, 1, 12),
        PairTable(300, 40, 30, 130),
        PairTable(50, 0, 0, 50),
        PairTable(9, 0, 1, 0),
    ):
        for ratio in (0.8, 0.98, 1.02, 1.25):

            def rates(
                lost: float, table: PairTable = table, ratio: float = ratio
            ) -> tuple[float, float, float]:
                known = 1 - table.neither / table.n
                gained = (lost - (1 - ratio) * known) / ratio
                return known - lost - gained, lost, gained

            def unlikely(lost: float, table: PairTable = table, of: object = rates) -> float:
                found = of(lost)  # type: ignore[operator]
                if min(found) < -1e-12:
                    return math.inf
                counts = (table.both, table.lost, table.gained)
                return -sum(c * math.log(max(r, 1e-300)) for c, r in zip(counts, found, strict=True) if c)

            known = 1 - table.neither / table.n
            low, high = max(0.0, (1 - ratio) * known), known / (1 + ratio)
            grid = numpy.linspace(low, high, 200_001)
            best = grid[int(numpy.argmin([unlikely(float(x)) for x in grid[::100]])) * 100]
            near = numpy.linspace(
                max(low, best - (high - low) / 1000), min(high, best + (high - low) / 1000), 4001
            )
            lost = float(near[int(numpy.argmin([unlikely(float(x)) for x in near]))])
            variance = table.n * ratio * (lost + rates(lost)[2])
            distance = table.both + table.gained - ratio * (table.both + table.lost)
            assert ratio_score(table, ratio) == pytest.approx(distance / math.sqrt(variance), rel=2e-3)


def test_ratio_interval_of_a_published_table() -> None:
    # Fagerland, Lydersen and Laake (2014), airway reactivity, ratio 2/8: score interval 0.065 to 0.907.
    table = PairTable(both=1, lost=7, gained=1, neither=12)
    z = float(stats.norm.isf(0.025))
    low = optimize.brentq(lambda ratio: ratio_score(table, ratio) - z, 0.01, 0.25)
    high = optimize.brentq(lambda ratio: ratio_score(table, ratio) + z, 0.25, 2.0)
    assert (low, high) == pytest.approx((0.065, 0.907), abs=1e-3)


@pytest.mark.parametrize("n", [1, 10, 50, 100, 299, 1319])
def test_no_flips_has_the_exact_bound_and_never_a_zero_width_interval(n: int) -> None:
    found = paired_difference(*pairs_of(0, 0, n, both=n // 2))
    assert found.stderr in (0.0, None)
    assert found.interval_90 == pytest.approx((-(1 - 0.05 ** (1 / n)), 1 - 0.05 ** (1 / n)), abs=1e-9)
    assert found.interval_95 == pytest.approx((-(1 - 0.025 ** (1 / n)), 1 - 0.025 ** (1 / n)), abs=1e-9)
    assert found.difference_p == 1.0


@pytest.mark.parametrize(("lost", "n"), [(1, 10), (2, 200), (5, 1319), (9, 10)])
def test_flips_one_way_are_bounded_as_one_binomial_rate(lost: int, n: int) -> None:
    expected = stats.binomtest(lost, n).proportion_ci(0.95, method="exact").high
    assert lower_limit(Flips(0, lost, n), 0.025) == pytest.approx(-expected, abs=1e-6)


def test_limit_and_p_value_agree() -> None:
    random = numpy.random.default_rng(4)
    for n in (1, 2, 10, 77, 500, 1319):
        for _ in range(12):
            gained, lost, _ = random.multinomial(n, [0.04, 0.06, 0.9])
            flips = Flips(int(gained), int(lost), n)
            for alpha in (0.05, 0.001):
                limit = lower_limit(flips, alpha)
                assert p_value(flips, limit - 1e-6, alpha) <= alpha or limit == -1
                assert p_value(flips, limit + 1e-6, alpha) >= alpha or limit >= 1


def test_p_value_rises_with_the_difference_and_falls_with_every_gain() -> None:
    for n, most in ((7, 7), (40, 12)):
        for changed in range(most + 1):
            for difference in (-0.1, 0.0, 0.1):
                found = [
                    p_value(Flips(gained, changed - gained, n), difference, 0.05)
                    for gained in range(changed + 1)
                ]
                assert all(first >= second - 1e-9 for first, second in itertools.pairwise(found))
    by_difference = [p_value(Flips(12, 20, 300), d, 0.05) for d in numpy.linspace(-0.5, 0.5, 201)]
    assert all(first <= second + 1e-9 for first, second in itertools.pairwise(by_difference))


def test_exchanging_the_runs_mirrors_the_interval() -> None:
    for gained, lost, n in ((0, 3, 10), (9, 30, 400), (2, 2, 50), (10, 0, 10), (900, 1300, 100_000)):
        first, second = pairs_of(gained, lost, n)
        low, high = interval(first, second, confidence=0.9) or (0, 0)
        assert interval(second, first, confidence=0.9) == pytest.approx((-high, -low), abs=1e-9)
        assert -1 <= low < (gained - lost) / n + 1e-12
        assert (gained - lost) / n - 1e-12 < high <= 1


def test_only_the_flips_matter_not_the_level() -> None:
    for both in (0, 50, 80):
        assert interval(*pairs_of(5, 9, 100, both=both), confidence=0.9) == pytest.approx(
            interval(*pairs_of(5, 9, 100), confidence=0.9)
        )


def test_many_flips_come_close_to_the_normal_interval_on_either_side_of_the_change_of_method() -> None:
    for flips in (ENOUGH_FLIPS - 2, ENOUGH_FLIPS + 2):
        n, gained = 100_000, flips // 2
        width = float(stats.norm.isf(0.05)) * math.sqrt(flips) / n
        low = lower_limit(Flips(gained, flips - gained, n), 0.05)
        assert low == pytest.approx(-width, rel=0.01)


def test_stderr_is_that_of_the_paired_difference_not_of_two_samples() -> None:
    # 2 of 10 change, in opposite directions: mean 0, and (2 / 9) / 10 under the root.
    baseline = [1.0, 0.0, *[1.0] * 4, *[0.0] * 4]
    candidate = [0.0, 1.0, *[1.0] * 4, *[0.0] * 4]
    found = paired_difference(baseline, candidate)
    assert found.difference == 0
    assert found.stderr == pytest.approx(math.sqrt(2 / 9 / 10))


def test_one_pair_has_no_stderr_but_an_exact_interval() -> None:
    found = paired_difference([0.0], [1.0])
    assert found.stderr is None
    assert found.difference == 1.0
    assert found.interval_90 == pytest.approx((-0.9, 1.0), abs=1e-6)


def test_difference_p_agrees_with_the_interval() -> None:
    for gained, lost in ((0, 5), (0, 6), (1, 8), (1, 9), (10, 25), (12, 25), (30, 52)):
        found = paired_difference(*pairs_of(gained, lost, 500))
        assert found.interval_95 is not None
        assert found.difference_p is not None
        assert (found.difference_p <= 0.05) == (found.interval_95[1] < 0)


def test_binary_is_every_value() -> None:
    assert is_binary([0, 1, 1.0])
    assert not is_binary([0.0, 0.5])
    assert not is_binary([0.0, math.nan])


@pytest.mark.parametrize(("events", "n"), [(0, 1), (1, 1), (0, 40), (3, 40), (20, 40), (39, 40), (40, 40)])
def test_the_two_sided_interval_of_a_rate_is_that_of_clopper_and_pearson(events: int, n: int) -> None:
    expected = stats.binomtest(events, n).proportion_ci(0.95, method="exact")
    assert rate_interval(events, n) == pytest.approx((expected.low, expected.high), abs=1e-9)
