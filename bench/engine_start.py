"""From the POST of a run to its first request at the endpoint, and from its cancellation to its end.

A whole platform behind its gateway, as `assay up` starts it, with the scripted adapter in place of the CPU's.
Everything is warm: one run has gone before. The platform's fork servers hold lm-eval in memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from scripted.rows import write_rows
from scripted.servers import script_options, serving_process, stop
from scripted.tables import machine, spread

from assay.client import AssayClient


def main() -> None:
    """Parse the command line, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1319)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chunks", type=int, default=8, help="pieces of a streamed answer")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as scratch:
        start_table(options, Path(scratch))


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
    print(f"{machine()}\n")
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
