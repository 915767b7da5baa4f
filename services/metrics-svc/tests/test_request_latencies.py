"""Distributions of request times in reports: which requests count, and how exact the curves are."""

from pathlib import Path
from typing import Any

import numpy
import pyarrow
import pyarrow.parquet
import pytest

from assay_evidence.tables import REQUEST_COLUMNS
from assay_evidence.testing import Speed, Task, synthetic_run
from metrics_svc.reports.latencies import Distribution, read_latencies

MS = 1_000_000
START = 40 * 24 * 3600 * 10**9
"""An adapter's clock after forty days: differences of such numbers must stay exact."""


def request(**more: Any) -> dict[str, Any]:
    """Sent, first token after 10 ms, done after 40 ms, tokens at 10, 12, 12 and 15 ms."""
    values: dict[str, Any] = dict.fromkeys(REQUEST_COLUMNS.names)
    values |= {"index": 0, "kind": "generate", "answered": True, "reused": False, "retries": 0}
    values |= {"sent_ns": START, "first_token_ns": START + 10 * MS, "done_ns": START + 40 * MS}
    values |= {"exact_token_times": True, "token_offsets_us": [10_000, 12_000, 12_000, 15_000]}
    return values | more


def read(path: Path, *rows: dict[str, Any]) -> Any:
    table = pyarrow.Table.from_pylist(list(rows), schema=REQUEST_COLUMNS)
    pyarrow.parquet.write_table(table, path / "requests")
    return read_latencies(path / "requests")


def quantile(distribution: Distribution, share: float) -> float:
    return float(distribution.seconds[numpy.searchsorted(distribution.shares, share)])


def test_which_requests_count(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        request(),
        request(exact_token_times=False),
        request(kind="loglikelihood"),
        request(answered=False),
        request(reused=True),
        request(first_token_ns=None, token_offsets_us=None),
        request(sent_ns=None, first_token_ns=None, done_ns=None, token_offsets_us=None),
    )
    assert (found.ttft.n, found.latency.n) == (2, 4)
    assert found.itl.n == 3  # of one request: 1, 1 and 3 ms
    assert quantile(found.ttft, 1) == pytest.approx(0.01, rel=0.01)
    assert quantile(found.latency, 1) == pytest.approx(0.04, rel=0.01)
    assert found.itl.seconds == pytest.approx([0.001, 0.003], rel=0.01)
    assert found.itl.shares.tolist() == pytest.approx([2 / 3, 1.0])


def test_gaps_do_not_reach_from_one_request_to_the_next(tmp_path: Path) -> None:
    rows = [
        request(token_offsets_us=[]),
        request(token_offsets_us=[5]),
        request(token_offsets_us=[9_000_000, 9_001_000]),
        request(token_offsets_us=[]),
        request(token_offsets_us=[10, 1_010]),
    ]
    found = read(tmp_path, *rows)
    assert found.itl.n == 2
    assert found.itl.seconds == pytest.approx([0.001], rel=0.01)


def test_nothing_measured_is_nothing(tmp_path: Path) -> None:
    found = read(tmp_path, request(answered=False))
    assert (found.ttft, found.itl, found.latency) == (None, None, None)
    assert read(tmp_path).latency is None


def test_quantiles_of_many_requests_are_those_of_the_run(tmp_path: Path) -> None:
    run = synthetic_run(tasks=(Task(documents=3000),), speed=Speed(first_token_ms=80))
    run.evidence(tmp_path)
    found = read_latencies(tmp_path / f"{run.facts.view_id}.requests")
    sent, first = (
        numpy.asarray(run.requests.column(name).to_pylist(), dtype=numpy.float64)
        for name in ("sent_ns", "first_token_ns")
    )
    for share in (0.01, 0.5, 0.99):
        exact = numpy.quantile((first - sent) / 1e9, share, method="inverted_cdf")
        assert quantile(found.ttft, share) == pytest.approx(exact, rel=0.01)
    assert found.ttft.n == 3000
