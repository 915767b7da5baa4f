"""Runs that may stop early: what is planned, in which order rows are sent, and how a settled run ends."""

import asyncio
import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from assay_chassis.bus import Subscription, open_bus
from assay_chassis.telemetry import Telemetry
from assay_contracts.envelope import Envelope, Event, envelop
from assay_contracts.eval_events import RunResponded
from assay_contracts.metrics_events import RunScored, RunSettled
from assay_evidence.statistics.sequential import evaluation_order, plan_looks
from assay_serving.testing import answers
from assay_serving.testing.endpoint import serve_endpoint
from assay_serving.testing.fixtures import ScriptedAdapterProcess
from assay_serving.testing.script import Script

ROWS = 200
METRIC = "jsonl_qa.exact_match,strict"
SHA256 = hashlib.sha256(Path(str(answers.__file__)).read_bytes()).hexdigest()
FEWSHOT = {"num_fewshot": 2}


@pytest.fixture
def adapter_address(scripted_adapter: ScriptedAdapterProcess) -> str:
    return scripted_adapter.address


class Prepared(NamedTuple):
    """A finished baseline run, and the request that it was started with."""

    baseline: str
    body: dict[str, Any]

    def candidate(self, *, rule: dict[str, Any] | None = None, **options: Any) -> dict[str, Any]:
        """The request of a run that may stop early against the baseline."""
        early_stop = {"baseline_run_id": self.baseline, "looks": 4, **(rule or {})}
        return {**self.body, "options": {**self.body["options"], **options, "early_stop": early_stop}}


async def publish(service: Any, event: Event) -> None:
    telemetry = Telemetry(service_name="metrics-svc", otlp_endpoint=None)
    envelope = envelop(event, source="/assay/metrics-svc")
    async with open_bus(service.settings.nats_url, name="metrics", telemetry=telemetry) as bus:
        await bus.publish(event.SUBJECT, envelope.model_dump_json().encode(), message_id=envelope.id)


async def prepare(service: Any, url: str, *, rows: int = ROWS) -> Prepared:
    """A baseline that has Succeeded; a worker has to be at work."""
    questions = [f"Question {number}: how many?" for number in range(rows)]
    service.peers.add_dataset("numbers", {"input": questions, "expected_output": ["12"] * rows})
    body = {
        "artifact_id": await service.artifact("scripted", uri=url, sha256=SHA256),
        "dataset_id": "ds_numbers",
        "method_id": "mth_qa",
        "options": {"concurrency": 8, **FEWSHOT},
    }
    run = await service.start(**body)
    await service.wait(run["id"], "Scoring")
    quality = {METRIC: 0.5, "jsonl_qa.exact_match_stderr,strict": 0.03, "jsonl_qa.contains,strict": 0.6}
    await publish(service, RunScored(run_id=run["id"], samples=rows, quality=quality, runtime={}))
    await service.wait(run["id"], "Succeeded")
    return Prepared(baseline=run["id"], body=body)


async def samples_of(service: Any, run_id: str) -> list[dict[str, Any]]:
    """All samples in the order of the log."""
    items: list[dict[str, Any]] = []
    parameters: dict[str, Any] = {"limit": 200}
    while True:
        page = (await service.http.get(f"/v1/evaluations/{run_id}/samples", params=parameters)).json()
        items += page["items"]
        if page["next_cursor"] is None:
            return items
        parameters["cursor"] = page["next_cursor"]


async def wait_for_samples(service: Any, run_id: str, count: int) -> None:
    async with asyncio.timeout(60):
        while (await service.run(run_id))["progress"]["samples_done"] < count:
            await asyncio.sleep(0.02)


def settled(run_id: str, baseline: str, **changes: Any) -> RunSettled:
    found = {"look": 0, "samples": 50, "outcome": "proven", **changes}
    return RunSettled(run_id=run_id, baseline_run_id=baseline, metric=METRIC, **found)


async def test_the_rule_is_frozen_in_the_plan_and_power_is_told(service: Any) -> None:
    async with serve_endpoint(Script()) as (url, _), service.working():
        prepared = await prepare(service, url)
        body = prepared.candidate(rule={"margin": 0.03, "order_seed": 9})
        answer = (await service.http.post("/v1/evaluations/plan", json=body)).json()
        plain = (await service.http.post("/v1/evaluations/plan", json=prepared.body)).json()
        run = await service.run(prepared.baseline)
    assert answer["early_stop"] == {
        "baseline_run_id": prepared.baseline,
        "metric": METRIC,
        "higher_is_better": True,
        "margin": 0.03,
        "alpha": 0.05,
        "order_seed": 9,
        "planned_samples": ROWS,
        "looks": plan_looks(ROWS, first_share=0.25, count=4),
    }
    assert answer["early_stop"]["looks"] == [50, 100, 150, 200]
    assert answer["canonical"] is False
    (deviation,) = [each for each in answer["deviations"] if each["field"] == "early_stop"]
    assert "50, 100, 150 of 200" in deviation["message"]
    assert "early_stop" not in plain
    assert "early_stop" not in plain["options"]
    assert plain["plan_hash"] != answer["plan_hash"]
    for figures in (answer["power"], plain["power"], run["power"]):
        assert (figures["samples"], figures["assumed_churn"]) == (ROWS, 0.06)
        assert 0.02 < figures["detectable_difference"] < 0.06
        numbers = [each["samples"] for each in figures["needed"]]
        assert [each["margin"] for each in figures["needed"]] == [0.01, 0.02, 0.03]
        assert numbers == sorted(numbers, reverse=True)
        assert ROWS < numbers[-1] < 500
    assert "power" not in run["plan"], "what can be shown does not decide the numbers"


async def test_what_cannot_stop_early_is_refused_by_its_field(service: Any) -> None:
    async def refused(body: dict[str, Any]) -> list[tuple[str, str]]:
        answer = await service.http.post("/v1/evaluations", json=body)
        assert answer.status_code == 422, answer.text
        return [(fault["field"], fault["message"]) for fault in answer.json()["errors"]]

    async with serve_endpoint(Script()) as (url, _), service.working():
        prepared = await prepare(service, url)
        waiting = await service.start(**prepared.candidate(limit=None))
    rule = "options.early_stop"
    cases = [
        (prepared.candidate(rule={"baseline_run_id": "run_none"}), f"{rule}.baseline_run_id", "no run"),
        (prepared.candidate(rule={"baseline_run_id": waiting["id"]}), f"{rule}.baseline_run_id", "Succeeded"),
        (prepared.candidate(limit=150, rule={"looks": 2}), f"{rule}.baseline_run_id", "options.limit"),
        (prepared.candidate(num_fewshot=1), f"{rule}.baseline_run_id", "options.num_fewshot"),
        (
            prepared.candidate(generation_kwargs={"max_gen_toks": 3}),
            f"{rule}.baseline_run_id",
            "options.generation_kwargs",
        ),
        (prepared.candidate(rule={"looks": 5}), f"{rule}.looks", "at most 4"),
        (prepared.candidate(rule={"metric": "jsonl_qa.nothing,strict"}), f"{rule}.metric", METRIC),
        (prepared.candidate(rule={"looks": 1}), f"{rule}.looks", "greater than or equal to 2"),
        (prepared.candidate(rule={"margin": 0}), f"{rule}.margin", "greater than 0"),
        (prepared.candidate(rule={"marging": 0.02}), f"{rule}.marging", "not permitted"),
    ]
    for body, field, words in cases:
        ((found, message),) = await refused(body)
        assert found == field
        assert words in message
    others = {"input": [f"Other {number}?" for number in range(ROWS)], "expected_output": ["12"] * ROWS}
    service.peers.add_dataset("other", others)
    ((field, message),) = await refused({**prepared.candidate(), "dataset_id": "ds_other"})
    assert (field, "its rows" in message) == (f"{rule}.baseline_run_id", True)


async def test_few_rows_cannot_stop_early(service: Any) -> None:
    async with serve_endpoint(Script()) as (url, _), service.working():
        prepared = await prepare(service, url, rows=99)
        answer = await service.http.post("/v1/evaluations", json=prepared.candidate(rule={"looks": 2}))
    assert answer.status_code == 422
    assert [fault["field"] for fault in answer.json()["errors"]] == ["options.limit"]


async def test_a_group_is_watched_by_a_metric_of_all_its_tasks(service: Any) -> None:
    tasks = ["wmdp_bio", "wmdp_chem", "wmdp_cyber"]
    for name in tasks:
        questions = [f"Which of these is number {number} of {name}?" for number in range(40)]
        choices = [[f"{name} {number}", "a", "b", "c"] for number in range(40)]
        columns = {"question": questions, "choices": choices, "answer": [0] * 40}
        service.peers.add_dataset(name, columns)
    service.peers.add_method("group", {"template": "builtin-lm-eval", "task": "wmdp"})
    async with serve_endpoint(Script()) as (url, _), service.working():
        body = {
            "artifact_id": await service.artifact("scripted", uri=url, sha256=SHA256),
            "method_id": "mth_group",
            "member_datasets": {task: f"ds_{task}" for task in tasks},
            "options": {"concurrency": 8},
        }
        baselines = []
        for named in (["wmdp", *tasks], tasks):
            run = await service.start(**body)
            await service.wait(run["id"], "Scoring")
            quality = {f"{name}.acc,none": 0.25 for name in named}
            await publish(service, RunScored(run_id=run["id"], samples=120, quality=quality, runtime={}))
            await service.wait(run["id"], "Succeeded")
            baselines.append(run["id"])
        both, members_only = (Prepared(baseline, body) for baseline in baselines)
        found = await service.start(**both.candidate(rule={"looks": 2}))
        found = await service.wait(found["id"], "Scoring")
        samples = await samples_of(service, found["id"])
        path = "/v1/evaluations/plan"
        of_a_member = both.candidate(rule={"looks": 2, "metric": "wmdp_bio.acc,none"})
        member = (await service.http.post(path, json=of_a_member)).json()
        without = (await service.http.post(path, json=members_only.candidate(rule={"looks": 2}))).json()
    rule = found["plan"]["early_stop"]
    assert (rule["metric"], rule["looks"], rule["planned_samples"]) == ("wmdp.acc,none", [60, 120], 120)
    assert {sample["task"] for sample in samples[:30]} == set(tasks), "tasks are mixed"
    counts = {"samples_total": 40, "samples_done": 40, "samples_failed": 0}
    assert found["progress"]["members"] == [{"task": task, **counts} for task in tasks]
    assert sorted(sample["index"] for sample in samples) == list(range(120))
    assert [fault["field"] for fault in member["errors"]] == ["options.early_stop.metric"]
    assert [fault["field"] for fault in without["errors"]] == ["options.early_stop"]


async def test_rows_are_sent_in_the_planned_order_with_the_same_prompts(service: Any) -> None:
    async with serve_endpoint(Script()) as (url, _), service.working():
        prepared = await prepare(service, url)
        run = await service.start(**prepared.candidate(concurrency=1))
        run = await service.wait(run["id"], "Scoring")
        baseline = await samples_of(service, prepared.baseline)
        found = await samples_of(service, run["id"])
        late = settled(run["id"], prepared.baseline)
        await publish(service, late)
        await publish(service, RunScored(run_id=run["id"], samples=ROWS, quality={METRIC: 0.5}, runtime={}))
        run = await service.wait(run["id"], "Succeeded")
    assert [sample["index"] for sample in found] == evaluation_order(ROWS, 1).tolist()
    assert [sample["index"] for sample in found] != sorted(sample["index"] for sample in found)
    hashes = ("doc_hash", "prompt_hash", "target_hash")
    by_index = {sample["index"]: sample for sample in baseline}
    for sample in found:
        assert [sample[name] for name in hashes] == [by_index[sample["index"]][name] for name in hashes]
        assert sample["requests"][0]["response"] == by_index[sample["index"]]["requests"][0]["response"]
    assert run["stopped_early"] is None, "the look came when all was done"
    assert run["progress"]["samples_done"] == ROWS


async def test_a_settled_run_ends_with_the_samples_that_it_has(service: Any) -> None:
    responded: list[RunResponded] = []

    async def listen(_: Envelope, event: Event) -> None:
        if isinstance(event, RunResponded):
            responded.append(event)

    telemetry = Telemetry(service_name="listener", otlp_endpoint=None)
    subscription = Subscription("ASSAY_EVAL", "listener", (RunResponded.SUBJECT,), listen)
    async with serve_endpoint(Script()) as (url, _), service.working():
        prepared = await prepare(service, url)
    slow = Script(first_token=0.2, chunks=1)
    async with (
        serve_endpoint(slow) as (url, statistics),
        service.working(),
        open_bus(service.settings.nats_url, name="listener", telemetry=telemetry) as bus,
    ):
        listening = asyncio.create_task(bus.run(subscription))
        artifact = await service.artifact("slow", uri=url, sha256=SHA256)
        body = {**prepared.candidate(concurrency=4), "artifact_id": artifact}
        run = await service.start(**body)
        await wait_for_samples(service, run["id"], 50)
        for _ in range(2):
            await publish(service, settled(run["id"], prepared.baseline, outcome="hopeless"))
        run = await service.wait(run["id"], "Scoring")
        asked = statistics.requests
        samples = await samples_of(service, run["id"])
        await publish(service, settled(run["id"], prepared.baseline, look=1, samples=100))
        quality = {METRIC: 0.5}
        await publish(service, RunScored(run_id=run["id"], samples=len(samples), quality=quality, runtime={}))
        run = await service.wait(run["id"], "Succeeded")
        async with asyncio.timeout(20):
            while run["id"] not in (found := {event.run_id: event for event in responded}):
                await asyncio.sleep(0.05)
        listening.cancel()
        blocks = found[run["id"]].blocks
        beyond = await service.http.get(f"/v1/evaluations/{run['id']}/blocks/{blocks}")
        refused = await service.http.post(
            "/v1/evaluations", json=prepared.candidate(rule={"baseline_run_id": run["id"]})
        )
    assert run["stopped_early"] == {"look": 0, "samples": 50, "outcome": "hopeless"}
    assert 50 <= len(samples) < ROWS
    assert run["progress"]["samples_done"] == len(samples)
    assert run["progress"]["samples_total"] == ROWS
    assert statistics.requests == asked, "nothing is sent once the run is over"
    order = evaluation_order(ROWS, 1).tolist()
    assert {sample["index"] for sample in samples} <= set(order[: len(samples) + 8])
    event = found[run["id"]]
    assert (event.samples, event.failed_samples) == (len(samples), 0)
    told = (event.early_stop_look, event.early_stop_samples, event.early_stop_outcome)
    assert told == (0, 50, "hopeless")
    assert beyond.status_code == 404
    assert refused.status_code == 422
    assert "stopped early itself" in refused.json()["detail"]


@pytest.mark.parametrize("meanwhile", ["cancelled", "worker gone"])
async def test_a_run_that_was_settled_while_nobody_worked_ends_at_once(service: Any, meanwhile: str) -> None:
    async with serve_endpoint(Script()) as (url, _), service.working():
        prepared = await prepare(service, url)
    async with serve_endpoint(Script(first_token=0.2, chunks=1)) as (url, statistics):
        artifact = await service.artifact("slow", uri=url, sha256=SHA256)
        async with service.working():
            run = await service.start(**{**prepared.candidate(concurrency=4), "artifact_id": artifact})
            await wait_for_samples(service, run["id"], 50)
            if meanwhile == "cancelled":
                await service.http.post(f"/v1/evaluations/{run['id']}/cancel")
                async with asyncio.timeout(30):
                    while (await service.run(run["id"]))["state"] != "Cancelled":
                        await asyncio.sleep(0.05)
        asked = statistics.requests
        samples = await samples_of(service, run["id"])
        await publish(service, settled(run["id"], prepared.baseline))
        await asyncio.sleep(0.5)
        if meanwhile == "cancelled":
            assert (await service.run(run["id"]))["state"] == "Cancelled", "a look does not revive a run"
            await service.http.post(f"/v1/evaluations/{run['id']}/resume")
        async with service.working():
            run = await service.wait(run["id"], "Scoring")
    assert run["stopped_early"] == {"look": 0, "samples": 50, "outcome": "proven"}
    assert len(run["serving"]) == 1
    assert statistics.requests == asked
    assert await samples_of(service, run["id"]) == samples
