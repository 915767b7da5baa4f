"""The loop of leased work, on a real store."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from assay_chassis.errors import Unavailable
from assay_chassis.leased_work import LeasedWorker, StopWork
from assay_chassis.leases import Lease, acquire, is_free
from assay_chassis.local import LocalServer
from assay_chassis.store import Change, Collection, Document, Index, Store, open_store
from assay_chassis.tasks import end

SLOW_SWEEP_S = 300.0
LEASE_S = 2.0


@pytest.fixture
async def store(mongo_uri: str, database_name: str) -> AsyncIterator[Store]:
    async with open_store(mongo_uri, database=database_name, patience=10) as opened:
        yield opened


@pytest.fixture
async def jobs(store: Store) -> Collection:
    return await store.collection("jobs", (Index(("state", "sort_key")),))


async def queue(jobs: Collection, *names: str) -> None:
    for name in names:
        await jobs.insert({"_id": name, "sort_key": name, "state": "queued"})


async def read(jobs: Collection, name: str) -> Document:
    document = await jobs.get(name)
    assert document is not None
    return document


def worker_of(
    jobs: Collection, carry_out: Callable[[Lease], Awaitable[None]], **changes: Any
) -> LeasedWorker:
    async def find(limit: int) -> Sequence[Document]:
        return await jobs.find_many({"state": "queued"}, order_by="sort_key", limit=limit)

    options: dict[str, Any] = {"slots": 2, "lease_s": LEASE_S, "sweep_s": 0.05, **changes}
    return LeasedWorker(name="tester", collection=jobs, find=find, carry_out=carry_out, **options)


async def finish(lease: Lease) -> None:
    await lease.write(Change(set={"state": "done"}), guard={"state": "queued"})


@asynccontextmanager
async def working(worker: LeasedWorker) -> AsyncIterator[asyncio.Task[None]]:
    task = asyncio.create_task(worker.run())
    try:
        yield task
    finally:
        await end(task, patience=30)


async def eventually(check: Callable[[], Awaitable[bool]], *, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not await check():
        assert time.monotonic() < deadline, "did not happen in time"
        await asyncio.sleep(0.02)


async def test_all_work_is_done_once_by_two_workers(jobs: Collection) -> None:
    names = [f"job-{number:02d}" for number in range(12)]
    await queue(jobs, *names)
    done: list[str] = []

    async def carry_out(lease: Lease) -> None:
        await asyncio.sleep(0.01)
        await finish(lease)
        done.append(lease.document_id)

    async with working(worker_of(jobs, carry_out)), working(worker_of(jobs, carry_out)):
        await eventually(lambda: _are(jobs, "done", names))
    assert sorted(done) == names


async def _are(jobs: Collection, state: str, names: Sequence[str]) -> bool:
    return all([(await read(jobs, name))["state"] == state for name in names])


async def test_no_more_than_its_slots_at_a_time_and_it_says_that_it_is_short(jobs: Collection) -> None:
    await queue(jobs, "a", "b", "c")
    started: list[str] = []
    go_on = asyncio.Event()

    async def carry_out(lease: Lease) -> None:
        started.append(lease.document_id)
        await go_on.wait()
        await finish(lease)

    worker = worker_of(jobs, carry_out)
    async with working(worker):
        await eventually(lambda: _holds(lambda: worker.is_short_of_slots))
        await asyncio.sleep(0.2)
        assert started == ["a", "b"]
        go_on.set()
        await eventually(lambda: _are(jobs, "done", ["a", "b", "c"]))
        await eventually(lambda: _holds(lambda: not worker.is_short_of_slots))


async def _holds(condition: Callable[[], bool]) -> bool:
    return condition()


async def test_a_wake_up_finds_work_long_before_the_next_sweep(jobs: Collection) -> None:
    worker = worker_of(jobs, finish, sweep_s=SLOW_SWEEP_S)
    async with working(worker):
        await asyncio.sleep(0.2)  # past the first look
        await queue(jobs, "late")
        worker.wake()
        await eventually(lambda: _are(jobs, "done", ["late"]))


async def test_the_lease_is_renewed_beside_work_that_takes_longer(jobs: Collection) -> None:
    await queue(jobs, "long")
    attempts = 0

    async def carry_out(lease: Lease) -> None:
        nonlocal attempts
        attempts += 1
        await asyncio.sleep(3 * 0.6)
        await finish(lease)

    async with (
        working(worker_of(jobs, carry_out, lease_s=0.6)),
        working(worker_of(jobs, carry_out, lease_s=0.6)),
    ):
        await eventually(lambda: _are(jobs, "done", ["long"]))
    assert attempts == 1


async def test_work_ends_when_its_lease_is_lost(jobs: Collection) -> None:
    await queue(jobs, "stolen")
    ended = asyncio.Event()
    written: list[str] = []

    async def carry_out(lease: Lease) -> None:
        if lease.token > 1:
            return
        try:
            await asyncio.sleep(SLOW_SWEEP_S)
            written.append(lease.document_id)
        finally:
            ended.set()

    async with working(worker_of(jobs, carry_out, lease_s=1.0)):
        await eventually(lambda: _is_taken(jobs, "stolen"))
        # A rival that finds the lease lapsed takes it, as it does when this process was stopped for a while.
        assert await jobs.update("stolen", Change(set={"lease.expires_at": 0.0}))
        rival = await acquire(jobs, await read(jobs, "stolen"), owner="rival", duration=60)
        assert rival is not None
        async with asyncio.timeout(30):
            await ended.wait()
    assert written == []
    lease = (await read(jobs, "stolen"))["lease"]
    assert (lease["owner"], lease["token"]) == ("rival", 2)
    assert not is_free(await read(jobs, "stolen"))


async def _is_taken(jobs: Collection, name: str) -> bool:
    return not is_free(await read(jobs, name))


async def _is_given_back(jobs: Collection, name: str) -> bool:
    return is_free(await read(jobs, name))


async def test_what_is_left_to_do_follows_the_end_of_stopped_work(jobs: Collection) -> None:
    await queue(jobs, "unwanted")
    order: list[str] = []

    async def carry_out(lease: Lease) -> None:
        try:
            await asyncio.sleep(SLOW_SWEEP_S)
        finally:
            await asyncio.sleep(0.05)
            order.append("work ended")

    async def check(lease: Lease) -> None:
        document = await read(jobs, lease.document_id)
        if document.get("cancel"):

            async def cancelled() -> None:
                order.append("cancelled")
                await lease.write(Change(set={"state": "cancelled"}))

            raise StopWork("somebody asked for it", then=cancelled)

    worker = worker_of(jobs, carry_out, check=check, sweep_s=SLOW_SWEEP_S, lease_s=SLOW_SWEEP_S, check_s=60)
    async with working(worker):
        await eventually(lambda: _is_taken(jobs, "unwanted"))
        await jobs.update("unwanted", Change(set={"cancel": True}))
        worker.wake()  # looks at the work under way as well
        await eventually(lambda: _are(jobs, "cancelled", ["unwanted"]))
        await eventually(lambda: _is_given_back(jobs, "unwanted"))
    assert order == ["work ended", "cancelled"]


async def test_the_end_of_the_worker_gives_its_leases_back(jobs: Collection) -> None:
    await queue(jobs, "a", "b")
    cleaned: list[str] = []

    async def carry_out(lease: Lease) -> None:
        try:
            await asyncio.sleep(SLOW_SWEEP_S)
        finally:
            await asyncio.sleep(0.1)  # closing what it had open takes a moment
            cleaned.append(lease.document_id)

    async with working(worker_of(jobs, carry_out, lease_s=SLOW_SWEEP_S)):
        await eventually(lambda: _is_taken(jobs, "b"))
        assert await _is_taken(jobs, "a")
    assert sorted(cleaned) == ["a", "b"]
    assert not await _is_taken(jobs, "a")
    assert not await _is_taken(jobs, "b")


@pytest.mark.parametrize("error", [Unavailable("a peer is away"), RuntimeError("a surprise")])
async def test_work_whose_attempt_raised_rests_here_and_may_be_taken_by_others(
    jobs: Collection, error: Exception
) -> None:
    await queue(jobs, "shaky")
    attempts: list[str] = []

    async def raising(lease: Lease) -> None:
        attempts.append("first")
        raise error

    async def mending(lease: Lease) -> None:
        attempts.append("second")
        await finish(lease)

    worker = worker_of(jobs, raising, sweep_s=SLOW_SWEEP_S)
    async with working(worker):
        await eventually(lambda: _holds(lambda: attempts == ["first"]))
        await eventually(lambda: _is_given_back(jobs, "shaky"))
        for _ in range(5):
            worker.wake()
            await asyncio.sleep(0.02)
        assert attempts == ["first"]
        async with working(worker_of(jobs, mending)):
            await eventually(lambda: _are(jobs, "done", ["shaky"]))
    assert attempts == ["first", "second"]


async def _is_given_back(jobs: Collection, name: str) -> bool:
    document = await read(jobs, name)
    return "lease" in document and is_free(document)


async def test_the_worker_survives_a_look_that_fails(jobs: Collection) -> None:
    await queue(jobs, "a")
    looks = 0

    async def find(limit: int) -> Sequence[Document]:
        nonlocal looks
        looks += 1
        if looks == 1:
            raise ValueError("a document that cannot be read")
        return await jobs.find_many({"state": "queued"}, limit=limit)

    worker = LeasedWorker(
        name="tester",
        collection=jobs,
        find=find,
        carry_out=finish,
        slots=1,
        lease_s=LEASE_S,
        sweep_s=0.05,
    )
    async with working(worker):
        await eventually(lambda: _are(jobs, "done", ["a"]))


async def test_work_goes_on_after_the_store_was_away(killable_mongo: LocalServer, database_name: str) -> None:
    async with open_store(killable_mongo.uri, database=database_name, patience=0.3) as store:
        jobs = await store.collection("jobs", (Index(("state", "sort_key")),))
        async with working(worker_of(jobs, finish)) as task:
            killable_mongo.kill()
            await asyncio.sleep(1.0)
            assert not task.done()
            await asyncio.to_thread(killable_mongo.restart)
            await queue(jobs, "after")
            await eventually(lambda: _are(jobs, "done", ["after"]))
