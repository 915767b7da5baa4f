"""The bar of 0/1 pairs, without chance: type I error and coverage by adding up every outcome."""

import numpy
import pytest
from scipy import stats

from assay_evidence.statistics.power import detectable_difference, samples_needed, zero_flips_needed
from assay_evidence.statistics.regions import exact_region, probability, region
from assay_evidence.statistics.trinomial import Flips, p_value, score

SIZES = [10, 100, 500]
CHURNS = {  # the larger ones: bench/paired_statistics.py
    10: (0.0, 0.005, 0.02, 0.06, 0.2),
    100: (0.005, 0.02, 0.06),
    500: (0.005, 0.03),
}
MOST_CHURN = 0.12


def most_flips(n: int, churn: float) -> int:
    return min(n, int(n * churn + 7 * (n * churn) ** 0.5 + 7))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("margin", [0.01, 0.02, 0.03, 0.04, 0.05])
@pytest.mark.parametrize("alpha", [0.05, 0.025])
def test_non_inferiority_at_the_margin_errs_at_most_alpha(n: int, margin: float, alpha: float) -> None:
    fewest = exact_region(n, difference=-margin, alpha=alpha, most_flips=most_flips(n, MOST_CHURN))
    worst = max(
        probability(fewest, n, churn=float(churn), difference=-margin)
        for churn in numpy.append(numpy.linspace(margin, MOST_CHURN, 80), [margin + 1e-4, margin + 1e-3])
    )
    assert worst <= alpha * 1.002


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("confidence", [0.90, 0.95])
def test_intervals_cover_every_feasible_difference(n: int, confidence: float) -> None:
    alpha = (1 - confidence) / 2
    for churn in CHURNS[n]:
        for difference in sorted({0.0, churn / 2, churn}):
            flips = most_flips(n, churn)
            too_low = exact_region(n, difference=difference, alpha=alpha, most_flips=flips)
            too_high = exact_region(n, difference=-difference, alpha=alpha, most_flips=flips)
            # The upper limit lies below the truth where, with the runs exchanged, the lower one is above it.
            missed = probability(too_low, n, churn=churn, difference=difference) + probability(
                too_high, n, churn=churn, difference=-difference
            )
            assert 1 - missed >= confidence - 0.0001


def test_full_run_of_gsm8k_has_its_level_and_its_power() -> None:
    powers = {}
    for margin in (0.01, 0.02, 0.03):
        fewest = exact_region(1319, difference=-margin, alpha=0.05, most_flips=150)
        powers[margin] = probability(fewest, 1319, churn=0.06, difference=0.0)
        for churn in (margin, 0.06):
            assert probability(fewest, 1319, churn=churn, difference=-margin) <= 0.05005
        assert probability(fewest, 1319, churn=0.06, difference=-margin) >= 0.0485
    assert powers == pytest.approx({0.01: 0.43, 0.02: 0.90, 0.03: 0.997}, abs=0.005)


def test_the_score_test_alone_would_not_meet_the_bar() -> None:
    # So that nobody simplifies it away: Tango's test at n = 100, 2 points, churn 4.4 %: 7.3 % instead of 5 %.
    level = float(stats.norm.isf(0.05))
    fewest = region(
        lambda flips: float(score(flips.gained, flips.lost, flips.n, 0.02)) >= level, 100, most_flips=40
    )
    assert probability(fewest, 100, churn=0.044, difference=0.02) > 0.07


@pytest.mark.parametrize("n", [9, 30])
def test_regions_are_complete_and_their_probability_is_the_trinomial(n: int) -> None:
    difference, alpha, churn = -0.15, 0.2, 0.4
    fewest = exact_region(n, difference=difference, alpha=alpha, most_flips=n)
    gain, loss = (churn + difference) / 2, (churn - difference) / 2
    total = 0.0
    for changed in range(n + 1):
        for gained in range(changed + 1):
            rejected = p_value(Flips(gained, changed - gained, n), difference, alpha) <= alpha
            assert rejected == (gained >= fewest[changed])
            if rejected:
                counts = [gained, changed - gained, n - changed]
                total += stats.multinomial(n, [gain, loss, 1 - churn]).pmf(counts)
    assert probability(fewest, n, churn=churn, difference=difference) == pytest.approx(total, rel=1e-9)
    assert 0 < total <= alpha


def power_at(n: int, *, margin: float, churn: float, alpha: float, difference: float = 0.0) -> float:
    fewest = exact_region(n, difference=-margin, alpha=alpha, most_flips=most_flips(n, churn))
    return probability(fewest, n, churn=churn, difference=difference)


@pytest.mark.parametrize(
    ("churn", "margin", "normal"),
    [
        (0.05, 0.02, 773),
        (0.05, 0.03, 344),
        (0.1, 0.03, 687),
        (0.1, 0.05, 248),
        (0.2, 0.05, 495),
        (0.02, 0.01, 1237),
    ],
)
def test_samples_needed_have_the_power_where_flips_are_many(churn: float, margin: float, normal: int) -> None:
    n = samples_needed(margin=margin, churn=churn, alpha=0.05, power=0.8)
    assert normal <= n <= normal * 1.2
    assert power_at(n, margin=margin, churn=churn, alpha=0.05) == pytest.approx(0.8, abs=0.03)


@pytest.mark.parametrize("churn", [0.0, 0.001, 0.003, 0.005, 0.01, 0.02])
@pytest.mark.parametrize("margin", [0.02, 0.03, 0.05])
@pytest.mark.parametrize(("alpha", "power"), [(0.05, 0.8), (0.025, 0.9)])
def test_samples_needed_are_enough_where_flips_are_few(
    churn: float, margin: float, alpha: float, power: float
) -> None:
    n = samples_needed(margin=margin, churn=churn, alpha=alpha, power=power)
    assert n >= zero_flips_needed(margin=margin, alpha=alpha)
    assert power_at(n, margin=margin, churn=churn, alpha=alpha) >= power - 0.005


def test_samples_needed_with_a_true_difference() -> None:
    for difference in (-0.01, 0.01):
        n = samples_needed(margin=0.03, churn=0.06, alpha=0.05, power=0.8, difference=difference)
        assert power_at(n, margin=0.03, churn=0.06, alpha=0.05, difference=difference) == pytest.approx(
            0.8, abs=0.03
        )


def test_no_flips_at_all_need_the_number_of_the_exact_bound() -> None:
    assert [zero_flips_needed(margin=margin, alpha=0.05) for margin in (0.01, 0.02, 0.03, 0.05)] == [
        299,
        149,
        99,
        59,
    ]
    for margin in (0.01, 0.02, 0.05):
        n = samples_needed(margin=margin, churn=0.0, alpha=0.05, power=0.8)
        assert p_value(Flips(0, 0, n), -margin, 0.05) <= 0.05 < p_value(Flips(0, 0, n - 1), -margin, 0.05)


def test_detectable_difference_is_the_margin_that_needs_n() -> None:
    for n, churn in ((100, 0.02), (500, 0.06), (1319, 0.06), (1319, 0.0), (10_000, 0.2)):
        found = detectable_difference(n=n, churn=churn, alpha=0.05, power=0.8)
        assert samples_needed(margin=found, churn=churn, alpha=0.05, power=0.8) <= n
        assert samples_needed(margin=found * 0.97, churn=churn, alpha=0.05, power=0.8) > n
    assert detectable_difference(n=1319, churn=0.06, alpha=0.05, power=0.8) == pytest.approx(
        0.017, abs=0.0005
    )
    assert detectable_difference(n=10, churn=0.06, alpha=0.05, power=0.8) > 0.25


@pytest.mark.parametrize(
    "wrong",
    [
        {"margin": 0.0},
        {"margin": 1.5},
        {"churn": -0.1},
        {"alpha": 0.0},
        {"power": 1.0},
        {"difference": -0.02},
    ],
)
def test_what_cannot_be_planned_is_refused(wrong: dict[str, float]) -> None:
    given = {"margin": 0.02, "churn": 0.06, "alpha": 0.05, "power": 0.8} | wrong
    with pytest.raises(ValueError, match=next(iter(wrong))):
        samples_needed(**given)
