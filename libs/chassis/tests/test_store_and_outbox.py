import asyncio
import time
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from assay_chassis.bus import Bus, Subscription, open_bus
from assay_chassis.errors import Reject
from assay_chassis.identifiers import first_id, made_at, new_id
from assay_chassis.infrastructure import consuming
from assay_chassis.leases import LeaseLost, acquire
from assay_chassis.local import LocalServer
from assay_chassis.outbox import EventWriter, relaying
from assay_chassis.store import Change, Collection, DuplicateKey, Index, Store, by_name, open_store
from assay_chassis.telemetry import Telemetry
from assay_contracts.dataset_events import DatasetCreated
from assay_contracts.envelope import Envelope, Event


class NeverRegistered(Event):
    SUBJECT: ClassVar[str] = "assay.dataset.dataset.imagined.v1"

    def aggregate_id(self) -> str:
        return "x"


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry(service_name="chassis-test", otlp_endpoint=None)


@pytest.fixture
async def store(mongo_uri: str, database_name: str) -> AsyncIterator[Store]:
    async with open_store(mongo_uri, database=database_name, patience=10) as opened:
        yield opened


@pytest.fixture
async def things(store: Store) -> Collection:
    return await store.collection("things", (Index(("name",), unique=True), Index(("kind", "sort_key"))))


@pytest.fixture
async def bus(killable_nats: LocalServer, telemetry: Telemetry) -> AsyncIterator[Bus]:
    async with open_bus(killable_nats.url, name="test", telemetry=telemetry) as opened:
        await opened.ensure_streams()
        yield opened


def created(number: int) -> DatasetCreated:
    return DatasetCreated(dataset_id=f"ds_{number}", name=f"n{number}", version="main")


async def eventually(check: object, *, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not check():  # type: ignore[operator]
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.05)


async def test_insert_refuses_a_second_document_with_the_same_key(things: Collection) -> None:
    await things.insert({"_id": "a", "name": "one"})
    with pytest.raises(DuplicateKey):
        await things.insert({"_id": "a", "name": "two"})
    with pytest.raises(DuplicateKey):
        await things.insert({"_id": "b", "name": "one"})
    assert await things.get("b") is None


async def test_guarded_update_applies_once(things: Collection) -> None:
    await things.insert({"_id": "a", "name": "one", "state": "open"})
    close = Change(set={"state": "closed"})
    assert await things.update("a", close, guard={"state": "open"})
    assert not await things.update("a", close, guard={"state": "open"})
    document = await things.get("a")
    assert document is not None
    assert document["rev"] == 2


async def test_modify_under_contention_loses_no_change(things: Collection) -> None:
    await things.insert({"_id": "a", "name": "one", "count": 0})

    async def add() -> None:
        await things.modify("a", lambda found: Change(set={"count": found["count"] + 1}), tries=200)

    await asyncio.gather(*(add() for _ in range(12)))
    document = await things.get("a")
    assert document is not None
    assert document["count"] == 12


async def test_pages_by_keyset_give_every_item_once_newest_first(things: Collection) -> None:
    for number in range(7):
        await things.insert(
            {"_id": f"t{number}", "name": f"n{number}", "kind": "k", "sort_key": f"t{number}"}
        )
    await things.insert({"_id": "other", "name": "other", "kind": "z", "sort_key": "t9"})
    seen: list[str] = []
    cursor = None
    while True:
        page = await things.page({"kind": "k"}, cursor=cursor, limit=3)
        seen += [item["_id"] for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == [f"t{number}" for number in reversed(range(7))]


@pytest.mark.parametrize("limit", [1, 3, 50])
async def test_a_list_read_in_steps_of_time_gives_every_item_once(things: Collection, limit: int) -> None:
    now_ms = time.time_ns() // 1_000_000
    minute, day = 60_000, 86_400_000
    ages = [-day, 0, 1, minute, minute + 1, *(3 * minute + each for each in range(9)), day, 400 * day]
    # Exactly where a step ends, and so long ago that no step ends before it.
    identifiers = {*(first_id("t", unix_ms=now_ms - age) for age in ages), first_id("t", unix_ms=5)}
    for number, identifier in enumerate(sorted(identifiers)):
        document = {"_id": identifier, "sort_key": identifier, "name": f"n{number}", "kind": "k"}
        await things.insert(document)
    await things.insert({"_id": "other", "name": "other", "kind": "z", "sort_key": new_id("t")})
    seen: list[str] = []
    cursor = None
    while True:
        page = await things.newest({"kind": "k"}, prefix="t", cursor=cursor, limit=limit)
        assert len(page.items) == limit or page.next_cursor is None
        seen += [item["_id"] for item in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == sorted(identifiers, reverse=True)


async def test_a_list_read_in_steps_of_time_reads_little_more_than_it_gives(
    things: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ms = time.time_ns() // 1_000_000
    identifiers = [first_id("t", unix_ms=now_ms - age * 600_000) for age in range(200)]
    for number, identifier in enumerate(identifiers):
        await things.insert({"_id": identifier, "sort_key": identifier, "name": f"n{number}", "kind": "k"})
    asked: list[Any] = []
    find = things._collection.find
    collection = SimpleNamespace(find=lambda query: asked.append(query["sort_key"]) or find(query))
    monkeypatch.setattr(things, "_collection", collection)
    page = await things.newest({"kind": "k"}, prefix="t", cursor=None, limit=10)
    assert [item["_id"] for item in page.items] == identifiers[:10]
    matched = [one for one in identifiers if any(each["$gte"] <= one < each["$lt"] for each in asked)]
    assert len(matched) < 2 * 12
    asked.clear()
    page = await things.newest({"kind": "k"}, prefix="t", cursor=identifiers[100], limit=10)
    assert [item["_id"] for item in page.items] == identifiers[101:111]
    matched = [one for one in identifiers if any(each["$gte"] <= one < each["$lt"] for each in asked)]
    assert len(matched) < 2 * 12


def test_the_first_identifier_of_a_time_is_before_all_others_of_it() -> None:
    before = time.time_ns() // 1_000_000
    identifier = new_id("run")
    made = made_at(identifier)
    assert made is not None
    assert before <= made <= time.time_ns() // 1_000_000
    assert first_id("run", unix_ms=made) <= identifier < first_id("run", unix_ms=made + 1)
    assert [made_at(text) for text in ("", "run_1", "run:00000012", "run_" + "u" * 26)] == [None] * 4


async def test_events_leave_in_order_and_the_outbox_empties(
    store: Store, things: Collection, bus: Bus, telemetry: Telemetry
) -> None:
    received: list[str] = []

    async def handler(_: Envelope, event: Event) -> None:
        received.append(event.aggregate_id())

    write = EventWriter(service_name="test", telemetry=telemetry)
    subscription = Subscription("ASSAY_DATASET", "reader", ("assay.dataset.>",), handler)
    async with relaying(store=store, bus=bus, telemetry=telemetry), consuming(bus, [subscription]):
        await things.insert({"_id": "a", "name": "one"}, events=write(created(0), created(1)))
        await things.update("a", Change(events=write(created(2))))
        await eventually(lambda: len(received) == 3)
    assert received == ["ds_0", "ds_1", "ds_2"]
    document = await things.get("a")
    assert document is not None
    assert "outbox_pending" not in document
    assert not document.get("outbox")


async def test_events_survive_the_death_of_the_bus(
    store: Store, things: Collection, bus: Bus, telemetry: Telemetry, killable_nats: LocalServer
) -> None:
    received: list[str] = []

    async def handler(_: Envelope, event: Event) -> None:
        received.append(event.aggregate_id())

    write = EventWriter(service_name="test", telemetry=telemetry)
    subscription = Subscription("ASSAY_DATASET", "reader", ("assay.dataset.>",), handler)
    async with relaying(store=store, bus=bus, telemetry=telemetry), consuming(bus, [subscription]):
        await things.insert({"_id": "a", "name": "one"}, events=write(created(0)))
        await eventually(lambda: "ds_0" in received)
        killable_nats.kill()
        await things.insert({"_id": "b", "name": "two"}, events=write(created(1)))
        await asyncio.sleep(0.5)
        killable_nats.restart()
        await eventually(lambda: "ds_1" in received, seconds=40)


async def test_verdicts_retry_then_bury(
    things: Collection, store: Store, bus: Bus, telemetry: Telemetry
) -> None:
    calls: list[str] = []

    async def handler(_: Envelope, event: Event) -> None:
        calls.append(event.aggregate_id())
        if event.aggregate_id() == "ds_1":
            raise Reject("cannot be understood")
        if event.aggregate_id() == "ds_2" or calls.count("ds_0") < 3:
            raise RuntimeError("not yet")

    write = EventWriter(service_name="test", telemetry=telemetry)
    subscription = Subscription(
        "ASSAY_DATASET", "reader", ("assay.dataset.>",), handler, tries=4, backoff=(0.05,)
    )
    async with relaying(store=store, bus=bus, telemetry=telemetry), consuming(bus, [subscription]):
        events = write(created(0), created(1), created(2), NeverRegistered())
        await things.insert({"_id": "a", "name": "one"}, events=events)
        await eventually(lambda: calls.count("ds_0") == 3 and calls.count("ds_2") == 4)
        for _ in range(100):
            letters = await bus.dead_letters()
            if len(letters) == 3:
                break
            await asyncio.sleep(0.1)
    reasons = sorted(letter["reason"].split(":")[0] for letter in letters)
    assert reasons == ["4 tries; the last", "Reject", "UnknownEvent"]
    assert calls.count("ds_1") == 1


async def test_writes_survive_the_death_of_the_store(killable_mongo: LocalServer, database_name: str) -> None:
    async with open_store(killable_mongo.uri, database=database_name, patience=30) as store:
        things = await store.collection("things")
        await things.insert({"_id": "a", "count": 0})
        killable_mongo.kill()
        writing = asyncio.create_task(things.update("a", Change(increment={"count": 1})))
        inserting = asyncio.create_task(things.insert({"_id": "b"}))
        await asyncio.sleep(0.3)
        killable_mongo.restart()
        assert await writing
        await inserting
        document = await things.get("a")
        assert document is not None
        assert document["count"] == 1


async def test_a_lease_has_one_holder_and_fences_the_earlier_one(things: Collection) -> None:
    await things.insert({"_id": "a", "name": "one", "state": "open"})
    document = await things.get("a")
    assert document is not None
    attempts = await asyncio.gather(
        *(acquire(things, document, owner=f"w{number}", duration=0.3) for number in range(5))
    )
    first = next(lease for lease in attempts if lease)
    assert sum(lease is not None for lease in attempts) == 1
    await first.renew()
    await asyncio.sleep(0.4)
    document = await things.get("a")
    assert document is not None
    second = await acquire(things, document, owner="w9", duration=30)
    assert second is not None
    assert second.token == first.token + 1
    with pytest.raises(LeaseLost):
        await first.renew()
    with pytest.raises(LeaseLost):
        await first.write(Change(set={"state": "stolen"}))
    await second.write(Change(set={"state": "done"}))
    await first.release()
    after = await things.get("a")
    assert after is not None
    assert after["state"] == "done"
    assert after["lease"]["expires_at"] > time.time()


async def test_files_are_stored_once_and_read_back(store: Store) -> None:
    files = store.files("blobs")

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 300_000

    await files.put("digest", chunks())
    await files.put("digest", chunks())
    assert await files.size("digest") == 900_000
    content = b"".join([chunk async for chunk in files.chunks("digest")])
    assert content == b"x" * 900_000
    with pytest.raises(FileNotFoundError):
        _ = [chunk async for chunk in files.chunks("absent")]


def test_identifiers_sort_by_age() -> None:
    first = new_id("run")
    time.sleep(0.003)
    assert first < new_id("run")


async def test_names_are_searched_in_upper_and_lower_case_and_literally(store: Store) -> None:
    named = await store.collection("named", (Index(("name", "sort_key")), Index(("sort_key",))))
    names = ["GSM8K main", "gsm8k-mini", "Möbius (test)", "a.c", "abc", "two\nlines"]
    for number, name in enumerate(names):
        await named.insert({"_id": f"n{number}", "sort_key": f"n{number}", "name": name})

    async def found(name: str | None = None, *, search: str | None = None) -> list[str]:
        page = await named.page(by_name(name, search=search), cursor=None, limit=10, descending=False)
        return [document["name"] for document in page.items]

    assert await found() == names
    assert await found("abc") == ["abc"]
    assert await found(search="gsm8K") == names[:2]
    assert await found(search="MÖBIUS (") == ["Möbius (test)"]
    assert await found(search="a.c") == ["a.c"]
    assert await found(search="lines") == ["two\nlines"]
    assert await found("abc", search="B") == ["abc"]
    assert await found("abc", search="x") == []
