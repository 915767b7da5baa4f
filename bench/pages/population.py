"""A platform with much on it: what is measured is how its pages cope."""

import asyncio
import json
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
from scripted.rows import write_rows
from scripted.servers import script_options, serving_process, stop
from truth.platform import assay_up

from assay.client import AssayClient
from assay.models import Run
from assay_chassis.local import mongo_local
from pages.clones import clone_comparisons, clone_runs

_IN_FLIGHT = 256
_SMALL_RUN = 200
_ARTIFACTS = 8
_FORK_SERVERS_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much there is of what."""

    evaluations: int
    samples: int
    datasets: int
    comparisons: int


@dataclass(frozen=True, slots=True)
class Population:
    """A running platform, its console, and what to look at.

    Attributes:
        large: the run with all the samples; ``small`` is what most evaluations of the list are copies of.
        group: a run of the 57 tasks of MMLU, of which every tenth evaluation of the list is a copy.
    """

    client: AssayClient
    url: str
    api_key: str
    large: Run
    small: Run
    group: Run
    comparison_id: str


@contextmanager
def population(scratch: Path, sizes: Sizes) -> Iterator[Population]:
    """Everything, started and filled; gone when the block is left."""
    with ExitStack() as stack:
        store = mongo_local(scratch / "mongo")
        store.start()
        stack.callback(store.close)
        endpoint, address = serving_process(scratch, "endpoint", script_options(8))
        stack.callback(stop, endpoint)
        adapter, adapter_address = serving_process(scratch, "adapter", [])
        stack.callback(stop, adapter)
        client = stack.enter_context(
            assay_up(scratch, adapters=f"cpu={adapter_address}", ASSAY_MONGO_URI=store.url)
        )
        time.sleep(_FORK_SERVERS_SECONDS)  # the fork servers import lm-eval after they are started
        yield _filled(client, scratch, sizes, store_uri=store.url, endpoint=f"http://{address}")


def _filled(client: AssayClient, scratch: Path, sizes: Sizes, *, store_uri: str, endpoint: str) -> Population:
    artifacts = [
        client.artifacts.create(f"model-{number}", model="scripted", backend="cpu", uri=endpoint)
        for number in range(_ARTIFACTS)
    ]
    _register_rows(client, scratch, count=sizes.samples)
    large = _done(client, artifact="model-0", **_GSM8K, options={"concurrency": _IN_FLIGHT})
    options = {"concurrency": 64, "limit": _SMALL_RUN}
    small, other = (
        _done(client, artifact=name, **_GSM8K, options=options) for name in ("model-0", "model-1")
    )
    options = {"concurrency": 64, "limit": 2, "num_fewshot": 0}
    group = _done(client, artifact="model-0", dataset="exam", method="mmlu", options=options)
    comparison = client.comparisons.create(small.id, [other.id])
    for number in range(sizes.datasets):
        client.datasets.create(f"dataset-{number:05d}", description="One of many")
    began = time.perf_counter()
    cloned = [artifact.document() for artifact in artifacts]
    runs = [small.id, group.id]
    asyncio.run(clone_runs(store_uri, runs, artifacts=cloned, count=sizes.evaluations))
    asyncio.run(clone_comparisons(store_uri, comparison.id, count=sizes.comparisons))
    print(f"copies written in {time.perf_counter() - began:.0f} s", flush=True)
    found = json.loads((scratch / "home" / "run" / "gateway.json").read_text())
    return Population(
        client=client,
        url=found["url"],
        api_key=Path(found["api_key_file"]).read_text().strip(),
        large=large,
        small=small,
        group=group,
        comparison_id=comparison.id,
    )


_GSM8K = {"dataset": "rows", "method": "gsm8k", "fewshot_dataset": "fewshot"}


def _register_rows(client: AssayClient, scratch: Path, *, count: int) -> None:
    files = dict(zip(("rows", "fewshot"), write_rows(scratch, count=count), strict=True))
    for name, path in files.items():
        jsonl = path.with_suffix(".jsonl")
        jsonl.write_text("".join(json.dumps(row) + "\n" for row in pq.read_table(path).to_pylist()))
        client.datasets.create(name)
        client.datasets.upload(name, jsonl)
    exam = scratch / "exam.jsonl"
    exam.write_text("".join(json.dumps(row) + "\n" for row in _exam(50)))
    client.datasets.create("exam")
    client.datasets.upload("exam", exam)
    client.methods.create("gsm8k", {"template": "builtin-lm-eval", "task": "gsm8k"}, dataset="rows")
    client.methods.create("mmlu", {"template": "builtin-lm-eval", "task": "mmlu"}, dataset="exam")


def _exam(count: int) -> Iterator[dict[str, object]]:
    draw = random.Random(3)
    for number in range(count):
        choices = [f"{draw.randrange(1000)} apples" for _ in range(4)]
        yield {
            "question": f"How many, {number}?",
            "choices": choices,
            "answer": draw.randrange(4),
            "subject": "sums",
        }


def _done(client: AssayClient, **request: object) -> Run:
    """A run that was really carried out."""
    began = time.perf_counter()
    run = client.wait_run(client.runs.start(**request).id)
    if run.state != "Succeeded":
        raise RuntimeError(f"run {run.id} is {run.state}: {run.error}")
    seconds = time.perf_counter() - began
    print(f"{request['method']}: {run.progress.samples_done} samples in {seconds:.0f} s", flush=True)
    return run
