"""What the harness costs per sample beside lm-eval itself: same task, same rows, same responses, no model.

Both sides answer GSM8K-like rows (5-shot, made here) at once with a fixed text. Ours builds prompts, passes
them through the process boundary, scores and aggregates; lm-eval's is ``simple_evaluate`` after its imports
and its task index are loaded. Prints wall milliseconds per sample, medians over rounds, and the ratio; the
two sides alternate.
"""

import asyncio
import json
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from assay_harness.process import HarnessProcess, warm_up
from assay_harness.spec import BuiltinTask, RowFiles, TaskOptions

ROWS = 1000
ROUNDS = 3
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
files = {"test": sys.argv[1], "train": sys.argv[1]}
member = {"task": "gsm8k", "dataset_path": "parquet", "dataset_name": None,
          "dataset_kwargs": {"data_files": files, "cache_dir": sys.argv[2]}}
began = time.perf_counter()
tasks = [{"group": "g", "task": [member]}]
results = lm_eval.simple_evaluate(model=Fixed(), tasks=tasks, task_manager=manager)
print(json.dumps({"seconds": time.perf_counter() - began,
                  "score": results["results"]["gsm8k"]["exact_match,flexible-extract"]}))
"""


def make_rows(path: Path) -> None:
    """Write ``ROWS`` distinct questions whose answer is sometimes 7."""
    generator = random.Random(7)
    rows = []
    for number in range(ROWS):
        first, second = generator.randint(1, 6), generator.randint(1, 6)
        rows.append(
            {
                "question": f"Person {number} has {first} apples and gets {second} more. How many are there? "
                * 3,
                "answer": f"There are {first} + {second} = {first + second}.\n#### {first + second}",
            }
        )
    pq.write_table(pa.Table.from_pylist(rows), path)


async def ours(path: Path) -> tuple[float, float | None]:
    """Seconds for open, build, score and aggregate, and the score."""
    began = time.perf_counter()
    rows = RowFiles(evaluation=path, fewshot=path)
    async with HarnessProcess.open(BuiltinTask(task="gsm8k"), TaskOptions(), rows) as harness:
        scores = []
        async for documents in harness.documents():
            scores += await harness.score([(document.index, [RESPONSE]) for document in documents])
        result = await harness.aggregate(scores)
    return time.perf_counter() - began, result.metrics["gsm8k.exact_match,flexible-extract"]


def theirs(path: Path, cache: str) -> tuple[float, float | None]:
    """Seconds inside ``simple_evaluate``, and the score."""
    command = [sys.executable, "-c", REFERENCE, str(path), cache, RESPONSE]
    finished = subprocess.run(command, capture_output=True, text=True, check=True, cwd=cache)
    answer = json.loads(finished.stdout.splitlines()[-1])
    return answer["seconds"], answer["score"]


async def main() -> None:
    """Run the rounds and print the table."""
    await warm_up()
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "rows.parquet"
        make_rows(path)
        await ours(path)  # the first process of a program waits for lm-eval's import
        pairs = []
        for _ in range(ROUNDS):
            mine, my_score = await ours(path)
            reference, reference_score = await asyncio.to_thread(theirs, path, scratch)
            assert my_score == reference_score, "the two sides disagree on the score"
            pairs.append((mine, reference))
    per_sample = [[seconds / ROWS * 1000 for seconds in side] for side in zip(*pairs, strict=True)]
    ratios = [reference / mine for mine, reference in pairs]
    print(f"harness cost, gsm8k 5-shot, {ROWS} rows, {ROUNDS} rounds, {datetime.now(UTC):%Y-%m-%d}")
    print(f"{platform.platform()}, Python {platform.python_version()}")
    print("| side | ms per sample, median (min to max) |")
    print("|---|---|")
    for name, values in zip(("assay_harness", "lm-eval alone"), per_sample, strict=True):
        print(f"| {name} | {statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f}) |")
    print(f"lm-eval / assay: {statistics.median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    asyncio.run(main())
