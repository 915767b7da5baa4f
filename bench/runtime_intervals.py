"""How often the bootstrap intervals of runtime metrics hold the truth, by simulation.

A simulated server slows down and speeds up as an Ornstein-Uhlenbeck process does (standard deviation 15 % of
the latency, memory of so many mean latencies) and draws less power while it is slow. Each request and each
gap varies by itself, 60 % of the answers are correct, and a client keeps so many requests in flight. The
candidate is the same server with all times 10 % longer, simulated anew, so that the true ratio of every
quantile and of the energy per correct answer is 1.1 and that of the throughput is 1 / 1.1.

    python bench/runtime_intervals.py --simulations 1000
    python bench/runtime_intervals.py --own --simulations 1000

With ``--own``: how often the intervals of a run's own report hold the truth, which is what runs
``TRUTH_RUNS`` times as long measure.
"""

import argparse
import heapq
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy
import pyarrow
from numpy.typing import NDArray
from pydantic import JsonValue

from assay_evidence.runtime.measure import RunMeasurements, measure
from assay_evidence.runtime.rates import CorrectAnswers
from assay_evidence.runtime.resampling import interval
from assay_evidence.runtime.telemetry import read_telemetry

TRUE_RATIO = 1.1
METRICS = {
    "ttftP50": TRUE_RATIO,
    "ttftP99": TRUE_RATIO,
    "ttftMean": TRUE_RATIO,
    "itlP50": TRUE_RATIO,
    "itlMean": TRUE_RATIO,
    "latencyP50": TRUE_RATIO,
    "latencyP99": TRUE_RATIO,
    "tps": 1 / TRUE_RATIO,
    "joulesPerCorrectAnswer": TRUE_RATIO,
}
OWN_METRICS = ("ttftP50", "ttftP99", "ttftMean", "itlP50", "itlP99", "itlMean", "latencyP50", "tps")
TRUTH_RUNS = 40
GAP_US = 10_000.0
FIRST_US = 60_000.0
TOKENS = 16
SLOWNESS = 0.15
_STEPS_PER_LATENCY = 8

FloatArray = NDArray[numpy.float64]


@dataclass(frozen=True, slots=True)
class Setting:
    """One row: requests of a run, requests in flight, and the server's memory in mean latencies."""

    requests: int
    in_flight: int
    memory: float


SETTINGS = [
    Setting(requests, in_flight, memory)
    for requests, in_flight in ((100, 1), (100, 4), (300, 8), (1319, 8), (1319, 64), (5000, 64))
    for memory in (0.0, 2.0, 10.0)
]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--simulations", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--own", action="store_true", help="the intervals of single runs")
    options = parser.parse_args()
    of, metrics = ("one run", OWN_METRICS) if options.own else ("candidate / baseline", tuple(METRICS))
    print(f"coverage of nominal 95 % intervals of {of}, %; - : no interval is given")
    print(
        f"{'requests':>8} {'in flight':>9} {'memory':>6} {'blocks':>6} "
        + " ".join(f"{m[:12]:>12}" for m in metrics)
    )
    measured_coverage = own_coverage if options.own else coverage
    for number, setting in enumerate(SETTINGS):
        blocks, covered = measured_coverage(
            setting,
            simulations=options.simulations,
            resamples=options.resamples,
            seed=[options.seed, number],
        )
        cells = " ".join(
            f"{'-' if share is None else f'{100 * share:.1f}':>12}" for share in covered.values()
        )
        print(
            f"{setting.requests:8} {setting.in_flight:9} {setting.memory:6.0f} {blocks:6} {cells}", flush=True
        )


def coverage(
    setting: Setting, *, simulations: int, resamples: int, seed: list[int]
) -> tuple[int, dict[str, float | None]]:
    """Number of time blocks, and by metric the share of intervals that hold the true ratio."""
    held: dict[str, list[bool]] = {name: [] for name in METRICS}
    blocks = 0
    for number in range(simulations):
        random = numpy.random.default_rng([*seed, number])
        baseline, candidate = (
            simulate(setting, factor=factor, random=random).measured(
                resamples=resamples, seed=number, side=side
            )
            for side, factor in enumerate((1.0, TRUE_RATIO))
        )
        blocks = min(baseline.blocks, candidate.blocks)
        for name, truth in METRICS.items():
            first, second = baseline.metrics[name].resampled, candidate.metrics[name].resampled
            if first is None or second is None:
                continue
            found = interval(second / first, blocks=blocks, confidence=0.95)
            if found is not None:
                held[name].append(found[0] <= truth <= found[1])
    return blocks, {name: sum(hits) / len(hits) if hits else None for name, hits in held.items()}


def own_coverage(
    setting: Setting, *, simulations: int, resamples: int, seed: list[int]
) -> tuple[int, dict[str, float | None]]:
    """The same of a run's own intervals."""
    long = replace(setting, requests=setting.requests * TRUTH_RUNS)
    random = numpy.random.default_rng([*seed, simulations])
    truths = [
        simulate(long, factor=1.0, random=random).measured(resamples=1, seed=0, side=0).metrics
        for _ in range(3)
    ]
    truth = {
        name: float(numpy.mean([one[name].value for one in truths if one[name].value is not None]))
        for name in OWN_METRICS
    }
    held: dict[str, list[bool]] = {name: [] for name in OWN_METRICS}
    blocks = 0
    for number in range(simulations):
        made = simulate(setting, factor=1.0, random=numpy.random.default_rng([*seed, number]))
        measured = made.measured(resamples=resamples, seed=number, side=0)
        blocks = measured.blocks
        for name, one in measured.estimates().items():
            if name in held and one.low is not None and one.high is not None:
                held[name].append(one.low <= truth[name] <= one.high)
    return blocks, {name: sum(hits) / len(hits) if hits else None for name, hits in held.items()}


@dataclass(frozen=True, slots=True)
class SimulatedRun:
    """Requests, telemetry and correct answers of one run, as ``measure`` reads them."""

    requests: pyarrow.Table
    telemetry: dict[str, JsonValue]
    correct: CorrectAnswers

    def measured(self, *, resamples: int, seed: int, side: int) -> RunMeasurements:
        """The run's metrics."""
        return measure(
            self.requests,
            read_telemetry([self.telemetry]),
            correct=self.correct,
            resamples=resamples,
            seed=seed,
            side=side,
        )


def simulate(setting: Setting, *, factor: float, random: numpy.random.Generator) -> SimulatedRun:
    """One run of a server whose times are ``factor`` as long as the baseline's."""
    n = setting.requests
    first = FIRST_US * random.lognormal(0.0, 0.3, n)
    gaps = random.gamma(4.0, GAP_US / 4.0, (n, TOKENS - 1))
    offsets = numpy.concatenate([first[:, None], gaps], axis=1).cumsum(axis=1)
    mean_us = FIRST_US + GAP_US * (TOKENS - 1)
    slowness = _slowness(setting.memory, random)
    sent, lasts = numpy.empty(n), numpy.empty(n)
    # A little apart at the beginning, as a client's connections are.
    free = [(float(lane * mean_us / setting.in_flight / 10), lane) for lane in range(setting.in_flight)]
    track: list[float] = []
    for number in range(n):
        now, lane = free[0]
        step = int(now / mean_us * _STEPS_PER_LATENCY)
        while len(track) <= step:
            track.append(next(slowness))
        sent[number], lasts[number] = now, track[step]
        heapq.heapreplace(free, (now + offsets[number, -1] * track[step], lane))
    offsets_us = (offsets * lasts[:, None] * factor).round().astype(numpy.uint32)
    sent_ns = (sent * factor).round().astype(numpy.int64) * 1000
    lists = pyarrow.ListArray.from_arrays(
        pyarrow.array(numpy.arange(n + 1, dtype=numpy.int32) * TOKENS), pyarrow.array(offsets_us.ravel())
    )
    table = pyarrow.table(
        {
            "index": numpy.arange(n),
            "kind": ["generate"] * n,
            "instance": ["instance"] * n,
            "answered": numpy.ones(n, dtype=bool),
            "completion_tokens": numpy.full(n, TOKENS, dtype=numpy.int32),
            "sent_ns": sent_ns,
            "first_token_ns": sent_ns + offsets_us[:, 0].astype(numpy.int64) * 1000,
            "done_ns": sent_ns + offsets_us[:, -1].astype(numpy.int64) * 1000,
            "exact_token_times": numpy.ones(n, dtype=bool),
            "token_offsets_us": lists,
        }
    )
    ends_us = float((sent + offsets[:, -1] * lasts).max())
    step_us = mean_us / _STEPS_PER_LATENCY
    while len(track) * step_us < ends_us:
        track.append(next(slowness))
    telemetry = _telemetry(numpy.asarray(track), step_ns=int(step_us * factor * 1000))
    correct = CorrectAnswers("correct", numpy.flatnonzero(random.random(n) < 0.6))
    return SimulatedRun(table, telemetry, correct)


def _telemetry(track: FloatArray, *, step_ns: int) -> dict[str, JsonValue]:
    """A card that draws 200 W over the slowness, read at every step."""
    joules = numpy.concatenate([[0.0], numpy.cumsum(200.0 / track * step_ns / 1e9)])
    moments = numpy.arange(len(joules)) * step_ns
    return {
        "instance_id": "instance",
        "power": [
            {
                "sensor": "simulated",
                "device_id": "0",
                "scope": "card",
                "joules": float(joules[-1]),
                "seconds": float(moments[-1]) / 1e9,
                "readings": len(joules),
                "method": "counter",
                "series": {"mono_ns": moments.tolist(), "joules": joules.tolist()},
            }
        ],
    }


def _slowness(memory: float, random: numpy.random.Generator) -> Iterator[float]:
    """Factors on the latency, ``_STEPS_PER_LATENCY`` for each mean latency; 1 where there is no memory."""
    keep = numpy.exp(-1 / (memory * _STEPS_PER_LATENCY)) if memory else 0.0
    level = random.standard_normal()
    while True:
        yield float(numpy.exp(SLOWNESS * level)) if memory else 1.0
        level = keep * level + numpy.sqrt(1 - keep**2) * random.standard_normal()


if __name__ == "__main__":
    main()
