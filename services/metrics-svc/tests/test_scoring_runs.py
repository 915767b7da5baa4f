"""Runs scored by metrics-svc on real servers, with the real harness, through failures."""

import asyncio
import hashlib
import time
from typing import Any

import httpx
import pytest

from assay_contracts.eval_events import RunCancelled
from assay_contracts.metrics_events import RunScored, ScoringFailed

ROWS = [{"question": f"What is {number} + 3?", "answer": str(number + 3)} for number in range(40)]


def mostly_right(document: Any, *, of: int = 3, salt: str = "") -> list[str]:
    """Right for some two thirds of the documents, always the same ones."""
    digest = hashlib.sha256(f"{salt}{document.prompt_hash}".encode()).digest()
    return [document.target if digest[0] % of else "no idea"]


async def settled(client: httpx.AsyncClient, run_id: str, *, state: str = "final") -> dict[str, Any]:
    deadline = time.monotonic() + 90
    while True:
        response = await client.get(f"/v1/metrics/runs/{run_id}")
        assert response.status_code == 200, response.text
        metrics: dict[str, Any] = response.json()
        if metrics["state"] == state:
            return metrics
        assert time.monotonic() < deadline, metrics
        await asyncio.sleep(0.05)


def comparable(metrics: dict[str, Any]) -> dict[str, Any]:
    return {
        name: value for name, value in metrics.items() if name not in ("finished_at", "run_id", "subject")
    }


async def test_a_run_gets_lm_evals_numbers_and_runtime_metrics(platform: Any) -> None:
    run = await platform.maker.make(ROWS, mostly_right)
    async with platform.service() as client:
        unknown = await client.get("/v1/metrics/runs/run_none")
        assert unknown.status_code == 404
        before = (await client.get(f"/v1/metrics/runs/{run.id}")).json()
        assert (before["state"], before["samples_scored"], before["runtime"]) == ("scoring", 0, {})
        for event in run.events:
            await platform.tell(event)
        metrics = await settled(client, run.id)
        right = f"/v1/metrics/runs/{run.id}/samples?metric=jsonl_qa.exact_match,strict&correct=true&limit=200"
        page = (await client.get(right)).json()
        first = (await client.get(f"/v1/metrics/runs/{run.id}/samples?limit=30")).json()
        rest = (
            await client.get(
                f"/v1/metrics/runs/{run.id}/samples", params={"limit": 30, "cursor": first["next_cursor"]}
            )
        ).json()
        refused = await client.get(f"/v1/metrics/runs/{run.id}/samples?correct=true")
    assert metrics["quality"] == run.expected.metrics
    assert metrics["higher_is_better"] == run.expected.higher_is_better
    assert (metrics["samples_scored"], metrics["samples_failed"], metrics["samples_expected"]) == (40, 0, 40)
    assert metrics["runtime"]["ttftP50"] == 0.003
    assert metrics["runtime"]["itlP99"] == 0.002
    assert metrics["runtime"]["tps"] == 80 / (40 * 0.008)
    assert metrics["runtime"]["power"] is None
    assert metrics["runtime_details"]["power"]["reasons"] == ["no sensor here"]
    assert metrics["runtime_details"]["ttft"]["p99"]["at_least"]
    score = metrics["quality"]["jsonl_qa.exact_match,strict"]
    assert 0 < score < 1
    estimates = metrics["runtime_details"]["estimates"]
    assert list(estimates) == list(metrics["runtime"])
    assert estimates["ttftP50"]["low"] == estimates["ttftP50"]["high"] == 0.003
    assert estimates["errorRate"]["n"] == 40
    assert metrics["runtime_details"]["null_reasons"]["goodput"] == "no bounds given"
    assert len(page["items"]) == round(score * 40)
    assert all(item["response"] == item["target"] for item in page["items"])
    assert sorted(item["index"] for item in first["items"] + rest["items"]) == list(range(40))
    assert rest["next_cursor"] is None
    assert refused.status_code == 422
    assert "jsonl_qa.exact_match,strict" in refused.json()["errors"][0]["message"]
    (scored,) = await platform.published(RunScored.SUBJECT)
    assert scored.quality == metrics["quality"]
    assert scored.runtime == metrics["runtime"]
    assert scored.samples == 40


async def test_events_twice_and_in_any_order_give_the_same(platform: Any) -> None:
    orderly = await platform.maker.make(ROWS, mostly_right)
    chaotic = await platform.maker.make(ROWS, mostly_right)
    async with platform.service() as client:
        for event in orderly.events:
            await platform.tell(event)
        for event in reversed(chaotic.events):
            name = await platform.tell(event)
            await platform.tell(event, event_id=name)
        expected = await settled(client, orderly.id)
        found = await settled(client, chaotic.id)
        name = await platform.tell(chaotic.events[-1])
        await platform.tell(chaotic.events[0])
        await platform.tell(chaotic.events[-1], event_id=name)
        await asyncio.sleep(0.5)
    assert comparable(found) == comparable(expected)
    scored = await platform.published(RunScored.SUBJECT)
    assert sorted(event.run_id for event in scored) == sorted((orderly.id, chaotic.id))


async def test_live_numbers_cancel_and_resume(platform: Any) -> None:
    run = await platform.maker.make(ROWS, mostly_right)
    async with platform.service() as client:
        for event in run.events[:2]:
            await platform.tell(event)
        deadline = time.monotonic() + 60
        live: dict[str, Any] = {}
        while live.get("samples_scored") != 16:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
            live = (await client.get(f"/v1/metrics/runs/{run.id}")).json()
        samples = (await client.get(f"/v1/metrics/runs/{run.id}/samples?limit=200")).json()["items"]
        await platform.tell(
            RunCancelled(
                **{
                    name: getattr(run.events[-1], name)
                    for name in run.events[-1].model_fields_set
                    if name not in ("blocks", "samples", "failed_samples")
                },
                cancelled_by="somebody",
            )
        )
        cancelled = await settled(client, run.id, state="failed")
        for event in run.events[2:]:
            await platform.tell(event)
        final = await settled(client, run.id)
    key = "jsonl_qa.exact_match,strict"
    assert live["state"] == "scoring"
    assert live["quality"][key] == sum(sample["values"][key] for sample in samples) / 16
    assert live["runtime"]["ttftP50"] == 0.003
    assert cancelled["error"]["code"] == "run-cancelled"
    assert final["quality"] == run.expected.metrics
    assert final["error"] is None
    assert [event.run_id for event in await platform.published(RunScored.SUBJECT)] == [run.id]


def half_failed(document: Any) -> list[str] | None:
    return mostly_right(document) if document.index % 2 else None


async def test_failed_samples_count_as_the_run_says(platform: Any) -> None:
    zero = await platform.maker.make(ROWS, half_failed)
    left_out = await platform.maker.make(ROWS, half_failed, on_failure="exclude")
    forbidden = await platform.maker.make(ROWS, half_failed, on_failure="fail")
    wrong = await platform.maker.make(
        ROWS, lambda document: mostly_right(document) if document.index % 2 else ["nothing like it"]
    )
    async with platform.service() as client:
        for run in (zero, left_out, forbidden, wrong):
            for event in run.events:
                await platform.tell(event)
        as_zero = await settled(client, zero.id)
        excluded = await settled(client, left_out.id)
        failed = await settled(client, forbidden.id, state="failed")
        samples = (await client.get(f"/v1/metrics/runs/{zero.id}/samples?limit=200")).json()["items"]
    assert (as_zero["samples_scored"], as_zero["samples_failed"]) == (20, 20)
    # The same numbers as if the model had answered with something entirely wrong.
    assert as_zero["quality"] == wrong.expected.metrics
    assert excluded["quality"] == left_out.expected.metrics
    assert excluded["quality"] != as_zero["quality"]
    assert failed["error"]["code"] == "samples-failed"
    nothing = [sample for sample in samples if sample["status"] == "failed"]
    assert len(nothing) == 20
    assert {value for sample in nothing for value in sample["values"].values()} == {0.0}
    (event,) = await platform.published(ScoringFailed.SUBJECT)
    assert (event.run_id, event.code) == (forbidden.id, "samples-failed")


async def test_a_run_that_cannot_be_scored_says_why(platform: Any) -> None:
    changed = await platform.maker.make(ROWS, mostly_right)
    platform.peers.runs[changed.id]["plan"]["task"]["config_sha256"] = "f" * 64
    short = await platform.maker.make(ROWS, mostly_right)
    platform.peers.blocks[short.id][1].pop()
    twice = await platform.maker.make(ROWS, mostly_right)
    platform.peers.blocks[twice.id][2][0] = platform.peers.blocks[twice.id][0][0]
    codes = {}
    async with platform.service() as client:
        for run in (changed, short, twice):
            for event in run.events:
                await platform.tell(event)
            codes[run.id] = (await settled(client, run.id, state="failed"))["error"]["code"]
    assert list(codes.values()) == ["task-changed", "incomplete-log", "repeated-sample"]
    events = await platform.published(ScoringFailed.SUBJECT)
    assert {event.run_id: event.code for event in events} == codes
    assert not await platform.published(RunScored.SUBJECT)


async def test_scoring_resumes_when_the_responses_are_announced_again(platform: Any) -> None:
    run = await platform.maker.make(ROWS, mostly_right)
    lost = platform.peers.blocks[run.id][4].pop()
    async with platform.service() as client:
        for event in run.events:
            await platform.tell(event)
        await settled(client, run.id, state="failed")
        # The run is resumed: what was missing arrives in a block of its own.
        platform.peers.blocks[run.id].append([lost])
        await platform.tell(run.events[-1].model_copy(update={"blocks": run.blocks + 1}))
        final = await settled(client, run.id)
    assert final["quality"] == run.expected.metrics


@pytest.mark.slow
async def test_kill_9_in_the_middle_changes_no_number(platform: Any) -> None:
    run = await platform.maker.make(ROWS, mostly_right)
    undisturbed = await platform.maker.make(ROWS, mostly_right)
    await platform.kill_in_the_middle(run.events, asked_for=f"{run.id}:2")
    async with platform.service() as client:
        for event in undisturbed.events:
            await platform.tell(event)
        expected = await settled(client, undisturbed.id)
        found = await settled(client, run.id)
    assert comparable(found) == comparable(expected)
    assert found["quality"] == run.expected.metrics
    assert platform.peers.served[f"{run.id}:0"] == 1  # what was scored before the kill was kept
    assert len(await platform.published(RunScored.SUBJECT)) == 2


async def test_store_and_bus_may_die_in_the_middle(platform: Any) -> None:
    run = await platform.maker.make(ROWS, mostly_right)
    platform.peers.held = 2
    platform.peers.gate.clear()
    async with platform.service() as client:
        for event in run.events[:3]:
            await platform.tell(event)
        deadline = time.monotonic() + 60
        while platform.peers.served[f"{run.id}:1"] == 0:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        platform.mongo.kill()
        platform.peers.gate.set()
        await asyncio.sleep(0.3)
        await asyncio.to_thread(platform.mongo.restart)
        platform.nats.kill()
        await asyncio.to_thread(platform.nats.restart)
        for event in run.events[3:]:
            await _insist(platform, event)
        final = await settled(client, run.id)
    assert final["quality"] == run.expected.metrics
    assert final["samples_scored"] == 40
    deadline = time.monotonic() + 20
    while len(await platform.published(RunScored.SUBJECT)) != 1:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.1)


async def _insist(platform: Any, event: Any) -> None:
    for _ in range(20):
        try:
            await platform.tell(event)
        except Exception:  # noqa: BLE001 - the connection may still be coming back
            await asyncio.sleep(0.2)
        else:
            return
    raise AssertionError("the bus did not come back")


async def test_a_slow_run_does_not_keep_others_from_their_numbers(platform: Any) -> None:
    slow = await platform.maker.make(ROWS, mostly_right)
    quick = [await platform.maker.make(ROWS, mostly_right) for _ in range(2)]
    async with platform.service(scoring_slots=1, scoring_idle_s=600) as client:
        await platform.tell(slow.events[0])
        deadline = time.monotonic() + 60
        while (await client.get(f"/v1/metrics/runs/{slow.id}")).json()["samples_scored"] == 0:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        for run in quick:
            for event in run.events:
                await platform.tell(event)
        for run in quick:
            await settled(client, run.id)
        for event in slow.events[1:]:
            await platform.tell(event)
        assert (await settled(client, slow.id))["quality"] == slow.expected.metrics
