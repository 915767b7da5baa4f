"""The run engine against an endpoint of fixed timing, with lm-eval's own client on the same endpoint.

    python bench/engine.py                          # GSM8K's 1,319 test rows at 16, 64 and 256 in flight
    python bench/engine.py --rows 20000 --rounds 1

Real: harness process, eval-svc's engine and serving session, gRPC, the adapter base, the upstream client, and
the sample log in the embedded store with its events. Scripted: the model, an endpoint in a process of its own
that answers every prompt in 200 ms, streamed in a few chunks. `wall` is from the first request being built
to the last sample being in the log; ideal is ceil(rows / in flight) x 0.2 s. lm-eval's `local-completions`
(`simple_evaluate` alone, without its imports and its task index; it also scores, which here is the work of
metrics-svc) asks the same endpoint, which does not stream to it.
"""

import argparse
import asyncio
import cProfile
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import psutil
from scripted.rows import write_rows
from scripted.servers import ANSWER_SECONDS, Servers, servers
from scripted.tables import machine, middle, spread

from assay_chassis.outbox import EventWriter
from assay_chassis.store import Change, open_store
from assay_chassis.telemetry import Telemetry
from assay_contracts.eval_events import SamplesCompleted
from assay_harness.process import HarnessProcess, warm_up
from assay_harness.spec import BuiltinTask, RowFiles, TaskOptions
from eval_svc.domain import RunOptions
from eval_svc.engine import Engine
from eval_svc.fleet import ServingFleet
from eval_svc.serving import ServingSession, ServingTerms
from eval_svc.store import EvalStore, SampleLog

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


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1319)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--reference-rounds", type=int, help="lm-eval's rounds (default: as many)")
    parser.add_argument("--chunks", type=int, default=8, help="pieces of a streamed answer")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    parser.add_argument("--profile", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        asyncio.run(measured_run(json.loads(options.child), profile=options.profile))
    else:
        with tempfile.TemporaryDirectory(prefix="assay-bench-") as scratch:
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
    if path is None:
        return None
    profiler = cProfile.Profile()
    profiler.enable()
    return profiler


@asynccontextmanager
async def opened_store(uri: str) -> AsyncIterator[Any]:
    """eval-svc's collections in a database of their own."""
    async with open_store(uri, database="bench_eval", patience=5.0) as store:
        yield await EvalStore.open(store)


@asynccontextmanager
async def serving_session(settings: dict[str, Any], *, run_id: str) -> AsyncIterator[Any]:
    """A serving instance on the scripted endpoint, as a run has it."""

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
            fleet=fleet, artifact=artifact, terms=terms, on_accepted=ignore, on_ready=ignore, on_closed=ignore
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
    print(f"{machine()}, {options.chunks} chunks an answer, {options.rounds} rounds\n")
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


if __name__ == "__main__":
    main()
