"""Samples found by row, outcome and text, in a real store."""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from assay_chassis.store import Index, Store, open_store
from assay_harness.results import DocumentScore
from metrics_svc.domain.runs import RunMetrics, ScoringState
from metrics_svc.domain.samples import RequestRecord, SampleRecord, ScoredSample, pack
from metrics_svc.errors import InvalidFilter, UnknownMetric
from metrics_svc.service.samples import (
    MOST_EXAMINED,
    Outcome,
    SampleFilter,
    SamplePage,
    list_samples,
)
from metrics_svc.store import MetricsStore
from metrics_svc.store.scored import ScoredLog, block_key

BLOCK = 50
METRIC = "t.acc,none"
METRICS = RunMetrics(
    run_id="run_1",
    state=ScoringState.FINAL,
    sample_metrics=[METRIC, "t.length,none"],
    higher_is_better={METRIC: True},
)


@pytest.fixture
async def opened(mongo_uri: str, database_name: str) -> AsyncIterator[Store]:
    async with open_store(mongo_uri, database=database_name, patience=10) as store:
        yield store


@pytest.fixture
async def log(opened: Store) -> ScoredLog:
    return (await MetricsStore.open(opened)).scored_log("run_1")


def sample(index: int, **more: Any) -> ScoredSample:
    """Wrong every fifth time, failed every seventh time."""
    failed = index % 7 == 6
    request = RequestRecord(
        index=0, kind="generate", prompt=f"Question {index}?", response=None if failed else f"Answer {index}"
    )
    return ScoredSample(
        record=SampleRecord(
            index=index,
            task="t",
            doc_hash="d",
            prompt_hash="p",
            status="failed" if failed else "ok",
            requests=[request],
            **{"target_hash": "t", "target": "Straße", **more},
        ),
        score=None
        if failed
        else DocumentScore(
            index=index,
            task="t",
            values={"acc,none": float(index % 5 != 4), "length,none": 3.0},
            number_types={},
            filtered={},
        ),
    )


async def fill(log: ScoredLog, indexes: Sequence[int]) -> None:
    for number, start in enumerate(range(0, len(indexes), BLOCK)):
        await log.put(number, [sample(index) for index in indexes[start : start + BLOCK]])


async def page(log: ScoredLog, *, cursor: str | None = None, limit: int = 200, **wanted: Any) -> SamplePage:
    return await list_samples(log, METRICS, wanted=SampleFilter(**wanted), cursor=cursor, limit=limit)


async def everything(log: ScoredLog, *, limit: int, **wanted: Any) -> list[int]:
    """The rows of all pages."""
    found: list[int] = []
    cursor: str | None = None
    while True:
        part = await page(log, cursor=cursor, limit=limit, **wanted)
        assert len(part.items) <= limit
        found += [item.index for item in part.items]
        cursor = part.next_cursor
        if cursor is None:
            return found


async def test_a_sample_is_found_by_its_row_wherever_it_finished(log: ScoredLog) -> None:
    await fill(log, [*range(1, 400, 2), *range(0, 400, 2)])
    for index in (0, 63, 64, 399):
        found = await page(log, index=index)
        assert [item.index for item in found.items] == [index]
        assert found.next_cursor is None
        held = await log.block(found.items[0].block)
        assert held is not None
        assert index in [one.record.index for one in held]
    assert (await page(log, index=400)).items == []
    assert (await page(log, index=6, outcome=Outcome.FAILED)).items != []
    assert (await page(log, index=5, outcome=Outcome.FAILED)).items == []


async def test_a_sample_of_an_earlier_release_is_found_by_its_row(opened: Store, log: ScoredLog) -> None:
    blocks = await opened.collection("scored_blocks", (Index(("run_id", "sort_key")),))
    for number in range(3):
        key = block_key("run_1", number)
        packed = pack([sample(10 * number + position) for position in range(10)])
        await blocks.insert(
            {"_id": key, "sort_key": key, "run_id": "run_1", "block": number, "samples": packed}
        )
    assert [item.index for item in (await page(log, index=27)).items] == [27]
    assert (await page(log, index=30)).items == []


async def test_outcomes_part_the_samples(log: ScoredLog) -> None:
    rows = range(350)
    await fill(log, rows)
    failed = [index for index in rows if index % 7 == 6]
    wrong = [index for index in rows if index % 7 != 6 and index % 5 == 4]
    assert await everything(log, limit=17, outcome=Outcome.FAILED) == failed
    assert await everything(log, limit=17, outcome=Outcome.WRONG, metric=METRIC) == wrong
    right = await everything(log, limit=17, outcome=Outcome.RIGHT, metric=METRIC)
    assert sorted([*failed, *wrong, *right]) == list(rows)


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("question 17?", [17]),
        ("ANSWER 24", [24, 240, 241, 242, 243, 245, 246, 247, 248, 249]),
        ("STRASSE", list(range(300))),
        (".*", []),
    ],
)
async def test_text_is_found_in_prompt_response_and_target(
    log: ScoredLog, text: str, rows: list[int]
) -> None:
    await fill(log, range(300))
    assert await everything(log, limit=7, search=text) == rows


async def test_a_filtered_page_looks_at_so_many_samples_and_goes_on(log: ScoredLog) -> None:
    await fill(log, range(MOST_EXAMINED + 300))
    last = f"Question {MOST_EXAMINED + 250}?"
    first = await page(log, search=last)
    assert (first.items, first.examined) == ([], MOST_EXAMINED)
    second = await page(log, search=last, cursor=first.next_cursor)
    assert [item.index for item in second.items] == [MOST_EXAMINED + 250]
    assert (second.examined, second.next_cursor) == (300, None)


async def test_a_wrong_filter_is_refused_with_its_field(log: ScoredLog) -> None:
    await fill(log, range(3))
    with pytest.raises(UnknownMetric) as several:
        await page(log, outcome=Outcome.WRONG)
    assert several.value.faults[0].field == "metric"
    with pytest.raises(InvalidFilter) as neither:
        await page(log, outcome=Outcome.WRONG, metric="t.length,none")
    assert neither.value.faults[0].field == "outcome"


async def test_wrong_parameters_are_refused_with_their_names(platform: Any) -> None:
    run = await platform.maker.make([{"question": "1 + 1 =", "answer": "2"}] * 8, lambda document: ["2"])
    async with platform.service() as client:
        for event in run.events:
            await platform.tell(event)
        path = f"/v1/metrics/runs/{run.id}/samples"
        for field, query in {
            "outcome": {"outcome": "odd"},
            "index": {"index": "-1"},
            "search": {"search": ""},
            "correct": {"outcome": "wrong", "correct": "true"},
        }.items():
            refused = await client.get(path, params=query)
            assert refused.status_code == 422, refused.text
            assert [fault["field"] for fault in refused.json()["errors"]] == [field]
        assert (await client.get(path, params={"outcome": "failed"})).json()["items"] == []
