"""Stopping rules: published boundaries, the whole procedure simulated, and an order that never changes."""

import hashlib
from functools import cache

import numpy
import pytest
from scipy import stats

from assay_evidence.statistics.regions import exact_region
from assay_evidence.statistics.sequential import (
    LEAST_ALPHA,
    boundaries,
    chance_at_end,
    evaluation_order,
    judge_look,
    nominal_alphas,
    plan_looks,
)


def splitmix64(seed: int, count: int) -> list[int]:
    """Written from the definition, with Python's whole numbers."""
    mask, state, found = 2**64 - 1, seed, []
    for _ in range(count):
        state = (state + 0x9E3779B97F4A7C15) & mask
        mixed = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & mask
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
        found.append(mixed ^ (mixed >> 31))
    return found


def test_boundaries_of_the_literature() -> None:
    # O'Brien-Fleming-type spending, one-sided 0.025, equal looks (Reboussin et al. 2000).
    assert boundaries([1, 2, 3, 4, 5], 0.025) == pytest.approx([4.877, 3.357, 2.680, 2.290, 2.031], abs=1e-3)
    assert boundaries([100], 0.05) == pytest.approx([stats.norm.isf(0.05)])
    assert boundaries([1, 2], 0.025) == pytest.approx([2.963, 1.969], abs=1e-3)


@pytest.mark.parametrize("looks", [[264, 528, 791, 1055, 1319], [10, 90, 100], list(range(50, 1050, 50))])
def test_all_looks_together_err_with_alpha(looks: list[int]) -> None:
    random = numpy.random.default_rng(13)
    steps = numpy.diff([0, *looks])
    bounds = numpy.array(boundaries(looks, 0.05))
    crossed = 0
    for _ in range(6):
        process = numpy.cumsum(random.normal(size=(10_000, len(looks))) * numpy.sqrt(steps), axis=1)
        crossed += int((process / numpy.sqrt(looks) >= bounds).any(axis=1).sum())
    assert crossed / 60_000 == pytest.approx(0.05, abs=0.004)


def test_levels_rise_and_the_first_is_what_was_spent() -> None:
    looks = [264, 528, 791, 1055, 1319]
    found = nominal_alphas(looks, 0.05)
    assert found == sorted(found)
    assert found[0] == pytest.approx(2 * stats.norm.sf(stats.norm.isf(0.025) / (264 / 1319) ** 0.5))
    assert max(found) < 0.05
    assert sum(found) > 0.05


def test_looks_are_evenly_spaced_and_end_with_all_items() -> None:
    assert plan_looks(1319, first_share=0.2, count=5) == [264, 528, 791, 1055, 1319]
    assert plan_looks(1000, first_share=0.5, count=2) == [500, 1000]
    assert plan_looks(7, first_share=0.2, count=1) == [7]
    assert plan_looks(3, first_share=0.2, count=5) == [1, 2, 3]
    assert plan_looks(1, first_share=0.2, count=5) == [1]


def test_the_order_never_changes() -> None:
    assert evaluation_order(8, 1).tolist() == [2, 4, 7, 0, 6, 5, 3, 1]
    digest = hashlib.sha256(evaluation_order(50_000, 20_260_101).astype("<i8").tobytes()).hexdigest()
    assert digest == "c760a67b775e056a06a731ed21f22cf7f80f9c040c0a03ff0d785aea811b9dcc"
    for seed in (0, 1, 2**64 - 1):
        keys = splitmix64(splitmix64(seed, 1)[0], 100)
        assert evaluation_order(100, seed).tolist() == sorted(range(100), key=keys.__getitem__)
    assert splitmix64(1234567, 2) == [
        6457827717110365317,
        3203168211198807973,
    ]  # the generator's published output


def test_the_order_is_a_random_permutation() -> None:
    for n in (0, 1, 1319):
        assert sorted(evaluation_order(n, 5).tolist()) == list(range(n))
    firsts = numpy.bincount([int(evaluation_order(20, seed)[0]) for seed in range(4000)], minlength=20)
    assert stats.chisquare(firsts).pvalue > 0.001
    assert evaluation_order(1319, 1).tolist() != evaluation_order(1319, 2).tolist()


@cache
def region_of_look(n: int, margin: float, level: float, most_flips: int) -> numpy.ndarray:
    return exact_region(n, difference=-margin, alpha=level, most_flips=most_flips)


def whole_procedure(
    planned: int, *, margin: float, churn: float, difference: float, alpha: float = 0.05, runs: int = 10_000
) -> tuple[float, float]:
    """Shares of runs that are ever proven, and that are proven before being given up."""
    random = numpy.random.default_rng(planned)
    looks = plan_looks(planned, first_share=0.2, count=5)
    levels, bounds = nominal_alphas(looks, alpha), boundaries(looks, alpha)
    gain, loss = (churn + difference) / 2, (churn - difference) / 2
    gained, lost = numpy.zeros(runs, dtype=int), numpy.zeros(runs, dtype=int)
    ever, running, proven = (numpy.zeros(runs, bool), numpy.ones(runs, bool), numpy.zeros(runs, bool))
    for position, (before, n) in enumerate(zip([0, *looks], looks, strict=False)):
        steps = random.multinomial(n - before, [gain, loss, 1 - gain - loss], size=runs)
        gained, lost = gained + steps[:, 0], lost + steps[:, 1]
        changed = gained + lost
        passes = numpy.zeros(runs, bool)
        if levels[position] >= LEAST_ALPHA:
            most = int(planned * churn + 7 * (planned * churn) ** 0.5)
            fewest = region_of_look(n, margin, levels[position], most)
            passes = gained >= fewest[changed]
        ever |= passes
        proven |= passes & running
        running &= ~passes
        if n < planned:
            mean = (gained - lost) / n
            stderr = numpy.sqrt((changed / n - mean**2) / (n - 1))
            given_up = stderr > 0
            stderr = numpy.where(given_up, stderr, 1.0)
            chance = chance_at_end(mean + margin, stderr, margin=margin, time=n / planned, bound=bounds[-1])
            running &= ~(given_up & (chance < 0.05))
    return float(ever.mean()), float(proven.mean())


@pytest.mark.parametrize(("planned", "churn"), [(100, 0.06), (500, 0.06), (1319, 0.06)])
def test_the_whole_procedure_keeps_its_error(planned: int, churn: float) -> None:
    ever, _ = whole_procedure(planned, margin=0.02, churn=churn, difference=-0.02)
    assert ever <= 0.055


def test_giving_up_costs_hardly_any_power() -> None:
    ever, proven = whole_procedure(1319, margin=0.02, churn=0.06, difference=0.0)
    assert ever == pytest.approx(0.89, abs=0.02)
    assert ever - proven <= 0.005


def pairs(gained: int, lost: int, n: int) -> tuple[numpy.ndarray, numpy.ndarray]:
    baseline, candidate = numpy.zeros(n), numpy.zeros(n)
    candidate[:gained] = 1
    baseline[gained : gained + lost] = 1
    return baseline, candidate


@pytest.mark.parametrize(
    ("gained", "lost", "look", "higher_is_better", "expected"),
    [
        (0, 0, 0, True, "continue"),  # not at the level of the first look
        (0, 0, 3, True, "proven"),
        (20, 26, 2, True, "continue"),
        (30, 28, 4, True, "proven"),
        (10, 60, 1, True, "hopeless"),  # proven to be worse
        (60, 10, 1, True, "proven"),
        (60, 10, 1, False, "hopeless"),
        (25, 50, 3, True, "hopeless"),  # not proven worse, but without a chance
        (20, 50, 4, True, "continue"),  # the end: neither
    ],
)
def test_a_look_is_judged(gained: int, lost: int, look: int, higher_is_better: bool, expected: str) -> None:
    looks = [264, 528, 791, 1055, 1319]
    found = judge_look(
        *pairs(gained, lost, looks[look]),
        margin=0.02,
        higher_is_better=higher_is_better,
        looks=looks,
        look=look,
        alpha=0.05,
    )
    assert found == expected


def test_a_look_without_spread_goes_on() -> None:
    for values in ([3.0] * 50, [0.4] * 50):
        found = judge_look(
            values, values, margin=0.02, higher_is_better=True, looks=[50, 100], look=0, alpha=0.05
        )
        assert found == "continue"


@pytest.mark.parametrize("looks", [[], [0, 5], [5, 5], [9, 3]])
def test_looks_must_ascend(looks: list[int]) -> None:
    with pytest.raises(ValueError, match="ascend"):
        nominal_alphas(looks, 0.05)


def test_bad_plans_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        plan_looks(0, first_share=0.2, count=5)
    with pytest.raises(ValueError, match="first look"):
        plan_looks(10, first_share=0.0, count=5)
    with pytest.raises(ValueError, match="alpha"):
        nominal_alphas([5], 0.5)
    with pytest.raises(ValueError, match="seed"):
        evaluation_order(5, -1)
