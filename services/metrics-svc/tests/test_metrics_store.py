"""Blocks of scored samples in a real store."""

from collections.abc import AsyncIterator

import pytest

from assay_chassis.store import open_store
from assay_harness.results import DocumentScore
from metrics_svc.domain.samples import SampleRecord, ScoredSample
from metrics_svc.store import MetricsStore
from metrics_svc.store.scored import BLOCKS_PER_READ


@pytest.fixture
async def store(mongo_uri: str, database_name: str) -> AsyncIterator[MetricsStore]:
    async with open_store(mongo_uri, database=database_name, patience=10) as opened:
        yield await MetricsStore.open(opened)


def sample(index: int, value: float) -> ScoredSample:
    return ScoredSample(
        record=SampleRecord(
            index=index,
            doc_hash="d",
            prompt_hash="p",
            target_hash="t",
            target="t",
            status="ok",
            requests=[],
        ),
        score=DocumentScore(index=index, values={"acc,none": value}, number_types={}, filtered={}),
    )


async def test_a_block_is_stored_once(store: MetricsStore) -> None:
    log = store.scored_log("run_1")
    await log.put(0, [sample(0, 1.0)])
    await log.put(0, [sample(0, 0.0)])
    assert await log.block(0) == [sample(0, 1.0)]
    assert await log.block(1) is None


async def test_blocks_come_in_order_and_from_any_number(store: MetricsStore) -> None:
    log = store.scored_log("run_1")
    count = 2 * BLOCKS_PER_READ + 3
    for number in reversed(range(count)):
        await log.put(number, [sample(number, 1.0)])
    await store.scored_log("run_10").put(0, [sample(7, 1.0)])
    assert [block.number async for block in log.blocks()] == list(range(count))
    assert [block.number async for block in log.blocks(start=count - 2)] == [count - 2, count - 1]
    assert [block.number async for block in log.blocks(start=count)] == []
    async for block in log.blocks():
        assert block.samples == [sample(block.number, 1.0)]
