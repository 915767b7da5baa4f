"""Means of differences: paired t, clusters, and scores between 0 and 1 of any distribution."""

import numpy
import pytest
from scipy import stats
from statsmodels.api import OLS

from assay_evidence.statistics.bounded import BoundedEvidence
from assay_evidence.statistics.paired import interval, margin_test, paired_difference


def test_unbounded_values_are_the_paired_t_test_of_scipy() -> None:
    random = numpy.random.default_rng(7)
    baseline = random.normal(50, 20, 90)
    candidate = baseline + random.normal(-0.3, 1, 90)
    found = paired_difference(baseline, candidate)
    reference = stats.ttest_rel(candidate, baseline)
    assert found.difference == pytest.approx(candidate.mean() - baseline.mean())
    assert found.stderr == pytest.approx(stats.sem(candidate - baseline))
    assert found.interval_95 == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert found.interval_90 == pytest.approx(tuple(reference.confidence_interval(0.90)))
    assert found.difference_p == pytest.approx(reference.pvalue)
    assert (found.changed, found.interval_method) == (90, "paired t")


@pytest.mark.parametrize("labels", [lambda i: i // 7, lambda i: f"topic {i % 11}"])
def test_clusters_are_the_cluster_robust_regression_of_statsmodels(labels) -> None:  # type: ignore[no-untyped-def]  # noqa: ANN001
    random = numpy.random.default_rng(8)
    clusters = numpy.array([labels(i) for i in range(150)])
    names, codes = numpy.unique(clusters, return_inverse=True)
    baseline = random.normal(40, 8, 150)
    candidate = baseline + random.normal(0, 1, 150) + random.normal(-0.2, 0.8, len(names))[codes]
    found = paired_difference(baseline, candidate, clusters=clusters)
    fit = OLS(candidate - baseline, numpy.ones(150)).fit(
        cov_type="cluster",
        cov_kwds={"groups": codes, "use_correction": True, "df_correction": True},
        use_t=True,
    )
    assert found.clusters == len(names)
    assert found.stderr == pytest.approx(float(fit.bse[0]))
    assert found.interval_95 == pytest.approx(tuple(fit.conf_int(0.05)[0]))
    assert found.difference_p == pytest.approx(float(fit.pvalues[0]))
    assert found.interval_method == "cluster-robust t"


def test_flips_that_come_in_clusters_widen_the_interval() -> None:
    baseline = numpy.tile([1.0, 0.0], 200)
    candidate = baseline.copy()
    candidate[0:20] = 1 - candidate[0:20]
    candidate[200:220:2] = 0
    clusters = numpy.arange(400) // 20
    plain, clustered = (
        paired_difference(baseline, candidate),
        paired_difference(baseline, candidate, clusters=clusters),
    )
    assert plain.interval_90 is not None
    assert clustered.interval_90 is not None
    assert clustered.stderr is not None
    assert plain.stderr is not None
    assert clustered.stderr > 1.5 * plain.stderr
    assert clustered.interval_90[0] < plain.interval_90[0]
    assert clustered.interval_90[1] > plain.interval_90[1]


def test_clusters_never_make_0_1_scores_surer() -> None:
    # Flips spread evenly over the clusters: the cluster-robust error is nearly 0, which must not count.
    baseline = numpy.ones(100)
    candidate = numpy.tile([0.0, *[1.0] * 9], 10)
    even = numpy.arange(100) // 10
    assert interval(baseline, candidate, confidence=0.9, clusters=even) is None  # no spread between clusters
    candidate[0] = 1.0
    found = interval(baseline, candidate, confidence=0.9, clusters=even)
    plain = interval(baseline, candidate, confidence=0.9)
    assert found is not None
    assert plain is not None
    assert found[0] <= plain[0]
    assert found[1] >= plain[1]


def test_clusters_of_one_are_no_clusters() -> None:
    baseline, candidate = numpy.array([1.0, 0, 1, 1, 0]), numpy.array([1.0, 1, 1, 0, 0])
    single = paired_difference(baseline, candidate, clusters=["e", "d", "c", "b", "a"])
    assert single.clusters == 5
    assert single.interval_95 == paired_difference(baseline, candidate).interval_95


def test_one_cluster_has_no_interval() -> None:
    found = paired_difference([1.0, 0, 1, 0], [0.0, 0, 1, 0], clusters=[5, 5, 5, 5])
    assert (found.clusters, found.stderr, found.interval_90) == (1, None, None)
    assert found.interval_method == "none: one cluster has no spread"


def test_no_flips_in_clusters_are_worth_as_much_as_there_are_clusters() -> None:
    values = numpy.tile([1.0, 0.0], 50)
    found = paired_difference(values, values, clusters=numpy.arange(100) // 5)
    assert found.interval_90 == pytest.approx((-(1 - 0.05 ** (1 / 20)), 1 - 0.05 ** (1 / 20)))


def test_equal_scores_have_the_exact_bound() -> None:
    values = numpy.linspace(0, 1, 200)
    found = paired_difference(values, values)
    assert found.interval_90 == pytest.approx((-(1 - 0.05 ** (1 / 200)), 1 - 0.05 ** (1 / 200)))
    assert margin_test(values, values, margin=0.02, alpha=0.05, higher_is_better=True).non_inferior
    few = margin_test(values[:140], values[:140], margin=0.02, alpha=0.05, higher_is_better=True)
    assert not few.non_inferior


def evidence(differences: numpy.ndarray) -> BoundedEvidence:
    changed = differences[differences != 0]
    return BoundedEvidence(changed, len(differences) - len(changed))


@pytest.mark.parametrize(("lost", "n"), [(1, 10), (3, 10), (2, 100), (26, 1319)])
@pytest.mark.parametrize("alpha", [0.05, 0.001])
def test_bounded_limit_of_whole_losses_is_clopper_pearson(lost: int, n: int, alpha: float) -> None:
    differences = numpy.zeros(n)
    differences[:lost] = -1
    expected = float(stats.beta.isf(alpha, lost + 1, n - lost))
    assert evidence(differences).lower_limit(alpha) == pytest.approx(-expected, rel=3e-3)


def test_bounded_limit_is_the_quantile_of_the_random_mean() -> None:
    random = numpy.random.default_rng(0)
    differences = numpy.r_[random.normal(0, 0.1, 60), -0.7, numpy.zeros(100)]
    weights = random.exponential(size=(40_000, 162))
    means = weights @ numpy.append(differences, -1.0) / weights.sum(axis=1)
    found = evidence(differences)
    for alpha in (0.5, 0.2, 0.05, 0.01):
        limit = found.lower_limit(alpha)
        assert float((means <= limit).mean()) == pytest.approx(alpha, abs=4 * (alpha / 40_000) ** 0.5)
        assert found.p_at_most(limit, 0.05) == pytest.approx(alpha, rel=1e-5)


def test_bounded_interval_comes_close_to_the_t_interval_as_n_grows() -> None:
    random = numpy.random.default_rng(5)
    baseline = random.random(50_000)
    candidate = numpy.clip(baseline + random.normal(0, 0.2, 50_000), 0, 1)
    found = paired_difference(baseline, candidate)
    assert found.interval_method.startswith("Gaffke")
    assert found.interval_95 == pytest.approx(
        tuple(stats.ttest_rel(candidate, baseline).confidence_interval(0.95)), abs=1.2e-4
    )


def test_rare_large_losses_among_small_changes_do_not_pass() -> None:
    # A true loss of 2 points, 4 % of the pairs by half: the t test passes 1 in 10, at a nominal 1 in 20.
    random = numpy.random.default_rng(1)
    n, runs, passed, passed_t = 200, 800, 0, 0
    for _ in range(runs):
        baseline = random.uniform(0.5, 0.98, n)
        changes = numpy.where(random.random(n) < 0.04, -0.5, random.uniform(-0.02, 0.02, n))
        candidate = baseline + changes
        passed += margin_test(
            baseline, candidate, margin=0.02, alpha=0.05, higher_is_better=True
        ).non_inferior
        passed_t += stats.ttest_1samp(changes, -0.02, alternative="greater").pvalue <= 0.05
    assert passed / runs <= 0.055
    assert passed_t / runs > 0.07
