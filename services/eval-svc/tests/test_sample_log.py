import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from assay_chassis.leases import LeaseLost
from assay_chassis.store import open_store
from eval_svc.domain import RunProgress
from eval_svc.store import EvalStore, SampleLog


def sample(index: int, status: str = "ok") -> dict[str, Any]:
    return {"index": index, "status": status, "requests": []}


@pytest.fixture
async def store(mongo_uri: str, database_name: str) -> AsyncIterator[EvalStore]:
    async with open_store(mongo_uri, database=database_name, patience=10) as opened:
        yield await EvalStore.open(opened)


async def test_a_new_log_is_empty_and_grows_block_by_block(store: EvalStore) -> None:
    log = SampleLog(store.blocks, run_id="run_a")
    assert await log.summary() == (0, set(), set())
    await log.append(0, [sample(0), sample(2, "failed")], events=())
    await log.append(1, [sample(1)], events=())
    await SampleLog(store.blocks, run_id="run_b").append(0, [sample(9)], events=())
    assert await log.summary() == (2, {0, 1, 2}, {2})


async def test_a_block_is_written_by_one_worker_only(store: EvalStore) -> None:
    first, second = (SampleLog(store.blocks, run_id="run_a") for _ in range(2))
    outcomes = await asyncio.gather(
        first.append(0, [sample(0)], events=()),
        second.append(0, [sample(0)], events=()),
        return_exceptions=True,
    )
    assert sum(isinstance(outcome, LeaseLost) for outcome in outcomes) == 1
    assert await first.summary() == (1, {0}, set())


async def test_an_overtaken_worker_cannot_add_a_sample_that_its_successor_has(store: EvalStore) -> None:
    paused = SampleLog(store.blocks, run_id="run_a")
    await paused.append(0, [sample(0)], events=())
    successor = SampleLog(store.blocks, run_id="run_a")
    blocks, finished, _ = await successor.summary()
    await successor.append(blocks, [sample(index) for index in (1, 2) if index not in finished], events=())
    with pytest.raises(LeaseLost):
        await paused.append(1, [sample(1)], events=())
    assert await successor.summary() == (2, {0, 1, 2}, set())


async def test_long_logs_are_read_in_order(store: EvalStore) -> None:
    log = SampleLog(store.blocks, run_id="run_a")
    for block in range(120):
        await log.append(block, [sample(block)], events=())
    page = await log.page(after=None, limit=3)
    assert [document["block"] for document in page.items] == [0, 1, 2]
    assert (await log.summary())[0] == 120


async def test_a_sealed_log_takes_nothing_more_and_stays_what_it_was(store: EvalStore) -> None:
    log, overtaken = (SampleLog(store.blocks, run_id="run_a") for _ in range(2))
    await log.append(0, [sample(0), sample(2, "failed")], events=())
    assert await log.seal() == (1, {0, 2}, {2})
    with pytest.raises(LeaseLost):
        await overtaken.append(1, [sample(1)], events=())
    assert await overtaken.seal() == await log.summary() == (1, {0, 2}, {2})
    assert await log.block(1) is None
    empty = SampleLog(store.blocks, run_id="run_b")
    assert await empty.seal() == (0, set(), set())


async def test_a_block_on_its_way_is_before_the_seal_or_refused(store: EvalStore) -> None:
    for attempt in range(20):
        log = SampleLog(store.blocks, run_id=f"run_{attempt}")
        await log.append(0, [sample(0)], events=())
        late, sealed = await asyncio.gather(
            log.append(1, [sample(1)], events=()), log.seal(), return_exceptions=True
        )
        expected = (1, {0}, set()) if isinstance(late, LeaseLost) else (2, {0, 1}, set())
        assert sealed == expected == await log.summary()


def test_progress_is_counted_by_task_of_a_group() -> None:
    members = [
        {"task": "a", "start": 0, "stop": 3, "samples": 3},
        {"task": "b", "start": 3, "stop": 5, "samples": 2},
    ]
    progress = RunProgress({"task": {"document_count": 5}, "members": members})
    assert progress.add(finished=[4, 0, 1], failed={4, 1}) == [0, 1]
    assert progress.add(finished=[2], failed=set()) == [0]
    assert progress.document() == {
        "samples_total": 5,
        "samples_done": 4,
        "samples_failed": 2,
        "members": [
            {"task": "a", "samples_total": 3, "samples_done": 3, "samples_failed": 1},
            {"task": "b", "samples_total": 2, "samples_done": 1, "samples_failed": 1},
        ],
    }
    assert progress.changes([1]) == {
        "progress.samples_done": 4,
        "progress.samples_failed": 2,
        "progress.members.1": {"task": "b", "samples_total": 2, "samples_done": 1, "samples_failed": 1},
    }
    alone = RunProgress({"task": {"document_count": 5}, "members": None})
    assert alone.add(finished=[4], failed={4}) == []
    assert alone.changes([]) == {"progress.samples_done": 1, "progress.samples_failed": 1}
