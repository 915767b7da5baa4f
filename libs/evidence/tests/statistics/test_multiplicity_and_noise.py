"""Holm's correction and the churn beyond the noise floor."""

import numpy
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from assay_evidence.statistics.multiplicity import holm
from assay_evidence.statistics.noise import excess_churn
from assay_evidence.statistics.paired import interval


def test_holm_is_that_of_statsmodels() -> None:
    random = numpy.random.default_rng(6)
    for size in (1, 2, 7, 40):
        p_values = list(random.random(size) ** 3)
        assert holm(p_values) == pytest.approx(list(multipletests(p_values, method="holm")[1]))
    assert holm([0.04, 0.01, 0.01]) == pytest.approx([0.04, 0.03, 0.03])


def test_what_is_not_tested_does_not_count() -> None:
    assert holm([]) == []
    assert holm([None, None]) == [None, None]
    assert holm([0.02, None, 0.03]) == pytest.approx([0.04, None, 0.04])


@pytest.mark.parametrize("p", [-0.1, 1.1, float("nan")])
def test_a_p_value_lies_between_0_and_1(p: float) -> None:
    with pytest.raises(ValueError, match="p-value 1"):
        holm([0.5, p])


def test_excess_churn_is_a_one_sided_mcnemar_test() -> None:
    random = numpy.random.default_rng(12)
    aa, ab = random.random(600) < 0.05, random.random(600) < 0.09
    found = excess_churn(aa, ab)
    only_ab, only_aa = int((ab & ~aa).sum()), int((aa & ~ab).sum())
    assert found.p == pytest.approx(stats.binomtest(only_ab, only_ab + only_aa, alternative="greater").pvalue)
    assert (found.n, found.churn_aa, found.churn_ab) == (600, aa.mean(), ab.mean())
    assert found.excess == pytest.approx(found.churn_ab - found.churn_aa)
    assert found.interval_95 == interval(aa, ab, confidence=0.95)
    assert found.interval_95 is not None
    assert found.interval_95[0] < found.excess < found.interval_95[1]


def test_churn_like_the_noise_is_not_in_excess() -> None:
    flags = numpy.arange(200) < 20
    found = excess_churn(flags, flags)
    assert (found.p, found.excess) == (1.0, 0.0)
    assert excess_churn(flags, flags[::-1]).p == pytest.approx(stats.binom(40, 0.5).sf(19))
    assert excess_churn(flags, numpy.zeros(200, dtype=bool)).p == 1.0
    assert excess_churn(numpy.zeros(200, dtype=bool), flags).p == pytest.approx(2.0**-20)


def test_excess_churn_needs_items() -> None:
    with pytest.raises(ValueError, match="equal, positive length"):
        excess_churn(numpy.zeros(0, dtype=bool), numpy.zeros(0, dtype=bool))
