"""GSM8K's rows, or rows like them."""

import json
import math
import os
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROOT = Path(__file__).parents[2]


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
