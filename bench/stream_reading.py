"""What the reading of token streams costs: compiled and in Python, by turns in one process.

    python bench/stream_reading.py               # 64 streams, 5 rounds of each, about a minute
    python bench/stream_reading.py --streams 256

The server is that of `timing.py`: 15 ms between the tokens of a stream. The client is the adapters' own, from
the socket to the finished generation; adapter, gRPC and platform are left out, so these figures are below
those of `timing.py`.
"""

import argparse
import asyncio
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import orjson
import uvloop
from scripted.tables import machine, spread
from truth.server import Schedule, compiled, truth_server

from assay_serving.openai.completion import CompletionStream, completion_body
from assay_serving.ready_sockets import PythonReadySockets, ReadySockets, compiled_ready_sockets
from assay_serving.shared_reads import SharedReads
from assay_serving.types import SamplingParameters
from assay_serving.upstream import Upstream, UpstreamAddress

_TOKENS = 128


class Client:
    """Streams over one server with one kind of reading."""

    def __init__(self, port: int, make_sockets: Callable[[], ReadySockets]) -> None:
        self._upstream = Upstream(
            UpstreamAddress(port=port), keep_alive=True, shared_reads=SharedReads(make_sockets)
        )
        self._sampling = SamplingParameters(max_tokens=_TOKENS, ignore_eos=True)

    async def round(self, streams: int) -> tuple[float, float]:
        """Milliseconds of processor time per 1,000 chunks, and the share of merged reads in percent."""
        before = resource.getrusage(resource.RUSAGE_SELF)
        merged = await asyncio.gather(*(self._stream(number) for number in range(streams)))
        after = resource.getrusage(resource.RUSAGE_SELF)
        seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        chunks = streams * _TOKENS
        return seconds / chunks * 1e6, sum(merged) / chunks * 100

    async def _stream(self, number: int) -> int:
        answer = CompletionStream(self._sampling, 1 << 20)
        body = completion_body(f"[request {number}]", self._sampling, model="truth")
        received = time.monotonic_ns()
        reply = await self._upstream.exchange(
            "POST", "/v1/completions", body=orjson.dumps(body), on_event=answer.add
        )
        return answer.result(reply, received_mono_ns=received).times.merged_reads

    def close(self) -> None:
        """Close the connections."""
        self._upstream.close()


async def measure(port: int, *, streams: int, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """What each round of each kind gave; one round of each before is not counted."""
    kinds: dict[str, Callable[[], ReadySockets]] = {"Python": PythonReadySockets}
    if found := compiled_ready_sockets():
        kinds["compiled"] = found
    clients = {name: Client(port, kind) for name, kind in kinds.items()}
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in clients}
    for number in range(rounds + 1):
        for name, client in clients.items():
            row = await client.round(streams)
            if number:
                results[name].append(row)
    for client in clients.values():
        client.close()
    return results


def runner_of_adapters() -> asyncio.Runner:
    """Their event loop."""
    return asyncio.Runner(loop_factory=uvloop.new_event_loop)


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as scratch:
        program = compiled(Path(scratch))
        with truth_server(program, Schedule(chunks=_TOKENS)) as server, runner_of_adapters() as runner:
            port = int(server.url.rsplit(":", 1)[1])
            results = runner.run(measure(port, streams=options.streams, rounds=options.rounds))
    print(f"{machine()}, {options.streams} streams, median (least to most) of {options.rounds} rounds\n")
    print("| reading | CPU ms/1,000 chunks | merged reads, % |")
    print("|---|---|---|")
    for name, rows in results.items():
        print(f"| {name} | {spread([row[0] for row in rows], 1)} | {spread([row[1] for row in rows], 3)} |")
    if "compiled" in results:
        middle = {name: statistics.median(row[0] for row in rows) for name, rows in results.items()}
        print(f"\ncompiled to Python: {middle['compiled'] / middle['Python']:.2f}")
    else:
        print("\nthe package was installed without a compiler: nothing to compare with")


if __name__ == "__main__":
    main()
