"""The run engine against an endpoint of fixed timing, with lm-eval's own client on the same endpoint.

    python bench/engine.py                          # GSM8K's 1,319 test rows at 16, 64 and 256 in flight
    python bench/engine.py --rows 20000 --rounds 1
    python bench/engine.py --start                  # POST to the first request, on a whole platform

Real: harness process, eval-svc's engine and serving session, gRPC, the adapter base, the upstream client, and
the sample log in the embedded store with its events. Scripted: the model, an endpoint in a process of its own
that answers every prompt in 200 ms, streamed in a few chunks. `wall` is from the first request being built
to the last sample being in the log; ideal is ceil(rows / in flight) x 0.2 s. lm-eval's `local-completions`
(`simple_evaluate` alone, without its imports and its task index; it also scores, which here is the work of
metrics-svc) asks the same endpoint, which does not stream to it.
"""

import argparse
import asyncio
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[1]
ANSWER_SECONDS = 0.2
FIRST_TOKEN_SECONDS = 0.06
PROCESSES = ("engine", "harness", "adapter", "endpoint", "store")

REFERENCE = """
import json, logging, resource, sys, time
import lm_eval, pathlib
from lm_eval.tasks import TaskManager

settings = json.loads(sys.argv[1])
logging.disable(logging.INFO)
family = pathlib.Path(lm_eval.__file__).parent / "tasks" / "gsm8k"
manager = TaskManager(include_defaults=False, include_path=str(family))
member = {"task": "gsm8k", "dataset_path": "parquet", "dataset_name": None,
          "dataset_kwargs": {"data_files": {"test": settings["rows"], "train": settings["fewshot"]},
                             "cache_dir": settings["cache"]}}
arguments = {"model": "scripted", "base_url": settings["url"] + "/v1/completions", "tokenizer_backend": None,
             "num_concurrent": settings["concurrency"], "max_retries": 3}
began, cpu = time.perf_counter(), time.process_time()
results = lm_eval.simple_evaluate(model="local-completions", model_args=arguments, task_manager=manager,
                                  tasks=[{"group": "g", "task": [member]}])
print(json.dumps({"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu,
                  "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
                  "samples": results["n-samples"]["gsm8k"]["effective"]}))
"""


@dataclass(frozen=True, slots=True)
class Case:
    """One cell of the table."""

    rows: int
    concurrency: int

    @property
    def ideal(self) -> float:
        """Seconds that a client without any cost of its own needs."""
        return math.ceil(self.rows / self.concurrency) * ANSWER_SECONDS


@dataclass(frozen=True, slots=True)
class Servers:
    """The processes around the engine."""

    endpoint_url: str
    adapter_address: str
    store_uri: str
    processes: dict[str, psutil.Process]


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1319)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reference-rounds", type=int, help="lm-eval's rounds (default: as many)")
    parser.add_argument("--chunks", type=int, default=8, help="pieces of a streamed answer")
    parser.add_argument("--start", action="store_true", help="measure POST to first request instead")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--profile", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        asyncio.run(measured_run(json.loads(options.child), profile=options.profile))
    else:
        with tempfile.TemporaryDirectory(prefix="assay-bench-") as scratch:
            if options.start:
                start_table(options, Path(scratch))
            else:
                speed_table(options, Path(scratch))


def speed_table(options: argparse.Namespace, scratch: Path) -> None:
    """Run all cases, the engine and lm-eval taking turns, and print the tables."""
    evaluation, fewshot = write_rows(scratch, count=options.rows)
    has_reference = find_spec("tenacity") is not None
    reference_rounds = options.rounds if options.reference_rounds is None else options.reference_rounds
    ours: dict[Case, list[dict[str, Any]]] = {}
    theirs: dict[Case, list[dict[str, Any]]] = {}
    with servers(scratch, chunks=options.chunks) as running:
        for concurrency in options.concurrency:
            case = Case(options.rows, concurrency)
            ours[case], theirs[case] = [], []
            for number in range(options.rounds):
                ours[case].append(
                    engine_run(running, case, rows=(evaluation, fewshot), profile=options.profile)
                )
                if has_reference and number < reference_rounds:
                    theirs[case].append(
                        reference_run(running, case, rows=(evaluation, fewshot), scratch=scratch)
                    )
    print_tables(ours, theirs, options)
    if not has_reference:
        print("\nlm-eval's local-completions was not run: it needs the package tenacity")


def write_rows(scratch: Path, *, count: int) -> tuple[Path, Path]:
    """Parquet files of evaluation and few-shot rows: GSM8K's where it is at hand, else rows made here."""
    shared = Path(os.environ.get("ASSAY_SHARED_DATA", ROOT.parent / "shared" / "data")) / "gsm8k"
    if shared.is_dir():
        test, train = (
            [json.loads(line) for line in (shared / f"{split}.jsonl").read_text().splitlines()]
            for split in ("test", "train")
        )
        print(f"rows: GSM8K, test {len(test)}, few-shot examples from train {len(train)}", end="")
    else:
        test, train = made_rows(1319, seed=1), made_rows(2000, seed=2)
        print("rows: made here, like GSM8K's", end="")
    if count > len(test):
        print(f"; {count} rows by numbering repetitions", end="")
    print()
    copies = [
        row | {"question": f"({lap}) {row['question']}"} if lap else row
        for lap in range(math.ceil(count / len(test)))
        for row in test
    ]
    for name, rows in (("evaluation", copies[:count]), ("fewshot", train)):
        pq.write_table(pa.Table.from_pylist(rows), scratch / f"{name}.parquet")
    return scratch / "evaluation.parquet", scratch / "fewshot.parquet"


def made_rows(count: int, *, seed: int) -> list[dict[str, str]]:
    """Questions of about the length of GSM8K's."""
    generator = random.Random(seed)
    rows = []
    for number in range(count):
        first, second = generator.randint(1, 60), generator.randint(1, 60)
        question = f"Person {number} has {first} apples and gets {second} more. How many are there? " * 3
        rows.append(
            {
                "question": question,
                "answer": f"There are {first} + {second} = {first + second} apples. " * 5
                + f"\n#### {first + second}",
            }
        )
    return rows


@contextmanager
def servers(scratch: Path, *, chunks: int) -> Iterator[Servers]:
    """Endpoint, adapter and store as processes of their own; gone when the block is left."""
    from assay_chassis.local import LocalServer, mongo_command, mongo_uri
    from assay_chassis.processes import PortReservation

    with ExitStack() as stack:
        endpoint, endpoint_address = serving_process(scratch, "endpoint", script_options(chunks))
        stack.callback(stop, endpoint)
        adapter, adapter_address = serving_process(scratch, "adapter", [])
        stack.callback(stop, adapter)
        port = PortReservation()
        stack.callback(port.release)
        store = LocalServer(
            mongo_command(scratch / "mongo", port=port.port),
            url=mongo_uri(port.port),
            log=scratch / "mongo.log",
        )
        store.start()
        stack.callback(store.close)
        yield Servers(
            endpoint_url=f"http://{endpoint_address}",
            adapter_address=adapter_address,
            store_uri=store.url,
            processes={
                "endpoint": psutil.Process(endpoint.pid),
                "adapter": psutil.Process(adapter.pid),
                "store": psutil.Process(store.pid),
            },
        )


def script_options(chunks: int) -> list[str]:
    """The endpoint's script: 60 ms to the first chunk, 200 ms to the last."""
    if chunks < 2:
        return [f"--first-token={ANSWER_SECONDS}", "--chunks=1"]
    interval = (ANSWER_SECONDS - FIRST_TOKEN_SECONDS) / (chunks - 1)
    return [f"--first-token={FIRST_TOKEN_SECONDS}", f"--chunks={chunks}", f"--interval={interval}"]


def serving_process(scratch: Path, what: str, options: list[str]) -> tuple["subprocess.Popen[bytes]", str]:
    """Start `python -m assay_serving.testing WHAT`; returns the process and the address it listens on."""
    address_file = scratch / f"{what}-address"
    command = [sys.executable, "-m", "assay_serving.testing", what, f"--address-file={address_file}"]
    with (scratch / f"{what}.log").open("wb") as log:
        process = subprocess.Popen([*command, *options], stdout=log, stderr=log)
    while not address_file.exists():
        if process.poll() is not None:
            raise RuntimeError(f"the {what} did not start: {(scratch / f'{what}.log').read_text()}")
        time.sleep(0.02)
    return process, address_file.read_text()


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a process and wait for it."""
    process.terminate()
    process.wait(10)


def engine_run(
    running: Servers, case: Case, *, rows: tuple[Path, Path], profile: str | None
) -> dict[str, Any]:
    """One run of the engine in a fresh process; seconds, CPU seconds and megabytes by process."""
    settings = {
        "concurrency": case.concurrency,
        "count": case.rows,
        "rows": [str(path) for path in rows],
        "adapter": running.adapter_address,
        "artifact": running.endpoint_url,
        "store": running.store_uri,
        "pids": {name: process.pid for name, process in running.processes.items()},
    }
    command = [sys.executable, __file__, "--child", json.dumps(settings)]
    if profile:
        command += ["--profile", profile]
    finished = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    outcome: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return outcome


def reference_run(running: Servers, case: Case, *, rows: tuple[Path, Path], scratch: Path) -> dict[str, Any]:
    """One `simple_evaluate` of lm-eval in a fresh process."""
    settings = {
        "url": running.endpoint_url,
        "concurrency": case.concurrency,
        "rows": str(rows[0]),
        "fewshot": str(rows[1]),
        "cache": str(scratch / "cache"),
    }
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(scratch / "hf")}
    finished = subprocess.run(
        [sys.executable, "-c", REFERENCE, json.dumps(settings)],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=scratch,
    )
    if finished.returncode:
        raise RuntimeError(f"lm-eval failed:\n{finished.stderr[-3000:]}")
    outcome: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    assert outcome["samples"] == case.rows
    return outcome


async def measured_run(settings: dict[str, Any], *, profile: str | None) -> None:
    """The child: everything open and warm, then the engine alone is measured."""
    from assay_chassis.outbox import EventWriter
    from assay_chassis.telemetry import Telemetry
    from assay_contracts.eval_events import SamplesCompleted
    from assay_harness.process import HarnessProcess, warm_up
    from assay_harness.spec import BuiltinTask, RowFiles, TaskOptions
    from eval_svc.domain import RunOptions
    from eval_svc.engine import Engine
    from eval_svc.store import SampleLog

    await warm_up()
    telemetry = Telemetry(service_name="bench", otlp_endpoint=None)
    events = EventWriter(service_name="bench", telemetry=telemetry)
    evaluation, fewshot = map(Path, settings["rows"])
    rows = RowFiles(evaluation=evaluation, fewshot=fewshot)
    options = RunOptions(concurrency=settings["concurrency"])
    run_id = f"bench-{os.getpid()}-{time.time_ns()}"
    done = 0
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(opened_store(settings["store"]))
        log = SampleLog(store.blocks, run_id=run_id)
        await store.runs.insert({"_id": run_id, "sort_key": run_id, "name": run_id, "progress": {}})
        opening = HarnessProcess.open(BuiltinTask(task="gsm8k"), TaskOptions(), rows)
        harness = await stack.enter_async_context(opening)
        serving = await stack.enter_async_context(serving_session(settings, run_id=run_id))
        block = 0

        async def append(samples: list[dict[str, Any]]) -> None:
            from assay_chassis.store import Change

            nonlocal block, done
            assert all(sample["status"] == "ok" for sample in samples)
            event = SamplesCompleted(run_id=run_id, block=block, samples=len(samples), failed_samples=0)
            await log.append(block, samples, events=events(event))
            block, done = block + 1, done + len(samples)
            await store.runs.update(run_id, Change(set={"progress.samples_done": done}, bump=False))

        engine = Engine(
            harness=harness,
            serving=serving,
            options=options,
            finished=set(),
            append=append,
            block_samples=64,
            block_interval=1.0,
        )
        me = psutil.Process()
        processes = {name: psutil.Process(pid) for name, pid in settings["pids"].items()}
        processes |= {"engine": me, "harness": harness_of(me)}
        before = {name: cpu_seconds(process) for name, process in processes.items()}
        profiler = start_profile(profile)
        began = time.perf_counter()
        await engine.run()
        wall = time.perf_counter() - began
        if profiler is not None:
            profiler.disable()
            profiler.dump_stats(profile)
        cpu = {name: cpu_seconds(process) - before[name] for name, process in processes.items()}
        memory = {name: process.memory_info().rss / 1e6 for name, process in processes.items()}
        assert done == settings["count"], f"{done} samples in the log"
    telemetry.close()
    print(json.dumps({"wall": wall, "cpu": cpu, "memory": memory}))


def start_profile(path: str | None) -> Any:
    """A running cProfile if wanted."""
    import cProfile

    if path is None:
        return None
    profiler = cProfile.Profile()
    profiler.enable()
    return profiler


@asynccontextmanager
async def opened_store(uri: str) -> AsyncIterator[Any]:
    """eval-svc's collections in a database of their own."""
    from assay_chassis.store import open_store
    from eval_svc.store import EvalStore

    async with open_store(uri, database="bench_eval", patience=5.0) as store:
        yield await EvalStore.open(store)


@asynccontextmanager
async def serving_session(settings: dict[str, Any], *, run_id: str) -> AsyncIterator[Any]:
    """A serving instance on the scripted endpoint, as a run has it."""
    from eval_svc.fleet import ServingFleet
    from eval_svc.serving import ServingSession, ServingTerms

    async def ignore(*_: Any) -> None:
        return

    artifact = {"backend": "cpu", "uri": settings["artifact"], "format": "gguf", "sha256": None}
    artifact |= {"revision": None, "serving_parameters": {}}
    resources = dict.fromkeys(("cpus", "memory_bytes", "accelerators", "max_context_tokens"))
    terms = ServingTerms(
        idempotency_key=run_id,
        resources=resources,
        concurrency=settings["concurrency"],
        lease_s=30.0,
        ready_timeout_s=60.0,
        attempts=1,
        labels={},
    )
    async with (
        ServingFleet.connect({"cpu": settings["adapter"]}, carrier=dict) as fleet,
        ServingSession(
            fleet=fleet, artifact=artifact, terms=terms, on_ready=ignore, on_closed=ignore
        ) as session,
    ):
        yield session


def harness_of(me: psutil.Process) -> psutil.Process:
    """The harness process: the youngest grandchild, whose parent is the fork server."""
    found = [child for child in me.children(recursive=True) if child.ppid() != me.pid]
    return max(found, key=lambda process: process.create_time())


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of one process."""
    times = process.cpu_times()
    return float(times.user + times.system)


def print_tables(
    ours: dict[Case, list[dict[str, Any]]],
    theirs: dict[Case, list[dict[str, Any]]],
    options: argparse.Namespace,
) -> None:
    """Medians, and the spread as least to most."""
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.platform()}, {os.cpu_count()} cores, ", end="")
    print(f"Python {platform.python_version()}, {options.chunks} chunks an answer, {options.rounds} rounds\n")
    print("| rows | in flight | ideal s | wall s | wall/ideal | lm-eval wall/ideal |")
    print("|---|---|---|---|---|---|")
    for case, runs in ours.items():
        walls = [run["wall"] for run in runs]
        reference = [run["wall"] / case.ideal for run in theirs[case]]
        print(
            f"| {case.rows} | {case.concurrency} | {case.ideal:.1f} | {spread(walls)} "
            f"| {spread([wall / case.ideal for wall in walls], 3)} | {spread(reference)} |"
        )
    print("\nCPU milliseconds a sample, median:\n")
    print(f"| rows | in flight | {' | '.join(PROCESSES)} | engine + adapter | lm-eval |")
    print("|" + "---|" * (len(PROCESSES) + 4))
    for case, runs in ours.items():
        cells = [middle(run["cpu"][name] / case.rows * 1000 for run in runs) for name in PROCESSES]
        both = middle((run["cpu"]["engine"] + run["cpu"]["adapter"]) / case.rows * 1000 for run in runs)
        reference_cpu = middle(run["cpu"] / case.rows * 1000 for run in theirs[case])
        print(f"| {case.rows} | {case.concurrency} | {' | '.join(cells)} | {both} | {reference_cpu} |")
    print("\nResident megabytes at the end, most of all rounds:\n")
    print(f"| rows | in flight | {' | '.join(PROCESSES)} | lm-eval |")
    print("|" + "---|" * (len(PROCESSES) + 3))
    for case, runs in ours.items():
        cells = [f"{max(run['memory'][name] for run in runs):.0f}" for name in PROCESSES]
        reference_rss = max((run["rss_mb"] for run in theirs[case]), default=math.nan)
        print(f"| {case.rows} | {case.concurrency} | {' | '.join(cells)} | {reference_rss:.0f} |")


def middle(values: Any) -> str:
    """The median, or a dash."""
    found = list(values)
    return f"{statistics.median(found):.2f}" if found else "-"


def spread(values: list[float], digits: int = 2) -> str:
    """Median (least to most), or a dash."""
    if not values:
        return "-"
    least, most = min(values), max(values)
    return f"{statistics.median(values):.{digits}f} ({least:.{digits}f} to {most:.{digits}f})"


def start_table(options: argparse.Namespace, scratch: Path) -> None:
    """POST to the first request at the endpoint, on a whole platform through its gateway."""
    evaluation, fewshot = write_rows(scratch, count=options.rows)
    endpoint, endpoint_address = serving_process(scratch, "endpoint", script_options(options.chunks))
    adapter, adapter_address = serving_process(scratch, "adapter", [])
    home = scratch / "home"
    log = (scratch / "platform.log").open("wb")
    assay_up = subprocess.Popen(
        [sys.executable, "-m", "assay_allinone", "up"],
        env={**os.environ, "ASSAY_HOME": str(home), "ASSAY_ADAPTERS": f"cpu={adapter_address}"},
        stdout=log,
        stderr=log,
        stdin=subprocess.DEVNULL,
    )
    try:
        while not (home / "run" / "gateway.json").exists():
            if assay_up.poll() is not None:
                raise RuntimeError(f"the platform did not start:\n{(scratch / 'platform.log').read_text()}")
            time.sleep(0.1)
        seconds = starts(options, home, f"http://{endpoint_address}", rows=(evaluation, fewshot))
    finally:
        assay_up.terminate()
        assay_up.wait(60)
        stop(adapter)
        stop(endpoint)
    print(f"{datetime.now(UTC):%Y-%m-%d}, {platform.platform()}, {os.cpu_count()} cores\n")
    print("| rows | plan | POST answered, s | POST to first request, s | cancel to Cancelled, s |")
    print("|---|---|---|---|---|")
    for plan, measured in seconds.items():
        cells = " | ".join(spread(list(column)) for column in zip(*measured, strict=True))
        print(f"| {options.rows} | {plan} | {cells} |")


def starts(
    options: argparse.Namespace, home: Path, endpoint_url: str, *, rows: tuple[Path, Path]
) -> dict[str, list[tuple[float, float, float]]]:
    """Seconds from the POST to its answer and to the first request, and from a cancellation to its end.

    After one run that warms everything. For plans that are new, so that every row is rendered before the POST
    is answered, and for plans that were looked at before.
    """
    from assay.client import AssayClient

    found = json.loads((home / "run" / "gateway.json").read_text())
    key = Path(found["api_key_file"]).read_text().strip()
    measured: dict[str, list[tuple[float, float, float]]] = {"new": [], "looked at before": []}
    with AssayClient(found["url"], key) as assay:
        for name, path in zip(("rows", "fewshot"), rows, strict=True):
            lines = [json.dumps(row) for row in pq.read_table(path).to_pylist()]
            jsonl = path.with_suffix(".jsonl")
            jsonl.write_text("\n".join(lines) + "\n")
            assay.datasets.create(name)
            assay.datasets.upload(name, jsonl)
        assay.methods.create("gsm8k", {"template": "builtin-lm-eval", "task": "gsm8k"}, dataset="rows")
        assay.artifacts.create("scripted", model="scripted", backend="cpu", uri=endpoint_url)
        time.sleep(10)  # the fork servers import lm-eval after they are started
        for number in range(options.rounds + 1):
            request = assay.runs.request(
                artifact="scripted",
                dataset="rows",
                method="gsm8k",
                fewshot_dataset="fewshot",
                options={"concurrency": 64, "limit": options.rows - number},
            )
            for plan in measured:
                http_json("DELETE", f"{endpoint_url}/stats")
                posted = time.time_ns()
                run = http_json("POST", f"{found['url']}/v1/evaluations", key=key, body=request)
                answered = (time.time_ns() - posted) / 1e9
                while not (first := http_json("GET", f"{endpoint_url}/stats")["first_unix_ns"]):
                    time.sleep(0.02)
                cancelled = time.perf_counter()
                assay.runs.cancel(run["id"])
                while not assay.runs.get(run["id"]).is_over:
                    time.sleep(0.02)
                over = time.perf_counter() - cancelled
                assert http_json("GET", f"{endpoint_url}/stats")["in_flight"] == 0
                if number:
                    measured[plan].append((answered, (first - posted) / 1e9, over))
    return measured


def http_json(method: str, url: str, *, key: str = "", body: Any = None) -> Any:
    """One request; JSON both ways."""
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=content, headers=headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


if __name__ == "__main__":
    main()
