"""JSON Lines to an immutable snapshot file, beside the JSON loader of `datasets` in the same run.

    python bench/ingest.py                               # 1 GB, 5 rounds
    python bench/ingest.py --megabytes 200 --rounds 3

Each round is a new process of either side, in turns; the time is that of the call, after the imports and a
first call on a few rows. Ours is ``dataset_svc.ingest.ingest``: every rule checked, types over the whole
file, canonical Parquet with its sha256. Theirs is ``load_dataset("json", ...)`` into an empty cache:
types from the first rows, uncompressed Arrow. Peak RSS is that of the process over all of its life. Both read
a file that is in the page cache. The text of the rows is random words. With ``--odd`` every 5,000th row has a
blank line before it, and the scores begin as whole numbers.
"""

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

import psutil

LETTERS = "abcdefghijklmnopqrstuvwxyz"

PEAK = """
import json, os, re, sys, tempfile, time
from pathlib import Path

def peak():
    # Unlike the figure of getrusage, this one does not begin with the parent's.
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
"""

OURS = (
    PEAK
    + """
from dataset_svc.domain.snapshots import Source
from dataset_svc.ingest import ingest
from dataset_svc.jsonl import Limits

scratch = Path(sys.argv[2])
source = Source(kind="jsonl", filename="rows.jsonl", sha256="0" * 64, bytes=0)

def run(path):
    with open(path, "rb") as file, tempfile.TemporaryFile(dir=scratch) as target:
        return ingest(file, target, limits=Limits(), split="test", source=source, scratch=scratch)

run(sys.argv[3])
wall, cpu = time.perf_counter(), time.process_time()
content = run(sys.argv[1])
print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "rows": content.rows,
                  "rss": peak(), "bytes": content.bytes}))
"""
)

THEIRS = (
    PEAK
    + """
os.environ["HF_HUB_OFFLINE"] = "1"
import datasets

datasets.disable_progress_bars()

def run(path):
    with tempfile.TemporaryDirectory(dir=sys.argv[2]) as cache:
        rows = datasets.load_dataset("json", data_files=path, split="train", cache_dir=cache)
        return len(rows), sum(each.stat().st_size for each in Path(cache).rglob("*.arrow"))

run(sys.argv[3])
wall, cpu = time.perf_counter(), time.process_time()
rows, size = run(sys.argv[1])
print(json.dumps({"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu, "rows": rows,
                  "rss": peak(), "bytes": size}))
"""
)


def make_file(path: Path, *, size: int, odd: bool) -> int:
    """Write about ``size`` bytes of rows like those of an evaluation set; the number of rows."""
    generator = random.Random(7)
    words = ["".join(generator.choices(LETTERS, k=generator.randint(2, 10))) for _ in range(5000)]
    text = " ".join(generator.choices(words, k=2_000_000))

    def excerpt(shortest: int, longest: int) -> str:
        start = generator.randrange(len(text) - longest)
        return text[start : start + generator.randint(shortest, longest)]

    written = count = 0
    with path.open("wb") as file:
        while written < size:
            row = {
                "id": count,
                "question": excerpt(100, 450),
                "answer": excerpt(5, 70),
                "score": 1 if odd and count < 1000 else generator.random(),
                "choices": generator.choices(words, k=4),
                "label": generator.randint(0, 3),
                "meta": {"source": generator.choice(["web", "book"]), "ok": generator.random() < 0.5},
            }
            blank = b"\n" if odd and count % 5000 == 0 else b""
            written += file.write(blank + json.dumps(row).encode() + b"\n")
            count += 1
    return count


def measure(script: str, *arguments: Path) -> dict[str, float]:
    """Run one side in a process of its own."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(finished.stdout.splitlines()[-1])
    return found


def middle(values: list[float], digits: int = 2) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def report(title: str, rounds: dict[str, list[dict[str, float]]], *, size: int) -> None:
    """Print the table."""
    print(f"{title}, {len(rounds['assay'])} rounds, {datetime.now(UTC):%Y-%m-%d}")
    memory = psutil.virtual_memory().total >> 30
    print(f"{platform.platform()}, {os.cpu_count()} cores, {memory} GiB, Python {platform.python_version()}")
    print("| side | seconds, median (min to max) | MB/s | CPU seconds | peak RSS MB | file written MB |")
    print("|---|---|---|---|---|---|")
    for side, found in rounds.items():
        seconds = [each["wall"] for each in found]
        print(
            f"| {side} | {middle(seconds)} | {size / 1e6 / statistics.median(seconds):.0f} "
            f"| {statistics.median(each['cpu'] for each in found):.2f} "
            f"| {max(each['rss'] for each in found) / 1e6:.0f} | {found[0]['bytes'] / 1e6:.0f} |"
        )
    pairs = zip(rounds["assay"], rounds["datasets"], strict=True)
    print(f"assay / datasets, wall: {middle([mine['wall'] / theirs['wall'] for mine, theirs in pairs])}")


def main() -> None:
    """Make the file, run the rounds, print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--megabytes", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--odd", action="store_true", help="with blank lines and types that grow")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        scratch = Path(directory)
        path, first = scratch / "rows.jsonl", scratch / "first.jsonl"
        count = make_file(path, size=arguments.megabytes * 1_000_000, odd=arguments.odd)
        make_file(first, size=1000, odd=False)
        rounds: dict[str, list[dict[str, float]]] = {"assay": [], "datasets": []}
        for _ in range(arguments.rounds):
            rounds["assay"].append(measure(OURS, path, scratch, first))
            rounds["datasets"].append(measure(THEIRS, path, scratch, first))
        every = [each["rows"] for found in rounds.values() for each in found]
        assert set(every) == {count}, f"the sides disagree on the rows: {every}"
        size = path.stat().st_size
        report(f"JSON Lines ingest, {size / 1e6:.0f} MB, {count} rows", rounds, size=size)


if __name__ == "__main__":
    main()
