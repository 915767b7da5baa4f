"""How true the client's times are: against a compiled server that logs when it sent each chunk.

    python bench/timing.py                       # 16, 64 and 256 streams in one adapter, 512 in two; 5 runs
    python bench/timing.py --quick               # one short run of 64
    python bench/timing.py --aiperf /tmp/aiperf-venv/bin/aiperf   # AIPerf on the same server beside it

Real: the whole platform as `assay up` starts it. The harness process builds the requests, eval-svc sends them
through gRPC and the adapter, writes the sample log, and metrics-svc scores what has come meanwhile; what is
compared are the times in the sample log. Only the model is scripted: a C program that speaks vLLM's protocol
and sends tokens by a lognormal schedule. Everything shares this machine's processors. See docs/timing.md.
"""

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from scripted.tables import machine, spread
from truth.aiperf import measure_aiperf
from truth.errors import Errors, of_samples
from truth.platform import Platform, platform
from truth.processors import ProcessorUse
from truth.server import Schedule, TruthServer, compiled, truth_server

_PER_ADAPTER = 256
_WAVES = 4
_AIPERF_STREAMS = (64, 256)

Row = dict[str, float]
Columns = Mapping[str, tuple[str, int]]

COLUMNS = {
    "chunks/s": ("rate", 0),
    "TTFT error p50, ms": ("first p50", 3),
    "TTFT p99": ("first p99", 3),
    "TTFT max": ("first max", 2),
    "ITL error p50, ms": ("gap p50", 4),
    "ITL p99": ("gap p99", 4),
    "ITL max": ("gap max", 2),
    "merged gaps, %": ("merged %", 3),
    "CPU ms/1,000 chunks": ("cpu", 1),
}
AROUND = {
    "requests": ("requests", 0),
    "not matched": ("unmatched", 0),
    "kernel stamps, %": ("kernel %", 0),
    "TTFT error p50 against the kernel's arrival, ms": ("taken p50", 3),
    "p99 of that": ("taken p99", 3),
    "server late p50, ms": ("late p50", 2),
    "server late p99": ("late p99", 2),
    "adapter waiting for a processor, %": ("waited %", 0),
    "machine idle, %": ("idle %", 0),
}
AIPERF = {
    "chunks/s": ("rate", 0),
    "TTFT error p50, ms": ("first p50", 3),
    "TTFT p99": ("first p99", 3),
    "TTFT max": ("first max", 2),
    "gap error p50, ms": ("gap p50", 4),
    "gap p99": ("gap p99", 3),
    "gap max": ("gap max", 2),
    "CPU s of the whole run": ("cpu seconds", 1),
    "not matched": ("unmatched", 0),
}


@dataclass(frozen=True, slots=True)
class Case:
    """One line of the table: `streams` at once over `processes` adapters."""

    streams: int
    processes: int

    @property
    def streams_each(self) -> int:
        """Streams of one adapter."""
        return self.streams // self.processes


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--streams", type=int, nargs="+", default=[16, 64, 256, 512])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one run of 64 streams, two waves")
    parser.add_argument("--aiperf", type=Path, help="AIPerf's executable: it runs beside 64 and 256 streams")
    parser.add_argument("--aiperf-runs", type=int, default=3)
    options = parser.parse_args()
    cases = [Case(streams, -(-streams // _PER_ADAPTER)) for streams in options.streams]
    runs, waves = options.runs, _WAVES
    if options.quick:
        cases, runs, waves = [Case(64, 1)], 1, 2
    if any(case.processes > 2 for case in cases):
        parser.error("--streams: 512 is the most, 256 in each of two adapters")
    with tempfile.TemporaryDirectory(prefix="assay-bench-") as scratch:
        bench = Bench(Path(scratch), aiperf=options.aiperf, aiperf_runs=min(runs, options.aiperf_runs))
        bench.measure(cases, runs=runs, waves=waves)
    print_tables(bench)


class Bench:
    """All runs and what they gave."""

    def __init__(self, scratch: Path, *, aiperf: Path | None, aiperf_runs: int) -> None:
        self._scratch = scratch
        self._aiperf = aiperf
        self._aiperf_runs = aiperf_runs
        self.ours: dict[Case, list[Row]] = {}
        self.theirs: dict[Case, list[Row]] = {}

    def measure(self, cases: Sequence[Case], *, runs: int, waves: int) -> None:
        """Round by round, so that a slow minute of the machine does not fall on one case."""
        program = compiled(self._scratch)
        rows = max(case.streams_each for case in cases) * waves
        with ExitStack() as stack:
            running = stack.enter_context(platform(self._scratch, rows=rows))
            servers = [stack.enter_context(truth_server(program, Schedule(seed=seed))) for seed in (1, 2)]
            one_run(running, servers, Case(16, 2), waves=1)  # warms everything
            for number in range(runs):
                for case in cases:
                    row = one_run(running, servers, case, waves=waves)
                    self.ours.setdefault(case, []).append(row)
                    show(f"run {number + 1}, {case.streams} streams", row, COLUMNS | AROUND)
                    if self._aiperf and number < self._aiperf_runs and case.streams in _AIPERF_STREAMS:
                        self._measure_aiperf(servers[0], case, number=number, waves=waves)

    def _measure_aiperf(self, server: TruthServer, case: Case, *, number: int, waves: int) -> None:
        assert self._aiperf is not None
        row = measure_aiperf(
            self._aiperf,
            server,
            streams=case.streams,
            requests=case.streams * waves,
            scratch=self._scratch / f"aiperf-{case.streams}-{number}",
        )
        self.theirs.setdefault(case, []).append(row)
        show(f"AIPerf, run {number + 1}, {case.streams} streams", row, AIPERF)


def show(title: str, row: Row, columns: Columns) -> None:
    """Print one run in one line."""
    print(f"{title}: {', '.join(f'{name} {row[key]:.{digits}f}' for name, (key, digits) in columns.items())}")


def one_run(running: Platform, servers: Sequence[TruthServer], case: Case, *, waves: int) -> Row:
    """One run per adapter at the same time, and what its times are wrong by."""
    used = list(zip(running.adapters, servers, strict=True))[: case.processes]
    for _, server in used:
        server.take_log()
    errors = Errors()
    with ProcessorUse([adapter.process for adapter, _ in used]) as processors:
        ids = [
            running.start(
                backend=adapter.backend,
                url=server.url,
                streams=case.streams_each,
                requests=case.streams_each * waves,
            )
            for adapter, server in used
        ]
        for run_id in ids:
            run = running.client.wait_run(run_id)
            if run.state != "Succeeded":
                raise RuntimeError(f"run {run_id} is {run.state}: {run.error}")
    for run_id, (_, server) in zip(ids, used, strict=True):
        log = server.take_log()
        of_samples((sample.model_dump() for sample in running.client.runs.samples(run_id)), errors, log)
    row, window = errors.row(), processors.between(errors.begin, errors.end)
    return row | {
        "cpu": window.cpu / row["chunks"] * 1e6,
        "waited %": window.waited / ((errors.end - errors.begin) / 1e9) / case.processes * 100,
        "idle %": window.idle_share * 100,
        "merged %": row["merged"] * 100,
        "kernel %": row["kernel"] * 100,
    }


def print_tables(bench: Bench) -> None:
    """Medians, and the spread as least to most."""
    print(f"\n{machine()}, median (least to most) of each case's runs")
    print_table("adapters", bench.ours, COLUMNS)
    print_table("adapters", bench.ours, AROUND)
    if bench.theirs:
        print("\nAIPerf; its CPU time is that of all its processes, start included")
        print_table("servers", bench.theirs, AIPERF)


def print_table(over: str, results: Mapping[Case, Sequence[Row]], columns: Columns) -> None:
    """One line per case."""
    print(f"\n| streams | {over} | runs | {' | '.join(columns)} |")
    print("|" + "---|" * (len(columns) + 3))
    for case, rows in results.items():
        cells = [spread([row[key] for row in rows], digits) for key, digits in columns.values()]
        print(f"| {case.streams} | {case.processes} | {len(rows)} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
