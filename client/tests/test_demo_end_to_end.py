"""The demo itself, short: the whole platform, the real model, and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

pytest.importorskip("assay_allinone", reason="the demo needs the platform's package")
pytestmark = [pytest.mark.slow, pytest.mark.model, pytest.mark.timeout(900)]

QUESTIONS = 6
DEMO = [sys.executable, "-c", "from assay.cli import main; main()", "demo", "--questions", str(QUESTIONS)]


def environment(home: Path) -> dict[str, str]:
    return {**os.environ, "ASSAY_HOME": str(home)}


def processes_of(home: Path) -> list[str]:
    """Command lines of the processes that were told about ``home``."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("ASSAY_HOME", "").startswith(str(home)):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue
    return found


def test_the_demo_measures_decides_and_cleans_up(tmp_path: Path) -> None:
    home, kept = tmp_path / "home", tmp_path / "kept"
    kept.mkdir()
    done = subprocess.run(
        [*DEMO, "--json", "--report", str(kept / "decision.html")],
        env=environment(home),
        capture_output=True,
        text=True,
        timeout=800,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    comparison = result["comparison"]
    [candidate] = comparison["candidates"]
    assert candidate["coverage"]["paired"] == QUESTIONS
    for name in ("base", "lossy", "multiple_choice"):
        assert result["runs"][name]["run"]["state"] == "Succeeded"
        assert result["runs"][name]["metrics"]["samples_scored"] == QUESTIONS
    strict = next(line for line in candidate["quality"] if line["metric"] == "jsonl_qa.exact_match,strict")
    assert sum(strict["flips"].values()) == QUESTIONS
    # So few questions settle nothing.
    assert result["decision"]["verdict"] == "INCONCLUSIVE"
    assert result["decision"]["reasons"] != []
    assert result["verified"]["verified"] is True
    assert result["verified"]["digest"] == result["decision"]["bundle_digest"]
    page = (kept / "decision.html").read_text()
    assert "INCONCLUSIVE" in page
    assert sorted(path.name for path in kept.iterdir()) == ["decision-evidence.zip", "decision.html"]
    assert list(home.iterdir()) == []
    assert processes_of(home) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(tmp_path: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        DEMO, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as demo:
        assert demo.stderr is not None
        while b": Running" not in (line := demo.stderr.readline()):
            assert line, "the demo ended before its first run was running"
        assert len(processes_of(tmp_path)) >= 5
        demo.send_signal(number)
        demo.stderr.read()
    assert demo.returncode == 130
    end = time.monotonic() + 10
    while processes_of(tmp_path) and time.monotonic() < end:
        time.sleep(0.1)
    assert processes_of(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
