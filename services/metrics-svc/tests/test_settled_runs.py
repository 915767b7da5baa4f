"""Runs that may stop early, followed by metrics-svc on real servers with the real harness."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from assay_chassis.store import open_store
from assay_contracts.eval_events import RunResponded
from assay_contracts.metrics_events import RunScored, RunSettled
from assay_evidence.statistics.sequential import evaluation_order
from metrics_svc.domain.evidence import ViewEvidence
from metrics_svc.service.evidence import EvidenceService
from metrics_svc.store import MetricsStore

ROWS = [{"question": f"What is {number} + 3?", "answer": str(number + 3)} for number in range(240)]
STRICT = "jsonl_qa.exact_match,strict"
BLOCK = 8
LOOK_BLOCKS = 15


def mostly_right(document: Any) -> list[str]:
    digest = hashlib.sha256(document.prompt_hash.encode()).digest()
    return [document.target if digest[0] % 3 else "no idea"]


def always_wrong(document: Any) -> list[str]:
    return ["no idea"]


@asynccontextmanager
async def opened(platform: Any) -> AsyncIterator[MetricsStore]:
    async with open_store(platform.mongo.uri, database="metrics_svc", patience=10) as store:
        yield await MetricsStore.open(store)


async def facts_of(platform: Any, view_id: str) -> ViewEvidence:
    async with opened(platform) as store:
        view = await store.scorings.get(view_id)
        assert view is not None
        service = EvidenceService(store=store, runs=None, release="unused")  # type: ignore[arg-type]
        return await service.get(view["evidence_id"])


async def until_scored(client: httpx.AsyncClient, run_id: str, count: int, *, state: str = "scoring") -> Any:
    deadline = time.monotonic() + 90
    while True:
        metrics = (await client.get(f"/v1/metrics/runs/{run_id}")).json()
        if (metrics["samples_scored"], metrics["state"]) == (count, state):
            return metrics
        assert time.monotonic() < deadline, metrics
        await asyncio.sleep(0.05)


async def until_settled(platform: Any, count: int) -> list[Any]:
    deadline = time.monotonic() + 60
    while len(events := await platform.published(RunSettled.SUBJECT)) < count:
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)
    return list(events)


async def prepare(platform: Any, answers: Any, **changes: Any) -> tuple[Any, Any]:
    """A baseline, and a candidate whose log is in the order of its plan; their events are not told yet."""
    baseline = await platform.maker.make(ROWS, mostly_right)
    candidate = await platform.maker.make(ROWS, answers, artifact="other")
    platform.peers.runs[candidate.id]["plan"]["early_stop"] = {
        "baseline_run_id": baseline.id,
        "metric": STRICT,
        "higher_is_better": True,
        "margin": 0.1,
        "alpha": 0.05,
        "order_seed": 3,
        "planned_samples": len(ROWS),
        "looks": [BLOCK * LOOK_BLOCKS, len(ROWS)],
        **changes,
    }
    by_index = {sample["index"]: sample for block in platform.peers.blocks[candidate.id] for sample in block}
    log = [by_index[index] for index in evaluation_order(len(ROWS), 3).tolist()]
    # Inside a block the order is that of completion.
    blocks = [log[start : start + BLOCK][::-1] for start in range(0, len(log), BLOCK)]
    platform.peers.blocks[candidate.id] = blocks
    return baseline, candidate


def responded(run: Any, *, blocks: int) -> RunResponded:
    return run.events[-1].model_copy(update={"blocks": blocks, "samples": blocks * BLOCK})


async def test_a_look_settles_once_and_the_run_ends_with_what_it_has(platform: Any) -> None:
    baseline, candidate = await prepare(platform, mostly_right)
    async with platform.service() as client:
        for event in baseline.events:
            await platform.tell(event)
        await until_scored(client, baseline.id, len(ROWS), state="final")
        for event in candidate.events[: LOOK_BLOCKS - 1]:
            await platform.tell(event)
        await until_scored(client, candidate.id, (LOOK_BLOCKS - 1) * BLOCK)
        assert await platform.published(RunSettled.SUBJECT) == []
    # What was scored before counts for the scorer that comes after.
    async with platform.service() as client:
        await platform.tell(candidate.events[LOOK_BLOCKS - 1])
        (told,) = await until_settled(platform, 1)
    async with platform.service() as client:
        await platform.tell(candidate.events[LOOK_BLOCKS])
        await until_scored(client, candidate.id, (LOOK_BLOCKS + 1) * BLOCK)
        assert await until_settled(platform, 1) == [told]
        stopped = {"look": told.look, "samples": told.samples, "outcome": told.outcome}
        platform.peers.runs[candidate.id]["stopped_early"] = stopped
        await platform.tell(responded(candidate, blocks=LOOK_BLOCKS + 1))
        metrics = await until_scored(client, candidate.id, (LOOK_BLOCKS + 1) * BLOCK, state="final")
    assert told == RunSettled(
        run_id=candidate.id,
        baseline_run_id=baseline.id,
        metric=STRICT,
        look=0,
        samples=LOOK_BLOCKS * BLOCK,
        outcome="proven",
    )
    log = [sample for block in platform.peers.blocks[candidate.id][: LOOK_BLOCKS + 1] for sample in block]
    right = sum(sample["requests"][0]["response"] == sample["target"] for sample in log)
    assert metrics["quality"][STRICT] == right / len(log)
    assert metrics["samples_expected"] == len(log)
    scored = [event for event in await platform.published(RunScored.SUBJECT) if event.run_id == candidate.id]
    assert [event.samples for event in scored] == [len(log)]
    facts = (await facts_of(platform, candidate.id)).facts
    assert facts.early_stop is not None
    assert (facts.early_stop.stopped_at_look, facts.early_stop.outcome) == (0, "proven")
    assert facts.samples_expected == len(log)
    assert (await facts_of(platform, baseline.id)).facts.early_stop is None


async def test_a_worse_candidate_is_hopeless_and_a_close_one_goes_to_its_end(platform: Any) -> None:
    _, worse = pair = await prepare(platform, always_wrong)
    other, close = await prepare(platform, mostly_right, margin=0.001)
    async with platform.service() as client:
        for baseline in (pair[0], other):
            for event in baseline.events:
                await platform.tell(event)
            await until_scored(client, baseline.id, len(ROWS), state="final")
        for event in worse.events[:-1]:
            await platform.tell(event)
        (told,) = await until_settled(platform, 1)
        for event in close.events:
            await platform.tell(event)
        await until_scored(client, close.id, len(ROWS), state="final")
        assert await until_settled(platform, 1) == [told]
    assert (told.run_id, told.look, told.outcome) == (worse.id, 0, "hopeless")
    facts = (await facts_of(platform, close.id)).facts
    assert facts.early_stop is not None
    assert (facts.early_stop.stopped_at_look, facts.early_stop.outcome) == (None, "completed")


async def test_without_a_scored_baseline_a_run_goes_to_its_end(platform: Any) -> None:
    _, candidate = await prepare(platform, mostly_right)
    async with platform.service() as client:
        for event in candidate.events:
            await platform.tell(event)
        metrics = await until_scored(client, candidate.id, len(ROWS), state="final")
        assert await platform.published(RunSettled.SUBJECT) == []
    assert metrics["quality"] == candidate.expected.metrics
