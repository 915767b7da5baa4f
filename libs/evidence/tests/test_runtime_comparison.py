"""Runtime metrics of two runs: time blocks, resampled quantiles, intervals, reasons."""

from itertools import groupby, pairwise
from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest
from numpy.typing import NDArray

from assay_evidence.report import ComparisonSettings, RuntimeComparison
from assay_evidence.runtime import compare_energy, compare_runtime
from assay_evidence.runtime.resampling import (
    BIN_WIDTH,
    draw_blocks,
    interval,
    mean,
    observe,
    observe_gaps,
    quantile,
    widening,
)
from assay_evidence.runtime.timeline import (
    MAX_BLOCKS,
    RequestTimeline,
    cut_into_blocks,
    read_timeline,
    spread_over_blocks,
)
from assay_evidence.tables import REQUEST_COLUMNS, RunEvidence
from assay_evidence.testing import Speed, SyntheticRun, Task, synthetic_run

SETTINGS = ComparisonSettings(bootstrap_resamples=500)


def requests_of(rows: list[dict[str, Any]]) -> pyarrow.Table:
    """A requests table; of each row the fields that matter are given."""
    usual = {
        "kind": "generate",
        "instance": "i",
        "answered": True,
        "reused": False,
        "retries": 0,
        "finish_reason": None,
        "prompt_tokens": 10,
        "completion_tokens": 1,
        "first_token_ns": None,
        "exact_token_times": False,
        "token_offsets_us": None,
        "schedule_delay_s": None,
    }
    full = [{"index": index, **usual, **row} for index, row in enumerate(rows)]
    return pyarrow.Table.from_pylist(full, schema=REQUEST_COLUMNS)


def random_requests(seed: int, *, n: int = 400) -> pyarrow.Table:
    """Requests of two instances with pauses between them, and tokens of which some share a read."""
    random = numpy.random.default_rng(seed)
    rows = []
    for number in range(n):
        sent = int(random.integers(0, 30_000_000_000))
        sent += 5_000_000_000 * (sent > 15_000_000_000)  # nothing happens for a while
        count = int(random.integers(1, 30))
        gaps = random.integers(0, 40_000, count) * random.integers(0, 3, count)
        offsets = numpy.cumsum(gaps) + 20_000
        rows.append(
            {
                "instance": "ab"[number % 3 == 0],
                "answered": bool(random.random() > 0.05),
                "completion_tokens": len(offsets),
                "sent_ns": sent,
                "first_token_ns": sent + int(offsets[0]) * 1000,
                "done_ns": sent + int(offsets[-1]) * 1000,
                "exact_token_times": bool(random.random() > 0.1),
                "token_offsets_us": offsets.tolist(),
            }
        )
    return requests_of(rows)


def covered_ns(timeline: RequestTimeline, instance: str, *, step: int) -> int:
    """Time in flight by looking at every ``step`` nanoseconds."""
    (found,) = (one for one in timeline.instances if one.name == instance)
    sent = timeline.sent_ns[found.first : found.stop]
    done = timeline.done_ns[found.first : found.stop]
    edges = numpy.zeros(int(done.max() // step) + 2, dtype=numpy.int64)
    numpy.add.at(edges, sent // step, 1)
    numpy.add.at(edges, done // step, -1)
    return int((numpy.cumsum(edges) > 0).sum()) * step


def test_the_window_is_the_time_with_a_request_in_flight() -> None:
    step = 1_000_000
    timeline = read_timeline(random_requests(1))
    looked = sum(covered_ns(timeline, name, step=step) for name in "ab")
    edges = sum(len(one.starts_ns) for one in timeline.instances)
    assert timeline.window_s == pytest.approx(looked / 1e9, abs=2 * edges * step / 1e9)
    assert timeline.window_s < 0.9 * 2 * 35  # pauses are not in it


def test_blocks_share_out_the_window_and_the_work_without_a_rest() -> None:
    timeline = read_timeline(random_requests(2))
    blocks = cut_into_blocks(timeline)
    amounts = numpy.stack([timeline.tokens, timeline.answered.astype(float)], axis=1)
    done = spread_over_blocks(timeline, blocks, amounts=amounts)
    assert 8 <= len(blocks) <= MAX_BLOCKS
    assert blocks.busy_s.sum() == pytest.approx(timeline.window_s)
    assert done.sum(axis=0) == pytest.approx(amounts.sum(axis=0))
    assert (done >= 0).all()
    assert (numpy.diff(blocks.of_request) >= 0).all()
    for instance in timeline.instances:
        own = set(blocks.of_request[instance.first : instance.stop].tolist())
        others = set(blocks.of_request.tolist()) - own
        assert not own & others or len(timeline.instances) == 1
        assert (numpy.diff(timeline.sent_ns[instance.first : instance.stop]) >= 0).all()


def test_work_is_spread_evenly_over_a_requests_time_in_flight() -> None:
    # Eight blocks of one second; one long request lies over all of them.
    second = 1_000_000_000
    rows = [
        {"sent_ns": at * second // 8, "done_ns": (at + 1) * second // 8, "completion_tokens": 0}
        for at in range(1, 64)
    ]
    table = requests_of([{"sent_ns": 0, "done_ns": 8 * second, "completion_tokens": 800}, *rows])
    timeline = read_timeline(table)
    blocks = cut_into_blocks(timeline)
    done = spread_over_blocks(timeline, blocks, amounts=timeline.tokens[:, None])
    assert len(blocks) == 8
    assert done[:, 0] == pytest.approx([100.0] * 8, abs=1e-3)


def test_resampled_quantiles_are_those_of_the_drawn_observations() -> None:
    random = numpy.random.default_rng(3)
    seconds = random.lognormal(-3, 1, 5000)
    block = numpy.sort(random.integers(0, 12, 5000))
    weights = draw_blocks(12, resamples=200, seed=1, side=0)
    found = quantile(observe(seconds, block, blocks=12), 0.9, weights=weights)
    assert found is not None
    assert found.value == numpy.quantile(seconds, 0.9, method="inverted_cdf")
    exact = numpy.array(
        [numpy.quantile(numpy.repeat(seconds, drawn[block]), 0.9, method="inverted_cdf") for drawn in weights]
    )
    # The same but for the bins, and stretched by one factor where neighbouring blocks are alike.
    moved, expected = numpy.log(found.resampled / found.value), numpy.log(exact / found.value)
    stretch = float(moved @ expected / (expected @ expected))
    assert stretch > 1.0 - BIN_WIDTH
    assert numpy.abs(moved - stretch * expected).max() < 3 * BIN_WIDTH * stretch


def test_gaps_are_those_of_requests_with_exact_times_spread_over_tokens_that_came_together() -> None:
    table = random_requests(4)
    timeline = read_timeline(table)
    blocks = cut_into_blocks(timeline)
    expected: list[float] = []
    for row in table.to_pylist():
        if row["answered"] and row["exact_token_times"]:
            groups = [(at, len(list(same))) for at, same in groupby(row["token_offsets_us"])]
            for (early, _), (late, tokens) in pairwise(groups):
                expected += [(late - early) / tokens / 1e6] * tokens
    gaps = observe_gaps(table, timeline, blocks)
    found = gaps.observations
    assert found.n == len(expected)
    assert found.repeats is not None
    values = numpy.repeat(found.ordered, found.repeats)
    assert values == pytest.approx(numpy.sort(expected))
    assert found.counts.sum() == len(expected)
    assert found.totals.sum() == pytest.approx(sum(expected))
    assert 0 < gaps.unknown < gaps.merged < gaps.spread < found.n
    # A group of tokens is one measurement.
    assert found.independent < found.n - gaps.spread / 2
    assert found.at_rank(1) == min(expected)
    assert found.at_rank(found.n) == max(expected)


def test_resampled_means_are_those_of_the_drawn_observations() -> None:
    random = numpy.random.default_rng(8)
    seconds = random.lognormal(-3, 1, 3000)
    block = numpy.sort(random.integers(0, 12, 3000))
    weights = draw_blocks(12, resamples=100, seed=1, side=0)
    found = mean(observe(seconds, block, blocks=12), weights=weights)
    assert found is not None
    assert found.value == pytest.approx(seconds.mean())
    exact = numpy.array([numpy.repeat(seconds, drawn[block]).mean() for drawn in weights])
    moved, expected = numpy.log(found.resampled / found.value), numpy.log(exact / found.value)
    stretch = float(moved @ expected / (expected @ expected))
    assert stretch >= 1.0 - 1e-9
    assert moved == pytest.approx(stretch * expected)
    assert mean(observe(numpy.zeros(0), numpy.zeros(0, numpy.int64), blocks=1), weights=weights) is None


def test_neighbours_that_are_alike_widen_and_independent_ones_do_not() -> None:
    random = numpy.random.default_rng(5)
    noise = random.standard_normal((400, 20))
    assert numpy.median([widening(one) for one in noise]) == pytest.approx(1.0, abs=0.1)
    slow = numpy.empty((400, 20))
    slow[:, 0] = noise[:, 0]
    for step in range(1, 20):
        slow[:, step] = 0.8 * slow[:, step - 1] + 0.6 * noise[:, step]
    # The true ratio is 3 for an infinite series.
    assert 2 < numpy.median([widening(one) for one in slow]) < 4.5
    assert widening(numpy.zeros(20)) == 1.0
    assert widening(numpy.arange(20.0)) > 3


def test_fewer_blocks_make_wider_intervals_and_too_few_none() -> None:
    values = numpy.random.default_rng(6).standard_normal(20_000)
    widths = []
    for blocks in (8, 20, 1000):
        found = interval(values, blocks=blocks, confidence=0.95)
        assert found is not None
        widths.append(found[1] - found[0])
    assert widths[0] > widths[1] > widths[2] == pytest.approx(2 * 1.96, rel=0.03)
    assert interval(values, blocks=7, confidence=0.95) is None
    assert interval(numpy.array([1.0, numpy.nan]), blocks=20, confidence=0.95) is None


def run(directory: Path, name: str, *, seed: int, documents: int = 500, **speed: Any) -> RunEvidence:
    made = synthetic_run(run_id=name, seed=seed, tasks=[Task(documents=documents)], speed=Speed(**speed))
    return made.evidence(directory)


def by_metric(compared: list[RuntimeComparison]) -> dict[str, RuntimeComparison]:
    return {one.metric: one for one in compared}


def test_a_faster_candidate_is_shown_and_an_equal_one_is_not(tmp_path: Path) -> None:
    baseline = run(tmp_path, "base", seed=1, watts=100.0)
    faster = run(tmp_path, "fast", seed=2, token_ms=10.0, first_token_ms=50.0, watts=100.0)
    found = by_metric(compare_runtime(baseline, faster, settings=SETTINGS))
    for metric in ("ttftP50", "itlP50", "itlP99", "latencyP50", "joulesPerToken"):
        assert found[metric].ratio_interval_95 is not None
        assert found[metric].ratio_interval_95[1] < 0.85, metric
        assert not found[metric].higher_is_better
    for metric in ("tps", "requestsPerSecond", "tokensPerWatt"):
        low, high = found[metric].ratio_interval_95 or (0.0, 0.0)
        assert 1.2 < low < found[metric].ratio < high, metric  # type: ignore[operator]
        assert found[metric].higher_is_better
    equal = by_metric(compare_runtime(baseline, run(tmp_path, "same", seed=3), settings=SETTINGS))
    for metric in ("ttftP50", "itlP50", "latencyP50", "latencyP99", "tps"):
        low, high = equal[metric].ratio_interval_95 or (2.0, 2.0)
        assert low < 1 < high, metric
        inner = equal[metric].ratio_interval_90
        assert inner is not None
        assert low < inner[0] < inner[1] < high


def test_a_comparison_is_a_function_of_evidence_and_settings(tmp_path: Path) -> None:
    baseline, candidate = run(tmp_path, "a", seed=1), run(tmp_path, "b", seed=2)
    first = compare_runtime(baseline, candidate, settings=SETTINGS)
    assert compare_runtime(baseline, candidate, settings=SETTINGS) == first
    other = compare_runtime(baseline, candidate, settings=SETTINGS.model_copy(update={"seed": 9}))
    assert [one.ratio for one in other] == [one.ratio for one in first]
    assert [one.ratio_interval_95 for one in other] != [one.ratio_interval_95 for one in first]


def test_small_runs_have_values_and_a_reason_instead_of_intervals(tmp_path: Path) -> None:
    few = run(tmp_path, "few", seed=1, documents=30)
    found = by_metric(compare_runtime(few, run(tmp_path, "many", seed=2), settings=SETTINGS))
    assert found["ttftP50"].ratio is not None
    assert found["ttftP50"].ratio_interval_95 is None
    assert "30 requests" in found["ttftP50"].interval_method
    assert found["latencyP99"].at_least
    assert found["tps"].ratio_interval_95 is None
    hundred = run(tmp_path, "hundred", seed=1, documents=298)
    found = by_metric(compare_runtime(hundred, hundred, settings=SETTINGS))
    assert found["latencyP50"].ratio_interval_95 is not None
    assert found["latencyP99"].at_least
    assert found["latencyP99"].ratio_interval_95 is None
    assert "298 observations" in found["latencyP99"].interval_method
    enough = run(tmp_path, "enough", seed=1, documents=299)
    found = by_metric(compare_runtime(enough, enough, settings=SETTINGS))
    assert not found["latencyP99"].at_least
    assert found["latencyP99"].ratio_interval_95 is not None


def with_tokens_together(made: SyntheticRun, *, every: int) -> SyntheticRun:
    """The same run, but that in every so many responses the tokens came two at a time."""
    place = made.requests.schema.get_field_index("token_offsets_us")
    offsets = [
        [one[at - at % 2] for at in range(len(one))] if number % every == 0 else one
        for number, one in enumerate(made.requests.column("token_offsets_us").to_pylist())
    ]
    field = REQUEST_COLUMNS.field("token_offsets_us")
    column = pyarrow.array(offsets, field.type)
    return SyntheticRun(made.facts, made.samples, made.requests.set_column(place, field, column))


def test_percentiles_of_gaps_that_were_spread_unlike_are_not_compared(tmp_path: Path) -> None:
    baseline = run(tmp_path, "base", seed=1)
    made = synthetic_run(run_id="pairs", seed=2, tasks=[Task(documents=500)])
    pairs = with_tokens_together(made, every=1).evidence(tmp_path)
    found = by_metric(compare_runtime(baseline, pairs, settings=SETTINGS))
    for metric in ("itlP50", "itlP90", "itlP95", "itlP99"):
        assert found[metric].candidate is not None
        assert found[metric].ratio is None
        assert "0.0 % of the baseline's gaps and 100.0 % of the candidate's" in (found[metric].note or "")
    mean = found["itlMean"]
    assert mean.ratio == pytest.approx(1, abs=0.05)
    assert mean.ratio_interval_95 is not None
    both = by_metric(compare_runtime(pairs, pairs, settings=SETTINGS))
    assert both["itlP99"].ratio == 1
    assert "100.0 % of the baseline's gaps" in (both["itlP99"].note or "")


def test_a_few_gaps_that_were_spread_are_told_of_and_fewer_are_not(tmp_path: Path) -> None:
    baseline = run(tmp_path, "base", seed=1)
    for every, is_told in ((40, True), (400, False)):
        made = synthetic_run(run_id=f"every{every}", seed=2, tasks=[Task(documents=500)])
        some = with_tokens_together(made, every=every).evidence(tmp_path)
        found = by_metric(compare_runtime(baseline, some, settings=SETTINGS))["itlP50"]
        assert found.ratio_interval_95 is not None
        assert (found.note is not None) is is_told


def test_goodput_is_compared_under_equal_bounds_only(tmp_path: Path) -> None:
    def bounded(name: str, bounds: dict[str, float]) -> RunEvidence:
        made = synthetic_run(run_id=name, seed=len(name), tasks=[Task(documents=500)])
        plan = {**made.facts.plan, "options": {"goodput": bounds}}
        facts = made.facts.model_copy(update={"plan": plan})
        return SyntheticRun(facts, made.samples, made.requests).evidence(tmp_path)

    baseline = bounded("base", {"ttft_s": 0.09, "latency_s": 0.3})
    equal = by_metric(
        compare_runtime(baseline, bounded("candidate", {"ttft_s": 0.09, "latency_s": 0.3}), settings=SETTINGS)
    )
    for metric in ("goodput", "goodputShare"):
        assert equal[metric].ratio_interval_95 is not None
        assert equal[metric].higher_is_better
    unlike = by_metric(compare_runtime(baseline, bounded("looser", {"ttft_s": 0.2}), settings=SETTINGS))
    assert unlike["goodput"].baseline is not None
    assert unlike["goodput"].ratio is None
    assert unlike["goodput"].note == "the two runs have different bounds for goodput"


def test_cold_starts_are_shown_without_an_interval(tmp_path: Path) -> None:
    def started(name: str, seconds: float | None) -> RunEvidence:
        made = synthetic_run(run_id=name, tasks=[Task(documents=20)])
        reasons = {} if seconds is not None else {"coldStart": "not applicable: an endpoint"}
        facts = made.facts.model_copy(
            update={"runtime": {"coldStart": seconds}, "runtime_details": {"null_reasons": reasons}}
        )
        return SyntheticRun(facts, made.samples, made.requests).evidence(tmp_path)

    baseline = started("base", 10.0)
    found = by_metric(compare_runtime(baseline, started("slow", 25.0), settings=SETTINGS))["coldStart"]
    assert (found.baseline, found.ratio, found.ratio_interval_95) == (10.0, 2.5, None)
    assert found.interval_method.startswith("none: one start of each run")
    endpoint = by_metric(compare_runtime(baseline, started("far", None), settings=SETTINGS))["coldStart"]
    assert (endpoint.ratio, endpoint.note) == (None, "candidate: not applicable: an endpoint")


def test_energy_per_correct_answer_counts_what_was_asked(tmp_path: Path) -> None:
    evidence = run(tmp_path, "a", seed=1, watts=50.0)
    (found,) = (
        one
        for one in compare_runtime(evidence, evidence, settings=SETTINGS)
        if one.metric == "joulesPerCorrectAnswer"
    )
    values = evidence.metric(evidence.facts.sample_metrics[0])
    assert values is not None
    joules = compare_energy(evidence, evidence).baseline.joules
    assert joules is not None
    assert found.baseline == pytest.approx(joules / values.values.sum())


def test_nothing_asked_and_nothing_measured_is_said(tmp_path: Path) -> None:
    made = synthetic_run(run_id="empty", tasks=[Task(documents=20)])
    empty = SyntheticRun(made.facts, made.samples, made.requests.slice(0, 0)).evidence(tmp_path)
    for one in compare_runtime(empty, empty, settings=SETTINGS):
        assert one.baseline is None
        assert one.ratio is None
        assert one.note, one.metric
    choices = synthetic_run(run_id="choices", tasks=[Task(documents=60, choices=4)]).evidence(tmp_path)
    found = by_metric(compare_runtime(choices, choices, settings=SETTINGS))
    assert found["ttftP50"].note == found["tps"].note
    assert (found["tps"].note or "").startswith("not applicable")
    assert found["latencyP50"].baseline is not None


def test_damaged_times_end_in_numbers_or_reasons(tmp_path: Path) -> None:
    made = synthetic_run(run_id="odd", tasks=[Task(documents=100)])
    place = made.requests.schema.get_field_index("done_ns")
    odd: NDArray[Any] = made.requests.column("done_ns").to_numpy().copy()
    odd[::7] = 0  # done before sent
    column = pyarrow.array(odd, mask=numpy.arange(len(odd)) % 11 == 0)
    requests = made.requests.set_column(place, REQUEST_COLUMNS.field("done_ns"), column)
    evidence = SyntheticRun(made.facts, made.samples, requests).evidence(tmp_path)
    for one in compare_runtime(evidence, evidence, settings=SETTINGS):
        assert one.baseline is None or numpy.isfinite(one.baseline)
