"""What comparing two large runs costs, against the same numbers from arrays that are in memory already.

Two synthetic runs (by default 100,000 samples with responses of 500 characters and 120 tokens) lie as
evidence files on disk. Timed are, in turn, each the given number of times:

- *comparison*: both runs are read and compared: pairing by content, coverage, plans, every quality metric,
  flips by class, where responses part, runtime and energy with their bootstrap, workload, table of pairs;
- *in memory*: quality metrics by the same statistical functions on arrays of paired values, runtime, energy
  and workload by the same functions on tables of requests in memory. No file, no pairing, no texts.

Both give the same numbers, which is checked. Prints medians, their ratio and the peak of memory of the
process that compared; fails where the ratio is above the bar.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy
import pyarrow
from numpy.typing import NDArray

from assay_evidence.comparison import compare
from assay_evidence.facts import RunFacts
from assay_evidence.pairing import Pairing, pair_runs, paired_values
from assay_evidence.report import CandidateReport, ComparisonSettings, RuntimeComparison, WorkloadParity
from assay_evidence.runtime import compare_energy, compare_runtime
from assay_evidence.statistics import power
from assay_evidence.statistics.multiplicity import holm
from assay_evidence.statistics.paired import (
    MarginResult,
    PairedDifference,
    is_binary,
    margin_test,
    mcnemar_exact,
    paired_difference,
)
from assay_evidence.tables import REQUEST_COLUMNS, RunEvidence, read_run
from assay_evidence.testing import Changes, Speed, Task, synthetic_run
from assay_evidence.workload import workload_parity

BAR = 3.0
SETTINGS = ComparisonSettings()
Array = NDArray[numpy.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Loaded(RunEvidence):
    """A run whose requests are in memory."""

    table: pyarrow.Table

    def requests(self, columns: Sequence[str]) -> pyarrow.Table:
        """From memory instead of from the file."""
        return self.table.select(list(dict.fromkeys(["index", *columns])))

    @classmethod
    def of(cls, run: RunEvidence) -> "Loaded":
        """Load all columns of its requests."""
        own = {one.name: getattr(run, one.name) for one in fields(RunEvidence)}
        return cls(**own, table=run.requests(REQUEST_COLUMNS.names).combine_chunks())


class PairedMetric(NamedTuple):
    """Values of one metric over the pairs."""

    name: str
    baseline: Array
    candidate: Array


class Numbers(NamedTuple):
    """What the report is made of."""

    differences: dict[str, PairedDifference]
    tests: dict[str, MarginResult]
    corrected: list[float | None]
    detectable: list[float]
    runtime: list[RuntimeComparison]
    workload: WorkloadParity


def make(directory: Path, samples: int) -> None:
    """Write both runs."""
    changes = Changes(
        gained=samples * 15 // 1000,
        lost=samples * 17 // 1000,
        format_only=samples * 8 // 1000,
        reworded=samples * 4 // 10,
        truncated=samples // 1000,
        failed=samples // 2000,
    )
    for name, changed in (("baseline", Changes()), ("candidate", changes)):
        run = synthetic_run(
            run_id=name,
            tasks=(Task(documents=samples),),
            changes=changed,
            speed=Speed(tokens=120, watts=200.0),
            response_chars=500,
            seed=len(name),
        )
        run.evidence(directory)
        (directory / f"{name}.json").write_text(run.facts.model_dump_json())


def read(directory: Path, name: str) -> RunEvidence:
    """One of the runs."""
    facts = RunFacts.model_validate_json((directory / f"{name}.json").read_text())
    return read_run(facts, directory / f"{name}.samples", directory / f"{name}.requests")


def compared(directory: Path) -> CandidateReport:
    """The whole comparison, from the files."""
    outcome = compare(read(directory, "baseline"), [read(directory, "candidate")], settings=SETTINGS)
    return outcome.report.candidates[0]


def from_memory(
    metrics: list[PairedMetric], baseline: RunEvidence, candidate: RunEvidence, pairing: Pairing
) -> Numbers:
    """The report's numbers from arrays and tables in memory."""
    margin, alpha = SETTINGS.margin, SETTINGS.alpha
    differences = {one.name: paired_difference(one.baseline, one.candidate) for one in metrics}
    tests = {
        one.name: margin_test(one.baseline, one.candidate, margin=margin, alpha=alpha, higher_is_better=True)
        for one in metrics
    }
    p_values: list[float | None] = []
    detectable = []
    for one in metrics:
        if is_binary(one.baseline) and is_binary(one.candidate):
            gained = int(((one.baseline == 0) & (one.candidate == 1)).sum())
            lost = int(((one.baseline == 1) & (one.candidate == 0)).sum())
            p_values.append(mcnemar_exact(gained, lost))
            n = len(one.baseline)
            detectable.append(
                power.detectable_difference(n=n, churn=(gained + lost) / n, alpha=alpha, power=SETTINGS.power)
            )
    energy = compare_energy(baseline, candidate)
    return Numbers(
        differences,
        tests,
        holm(p_values),
        detectable,
        compare_runtime(baseline, candidate, settings=SETTINGS, energy=energy),
        workload_parity(baseline, candidate, pairing, settings=SETTINGS),
    )


def check(report: CandidateReport, numbers: Numbers) -> None:
    """Fail where the two ways differ."""
    for one in report.quality:
        difference, test = numbers.differences[one.metric], numbers.tests[one.metric]
        assert one.margin_test is not None
        assert (one.difference, one.stderr, one.interval_90, one.interval_95, one.changed) == (
            difference.difference,
            difference.stderr,
            difference.interval_90,
            difference.interval_95,
            difference.changed,
        )
        assert one.margin_test.non_inferiority_p == test.non_inferiority_p
    assert [one.mcnemar_p_holm for one in report.quality if one.flips] == numbers.corrected
    assert [one.minimal_detectable_difference for one in report.quality if one.flips] == numbers.detectable
    assert report.runtime == numbers.runtime
    assert report.workload == numbers.workload


def seconds(work: Callable[[], Any]) -> float:
    """How long it takes."""
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure(directory: Path, repeats: int) -> float:
    """Time both in turn; returns the ratio of the medians."""
    # Measured before anything is held in memory for the other way.
    report = compared(directory)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    baseline, candidate = (Loaded.of(read(directory, name)) for name in ("baseline", "candidate"))
    pairing = pair_runs(baseline, candidate)
    metrics = []
    for name in baseline.facts.sample_metrics:
        values = paired_values(baseline, candidate, pairing, metric=name)
        assert values is not None
        metrics.append(PairedMetric(name, values.baseline, values.candidate))
    check(report, from_memory(metrics, baseline, candidate, pairing))
    times: list[tuple[float, float]] = []
    for _ in range(repeats):
        times.append(
            (
                seconds(lambda: compared(directory)),
                seconds(lambda: from_memory(metrics, baseline, candidate, pairing)),
            )
        )
    whole, memory = (float(statistics.median(column)) for column in zip(*times, strict=True))
    print(
        f"{report.coverage.paired} pairs, {sum(one.changed for one in report.quality)} changed values, ",
        end="",
    )
    print(f"{report.workload.baseline.requests + report.workload.candidate.requests} requests")
    print(f"comparison, from the files    {whole:8.2f} s   peak of memory {peak:6.0f} MB")
    print(f"same numbers, from memory     {memory:8.2f} s")
    print(f"ratio of the medians of {repeats}     {whole / memory:8.2f}     bar {BAR}")
    return whole / memory


def main() -> int:
    """Make the runs in a process of its own, so that its memory does not count, then measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=100_000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(options.make, options.samples)
        return 0
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, __file__, "--make", directory, "--samples", str(options.samples)]
        subprocess.run(command, check=True)
        return int(measure(Path(directory), options.repeats) > BAR)


if __name__ == "__main__":
    sys.exit(main())
