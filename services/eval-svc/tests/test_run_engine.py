"""How runs are carried out, on an adapter whose answers and timing are scripted."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay_chassis.errors import Unavailable
from assay_harness.process import HarnessProcess
from assay_harness.results import Document
from assay_harness.spec import JsonlQuestionAnswer, RowFiles, TaskOptions
from assay_serving.adapter import serve_adapter
from assay_serving.client import ModelServer
from assay_serving.testing import answers
from assay_serving.testing.adapter import ScriptedBackend
from assay_serving.testing.endpoint import EndpointStatistics, serve_endpoint
from assay_serving.testing.fixtures import ScriptedAdapterProcess
from assay_serving.testing.script import Failure, FailureKind, Script
from assay_serving.types import InstanceState
from eval_svc.domain import RunOptions
from eval_svc.engine import Engine
from eval_svc.fleet import ServingFleet
from eval_svc.serving import ServingSession, ServingTerms

PATIENCE = 60.0
SHA256 = hashlib.sha256(Path(str(answers.__file__)).read_bytes()).hexdigest()


@pytest.fixture
def adapter_address(scripted_adapter: ScriptedAdapterProcess) -> str:
    return scripted_adapter.address


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.01)


async def request(
    service: Any, url: str, *, rows: int, name: str = "scripted", **changes: Any
) -> dict[str, Any]:
    columns = {
        "input": [f"Question {number}: how many?" for number in range(rows)],
        "expected_output": ["12"] * rows,
    }
    dataset = service.peers.add_dataset(f"numbers{rows}", columns)
    return {
        "artifact_id": await service.artifact(name, uri=url, sha256=SHA256),
        "dataset_id": dataset,
        "method_id": "mth_qa",
        "options": {"concurrency": 8},
        **changes,
    }


async def samples_done(service: Any, run_id: str) -> int:
    return int((await service.run(run_id))["progress"]["samples_done"])


async def all_samples(service: Any, run_id: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    parameters: dict[str, Any] = {"limit": 100}
    while True:
        page = (await service.http.get(f"/v1/evaluations/{run_id}/samples", params=parameters)).json()
        items += page["items"]
        if page["next_cursor"] is None:
            return sorted(items, key=lambda sample: sample["index"])
        parameters["cursor"] = page["next_cursor"]


async def test_a_cancelled_run_ends_its_requests_and_its_instance_first(
    service: Any, adapter_address: str
) -> None:
    # Every 20th answer never comes: whenever the cancellation arrives, something is in flight.
    script = Script(first_token=0.3, chunks=1, failures=(Failure(FailureKind.STALL, 20),))
    async with (
        serve_endpoint(script) as (url, statistics),
        service.working(),
        ModelServer.connect(adapter_address) as server,
    ):
        run = await service.start(**await request(service, url, rows=400))
        await until(lambda: statistics.requests > 20)
        instance_id = (await service.run(run["id"]))["serving"][0]["instance_id"]
        await service.http.post(f"/v1/evaluations/{run['id']}/cancel")
        # Well above the two seconds that it should take, which a busy machine cannot promise.
        await asyncio.wait_for(service.wait(run["id"], "Cancelled"), 20)
        asked = statistics.requests
        assert statistics.in_flight == 0, "a request was still in flight when the run was Cancelled"
        assert statistics.cancelled > 0, "nothing was in flight: the test shows nothing"
        async for event in server.watch(instance_id):
            assert event.instance.state is InstanceState.RELEASED
        await asyncio.sleep(0.5)
        assert statistics.requests == asked, "the cancelled run went on asking"
    kept = await all_samples(service, run["id"])
    assert 0 < len(kept) < 400


async def test_runs_beside_each_other_advance_together(service: Any) -> None:
    service.settings = service.settings.model_copy(update={"worker_slots": 2, "block_samples": 16})
    script = Script(first_token=0.02, chunks=1)
    async with AsyncExitStack() as stack:
        endpoints = [await stack.enter_async_context(serve_endpoint(script)) for _ in range(2)]
        bodies = [
            await request(service, url, rows=600, name=f"scripted{number}")
            for number, (url, _) in enumerate(endpoints)
        ]
        runs = [await service.start(**body) for body in bodies]
        await stack.enter_async_context(service.working())
        waiting = {asyncio.create_task(service.wait(run["id"], "Scoring")) for run in runs}
        _, others = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        done = sorted([await samples_done(service, run["id"]) for run in runs])
        assert done[1] == 600
        assert done[0] > 200, f"one run was over when the other had {done[0]} of 600 samples"
        await asyncio.gather(*others)
    for _, statistics in endpoints:
        assert statistics.requests == 600
        assert statistics.most_in_flight <= 8, "a run has more in flight than its concurrency"


async def test_bursts_are_sent_together_and_waited_for(service: Any) -> None:
    async with serve_endpoint(Script(first_token=0.05, chunks=1)) as (url, statistics), service.working():
        options = {"concurrency": 2, "batch_size": 5}
        run = await service.start(**await request(service, url, rows=40, options=options))
        await service.wait(run["id"], "Scoring")
    assert statistics.requests == 40
    assert statistics.most_in_flight == 2, "the instance computes as many at a time as bursts are in flight"
    waits = [
        each["schedule_delay_s"]
        for sample in await all_samples(service, run["id"])
        for each in sample["requests"]
    ]
    # Of ten submitted together two are computed at a time; a client that sends one by one has no such queue.
    assert sum(wait > 0.045 for wait in waits) >= 16


async def test_failing_requests_are_asked_again(service: Any) -> None:
    failures = (Failure(FailureKind.BUSY, 7), Failure(FailureKind.DROP, 11))
    script = Script(first_token=0.005, chunks=3, interval=0.001, failures=failures)
    async with serve_endpoint(script) as (url, statistics), service.working():
        run = await service.start(**await request(service, url, rows=100))
        run = await service.wait(run["id"], "Scoring")
    counts = {"samples_total": 100, "samples_done": 100, "samples_failed": 0}
    assert run["progress"] == {**counts, "members": None}
    retries = [
        each["retries"] for sample in await all_samples(service, run["id"]) for each in sample["requests"]
    ]
    assert statistics.failed > 10
    assert sum(retries) == statistics.failed == statistics.requests - 100


async def test_responses_are_reused_only_when_asked_for_and_the_sample_says_so(service: Any) -> None:
    service.peers.add_dataset(
        "doubles", {"input": ["Same?", "Other?", "Same?", "Same?"], "expected_output": ["12"] * 4}
    )
    async with serve_endpoint(Script()) as (url, statistics), service.working():
        body = await request(service, url, rows=4, dataset_id="ds_doubles")
        found = []
        for options in ({}, {"reuse_responses": True}, {"reuse_responses": True, "repeats": 2}):
            before = statistics.requests
            run = await service.start(**{**body, "options": {"concurrency": 1, **options}})
            run = await service.wait(run["id"], "Scoring")
            found.append((statistics.requests - before, await all_samples(service, run["id"])))
    (plain, asked), (reusing, reused), (repeating, repeated) = found
    assert (plain, reusing, repeating) == (4, 2, 8)
    sources = [[each["reused_from"] for each in sample["requests"]] for sample in reused]
    first = {"index": 0, "request": 0}
    assert sources == [[None], [None], [first], [first]]
    assert all(each["reused_from"] is None for sample in asked + repeated for each in sample["requests"])
    assert all(each["times"] is None for sample in reused[2:] for each in sample["requests"])
    responses = [[each["response"] for each in sample["requests"]] for sample in reused]
    assert responses == [[each["response"] for each in sample["requests"]] for sample in asked]


class CountingHarness(HarnessProcess):
    """Counts what it has built."""

    built = 0

    async def documents(self, **arguments: Any) -> AsyncIterator[list[Document]]:
        async for batch in super().documents(**arguments):
            self.built += len(batch)
            yield batch


@asynccontextmanager
async def serving_session(
    address: str, url: str, *, key: str, concurrency: int = 8, ready_timeout_s: float = PATIENCE
) -> AsyncIterator[ServingSession]:
    """A session on an instance of its own."""

    async def ignore(*_: Any) -> None:
        return

    terms = ServingTerms(
        idempotency_key=key,
        resources=dict.fromkeys(("cpus", "memory_bytes", "accelerators", "max_context_tokens")),
        concurrency=concurrency,
        lease_s=30.0,
        ready_timeout_s=ready_timeout_s,
        attempts=1,
        labels={},
    )
    artifact = {"backend": "cpu", "uri": url, "format": "scripted", "sha256": None, "revision": None}
    async with (
        ServingFleet.connect({"cpu": address}, carrier=dict) as fleet,
        ServingSession(
            fleet=fleet,
            artifact={**artifact, "serving_parameters": {}},
            terms=terms,
            on_accepted=ignore,
            on_ready=ignore,
            on_closed=ignore,
        ) as session,
    ):
        yield session


@asynccontextmanager
async def counting_harness(path: Path) -> AsyncIterator[CountingHarness]:
    """A harness over 2,000 rows."""
    rows = {"question": [f"Number {n}?" for n in range(2000)], "answer": ["12"] * 2000}
    pq.write_table(pa.table(rows), path)
    recipe = JsonlQuestionAnswer(input_field="question", expected_output_field="answer")
    async with HarnessProcess.open(recipe, TaskOptions(), RowFiles(evaluation=path)) as harness:
        yield CountingHarness(harness._channel, harness.facts)


async def settled(read: Callable[[], int]) -> int:
    """The value once it has stopped growing."""
    value, last = read(), -1
    async with asyncio.timeout(PATIENCE):
        while value != last:
            await asyncio.sleep(0.5)
            value, last = read(), value
    return value


@pytest.mark.parametrize("slow", ["endpoint", "store"])
async def test_what_is_slow_stops_the_building(slow: str, adapter_address: str, tmp_path: Path) -> None:
    """Neither an engine that never answers nor a store that never acknowledges makes anything pile up."""
    failures = (Failure(FailureKind.STALL, 1),) if slow == "endpoint" else ()
    appended: list[int] = []

    async def append(block: list[dict[str, Any]]) -> None:
        appended.append(len(block))
        await asyncio.Event().wait()

    statistics: EndpointStatistics
    async with (
        serve_endpoint(Script(failures=failures)) as (url, statistics),
        counting_harness(tmp_path / "rows.parquet") as harness,
        serving_session(adapter_address, url, key=tmp_path.name) as session,
    ):
        engine = Engine(
            harness=harness,
            serving=session,
            options=RunOptions(concurrency=8),
            finished=set(),
            append=append,
            block_samples=16,
            block_interval=0.1,
        )
        running = asyncio.create_task(engine.run())
        built = await settled(lambda: harness.built)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
    # Built in sixteens: a window of 2 x 8, what is in flight, what waits for the log, and one batch in hand.
    in_flight, window, in_hand = 8, 16, 2 * 16
    if slow == "endpoint":
        assert statistics.requests == 8
        assert built <= in_flight + window + in_hand
    else:
        assert appended == [16] or sum(appended) <= 16
        assert statistics.requests <= 16 + 4 * 16 + in_flight
        assert built <= 16 + 4 * 16 + in_flight + window + in_hand


async def test_a_run_waits_for_room_at_the_adapter_and_goes_back_into_the_line(tmp_path: Path) -> None:
    backend = ScriptedBackend(directory=tmp_path)
    async with (
        serve_endpoint(Script()) as (url, _),
        serve_adapter(backend, listen="127.0.0.1:0", max_instances=1) as address,
        AsyncExitStack() as later,
    ):
        async with serving_session(address, url, key="first"):
            with pytest.raises(Unavailable, match="no room"):
                async with serving_session(address, url, key="hurried", ready_timeout_s=0.1):
                    pass
            patient = serving_session(address, url, key="patient")
            waiting = asyncio.create_task(later.enter_async_context(patient))
            await asyncio.sleep(0.7)
            assert not waiting.done(), "two instances where one is allowed"
        await asyncio.wait_for(waiting, PATIENCE)
