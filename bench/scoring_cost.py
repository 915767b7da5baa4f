"""What metrics-svc costs per sample: a real metrics-svc process, real NATS and store, no model.

A run of GSM8K-like samples (5-shot, 27 tokens with a time stamp each) lies ready in blocks of 64; this
process plays eval-svc and dataset-svc over HTTP, tells of all blocks at once, and waits for the final
metrics. Prints CPU milliseconds per sample of the service and of its harness process, and the samples per
second that they got through.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import uvicorn
from fastapi import FastAPI, Response

from assay_chassis.bus import open_bus
from assay_chassis.identifiers import new_id
from assay_chassis.identity import Role, SignedIdentity
from assay_chassis.local import mongo_local, nats_local
from assay_chassis.telemetry import Telemetry
from assay_contracts.envelope import Event, envelop
from assay_contracts.eval_events import RunResponded, SamplesCompleted
from assay_harness.process import HarnessProcess
from assay_harness.results import Document
from assay_harness.spec import BuiltinTask, RowFiles, TaskOptions

BLOCK = 64
TOKENS = 27
KEY = "the internal key of the benchmarks"
RESPONSE = "She has 3 + 4 = 7 apples, because 3 and 4 make 7 in all, as one sees.\n#### 7"
RECIPE = BuiltinTask(task="gsm8k")


class Cpu(NamedTuple):
    """CPU seconds of the service's own process, and of all processes below it."""

    service: float
    below: float


class Service(NamedTuple):
    """A running metrics-svc."""

    url: str
    pid: int


@dataclass(slots=True)
class PreparedRun:
    """A finished run as eval-svc would hand it out."""

    id: str
    document: bytes
    blocks: list[bytes]
    samples: int


def make_rows(path: Path, count: int) -> str:
    """Write distinct questions whose answer is sometimes 7; returns the file's sha256."""
    generator = random.Random(7)
    rows = []
    for number in range(count):
        first, second = generator.randint(1, 6), generator.randint(1, 6)
        question = f"Person {number} has {first} apples and gets {second} more. How many are there? "
        answer = f"There are {first} + {second} = {first + second}.\n#### {first + second}"
        rows.append({"question": question * 3, "answer": answer})
    pq.write_table(pa.Table.from_pylist(rows), path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def sample(document: Document) -> dict[str, Any]:
    """What eval-svc's engine records of a document."""
    (request,) = document.requests
    sent = document.index * 10_000_000
    return {
        "index": document.index,
        "task": document.task,
        "doc_hash": document.doc_hash,
        "prompt_hash": document.prompt_hash,
        "target_hash": document.target_hash,
        "target": document.target,
        "status": "ok",
        "error": None,
        "requests": [
            {
                "index": 0,
                "repeat": 0,
                "kind": "generate",
                "prompt": request.context,
                "continuation": None,
                "response": RESPONSE,
                "error": None,
                "instance_id": "i1",
                "retries": 0,
                "waited_s": 0.2,
                "finish_reason": "stop",
                "stop_match": None,
                "prompt_tokens": 900,
                "completion_tokens": TOKENS,
                "schedule_delay_s": 0.0001,
                "times": {
                    "received_ns": sent,
                    "sent_ns": sent + 100_000,
                    "first_token_ns": sent + 40_000_000,
                    "done_ns": sent + 200_000_000,
                    "token_offsets_us": [40_000 + 5_900 * token for token in range(TOKENS)],
                    "exact_token_times": True,
                    "stamp_source": "user_space",
                    "merged_reads": 0,
                },
            }
        ],
    }


async def prepare(path: Path, digest: str) -> PreparedRun:
    """Build prompts and plan with the harness."""
    options = TaskOptions()
    records = []
    async with HarnessProcess.open(RECIPE, options, RowFiles(evaluation=path)) as harness:
        async for documents in harness.documents():
            records += [sample(document) for document in documents]
        facts = asdict(harness.facts)
    run_id = new_id("run")
    reference = {"snapshot_id": "snap_1", "digest": digest, "split": "test"}
    plan = {
        "plan_hash": "0" * 64,
        "dataset": {"id": "ds_1", "name": "sums", "snapshot_id": "snap_1", "digest": digest},
        "method": {"id": "mth_1", "name": "gsm8k", "version": 1, "recipe_hash": "r" * 64},
        "artifact": {"id": "art_1", "name": "base", "model": "m", "backend": "cpu"},
        "task": facts,
        "options": {"on_failure": "score_zero", "limit": None, "concurrency": 64, "batch_size": 1},
        "harness": {
            "recipe": RECIPE.model_dump(mode="json"),
            "options": options.model_dump(mode="json"),
            "evaluation": reference,
            "fewshot": None,
        },
    }
    run = {"id": run_id, "name": "bench", "state": "Scoring", "serving": [], "plan": plan}
    blocks = [
        json.dumps({"run_id": run_id, "block": start // BLOCK, "samples": records[start : start + BLOCK]})
        for start in range(0, len(records), BLOCK)
    ]
    return PreparedRun(
        id=run_id,
        document=json.dumps(run).encode(),
        blocks=[block.encode() for block in blocks],
        samples=len(records),
    )


@contextmanager
def peers(runs: dict[str, PreparedRun], files: dict[str, Path]) -> Iterator[str]:
    """eval-svc and dataset-svc over HTTP, from memory; yields their base URL."""
    app = FastAPI()

    @app.get("/v1/evaluations/{run_id}")
    def run(run_id: str) -> Response:
        return Response(runs[run_id].document, media_type="application/json")

    @app.get("/v1/evaluations/{run_id}/blocks/{number}")
    async def block(run_id: str, number: int) -> Response:
        return Response(runs[run_id].blocks[number], media_type="application/json")

    @app.get("/v1/snapshots/{snapshot_id}/content.parquet")
    def content(snapshot_id: str) -> Response:
        return Response(files[snapshot_id].read_bytes())

    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    server.should_exit = True
    thread.join()


def cpu(pid: int) -> Cpu:
    """CPU time so far; what ended children used is counted with the process that waited for them."""
    tick = os.sysconf("SC_CLK_TCK")
    own, below = 0.0, 0.0
    parents: dict[int, tuple[int, list[int]]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(stat.parent.name)] = (int(fields[1]), [int(field) for field in fields[11:15]])
    waiting = [pid]
    while waiting:
        current = waiting.pop()
        user, system, child_user, child_system = parents[current][1]
        if current == pid:
            own = (user + system) / tick
            below += (child_user + child_system) / tick
        else:
            below += (user + system + child_user + child_system) / tick
        waiting += [child for child, (parent, _) in parents.items() if parent == current]
    return Cpu(own, below)


def events_of(run: PreparedRun) -> Iterator[Event]:
    """What eval-svc tells of the run."""
    for number in range(len(run.blocks)):
        yield SamplesCompleted(run_id=run.id, block=number, samples=BLOCK, failed_samples=0)
    yield RunResponded(
        run_id=run.id,
        artifact_id="art_1",
        backend="cpu",
        dataset_id="ds_1",
        snapshot_digest="0" * 64,
        method_id="mth_1",
        method_version=1,
        blocks=len(run.blocks),
        samples=run.samples,
        failed_samples=0,
    )


async def scored(url: str, nats_url: str, run: PreparedRun) -> float:
    """Tell of the run and wait until its metrics are final; seconds."""
    telemetry = Telemetry(service_name="bench", otlp_endpoint=None)
    bench = SignedIdentity(internal_key=KEY, client="bench", role=Role.VIEWER)
    began = time.perf_counter()
    async with (
        open_bus(nats_url, name="bench", telemetry=telemetry) as bus,
        httpx.AsyncClient(base_url=url, auth=bench, timeout=30) as client,
    ):
        await bus.ensure_streams()
        for event in events_of(run):
            message = envelop(event, source="/assay/eval-svc")
            await bus.publish(event.SUBJECT, message.model_dump_json().encode(), message_id=message.id)
        while True:
            metrics = (await client.get(f"/v1/metrics/runs/{run.id}")).json()
            if metrics["state"] != "scoring":
                assert metrics["state"] == "final", metrics["error"]
                return time.perf_counter() - began
            await asyncio.sleep(0.2)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def metrics_service(directory: Path, *, nats_url: str, mongo_uri: str, peer_url: str) -> Iterator[Service]:
    """A metrics-svc process of its own; it may not answer yet."""
    port = free_port()
    environment = {
        **os.environ,
        "ASSAY_HOME": str(directory / "home"),
        "ASSAY_NATS_URL": nats_url,
        "ASSAY_MONGO_URI": mongo_uri,
        "ASSAY_INTERNAL_KEY": KEY,
        "ASSAY_EVAL_URL": peer_url,
        "ASSAY_DATASET_URL": peer_url,
        "ASSAY_METRICS_PORT": str(port),
    }
    with (directory / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "-m", "metrics_svc"], env=environment, stderr=log)
        try:
            yield Service(f"http://127.0.0.1:{port}", process.pid)
        finally:
            process.terminate()
            process.wait()


async def measure(count: int, rounds: int) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        directory = Path(scratch)
        nats, mongo = nats_local(directory / "nats"), mongo_local(directory / "mongo")
        for server in (nats, mongo):
            server.start()
            stack.callback(server.close)
            stack.callback(server.kill)
        path = directory / "rows.parquet"
        digest = make_rows(path, count)
        runs: dict[str, PreparedRun] = {}
        peer_url = stack.enter_context(peers(runs, {"snap_1": path}))
        service = stack.enter_context(
            metrics_service(directory, nats_url=nats.url, mongo_uri=mongo.uri, peer_url=peer_url)
        )
        await answering(service.url)
        results = []
        for number in range(rounds + 1):
            run = await prepare(path, digest)
            runs[run.id] = run
            before = cpu(service.pid)
            seconds = await scored(service.url, nats.url, run)
            await asyncio.sleep(1.0)  # the harness process ends, and its time is counted with its parent's
            after = cpu(service.pid)
            milliseconds = 1000 / run.samples
            row = (
                (after.service - before.service) * milliseconds,
                (after.below - before.below) * milliseconds,
                run.samples / seconds,
            )
            show("warm-up" if number == 0 else f"round {number}", *row)
            if number:
                results.append(row)
        show("median", *(statistics.median(row[column] for row in results) for column in range(3)))


def show(name: str, service: float, below: float, rate: float) -> None:
    """Print one line of the table."""
    print(
        f"{name:>8}  service {service:.3f}  harness {below:.3f}  together {service + below:.3f} "
        f"CPU ms/sample  {rate:6.0f} samples/s",
        flush=True,
    )


async def answering(url: str) -> None:
    """Wait until the service is ready."""
    async with httpx.AsyncClient(base_url=url) as client:
        while True:
            with suppress(httpx.TransportError):
                if (await client.get("/readyz")).is_success:
                    return
            await asyncio.sleep(0.1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=6400)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    asyncio.run(measure(arguments.samples, arguments.rounds))
