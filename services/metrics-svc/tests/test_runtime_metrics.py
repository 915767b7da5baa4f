"""Runtime metrics by hand-made times and by brute force."""

import random

import pytest

from assay_evidence.runtime.telemetry import InstanceTelemetry
from metrics_svc.domain.runtime.tally import RuntimeTally
from metrics_svc.domain.samples import RequestRecord, RequestTimes, SampleRecord

MS = 1_000_000
SECOND = 1_000_000_000


def request(
    *,
    sent_ms: float,
    offsets_ms: list[float],
    done_ms: float,
    instance: str = "i1",
    exact: bool = True,
    text: str = "x",
    usage: int | None = None,
    merged_reads: int = 0,
) -> RequestRecord:
    sent = int(sent_ms * MS)
    return RequestRecord(
        index=0,
        kind="generate",
        prompt="p",
        response=text,
        prompt_tokens=10,
        completion_tokens=len(offsets_ms) if usage is None else usage,
        instance_id=instance,
        schedule_delay_s=0.002,
        times=RequestTimes(
            received_ns=sent - 2 * MS,
            sent_ns=sent,
            first_token_ns=sent + int(offsets_ms[0] * MS) if offsets_ms else 0,
            done_ns=int(done_ms * MS),
            token_offsets_us=[int(offset * 1000) for offset in offsets_ms],
            stamp_source="kernel",
            exact_token_times=exact,
            merged_reads=merged_reads,
        ),
    )


def score_request(*, sent_ms: float, done_ms: float) -> RequestRecord:
    return RequestRecord(
        index=0,
        kind="loglikelihood",
        prompt="p",
        continuation="c",
        log_probability=-1.5,
        is_greedy=False,
        prompt_tokens=10,
        completion_tokens=0,
        instance_id="i1",
        times=RequestTimes(received_ns=0, sent_ns=int(sent_ms * MS), done_ns=int(done_ms * MS)),
    )


def sample(index: int, *requests: RequestRecord) -> SampleRecord:
    return SampleRecord(
        index=index,
        doc_hash=f"d{index}",
        prompt_hash="p",
        target_hash="t",
        target="t",
        status="ok",
        requests=list(requests),
    )


def tally(*samples: SampleRecord) -> RuntimeTally:
    made = RuntimeTally()
    made.add(samples)
    return made


def test_the_window_by_counting_every_millisecond() -> None:
    numbers = random.Random(5)
    for _ in range(50):
        intervals = []
        for _ in range(numbers.randrange(1, 12)):
            start = numbers.randrange(80)
            intervals.append((start, start + numbers.randrange(20)))
        made = tally(
            *(
                sample(index, request(sent_ms=start, offsets_ms=[0], done_ms=stop))
                for index, (start, stop) in enumerate(intervals)
            )
        )
        covered = {tick for start, stop in intervals for tick in range(start, stop)}
        assert made.report().details.window_s == pytest.approx(len(covered) / 1000)


def test_first_token_gaps_and_throughput_of_overlapping_requests() -> None:
    report = tally(
        sample(0, request(sent_ms=100, offsets_ms=[50, 60, 80], done_ms=200)),
        sample(1, request(sent_ms=150, offsets_ms=[70, 75], done_ms=250)),
        sample(2, request(sent_ms=1000, offsets_ms=[30], done_ms=1050)),
    ).report()
    metrics, details = report.metrics, report.details
    assert metrics["ttftP50"] == pytest.approx(0.050)
    assert metrics["ttftP99"] == pytest.approx(0.070)
    assert metrics["itlP50"] == pytest.approx(0.010)  # of 5, 10 and 20 ms
    assert metrics["itlP99"] == pytest.approx(0.020)
    assert details.window_s == pytest.approx(0.200)  # 100..250 and 1000..1050
    assert metrics["tps"] == pytest.approx(6 / 0.200)
    assert metrics["requestsPerSecond"] == pytest.approx(3 / 0.200)
    assert (details.output_tokens, details.prompt_tokens, details.requests) == (6, 30, 3)
    assert details.ttft.p99 is not None
    assert details.ttft.p99.at_least
    assert details.schedule_delay.p50 is not None
    assert details.schedule_delay.p50.value == pytest.approx(0.002)
    assert details.stamp_sources == {"kernel": 3}


def test_times_of_two_instances_are_never_mixed() -> None:
    # Their clocks have nothing to do with each other, even where the numbers overlap.
    report = tally(
        sample(0, request(sent_ms=0, offsets_ms=[10, 20], done_ms=100, instance="a")),
        sample(1, request(sent_ms=50, offsets_ms=[10, 20], done_ms=250, instance="b")),
    ).report()
    assert report.details.window_s == pytest.approx(0.1 + 0.2)
    assert report.details.instances == 2
    assert report.metrics["tps"] == pytest.approx(4 / 0.3)


def test_tokens_of_one_read_share_the_gap_before_them() -> None:
    report = tally(
        sample(0, request(sent_ms=0, offsets_ms=[10, 10, 30, 50, 50, 80], done_ms=90, merged_reads=2))
    ).report()
    itl = report.details.itl
    assert itl.n == 4  # 20, 10, 10 and 30 ms
    assert report.metrics["itlP50"] == pytest.approx(0.010)
    assert report.metrics["itlP99"] == pytest.approx(0.030)
    assert report.metrics["itlMean"] == pytest.approx(0.070 / 4)
    assert (itl.spread_gaps, itl.merged_gaps, itl.unknown_gaps, itl.merged_reads) == (2, 2, 1, 2)
    assert itl.spread_share == pytest.approx(2 / 4)
    assert itl.merged_share == pytest.approx(2 / 5)
    (warning,) = report.details.warnings
    assert warning.startswith("50.0 % of the gaps between tokens are shares of a longer one")


def test_without_exact_token_times_there_is_no_itl() -> None:
    report = tally(sample(0, request(sent_ms=0, offsets_ms=[10, 30], done_ms=60, exact=False))).report()
    assert report.metrics["itlP50"] is None
    assert "no time for every token" in report.details.null_reasons["itlP50"]
    assert report.metrics["ttftP50"] == pytest.approx(0.010)


def test_an_empty_response_has_no_first_token_but_its_time_counts() -> None:
    report = tally(sample(0, request(sent_ms=0, offsets_ms=[], done_ms=40, text=""))).report()
    assert report.metrics["ttftP50"] is None
    assert report.details.without_text == 1
    assert report.metrics["tps"] == 0.0
    assert report.details.window_s == pytest.approx(0.04)


def test_scoring_requests_have_no_token_metrics() -> None:
    report = tally(sample(0, score_request(sent_ms=0, done_ms=500))).report()
    times = {f"{name}{of}" for name in ("ttft", "itl") for of in ("P50", "P90", "P95", "P99", "Mean")}
    assert {name for name, value in report.metrics.items() if value is None} == {
        *times,
        *("tps", "goodput", "goodputShare", "coldStart", "acceleratorSeconds"),
        *("scheduleDelayP50", "scheduleDelayP99"),
        *("power", "tokensPerWatt", "joulesPerToken", "joulesPerRequest"),
    }
    assert report.metrics["latencyP90"] == report.metrics["latencyMean"] == pytest.approx(0.5)
    assert report.metrics["requestsPerSecond"] == pytest.approx(2.0)
    assert report.details.null_reasons["tps"].startswith("not applicable")
    assert report.details.null_reasons["power"].startswith("not measured")


def test_a_failed_request_is_counted_and_gives_no_times() -> None:
    failed = RequestRecord(index=0, kind="generate", prompt="p", retries=3)
    report = tally(sample(0, failed), sample(1, request(sent_ms=0, offsets_ms=[10], done_ms=100))).report()
    assert (report.details.failed_requests, report.details.requests, report.details.retries) == (1, 1, 3)
    assert report.metrics["tps"] == pytest.approx(10)


def test_nothing_at_all() -> None:
    report = RuntimeTally().report()
    assert set(report.metrics.values()) == {None}
    assert set(report.details.null_reasons) == set(report.metrics)


def test_the_order_of_blocks_does_not_matter() -> None:
    numbers = random.Random(11)
    samples = [
        sample(
            index,
            request(
                sent_ms=(start := numbers.random() * 1000),
                offsets_ms=sorted(numbers.random() * 90 for _ in range(numbers.randrange(1, 30))),
                done_ms=start + 100,
                instance=numbers.choice("ab"),
            ),
        )
        for index in range(100)
    ]
    forward = tally(*samples).report()
    numbers.shuffle(samples)
    assert tally(*samples).report() == forward


def sensor(**fields: object) -> dict[str, object]:
    return {
        "sensor": "nvml_energy",
        "device_id": "0",
        "scope": "card",
        "joules": 100.0,
        "seconds": 2.0,
        "readings": 5,
        "method": "counter",
        **fields,
    }


def telemetry(instance: str, *sensors: dict[str, object], **fields: object) -> InstanceTelemetry:
    return InstanceTelemetry.model_validate(
        {"instance_id": instance, "power": list(sensors) or None, **fields}
    )


def test_no_sensor_is_said_and_never_estimated() -> None:
    made = tally(sample(0, request(sent_ms=0, offsets_ms=[10], done_ms=100)))
    report = made.report([telemetry("i1", unavailable=["rapl: no /sys/class/powercap"], cpu_seconds=1.5)])
    assert report.metrics["power"] is None
    assert report.metrics["tokensPerWatt"] is None
    assert report.details.power.status == "not measured"
    assert report.details.power.reasons == ["rapl: no /sys/class/powercap"]
    assert report.details.cpu_seconds == 1.5


def test_power_is_energy_by_time_and_no_device_counts_twice() -> None:
    made = tally(sample(0, request(sent_ms=0, offsets_ms=[10, 20, 30, 40, 50], done_ms=100)))
    report = made.report(
        [
            telemetry(
                "i1",
                sensor(sensor="nvml_power", method="integrated", joules=104.0),
                sensor(),
                sensor(device_id="1", joules=20.0),
                sensor(sensor="rapl_energy", scope="package", device_id="cpu", joules=9.0),
            )
        ]
    )
    assert report.metrics["power"] == pytest.approx(60.0)
    assert report.metrics["tokensPerWatt"] == pytest.approx((5 / 0.1) / 60.0)
    counted = [reading["counted"] for reading in report.details.power.readings]  # type: ignore[index,call-overload]
    assert counted == [False, True, True, False]


def test_power_needs_every_instance_and_weighs_them_by_their_window() -> None:
    made = tally(
        sample(0, request(sent_ms=0, offsets_ms=[10], done_ms=100, instance="a")),
        sample(1, request(sent_ms=0, offsets_ms=[10], done_ms=300, instance="b")),
    )
    one_missing = made.report([telemetry("a", sensor())])
    assert one_missing.metrics["power"] is None
    assert "serving instance b" in one_missing.details.null_reasons["power"]
    both = made.report([telemetry("a", sensor()), telemetry("b", sensor(joules=20.0))])
    assert both.metrics["power"] == pytest.approx((50 * 0.1 + 10 * 0.3) / 0.4)
