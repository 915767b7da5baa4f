"""What the harness costs per sample beside lm-eval itself: same task, same rows, same responses, no model.

Both sides answer GSM8K-like rows (5-shot, made here) at once with a fixed text. Ours builds prompts, passes
them through the process boundary, scores and aggregates; lm-eval's is ``simple_evaluate`` after its imports
and its task index are loaded. Prints wall and CPU milliseconds per sample, medians over rounds in which the
two sides alternate, and the memory of the harness process after few and after many rows.
"""

import asyncio
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from assay_harness.process import HarnessProcess, warm_up
from assay_harness.spec import BuiltinTask, RowFiles, TaskOptions

ROWS = 1319
MANY_ROWS = 20_000
FEWSHOT_ROWS = 7473
ROUNDS = 5
RESPONSE = "She has 3 + 4 = 7 apples.\n#### 7"

REFERENCE = """
import json, sys, time
import lm_eval, pathlib
from lm_eval.api.model import LM
from lm_eval.tasks import TaskManager

class Fixed(LM):
    def generate_until(self, requests, disable_tqdm=False):
        return [sys.argv[3] for _ in requests]
    def loglikelihood(self, requests, disable_tqdm=False):
        raise NotImplementedError
    def loglikelihood_rolling(self, requests, disable_tqdm=False):
        raise NotImplementedError

family = pathlib.Path(lm_eval.__file__).parent / "tasks" / "gsm8k"
manager = TaskManager(include_defaults=False, include_path=str(family))
files = {"test": sys.argv[1], "train": sys.argv[4]}
member = {"task": "gsm8k", "dataset_path": "parquet", "dataset_name": None,
          "dataset_kwargs": {"data_files": files, "cache_dir": sys.argv[2]}}
began = time.perf_counter()
tasks = [{"group": "g", "task": [member]}]
results = lm_eval.simple_evaluate(model=Fixed(), tasks=tasks, task_manager=manager)
print(json.dumps({"seconds": time.perf_counter() - began,
                  "score": results["results"]["gsm8k"]["exact_match,flexible-extract"]}))
"""


def make_rows(path: Path, *, count: int, seed: int) -> None:
    """Write ``count`` distinct questions whose answer is sometimes 7."""
    generator = random.Random(seed)
    rows = []
    for number in range(count):
        first, second = generator.randint(1, 6), generator.randint(1, 6)
        question = f"Person {seed}-{number} has {first} apples and gets {second} more. How many are there? "
        answer = f"There are {first} + {second} = {first + second}.\n#### {first + second}"
        rows.append({"question": question * 3, "answer": answer})
    pq.write_table(pa.Table.from_pylist(rows), path)


class Cost(NamedTuple):
    """What one evaluation of ours cost; CPU seconds are of this process and of the harness process."""

    seconds: float
    score: float | None
    build_parent: float
    build_child: float
    score_parent: float
    score_child: float
    child_rss: int
    child_private: int


def cpu_seconds(process: psutil.Process) -> float:
    """User and system time of a process."""
    times = process.cpu_times()
    return times.user + times.system


async def ours(rows: RowFiles) -> Cost:
    """Open, build, score and aggregate; prompts are dropped batch by batch, as the engine does."""
    me = psutil.Process()
    before = {child.pid for child in me.children(recursive=True)}
    began = time.perf_counter()
    async with HarnessProcess.open(BuiltinTask(task="gsm8k"), TaskOptions(), rows) as harness:
        (child,) = (process for process in me.children(recursive=True) if process.pid not in before)
        marks = [(cpu_seconds(me), cpu_seconds(child))]
        indices = []
        async for documents in harness.documents():
            indices += [document.index for document in documents]
        marks.append((cpu_seconds(me), cpu_seconds(child)))
        scores = []
        for start in range(0, len(indices), 64):
            scores += await harness.score([(index, [RESPONSE]) for index in indices[start : start + 64]])
        result = await harness.aggregate(scores)
        marks.append((cpu_seconds(me), cpu_seconds(child)))
        memory = child.memory_full_info()
    return Cost(
        seconds=time.perf_counter() - began,
        score=result.metrics["gsm8k.exact_match,flexible-extract"],
        build_parent=marks[1][0] - marks[0][0],
        build_child=marks[1][1] - marks[0][1],
        score_parent=marks[2][0] - marks[1][0],
        score_child=marks[2][1] - marks[1][1],
        child_rss=memory.rss,
        child_private=memory.uss,
    )


def theirs(rows: RowFiles, cache: str) -> tuple[float, float | None]:
    """Seconds inside ``simple_evaluate``, and the score."""
    files = [str(rows.evaluation), cache, RESPONSE, str(rows.fewshot)]
    command = [sys.executable, "-c", REFERENCE, *files]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, cwd=cache)
    answer = json.loads(finished.stdout.splitlines()[-1])
    return answer["seconds"], answer["score"]


def row_files(scratch: Path, *, count: int) -> RowFiles:
    """Write the evaluated rows and others to draw examples from."""
    files = RowFiles(evaluation=scratch / f"test-{count}.parquet", fewshot=scratch / "train.parquet")
    make_rows(files.evaluation, count=count, seed=7)
    make_rows(scratch / "train.parquet", count=FEWSHOT_ROWS, seed=8)
    return files


def show(name: str, values: Sequence[float], *, digits: int = 2) -> None:
    """Print a row of the table: median and range."""
    low, high = min(values), max(values)
    print(f"| {name} | {statistics.median(values):.{digits}f} ({low:.{digits}f} to {high:.{digits}f}) |")


async def main() -> None:
    """Run the rounds and print the table."""
    await warm_up()
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        rows = row_files(scratch, count=ROWS)
        await ours(rows)  # the first process of a program waits for lm-eval's import
        pairs = []
        for _ in range(ROUNDS):
            mine = await ours(rows)
            reference, reference_score = await asyncio.to_thread(theirs, rows, directory)
            if mine.score != reference_score:
                raise SystemExit(f"the two sides disagree on the score: {mine.score}, {reference_score}")
            pairs.append((mine, reference))
        large = await ours(row_files(scratch, count=MANY_ROWS))
    costs = [mine for mine, _ in pairs]
    per_sample = 1000 / ROWS
    print(f"harness cost, gsm8k 5-shot, {ROWS} rows, {ROUNDS} rounds, {datetime.now(UTC):%Y-%m-%d}")
    print(f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}")
    print("| milliseconds per sample | median (min to max) |")
    print("|---|---|")
    show("assay_harness, wall", [cost.seconds * per_sample for cost in costs])
    show("lm-eval alone, wall", [reference * per_sample for _, reference in pairs])
    show("building, CPU of the harness process", [cost.build_child * per_sample for cost in costs], digits=3)
    show("building, CPU of the caller", [cost.build_parent * per_sample for cost in costs], digits=3)
    show("scoring, CPU of the harness process", [cost.score_child * per_sample for cost in costs], digits=3)
    show("scoring, CPU of the caller", [cost.score_parent * per_sample for cost in costs], digits=3)
    ratios = [reference / mine.seconds for mine, reference in pairs]
    print(f"lm-eval / assay: {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")
    print(
        f"harness process after {ROWS} rows: {costs[-1].child_rss / 1e6:.0f} MB resident, "
        f"{costs[-1].child_private / 1e6:.0f} MB of its own; after {MANY_ROWS} rows: "
        f"{large.child_rss / 1e6:.0f} MB, {large.child_private / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    asyncio.run(main())
