"""The table of runtime metrics: what it says of each, and how names are shortened."""

from assay_evidence.runtime_metrics import (
    COMPARED_METRICS,
    ENERGY_METRICS,
    JUDGED_METRICS,
    RUNTIME_METRICS,
    RuntimeUse,
    metric_families,
)


def test_uses_include_one_another() -> None:
    assert set(JUDGED_METRICS) < set(COMPARED_METRICS) < set(RUNTIME_METRICS)
    assert set(COMPARED_METRICS) - set(JUDGED_METRICS) == {"coldStart"}
    assert set(ENERGY_METRICS) < set(JUDGED_METRICS)
    for name in COMPARED_METRICS:
        assert RUNTIME_METRICS[name].higher_is_better is not None, "a direction is needed to compare"


def test_what_is_more_per_time_or_energy_is_better_and_all_else_is_not() -> None:
    better = {name for name, metric in RUNTIME_METRICS.items() if metric.higher_is_better}
    assert better == {"tps", "requestsPerSecond", "goodput", "goodputShare", "tokensPerWatt"}
    assert all(
        metric.use is RuntimeUse.REPORTED
        for metric in RUNTIME_METRICS.values()
        if (metric.higher_is_better is None)
    )


def test_a_whole_family_has_one_name() -> None:
    ttft = [name for name in RUNTIME_METRICS if name.startswith("ttft")]
    assert metric_families([*ttft, "itlP50", "tps"]) == ["ttft", "itlP50", "tps"]
    assert metric_families(ttft[:-1]) == ttft[:-1]
    assert metric_families([]) == []
