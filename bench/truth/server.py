"""Compiles and runs the truth server, and reads its log."""

import contextlib
import os
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

_ABOVE_ADAPTERS = 2  # real-time priority
Nanoseconds = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """When the server sends: medians in milliseconds and sigmas of two lognormal distributions."""

    seed: int = 1
    first_median: float = 80.0
    first_sigma: float = 0.43
    gap_median: float = 15.0
    gap_sigma: float = 0.3
    chunks: int = 128

    def arguments(self) -> list[str]:
        """The server's command line."""
        numbers = (self.first_median, self.first_sigma, self.gap_median, self.gap_sigma, self.chunks)
        return [str(self.seed), *map(str, numbers)]


@dataclass(frozen=True, slots=True)
class TrueRequest:
    """What the server logged of one request; CLOCK_MONOTONIC in nanoseconds.

    `read` is when the server had read its last byte, `taken` when the kernel had received it (0: unknown);
    `planned` and `sent` have one entry per chunk.
    """

    number: int
    read: int
    taken: int
    planned: Nanoseconds
    sent: Nanoseconds


@dataclass(frozen=True, slots=True)
class TruthServer:
    """A running truth server."""

    url: str
    process: psutil.Process

    def take_log(self) -> dict[int, list[TrueRequest]]:
        """What was asked since the last call, by the number in the prompt."""
        with urllib.request.urlopen(f"{self.url}/log", timeout=30) as answer:
            return parse_log(answer.read())


def parse_log(content: bytes) -> dict[int, list[TrueRequest]]:
    """Read the log's binary form, which `server.c` describes."""
    values = np.frombuffer(content, dtype="<i8")
    requests, chunks = (int(value) for value in values[:2])
    heads = values[2 : 2 + 3 * requests].reshape(requests, 3)
    bodies = values[2 + 3 * requests :].reshape(chunks, 3)
    order = np.argsort(bodies[:, 0], kind="stable")
    ends = np.searchsorted(bodies[order, 0], np.arange(requests + 1))
    found: dict[int, list[TrueRequest]] = {}
    for index, (number, read, taken) in enumerate(heads.tolist()):
        mine = bodies[order[ends[index] : ends[index + 1]]]
        found.setdefault(number, []).append(TrueRequest(number, read, taken, mine[:, 1], mine[:, 2]))
    return found


def compiled(directory: Path) -> Path:
    """Compile the server into `directory`; ends the program with a sentence where that is not possible."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        sys.exit("the truth server is written in C: install a compiler (cc, gcc or clang) and run this again")
    program = directory / "truth-server"
    source = Path(__file__).with_suffix(".c")
    subprocess.run([compiler, "-O2", "-o", str(program), str(source), "-lm"], check=True)
    return program


@contextmanager
def truth_server(program: Path, schedule: Schedule) -> Iterator[TruthServer]:
    """A server on a free port; it ends with the block, and with this process."""
    process: subprocess.Popen[Any] = subprocess.Popen(
        [str(program), *schedule.arguments()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with contextlib.suppress(OSError):  # takes a privilege; a reference should not itself be late
        os.sched_setscheduler(process.pid, os.SCHED_RR, os.sched_param(_ABOVE_ADAPTERS))
    assert process.stdout is not None
    try:
        port = int(process.stdout.readline())
        yield TruthServer(f"http://127.0.0.1:{port}", psutil.Process(process.pid))
    finally:
        process.communicate("")
