"""Whether two runs did the same work."""

from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pytest

from assay_evidence.pairing import pair_runs
from assay_evidence.report import ComparisonSettings, Severity, WorkloadParity
from assay_evidence.tables import REQUEST_COLUMNS
from assay_evidence.testing import SyntheticRun, Task, synthetic_run
from assay_evidence.workload import workload_parity

SETTINGS = ComparisonSettings(bootstrap_resamples=1000)
N = 1000


def made(name: str, *, documents: int = N) -> SyntheticRun:
    return synthetic_run(run_id=name, tasks=[Task(documents=documents)])


def with_requests(run: SyntheticRun, **columns: Any) -> SyntheticRun:
    """With other columns of requests; arrays in the order of the documents."""
    requests = run.requests
    for name, values in columns.items():
        field = REQUEST_COLUMNS.field(name)
        requests = requests.set_column(
            requests.schema.get_field_index(name), field, pyarrow.array(values, field.type)
        )
    return SyntheticRun(run.facts, run.samples, requests)


def parity(directory: Path, baseline: SyntheticRun, candidate: SyntheticRun) -> WorkloadParity:
    first, second = baseline.evidence(directory / "base"), candidate.evidence(directory / "new")
    return workload_parity(first, second, pair_runs(first, second), settings=SETTINGS)


def codes(found: WorkloadParity) -> dict[str, Severity]:
    return {finding.code: finding.severity for finding in found.findings}


def test_equal_work_has_no_findings(tmp_path: Path) -> None:
    found = parity(tmp_path, made("a"), made("b"))
    assert (found.comparable, found.findings, found.prompts_equal) == (True, [], True)
    assert found.output_length_ratio == 1.0
    assert found.baseline == found.candidate
    assert found.baseline.requests == N
    assert found.baseline.concurrency == 4


def test_sides_say_what_numpy_says_of_the_lengths(tmp_path: Path) -> None:
    lengths = numpy.random.default_rng(1).integers(1, 300, N)
    found = parity(tmp_path, with_requests(made("a"), completion_tokens=lengths), made("b")).baseline
    assert found.completion_tokens == lengths.sum()
    assert found.output_tokens_mean == pytest.approx(lengths.mean())
    assert found.output_tokens_p50 == numpy.quantile(lengths, 0.5, method="inverted_cdf")
    assert found.output_tokens_p90 == numpy.quantile(lengths, 0.9, method="inverted_cdf")


@pytest.mark.parametrize("documents", [N, 3000])
def test_the_interval_of_the_length_ratio_is_that_of_paired_data(tmp_path: Path, documents: int) -> None:
    # Lengths of one item hang together, so that the ratio is much better known than unpaired lengths say.
    random = numpy.random.default_rng(2)
    before = random.integers(20, 300, documents)
    after = numpy.maximum(before + random.integers(-6, 13, documents), 1)
    found = parity(
        tmp_path,
        with_requests(made("a", documents=documents), completion_tokens=before),
        with_requests(made("b", documents=documents), completion_tokens=after),
    )
    ratio = after.sum() / before.sum()
    stderr = (after - ratio * before).std() / before.mean() / numpy.sqrt(documents)
    assert found.output_length_ratio == pytest.approx(ratio)
    assert found.output_length_ratio_interval_95 is not None
    low, high = found.output_length_ratio_interval_95
    assert (low, high) == pytest.approx((ratio - 1.96 * stderr, ratio + 1.96 * stderr), abs=0.3 * stderr)
    assert found.comparable


def test_longer_output_is_not_comparable_where_it_is_shown(tmp_path: Path) -> None:
    lengths = numpy.full(N, 100)
    longer = parity(
        tmp_path,
        with_requests(made("a"), completion_tokens=lengths),
        with_requests(made("b"), completion_tokens=lengths + 6),
    )
    assert codes(longer) == {"output-length-differs": Severity.NOT_COMPARABLE}
    assert not longer.comparable
    within = parity(
        tmp_path,
        with_requests(made("a"), completion_tokens=lengths),
        with_requests(made("b"), completion_tokens=lengths + 4),
    )
    assert codes(within) == {}
    # Two very long responses move the mean by 6 %, which the interval does not exclude to be chance.
    few = lengths.copy()
    few[:2] += 3000
    chance = parity(
        tmp_path,
        with_requests(made("a"), completion_tokens=lengths),
        with_requests(made("b"), completion_tokens=few),
    )
    assert codes(chance) == {"output-length-differs": Severity.WARNING}
    assert chance.comparable


def test_truncation_and_stop_reasons(tmp_path: Path) -> None:
    reasons = numpy.array(["stop_string"] * N, dtype=object)
    truncated, ended = reasons.copy(), reasons.copy()
    truncated[:21] = "length"
    ended[:60] = "end_of_sequence"
    baseline = with_requests(made("a"), finish_reason=reasons)
    assert codes(parity(tmp_path, baseline, with_requests(made("b"), finish_reason=truncated))) == {
        "truncation-differs": Severity.NOT_COMPARABLE
    }
    truncated[20] = "stop_string"
    assert codes(parity(tmp_path, baseline, with_requests(made("b"), finish_reason=truncated))) == {}
    found = parity(tmp_path, baseline, with_requests(made("b"), finish_reason=ended))
    assert codes(found) == {"stop-reasons-differ": Severity.WARNING}
    assert found.candidate.stop_reasons == {"end_of_sequence": 0.06, "stop_string": 0.94}


def test_failures_and_retries(tmp_path: Path) -> None:
    answered = numpy.ones(N, dtype=bool)
    answered[:11] = False
    retries = numpy.zeros(N, dtype=int)
    retries[:4] = 3
    candidate = with_requests(made("b"), answered=answered, retries=retries)
    found = parity(tmp_path, made("a"), candidate)
    assert codes(found) == {
        "requests-failed": Severity.NOT_COMPARABLE,
        "requests-retried": Severity.WARNING,
    }
    assert found.candidate.error_share == 0.011
    assert found.candidate.retries == 12
    # Either side counts: what survived on the baseline is not the baseline's work.
    assert not parity(tmp_path, candidate, made("a")).comparable


def test_other_concurrency_is_not_comparable(tmp_path: Path) -> None:
    more = made("b").with_plan({"options.concurrency": 2, "options.batch_size": 8})
    found = parity(tmp_path, made("a"), more)
    assert codes(found) == {"concurrency-differs": Severity.NOT_COMPARABLE}
    assert found.candidate.concurrency == 16
    # The same number in flight, put together another way.
    same = made("b").with_plan({"options.concurrency": 2, "options.batch_size": 2})
    assert parity(tmp_path, made("a"), same).comparable
    unknown = made("b").with_plan({"options": {}})
    assert parity(tmp_path, made("a"), unknown).candidate.concurrency is None


def test_other_input_tokens(tmp_path: Path) -> None:
    tokens = made("a").requests.column("prompt_tokens").to_numpy()
    one_more = tokens + (numpy.arange(N) < 5)
    found = parity(tmp_path, made("a"), with_requests(made("b"), prompt_tokens=one_more))
    assert codes(found) == {"input-tokens-differ": Severity.WARNING}
    assert not found.prompts_equal
    assert found.findings[0].details["items"] == 5
    many_more = parity(tmp_path, made("a"), with_requests(made("b"), prompt_tokens=tokens + 3))
    assert codes(many_more) == {"input-tokens-differ": Severity.NOT_COMPARABLE}


def test_only_paired_items_count_as_work(tmp_path: Path) -> None:
    half = made("b").take(range(N // 2))
    found = parity(tmp_path, made("a"), half)
    assert found.baseline.requests == found.candidate.requests == N // 2
    assert found.comparable


def test_no_pairs_is_no_ratio(tmp_path: Path) -> None:
    other = synthetic_run(run_id="b", tasks=[Task(documents=N)], content_seed=99)
    found = parity(tmp_path, made("a"), other)
    assert found.output_length_ratio is None
    assert found.baseline.requests == 0
    assert found.baseline.output_tokens_p50 is None


def test_choices_have_no_output(tmp_path: Path) -> None:
    runs = [synthetic_run(run_id=name, tasks=[Task(documents=50, choices=4)]) for name in "ab"]
    found = parity(tmp_path, runs[0], runs[1])
    assert found.comparable
    assert found.baseline.requests == 200
    assert found.baseline.completion_tokens == 0
    assert found.output_length_ratio is None
