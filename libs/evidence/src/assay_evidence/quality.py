"""Quality of two runs over their pairs, metric by metric."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray
from scipy.special import ndtri

from assay_evidence.pairing import PairedValues, Pairing
from assay_evidence.report import (
    Finding,
    FlipCounts,
    MarginTest,
    QualityComparison,
    Severity,
    WeakRule,
)
from assay_evidence.statistics import power as planning
from assay_evidence.statistics.multiplicity import holm
from assay_evidence.statistics.paired import (
    PairedDifference,
    is_binary,
    margin_test,
    mcnemar_exact,
    paired_difference,
    rate_upper_bound,
)
from assay_evidence.tables import RunEvidence

CEILING = 0.98
MIN_SAMPLES = 100
"""Where no policy judges; the default policy has the same."""

MEAN_TOLERANCE = 1e-6
"""Share by which a run's own number may differ from the mean of its samples' and still be that mean."""

Array = NDArray[numpy.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricRule:
    """How one metric is tested and guarded.

    Attributes:
        margin: absolute, or a share of the baseline's score where ``relative``.
        higher_is_better: where the metric is the mean of its samples' numbers, else without meaning; ``None``
            where nobody knows.
        power: for what could have been shown.
        ceiling: baseline scores at or above it leave no room.
        min_samples: pairs below which nothing should be concluded.
    """

    margin: float
    alpha: float
    power: float
    higher_is_better: bool | None
    relative: bool = False
    ceiling: float = CEILING
    min_samples: int = MIN_SAMPLES


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Two runs with their pairs, as far as quality needs them.

    Attributes:
        baseline, candidate: the samples that count.
        clusters: number of the cluster of each pair; ``None``: pairs are independent.
    """

    baseline: RunEvidence
    candidate: RunEvidence
    pairing: Pairing
    clusters: NDArray[numpy.int64] | None


def is_mean(run: RunEvidence, metric: str) -> bool:
    """Whether the run's own number is the mean of its samples' numbers, so that these have its direction.

    A perplexity is not: its samples have log-likelihoods.
    """
    reported, found = run.facts.quality.get(metric), run.metric(metric)
    if reported is None or found is None or not math.isfinite(reported):
        return False
    values = found.values[found.present]
    values = values[numpy.isfinite(values)]
    return bool(len(values)) and abs(reported - float(values.mean())) <= MEAN_TOLERANCE * max(
        1.0, abs(reported)
    )


def compare_metric(
    compared: Compared, metric: str, values: PairedValues, rule: MetricRule
) -> QualityComparison:
    """One metric over the pairs that have it; ``values`` has at least one.

    P-values are not corrected yet; see ``corrected``.
    """
    first, second = values.baseline, values.candidate
    clusters = None if compared.clusters is None else compared.clusters[values.at]
    difference = paired_difference(first, second, clusters=clusters)
    binary = is_binary(first) and is_binary(second)
    flips = flip_counts(first, second, rule.higher_is_better) if binary else None
    test = _margin_test(first, second, rule, clusters=clusters)
    one = QualityComparison(
        metric=metric,
        kind="binary" if binary else "continuous",
        higher_is_better=rule.higher_is_better,
        n=difference.n,
        clusters=difference.clusters,
        baseline=difference.baseline,
        candidate=difference.candidate,
        baseline_run=compared.baseline.facts.quality.get(metric),
        baseline_run_stderr=_stderr(compared.baseline, metric),
        candidate_run=compared.candidate.facts.quality.get(metric),
        candidate_run_stderr=_stderr(compared.candidate, metric),
        difference=difference.difference,
        stderr=difference.stderr,
        interval_90=difference.interval_90,
        interval_95=difference.interval_95,
        interval_method=difference.interval_method,
        changed=difference.changed,
        changed_rate=difference.changed / difference.n,
        changed_rate_upper=difference.changed_rate_upper,
        flips=flips,
        mcnemar_p=mcnemar_exact(flips.gained, flips.lost) if flips else None,
        mcnemar_p_holm=None,
        difference_p=difference.difference_p,
        difference_p_holm=None,
        minimal_detectable_difference=_detectable(difference, rule, binary=binary),
        chance=_chance(compared, values, binary=binary, higher_is_better=rule.higher_is_better),
        margin_test=test,
        weak_rule=_weak_rule(compared, metric),
    )
    return one.model_copy(update={"guards": _guards(one, values, rule)})


def corrected(compared: Sequence[QualityComparison], families: Mapping[str, int]) -> list[QualityComparison]:
    """The same with Holm's correction within each family of metrics; ``families``: by metric."""
    found = list(compared)
    for family in set(families.values()):
        places = [place for place, one in enumerate(found) if families[one.metric] == family]
        flips = holm([found[place].mcnemar_p for place in places])
        differences = holm([found[place].difference_p for place in places])
        for place, mcnemar_p, difference_p in zip(places, flips, differences, strict=True):
            found[place] = found[place].model_copy(
                update={"mcnemar_p_holm": mcnemar_p, "difference_p_holm": difference_p}
            )
    return found


def flip_counts(baseline: Array, candidate: Array, higher_is_better: bool | None) -> FlipCounts | None:
    """What became of 0-or-1 values; ``None`` where nobody knows which of the two is right."""
    if higher_is_better is None:
        return None
    right = 1.0 if higher_is_better else 0.0
    before, after = baseline == right, candidate == right
    both = int((before & after).sum())
    return FlipCounts(
        gained=int(after.sum()) - both,
        lost=int(before.sum()) - both,
        both_right=both,
        both_wrong=int((~(before | after)).sum()),
    )


def _margin_test(
    first: Array, second: Array, rule: MetricRule, *, clusters: NDArray[numpy.int64] | None
) -> MarginTest | None:
    if rule.higher_is_better is None:
        return None
    found = margin_test(
        first,
        second,
        margin=rule.margin,
        alpha=rule.alpha,
        higher_is_better=rule.higher_is_better,
        relative=rule.relative,
        clusters=clusters,
    )
    return MarginTest(
        margin=found.margin,
        kind=found.kind,
        relative_margin=found.relative_margin,
        alpha=found.alpha,
        non_inferiority_p=found.non_inferiority_p,
        equivalence_p=found.equivalence_p,
        non_inferior=found.non_inferior,
        equivalent=found.equivalent,
        inferior=found.inferior,
        method=found.method,
    )


def _detectable(difference: PairedDifference, rule: MetricRule, *, binary: bool) -> float | None:
    """Of zeros and ones from their churn, which few changes do not make 0; of others from the spread."""
    if binary and difference.clusters is None:
        return planning.detectable_difference(
            n=difference.n, churn=difference.changed / difference.n, alpha=rule.alpha, power=rule.power
        )
    if not difference.stderr:
        return None
    return float(ndtri(1.0 - rule.alpha) + ndtri(rule.power)) * difference.stderr


def _stderr(run: RunEvidence, metric: str) -> float | None:
    name, _, filter_name = metric.rpartition(",")
    return run.facts.quality.get(f"{name}_stderr,{filter_name}")


def _weak_rule(compared: Compared, metric: str) -> WeakRule:
    stderr = _stderr(compared.baseline, metric)
    first, second = (run.facts.quality.get(metric) for run in (compared.baseline, compared.candidate))
    if stderr is None or first is None or second is None:
        return WeakRule(stderr=stderr, within_stderr=None)
    return WeakRule(stderr=stderr, within_stderr=abs(second - first) <= stderr)


def _chance(
    compared: Compared, values: PairedValues, *, binary: bool, higher_is_better: bool | None
) -> float | None:
    """Score of a model that guesses; ``None`` where that is not known."""
    if higher_is_better is None:
        return None
    choices = compared.baseline.choices[compared.pairing.baseline[values.at]]
    if not (choices > 1).any():
        return 0.0 if higher_is_better else None
    if not binary:
        return None
    guessed = float(numpy.where(choices > 1, 1.0 / numpy.maximum(choices, 1), 0.0).mean())
    return guessed if higher_is_better else 1.0 - guessed


def _guards(one: QualityComparison, values: PairedValues, rule: MetricRule) -> list[Finding]:
    """What keeps this metric from showing anything, whatever its test says."""
    found = []
    if values.not_finite:
        found.append(
            _guard(
                one,
                "not-a-number",
                Severity.INVALID,
                f"{values.not_finite} pairs have a value that is no finite number and are left out",
                not_finite=values.not_finite,
            )
        )
    if one.margin_test is None:
        found.append(
            _guard(
                one,
                "direction-unknown",
                Severity.WARNING,
                "it is not the mean of its samples' numbers in both runs, or nobody says whether higher is "
                "better, so it is not tested",
            )
        )
        return found
    if one.n < rule.min_samples:
        found.append(
            _guard(
                one,
                "too-few-samples",
                Severity.WARNING,
                f"{one.n} pairs are fewer than the {rule.min_samples} from which on conclusions are drawn",
                n=one.n,
            )
        )
    return [*found, *_room(one, one.margin_test, rule), *_no_change(one, one.margin_test, values)]


def _room(one: QualityComparison, test: MarginTest, rule: MetricRule) -> list[Finding]:
    """A baseline that guesses shows no loss (assay sensitivity, ICH E10); one without errors hardly any."""
    found = []
    if one.kind == "binary":
        score = one.baseline if one.higher_is_better else 1.0 - one.baseline
        at_least = 1.0 - rate_upper_bound(round((1.0 - score) * one.n), one.n)
        chance = (one.chance if one.higher_is_better else 1.0 - (one.chance or 1.0)) or 0.0
        if score >= rule.ceiling:
            found.append(
                _guard(
                    one,
                    "ceiling-effect",
                    Severity.WARNING,
                    f"the baseline scores {score:.1%}, at or above {rule.ceiling:.0%}: the task leaves "
                    "little room to see a difference",
                    score=score,
                )
            )
    elif one.chance is not None and one.higher_is_better:
        score, chance = one.baseline, one.chance
        at_least = score - float(ndtri(0.95)) * (one.baseline_run_stderr or 0.0)
    else:
        return found
    if at_least - chance <= test.margin:
        found.append(
            _guard(
                one,
                "floor-effect",
                Severity.NOT_COMPARABLE,
                f"the baseline scores {score:.4g} (at least {at_least:.4g} at 95 %), guessing {chance:.4g}: "
                f"with a margin of {test.margin:.4g} a model that guesses would pass, so nothing is shown",
                score=score,
                at_least=at_least,
                chance=chance,
            )
        )
    return found


def _no_change(one: QualityComparison, test: MarginTest, values: PairedValues) -> list[Finding]:
    if one.changed:
        return []
    found = []
    if one.kind == "continuous" and values.baseline.min() == values.baseline.max():
        found.append(
            _guard(
                one,
                "constant-metric",
                Severity.WARNING,
                "every item has the same value on both sides, so a loss could not be seen",
            )
        )
    upper = -math.expm1(math.log(test.alpha) / one.n)
    if upper > test.margin:
        found.append(
            _guard(
                one,
                "no-change-in-few-pairs",
                Severity.WARNING,
                f"none of {one.n} pairs differs, but up to {upper:.1%} of all items may, more than the "
                f"margin of {test.margin:.4g}",
                changed_rate_upper=upper,
            )
        )
    return found


def _guard(one: QualityComparison, code: str, severity: Severity, message: str, **details: float) -> Finding:
    return Finding(
        code=code,
        severity=severity,
        message=f"{one.metric}: {message}",
        subject=one.metric,
        details={**details},
    )
