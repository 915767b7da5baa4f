"""A comparison's runtime values are those of the run's own report."""

import random
from pathlib import Path
from typing import Any

import pytest

from assay_evidence.facts import RunFacts
from assay_evidence.report import ComparisonSettings
from assay_evidence.runtime import compare_runtime
from assay_evidence.runtime.telemetry import InstanceTelemetry
from assay_evidence.tables import EvidenceWriter, RunEvidence, read_run
from assay_evidence.testing import synthetic_facts
from assay_harness.results import DocumentScore
from metrics_svc.domain.evidence import sample_rows
from metrics_svc.domain.runtime.tally import RuntimeTally
from metrics_svc.domain.samples import RequestRecord, RequestTimes, SampleRecord, ScoredSample

METRIC = "quiz.exact_match,none"
SECOND = 1_000_000_000


def request(numbers: random.Random, *, clock: dict[str, int], kind: str) -> RequestRecord:
    """A request like those of a real run: some fail, some are reused, some tokens share a read."""
    instance = numbers.choice(sorted(clock))
    clock[instance] += numbers.randrange(1, 30_000_000)
    sent = clock[instance]
    fate = numbers.random()
    if fate < 0.03:
        return RequestRecord.model_validate({"index": 0, "kind": kind, "prompt": "p", "retries": 3})
    tokens = numbers.randrange(0, 25) if kind == "generate" else 0
    offsets, at = [], numbers.randrange(20_000, 90_000)
    for _ in range(tokens):
        offsets.append(at)
        at += numbers.choice((0, 8_000, numbers.randrange(1, 40_000), 300_000))
    times = RequestTimes(
        received_ns=sent - 1000,
        sent_ns=sent,
        first_token_ns=sent + offsets[0] * 1000 if offsets else 0,
        done_ns=sent + at * 1000 + numbers.randrange(5_000_000),
        token_offsets_us=offsets,
        stamp_source="kernel",
        exact_token_times=numbers.random() < 0.9,
    )
    failed, reused = fate < 0.06, fate > 0.95
    return RequestRecord.model_validate(
        {
            "index": 0,
            "kind": kind,
            "prompt": "p",
            "continuation": None if kind == "generate" else "c",
            "response": "x" if kind == "generate" and not failed else None,
            "log_probability": -1.0 if kind == "loglikelihood" and not failed else None,
            "is_greedy": False,
            "prompt_tokens": 10,
            "completion_tokens": tokens,
            "instance_id": instance,
            "times": None if reused else times,
            "reused_from": {"index": 0, "request": 0} if reused else None,
        }
    )


def make_run(
    directory: Path, *, name: str, seed: int, samples: int, kind: str, telemetry: list[dict[str, Any]]
) -> tuple[RunEvidence, RuntimeTally, list[ScoredSample]]:
    numbers = random.Random(seed)
    clock = {one["instance_id"]: numbers.randrange(1, 10**15) for one in telemetry}
    scored = []
    for index in range(samples):
        one = request(numbers, clock=clock, kind=kind)
        record = SampleRecord(
            index=index,
            doc_hash=f"{index:064x}",
            prompt_hash="ab" * 32,
            target_hash="cd" * 32,
            target="t",
            status="ok",
            requests=[one],
        )
        value = float(numbers.random() < 0.6)
        scored.append(ScoredSample(record=record, score=score(value)))
    tally = RuntimeTally()
    numbers.shuffle(scored)
    tally.add(sample.record for sample in scored)
    (directory / name).mkdir()
    writer = EvidenceWriter(directory / name)
    for block, start in enumerate(range(0, samples, 64)):
        writer.add(sample_rows(scored[start : start + 64], block=block, task="quiz"))
    files = writer.close()
    facts: RunFacts = synthetic_facts(
        run_id=name,
        task="quiz",
        quality={},
        higher_is_better={METRIC: True},
        sample_metrics=[METRIC],
        samples=samples,
    )
    facts = facts.model_copy(update={"telemetry": telemetry})
    return read_run(facts, files.samples, files.requests), tally, scored


def score(value: float) -> DocumentScore:
    return DocumentScore(
        index=0, values={"exact_match,none": value}, number_types={}, filtered={"none": ["x"]}
    )


def counter(instance: str, watts: float) -> dict[str, Any]:
    return {
        "instance_id": instance,
        "power": [
            {
                "sensor": "nvml_energy",
                "device_id": "0",
                "scope": "card",
                "joules": watts * 30,
                "seconds": 30.0,
                "readings": 61,
                "method": "counter",
            }
        ],
    }


@pytest.mark.parametrize("kind", ["generate", "loglikelihood"])
def test_values_equal_those_of_the_runs_own_report(tmp_path: Path, kind: str) -> None:
    # Two cards, one of them read twice over, and a processor, which does not count beside cards.
    several = counter("b", 80.0)
    counted = several["power"][0]
    several["power"] += [
        counted | {"method": "integrated", "sensor": "nvml_power", "joules": 1.0},
        counted | {"device_id": "1", "joules": 700.0, "seconds": 25.0},
        counted | {"device_id": "cpu", "scope": "package", "joules": 9000.0},
    ]
    telemetry = [counter("a", 50.0), several]
    runs = [
        make_run(tmp_path, name=name, seed=seed, samples=700, kind=kind, telemetry=telemetry)
        for seed, name in enumerate(("first", "second"))
    ]
    compared = {
        one.metric: one for one in compare_runtime(runs[0][0], runs[1][0], settings=ComparisonSettings())
    }
    for side, (_, tally, scored) in zip(("baseline", "candidate"), runs, strict=True):
        report = tally.report([InstanceTelemetry.model_validate(one) for one in telemetry])
        for metric in report.metrics.keys() & compared.keys():
            value, found = report.metrics[metric], getattr(compared[metric], side)
            assert found == (value if value is None else pytest.approx(value, rel=1e-12)), metric
        assert report.metrics["power"] is not None
        assert report.details.window_s > 0
        correct = sum(
            1
            for sample in scored
            if sample.score is not None
            and sample.score.numbers["exact_match,none"] == 1.0
            and any(
                one.times is not None and (one.response or one.log_probability is not None)
                for one in sample.record.requests
            )
        )
        spent = report.metrics["power"] * report.details.window_s
        per_answer = getattr(compared["joulesPerCorrectAnswer"], side)
        assert per_answer == pytest.approx(spent / correct)
        if kind == "generate":
            assert getattr(compared["joulesPerToken"], side) == pytest.approx(
                spent / report.details.output_tokens
            )
            for metric, value in report.metrics.items():
                if metric[:3] in {"ttf", "itl"}:
                    assert getattr(compared[metric], side) == value, "bit by bit"


def test_why_there_is_no_value_is_said_as_in_the_report(tmp_path: Path) -> None:
    unavailable = [{"instance_id": "a", "power": None, "unavailable": ["rapl: no counter"]}]
    evidence, tally, _ = make_run(
        tmp_path, name="run", seed=3, samples=100, kind="loglikelihood", telemetry=unavailable
    )
    report = tally.report([InstanceTelemetry.model_validate(unavailable[0])])
    compared = {one.metric: one for one in compare_runtime(evidence, evidence, settings=ComparisonSettings())}
    for metric in report.details.null_reasons.keys() & compared.keys():
        assert compared[metric].baseline is None
        assert compared[metric].ratio is None
        if metric != "coldStart":  # the comparison has what the run's final report recorded
            assert compared[metric].note == report.details.null_reasons[metric]
    assert compared["coldStart"].note == "not recorded"
    assert compared["goodput"].note == "no bounds given"
    assert compared["power"].note == "not measured: rapl: no counter"
