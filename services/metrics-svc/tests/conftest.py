"""metrics-svc on real servers, and its two peers as they look over HTTP."""

import asyncio
import hashlib
import io
import os
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pyarrow
import pyarrow.parquet
import pytest
import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response

from assay_chassis.bus import Bus, open_bus
from assay_chassis.identifiers import new_id
from assay_chassis.identity import IDENTITY_HEADER, IdentityReader
from assay_chassis.local import LocalServer
from assay_chassis.telemetry import Telemetry
from assay_chassis.testing import INTERNAL_KEY, as_client
from assay_contracts.envelope import Envelope, Event
from assay_contracts.eval_events import RunResponded, SamplesCompleted
from assay_contracts.registry import parse
from assay_harness.process import HarnessProcess
from assay_harness.results import Aggregate, Document, ScoreInput
from assay_harness.spec import BuiltinTask, GroupRows, JsonlQuestionAnswer, RowFiles, Rows, TaskOptions
from metrics_svc.settings import Settings
from metrics_svc.wiring import create_app

QUESTION_ANSWER = JsonlQuestionAnswer(input_field="question", expected_output_field="answer")
BLOCK = 8

Answers = Callable[[Document], list[Any] | None]
"""Responses to a document's requests; ``None`` for a failed sample."""


class Peers:
    """eval-svc's and dataset-svc's answers to metrics-svc, over real HTTP.

    ``gate`` is closed to hold back block number ``held`` and all later ones.
    """

    def __init__(self) -> None:
        self.runs: dict[str, dict[str, Any]] = {}
        self.blocks: dict[str, list[list[dict[str, Any]]]] = {}
        self.snapshots: dict[str, bytes] = {}
        self.served: Counter[str] = Counter()
        self.gate = threading.Event()
        self.gate.set()
        self.held = 0
        self._server = uvicorn.Server(uvicorn.Config(self._app(), port=0, log_level="warning"))
        self._thread = threading.Thread(target=self._server.run, daemon=True)

    def _app(self) -> FastAPI:
        app = FastAPI()
        identities = IdentityReader(internal_key=INTERNAL_KEY)

        @app.middleware("http")
        async def key(request: Request, call_next: Any) -> Any:
            identities.read(request.headers.get(IDENTITY_HEADER))
            return await call_next(request)

        @app.get("/v1/evaluations/{run_id}")
        def run(run_id: str) -> dict[str, Any]:
            if run_id not in self.runs:
                raise HTTPException(404)
            return self.runs[run_id]

        @app.get("/v1/evaluations/{run_id}/blocks/{number}")
        def block(run_id: str, number: int) -> dict[str, Any]:
            if number >= self.held:
                self.gate.wait(30)
            self.served[f"{run_id}:{number}"] += 1
            if number >= len(self.blocks[run_id]):
                raise HTTPException(404)
            return {"run_id": run_id, "block": number, "samples": self.blocks[run_id][number]}

        @app.get("/v1/snapshots/{snapshot_id}/content.parquet")
        def content(snapshot_id: str) -> Response:
            return Response(self.snapshots[snapshot_id])

        return app

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.servers[0].sockets[0].getsockname()[1]}"

    def start(self) -> None:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)

    def stop(self) -> None:
        self.gate.set()
        self._server.should_exit = True
        self._thread.join(10)


@dataclass
class PreparedRun:
    """A run whose responses are all there, and the numbers that the harness itself gives for them."""

    id: str
    blocks: int
    samples: int
    failed: int
    expected: Aggregate | None
    events: list[Event] = field(default_factory=list)


class RunMaker:
    """Makes runs with the real harness: prompts, hashes and reference numbers are lm-eval's."""

    def __init__(self, peers: Peers, directory: Path) -> None:
        self._peers = peers
        self._directory = directory
        self._runs_made = 0

    def snapshot(self, rows: Sequence[dict[str, Any]]) -> tuple[str, Path]:
        buffer = io.BytesIO()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(list(rows)), buffer)
        content = buffer.getvalue()
        digest = hashlib.sha256(content).hexdigest()
        path = self._directory / f"{digest}.parquet"
        path.write_bytes(content)
        self._peers.snapshots[f"snap_{digest[:8]}"] = content
        return digest, path

    async def make(
        self,
        rows: Sequence[dict[str, Any]] | dict[str, Sequence[dict[str, Any]]],
        answers: Answers,
        *,
        recipe: JsonlQuestionAnswer | BuiltinTask = QUESTION_ANSWER,
        on_failure: str = "score_zero",
        state: str = "Scoring",
        artifact: str = "base",
        started_s: int | None = None,
    ) -> PreparedRun:
        """A run over ``rows``: of one task, or by task of a group.

        ``started_s``: on the adapter's clock; runs are an hour apart if not given.
        """
        self._runs_made += 1
        started_ns = 1_000_000_000 * (3600 * self._runs_made if started_s is None else started_s)
        tables = rows if isinstance(rows, dict) else {"": rows}
        files: dict[str, RowFiles] = {}
        references: dict[str, dict[str, Any]] = {}
        for task, table in tables.items():
            digest, path = self.snapshot(table)
            files[task] = RowFiles(evaluation=path)
            reference = {"snapshot_id": f"snap_{digest[:8]}", "digest": digest, "split": "test"}
            references[task] = {"evaluation": reference, "fewshot": None}
        opened: Rows = GroupRows(members=files) if isinstance(rows, dict) else files[""]
        options = TaskOptions(num_fewshot=0)
        run_id = new_id("run")
        records: list[dict[str, Any]] = []
        answered: list[ScoreInput] = []
        async with HarnessProcess.open(recipe, options, opened) as harness:
            async for documents in harness.documents():
                for document in documents:
                    responses = answers(document)
                    if responses is not None:
                        answered.append((document.index, responses))
                    records.append(sample_record(document, responses, started_ns=started_ns))
            scores = await harness.score(answered)
            complete = len(answered) == len(records)
            expected = await harness.aggregate(scores) if complete or on_failure == "exclude" else None
            facts = harness.facts
        members = [{"task": task, **reference} for task, reference in references.items()]
        deviations = [asdict(deviation) for deviation in facts.deviations]
        self._peers.runs[run_id] = {
            "id": run_id,
            "name": f"name-of-{run_id}",
            "state": state,
            "serving": [
                {"instance_id": "i1", "telemetry": {"power": None, "unavailable": ["no sensor here"]}}
            ],
            "plan": {
                "plan_hash": "0" * 64,
                "dataset": {"id": "ds_1", "name": "sums", "digest": digest},
                "canonical": not deviations,
                "deviations": deviations,
                "method": {"id": "mth_1", "name": "qa", "version": 1, "recipe_hash": "r" * 64},
                "artifact": {"id": f"art_{artifact}", "name": artifact, "model": "m", "backend": "cpu"},
                "task": asdict(facts),
                "options": {"on_failure": on_failure, "limit": None, "concurrency": 1, "batch_size": 1},
                "harness": {
                    "recipe": recipe.model_dump(mode="json"),
                    "options": options.model_dump(mode="json"),
                    **({"members": members} if isinstance(rows, dict) else references[""]),
                },
            },
        }
        # As under concurrency: the log is in the order of completion, not of the documents.
        records = records[1::2] + records[::2]
        blocks = [records[start : start + BLOCK] for start in range(0, len(records), BLOCK)]
        self._peers.blocks[run_id] = blocks
        failed = sum(record["status"] == "failed" for record in records)
        run = PreparedRun(
            id=run_id, blocks=len(blocks), samples=len(records), failed=failed, expected=expected
        )
        run.events = [block_event(run, number) for number in range(run.blocks)] + [responded_event(run)]
        return run


def sample_record(document: Document, responses: list[Any] | None, *, started_ns: int = 0) -> dict[str, Any]:
    requests = []
    for position, request in enumerate(document.requests):
        record: dict[str, Any] = {
            "index": request.index,
            "repeat": request.repeat,
            "kind": request.kind.value,
            "prompt": request.context,
            "continuation": request.continuation or None,
        }
        if responses is not None:
            sent = started_ns + document.index * 10_000_000
            record |= {
                "instance_id": "i1",
                "retries": 0,
                "prompt_tokens": 20,
                "schedule_delay_s": 0.001,
                "times": {
                    "received_ns": sent - 1_000_000,
                    "sent_ns": sent,
                    "first_token_ns": sent + 3_000_000,
                    "done_ns": sent + 8_000_000,
                    "token_offsets_us": [3000, 5000],
                    "exact_token_times": True,
                    "stamp_source": "user_space",
                    "merged_reads": 0,
                },
            }
            if request.kind == "generate":
                record |= {"response": responses[position], "completion_tokens": 2}
            else:
                log_probability, is_greedy = responses[position]
                record |= {
                    "log_probability": log_probability,
                    "is_greedy": is_greedy,
                    "completion_tokens": 0,
                }
        requests.append(record)
    return {
        "index": document.index,
        "task": document.task,
        "doc_hash": document.doc_hash,
        "prompt_hash": document.prompt_hash,
        "target_hash": document.target_hash,
        "target": document.target,
        "status": "failed" if responses is None else "ok",
        "error": {"code": "ENGINE_ERROR", "message": "m"} if responses is None else None,
        "requests": requests,
    }


def run_fields(run: PreparedRun) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "artifact_id": "art_base",
        "backend": "cpu",
        "dataset_id": "ds_1",
        "snapshot_digest": "0" * 64,
        "method_id": "mth_1",
        "method_version": 1,
    }


def block_event(run: PreparedRun, number: int) -> Event:
    return SamplesCompleted(run_id=run.id, block=number, samples=BLOCK, failed_samples=0)


def responded_event(run: PreparedRun) -> Event:
    return RunResponded(**run_fields(run), blocks=run.blocks, samples=run.samples, failed_samples=run.failed)


@dataclass
class Platform:
    """The servers around metrics-svc, and what a test does with them."""

    peers: Peers
    maker: RunMaker
    nats: LocalServer
    mongo: LocalServer
    home: Path
    bus: Bus

    def settings(self, **more: Any) -> Settings:
        return Settings(
            home=self.home,
            nats_url=self.nats.url,
            mongo_uri=self.mongo.uri,
            internal_key=INTERNAL_KEY,
            eval_url=self.peers.url,
            dataset_url=self.peers.url,
            scoring_sweep_s=0.1,
            scoring_lease_s=3.0,
            live_interval_s=0.0,
            **more,
        )

    def service(self, **more: Any) -> AbstractAsyncContextManager[httpx.AsyncClient]:
        """metrics-svc inside this process, and a client of it."""
        return running(self.settings(**more))

    async def tell(self, event: Event, *, event_id: str | None = None) -> str:
        """Publish an event as eval-svc would; the same ``event_id`` is the same event told again."""
        envelope = Envelope(
            id=event_id or new_id("evt"),
            source="/assay/eval-svc",
            type=event.SUBJECT,
            subject=event.aggregate_id(),
            time=datetime.now(UTC),
            data=event.model_dump(mode="json"),
        )
        # A repeated delivery must reach the consumer, so the stream may not recognise it.
        await self.bus.publish(event.SUBJECT, envelope.model_dump_json().encode(), message_id=new_id("msg"))
        return envelope.id

    async def kill_in_the_middle(self, events: Sequence[Event], *, asked_for: str) -> None:
        """Run metrics-svc as a process on ``events``; kill -9 it while it waits for block ``asked_for``."""
        settings = self.settings()
        environment = {
            **os.environ,
            "ASSAY_HOME": str(settings.home),
            "ASSAY_NATS_URL": settings.nats_url,
            "ASSAY_MONGO_URI": settings.mongo_uri,
            "ASSAY_INTERNAL_KEY": settings.internal_key.get_secret_value(),
            "ASSAY_EVAL_URL": settings.eval_url,
            "ASSAY_DATASET_URL": settings.dataset_url,
            "ASSAY_METRICS_PORT": "0",
            "ASSAY_SCORING_LEASE_S": "3",
        }
        self.peers.held = 1 + int(asked_for.rpartition(":")[2])
        self.peers.gate.clear()
        command = [sys.executable, "-m", "metrics_svc"]
        log = self.home.parent / "metrics.log"
        with log.open("wb") as output:
            process = await asyncio.to_thread(subprocess.Popen, command, env=environment, stderr=output)
        try:
            for event in events:
                await self.tell(event)
            deadline = time.monotonic() + 60
            while self.peers.served[asked_for] == 0:
                assert time.monotonic() < deadline, log.read_text()
                assert process.poll() is None, log.read_text()
                await asyncio.sleep(0.05)
        finally:
            process.kill()
            process.wait()
        self.peers.gate.set()

    async def published(self, *subjects: str) -> list[Event]:
        """Everything that lies on the stream of metrics-svc under these subjects."""
        stream = self.bus._jetstream
        info = await stream.stream_info("ASSAY_METRICS")
        events = []
        for sequence in range(info.state.first_seq, info.state.last_seq + 1):
            message = await stream.get_msg("ASSAY_METRICS", sequence)
            if message.subject in subjects:
                events.append(parse(message.data)[1])
        return events


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(
            transport=httpx.ASGITransport(app),
            base_url="http://metrics",
            auth=as_client(),
        ) as client,
    ):
        yield client


@pytest.fixture
def peers() -> Iterator[Peers]:
    made = Peers()
    made.start()
    yield made
    made.stop()


@pytest.fixture
async def platform(
    peers: Peers, killable_nats: LocalServer, killable_mongo: LocalServer, tmp_path: Path
) -> AsyncIterator[Platform]:
    telemetry = Telemetry(service_name="test", otlp_endpoint=None)
    async with open_bus(killable_nats.url, name="test", telemetry=telemetry) as bus:
        await bus.ensure_streams()
        yield Platform(
            peers=peers,
            maker=RunMaker(peers, tmp_path),
            nats=killable_nats,
            mongo=killable_mongo,
            home=tmp_path / "home",
            bus=bus,
        )
