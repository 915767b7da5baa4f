"""Every runtime metric of a run against brute force, its interval, and why it is missing."""

import random
from itertools import pairwise
from typing import Any

import numpy
import pytest

from assay_evidence.runtime.goodput import GoodputBounds
from assay_evidence.runtime_metrics import RUNTIME_METRICS
from assay_evidence.statistics.quantiles import bounded_from
from metrics_svc.domain.runtime.details import RuntimeReport
from metrics_svc.domain.runtime.report import NOT_OF_A_RUN
from metrics_svc.domain.runtime.serving import Serving
from metrics_svc.domain.runtime.tally import RuntimeTally
from metrics_svc.domain.samples import RequestRecord, SampleRecord

MS = 1_000_000


def request(**fields: Any) -> RequestRecord:
    """A generating request: sent at 0, tokens after 10, 20 and 30 ms, done after 30 ms."""
    times = {
        "received_ns": 0,
        "sent_ns": 0,
        "first_token_ns": 10 * MS,
        "done_ns": 30 * MS,
        "token_offsets_us": [10_000, 20_000, 30_000],
        "stamp_source": "kernel",
        "exact_token_times": True,
    }
    values = {
        "index": 0,
        "kind": "generate",
        "prompt": "p",
        "response": "x",
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "instance_id": "i",
        "times": times | fields.pop("times", {}),
    }
    return RequestRecord.model_validate(values | fields)


def failed() -> RequestRecord:
    return RequestRecord.model_validate({"index": 0, "kind": "generate", "prompt": "p", "retries": 2})


def tally(*requests: RequestRecord) -> RuntimeTally:
    made = RuntimeTally()
    made.add(
        SampleRecord(
            index=index,
            doc_hash="d",
            prompt_hash="p",
            target_hash="t",
            target="t",
            status="ok",
            requests=[one],
        )
        for index, one in enumerate(requests)
    )
    return made


def report(*requests: RequestRecord, **bounds: float) -> RuntimeReport:
    return tally(*requests).report(bounds=GoodputBounds(**bounds) if bounds else None)


def random_requests(n: int, *, seed: int = 1) -> list[RequestRecord]:
    numbers = random.Random(seed)
    made, at = [], 10**12
    for _ in range(n):
        at += numbers.randrange(1, 60) * MS
        offsets = sorted(numbers.randrange(20_000, 400_000, 500) for _ in range(numbers.randrange(1, 30)))
        made.append(
            request(
                completion_tokens=len(offsets),
                schedule_delay_s=numbers.random() / 100,
                times={
                    "sent_ns": at,
                    "first_token_ns": at + offsets[0] * 1000,
                    "done_ns": at + offsets[-1] * 1000 + 300_000,
                    "token_offsets_us": offsets,
                },
            )
        )
    return made


def nearest_rank(values: list[float], share: float) -> float:
    return float(numpy.quantile(values, share, method="inverted_cdf"))


def test_every_metric_by_brute_force() -> None:
    requests = random_requests(400)
    found = report(*requests, failed(), ttft_s=0.06, itl_s=0.03, latency_s=0.4)
    times = [one.times for one in requests if one.times]
    ttft = [(one.first_token_ns - one.sent_ns) / 1e9 for one in times if one.first_token_ns]
    latency = [(one.done_ns - one.sent_ns) / 1e9 for one in times]
    itl: list[float] = []
    for one in times:
        stamps = sorted(set(one.token_offsets_us))
        for before, at in pairwise(stamps):
            tokens = one.token_offsets_us.count(at)
            itl += [(at - before) / tokens / 1e6] * tokens
    for name, values in (("ttft", ttft), ("itl", itl), ("latency", latency)):
        for suffix, share in (("P50", 0.5), ("P90", 0.9), ("P95", 0.95), ("P99", 0.99)):
            assert found.metrics[name + suffix] == pytest.approx(nearest_rank(values, share)), name + suffix
        assert found.metrics[f"{name}Mean"] == pytest.approx(sum(values) / len(values))
        assert found.details.estimates[f"{name}P90"].n == len(values)
    delays = [one.schedule_delay_s for one in requests if one.schedule_delay_s is not None]
    assert found.metrics["scheduleDelayP99"] == pytest.approx(nearest_rank(delays, 0.99))
    busy = {tick for one in times for tick in range(one.sent_ns // MS, one.done_ns // MS)}
    window = found.details.window_s
    assert window == pytest.approx(len(busy) / 1000, rel=0.02)
    tokens = sum(one.completion_tokens or 0 for one in requests)
    assert found.metrics["tps"] == pytest.approx(tokens / window)
    assert found.metrics["outputTokens"] == tokens
    assert found.metrics["inputTokens"] == 400 * 7
    good = 0
    for one, first, whole in zip(requests, ttft, latency, strict=True):
        gaps = (one.completion_tokens or 0) - 1
        good += first <= 0.06 and whole <= 0.4 and (not gaps or (whole - first) / gaps <= 0.03)
    assert 50 < good < 350
    assert found.metrics["goodput"] == pytest.approx(good / window)
    assert found.metrics["goodputShare"] == pytest.approx(good / 401)
    assert found.metrics["errorRate"] == pytest.approx(1 / 401)


def test_every_metric_has_an_interval_or_says_why_not() -> None:
    found = report(*random_requests(400), failed(), ttft_s=0.06)
    assert list(found.details.estimates) == [name for name in RUNTIME_METRICS if name not in NOT_OF_A_RUN]
    assert list(found.metrics) == list(found.details.estimates)
    for name, one in found.details.estimates.items():
        if one.low is None or one.high is None:
            assert one.note, name
        else:
            assert one.value is not None
            assert one.low <= one.value <= one.high, name
            assert one.n > 0
            assert one.method != "none"
            assert one.window_s == found.details.window_s
        assert (one.value is None) == (name in found.details.null_reasons)
    with_interval = {name for name, one in found.details.estimates.items() if one.high is not None}
    assert {"ttftP99", "itlMean", "tps", "requestsPerSecond", "goodput", "errorRate"} <= with_interval
    assert found.details.time_blocks == 16


def test_few_requests_have_values_and_no_interval_over_time() -> None:
    found = report(*random_requests(30), latency_s=0.2).details.estimates
    for name in ("ttftMean", "tps", "requestsPerSecond", "goodput"):
        assert found[name].value is not None
        assert (found[name].low, found[name].method) == (None, "none")
        assert "make 1 time block of the 8 that an interval needs" in (found[name].note or "")
    assert found["ttftP50"].high is not None
    tiny = report(*random_requests(5)).details.estimates["latencyP50"]
    assert (tiny.low, tiny.note) == (None, "too few observations to bound it from below")
    assert found["goodputShare"].method == "exact binomial"


@pytest.mark.parametrize("suffix", ["P50", "P90", "P95", "P99"])
def test_a_percentile_is_bounded_from_as_many_observations_as_it_needs(suffix: str) -> None:
    share = RUNTIME_METRICS[f"latency{suffix}"].share
    assert share is not None
    needed = bounded_from(share)
    few = report(*random_requests(needed - 1)).details.estimates[f"latency{suffix}"]
    assert few.at_least
    assert few.high is None
    assert few.note == f"{needed - 1} observations do not bound this percentile from above"
    enough = report(*random_requests(needed)).details.estimates[f"latency{suffix}"]
    assert not enough.at_least
    assert enough.high is not None


def test_shares_of_one_gap_are_one_observation() -> None:
    # 298 gaps of two tokens each are not the 299 that a p99 needs, 299 are.
    for groups, is_bounded in ((298, False), (299, True)):
        offsets = [1000 * at for at in range(groups + 1) for _ in range(2)]
        times = {"first_token_ns": 1, "done_ns": 10**9, "token_offsets_us": offsets}
        itl = report(request(completion_tokens=len(offsets), times=times)).details.estimates["itlP99"]
        assert itl.n == 2 * groups
        assert (itl.high is not None) is is_bounded


def test_goodput_without_bounds_and_with_impossible_ones() -> None:
    assert report(request()).details.null_reasons["goodput"] == "no bounds given"
    assert tally(request()).report(bounds=GoodputBounds()).metrics["goodputShare"] is None
    none_met = report(*random_requests(100), latency_s=1e-6).details.estimates
    assert (none_met["goodput"].value, none_met["goodput"].low) == (0.0, None)
    share = none_met["goodputShare"]
    assert (share.value, share.low) == (0.0, 0.0)
    assert share.high == pytest.approx(1 - 0.025 ** (1 / 100))
    all_met = report(*random_requests(100), latency_s=100.0).details.estimates["goodputShare"]
    assert (all_met.value, all_met.high) == (1.0, 1.0)
    assert all_met.low == pytest.approx(0.025 ** (1 / 100))


def test_bounds_are_met_at_their_value_and_all_of_them_must_be() -> None:
    exact = {"ttft_s": 0.01, "itl_s": 0.01, "latency_s": 0.03}
    assert report(request(), **exact).metrics["goodputShare"] == 1.0
    for name in exact:
        assert report(request(), **exact | {name: exact[name] * 0.999}).metrics["goodputShare"] == 0.0


def test_what_a_request_without_gaps_text_or_response_means_for_goodput() -> None:
    one_token = request(completion_tokens=1, times={"token_offsets_us": [10_000]})
    assert report(one_token, itl_s=1e-6).metrics["goodputShare"] == 1.0
    empty = request(response="", completion_tokens=0, times={"first_token_ns": 0, "token_offsets_us": []})
    assert report(empty, ttft_s=10.0).metrics["goodputShare"] == 0.0
    assert report(empty, latency_s=10.0).metrics["goodputShare"] == 1.0
    assert report(request(), failed(), failed(), latency_s=10.0).metrics["goodputShare"] == pytest.approx(
        1 / 3
    )
    reused = request().model_copy(update={"times": None, "reused_from": {"index": 0}})
    assert report(request(), reused, latency_s=10.0).details.estimates["goodputShare"].n == 1
    assert report(failed(), latency_s=1.0).details.null_reasons["goodput"] == "no request has a response"


def test_only_a_bound_on_the_whole_request_applies_to_log_probabilities() -> None:
    scored = request(
        kind="loglikelihood",
        response=None,
        log_probability=-1.0,
        is_greedy=True,
        times={"first_token_ns": 0, "token_offsets_us": [], "exact_token_times": False},
    )
    assert report(scored, latency_s=0.03).metrics["goodputShare"] == 1.0
    assert (
        report(scored, latency_s=0.03, ttft_s=1.0)
        .details.null_reasons["goodput"]
        .startswith("not applicable")
    )
    mixed = report(scored, request(), ttft_s=1.0)
    assert mixed.details.estimates["goodputShare"].n == 1


def test_the_error_rate_has_an_exact_interval() -> None:
    none_failed = report(*[request()] * 20).details.estimates["errorRate"]
    assert (none_failed.value, none_failed.low, none_failed.n) == (0.0, 0.0, 20)
    assert none_failed.high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert report().details.null_reasons["errorRate"] == "no request was sent"
    assert report(failed()).metrics["errorRate"] == 1.0


def test_counts_that_contradict_the_servers_usage_are_told() -> None:
    found = report(request(), request(completion_tokens=4, times={"exact_token_times": False}))
    assert found.details.token_count_mismatches == 1
    assert found.metrics["outputTokens"] == 7
    assert "of 1 of 2 responses another number of tokens arrived" in found.details.warnings[0]
    silent = request(completion_tokens=4, times={"exact_token_times": False, "token_offsets_us": []})
    assert report(silent).details.token_count_mismatches == 0


def served(**fields: Any) -> dict[str, Any]:
    return {"instance_id": "i", "launcher": "process", **fields}


def calibration(**errors: float) -> dict[str, Any]:
    kept = {"ttft_error_p99": 1e-4, "itl_error_p99": 1e-5, "merged_gap_share": 0.0, "streams": 16}
    return {"before": kept | errors, "after": None, "note": None}


def of_run(*serving: dict[str, Any], ledger: Any = None) -> RuntimeReport:
    return tally(*random_requests(50)).report(
        serving=Serving.of({"serving": list(serving), "ledger": ledger})
    )


def test_cold_start_and_accelerator_time_are_those_of_the_ledger() -> None:
    ledgers = [
        {"cold_start_s": 10.0, "accelerator_seconds": 100.0},
        {"cold_start_s": 20.0, "accelerator_seconds": None},
        {"cold_start_s": None, "accelerator_seconds": 5.0},
    ]
    found = of_run(*(served(ledger=one) for one in ledgers), ledger={"cold_start_s": 30.0})
    cold, held = (found.details.estimates[name] for name in ("coldStart", "acceleratorSeconds"))
    assert (cold.value, cold.n, cold.low, cold.note) == (15.0, 2, None, "mean of 2 starts")
    assert (held.value, held.n, held.at_least) == (105.0, 2, True)
    assert held.note == "1 of 3 instances are not in it"
    assert found.details.ledger == {"cold_start_s": 30.0}
    (one,) = [of_run(served(ledger=ledgers[0])).details.estimates["coldStart"]]
    assert (one.value, one.note, one.window_s) == (10.0, "one start", None)


def test_an_endpoint_was_not_started_and_an_old_run_has_no_ledger() -> None:
    endpoint = of_run(served(launcher="endpoint", ledger={"cold_start_s": 0.1, "accelerator_seconds": 0.0}))
    for name in ("coldStart", "acceleratorSeconds"):
        assert endpoint.metrics[name] is None
        assert endpoint.details.null_reasons[name].startswith("not applicable: an endpoint")
        for old in (of_run({"instance_id": "i"}), of_run(served(ledger={"cold_start_s": "x"}))):
            assert old.details.null_reasons[name].startswith("not recorded")
        going_on = report(request()).details
        assert going_on.null_reasons[name] == "not known before the run has ended"


def test_the_adapters_own_errors_are_attached_and_told_where_they_matter() -> None:
    fine = of_run(served(calibration=calibration()))
    assert fine.details.calibration[0].before == calibration()["before"]
    assert not any("calibration), is more than" in one for one in fine.details.warnings)
    slow = of_run(served(calibration=calibration(itl_error_p99=0.01, ttft_error_p99=0.2)))
    told = [one for one in slow.details.warnings if "(p99 of its calibration)" in one]
    assert [one.partition(",")[0] for one in told] == [
        "the adapter's own error of a gap between tokens",
        "the adapter's own error of a first token",
    ]
    assert of_run({"instance_id": "i"}).details.calibration[0].note == "not calibrated"
    broken = of_run(served(calibration={"before": 1}))
    assert "malformed" in (broken.details.calibration[0].note or "")


def test_whose_fault_merged_tokens_are_is_told_by_the_calibration() -> None:
    def told(*serving: dict[str, Any]) -> str:
        return next(one for one in of_run(*serving).details.warnings if "shares of a longer one" in one)

    assert told().endswith("or the adapter was too slow to keep them apart")
    assert told(served(calibration=calibration())).endswith("so the engine sends several at once")
    assert told(served(calibration=calibration(merged_gap_share=0.2))).endswith("it may have been too slow")
