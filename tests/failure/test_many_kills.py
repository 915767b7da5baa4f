"""kill -9 at twenty random moments of one run: the same samples and numbers as an undisturbed run.

The model is the scripted one, so that the run is as long as its script says and its answers are known.
"""

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest

from assay.client import AssayClient
from assay.models import Run
from assay_serving.testing.answers import answer_text
from assay_serving.testing.fixtures import ScriptedAdapterProcess

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200), pytest.mark.xdist_group("many-kills")]

ROWS = 2400
KILLS = 20
SEED = 20
MAX_TOKENS = 32
OPTIONS = {"concurrency": 8}
SCRIPT = {"first_token": "0.1", "chunks": "4", "interval": "0.01"}
VICTIMS = ("eval-worker", "adapter", "engine", "mongo")


class Platform(Protocol):
    """The part of the platform fixture that these tests use."""

    home: Path

    def client(self) -> AssayClient: ...

    def kill(self, name: str) -> int: ...

    def wait_for_successor(self, name: str, *, killed: int, seconds: float = 60) -> int: ...


@dataclass(frozen=True)
class Outcome:
    """What must not depend on what died: everything but the times."""

    samples: dict[int, Any]
    quality: dict[str, float | None]


@pytest.fixture(scope="module")
def prepared(scripted_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AssayClient]:
    """Dataset, method and artifact; every third expected answer is the one that will come."""
    path = tmp_path_factory.mktemp("rows") / "numbers.jsonl"
    rows = []
    for number in range(ROWS):
        question = f"Question {number}: how many?"
        expected = answer_text(question, max_tokens=MAX_TOKENS).strip() if number % 3 == 0 else "12"
        rows.append(json.dumps({"input": question, "expected_output": expected}))
    path.write_text("\n".join(rows) + "\n")
    with scripted_platform.client() as assay:
        assay.datasets.create("numbers")
        assay.datasets.upload("numbers", path)
        recipe = {
            "template": "jsonl-qa-lm-eval",
            "input_field": "input",
            "expected_output_field": "expected_output",
            "max_tokens": MAX_TOKENS,
        }
        assay.methods.create("numbers", recipe, dataset="numbers")
        assay.artifacts.create(
            "scripted",
            model="scripted",
            backend="cpu",
            uri="scripted://answers",
            serving_parameters=SCRIPT,
        )
        yield assay


def start(assay: AssayClient) -> Run:
    return assay.runs.start(artifact="scripted", dataset="numbers", method="numbers", options=OPTIONS)


def outcome(assay: AssayClient, run: Run) -> Outcome:
    run = assay.wait_run(run.id, timeout_s=600)
    assert run.state == "Succeeded", run.error
    samples = [sample.document() for sample in assay.runs.samples(run.id)]
    assert sorted(sample["index"] for sample in samples) == list(range(ROWS)), "a sample is missing or double"
    assert run.progress.samples_failed == 0
    metrics = assay.runs.metrics(run.id)
    assert metrics.state == "final"
    assert metrics.samples_scored == ROWS
    kept = ("doc_hash", "prompt_hash", "target_hash", "target", "status", "error")
    asked = ("index", "repeat", "kind", "prompt", "response", "finish_reason", "completion_tokens")
    return Outcome(
        samples={
            sample["index"]: (
                [sample[name] for name in kept],
                [[request[name] for name in asked] for request in sample["requests"]],
            )
            for sample in samples
        },
        quality=metrics.quality,
    )


def engine_of(run: Run) -> int | None:
    """Process id of the endpoint that serves the run now, if one lives."""
    instances = run.document()["serving"]
    pid = instances[-1]["provenance"]["engine_pid"] if instances else 0
    return pid if pid and psutil.pid_exists(pid) else None


def kill(victim: str, platform: Platform, adapter: ScriptedAdapterProcess, run: Run) -> None:
    """kill -9; who is not supervised by the platform is started again here."""
    match victim:
        case "adapter":
            adapter.kill()
            adapter.start()
        case "engine":
            if (pid := engine_of(run)) is not None:
                os.kill(pid, signal.SIGKILL)
        case _:
            killed = platform.kill(victim)
            platform.wait_for_successor(victim, killed=killed)


def wait_for_samples(assay: AssayClient, run_id: str, count: int) -> Run:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        run = assay.runs.get(run_id)
        assert not run.is_over, f"the run ended before all was killed: {run.state} {run.error}"
        if run.progress.samples_done >= count:
            return run
        time.sleep(0.05)
    raise AssertionError(f"the run stopped at {run.progress.samples_done} samples")


def test_twenty_random_kills_change_nothing(
    scripted_platform: Platform, scripted_adapter: ScriptedAdapterProcess, prepared: AssayClient
) -> None:
    generator = random.Random(SEED)
    # Everybody dies several times, in random order, at random points of the first nine tenths.
    victims = list(VICTIMS) * (KILLS // len(VICTIMS))
    generator.shuffle(victims)
    points = sorted(generator.sample(range(ROWS // 20, ROWS * 9 // 10), KILLS))
    undisturbed = outcome(prepared, start(prepared))
    run = start(prepared)
    done = 0
    for victim, point in zip(victims, points, strict=True):
        # At least one new sample between two kills: the run has recovered and can be hurt again.
        now = wait_for_samples(prepared, run.id, max(point, done + 1))
        done = now.progress.samples_done
        time.sleep(generator.uniform(0.0, 0.5))
        kill(victim, scripted_platform, scripted_adapter, now)
    assert outcome(prepared, run) == undisturbed
    attempts = prepared.runs.get(run.id).document()
    instances, deadly = len(attempts["serving"]), len([each for each in victims if each != "mongo"])
    assert instances > deadly // 2, f"{deadly} kills cost the run only {instances - 1} instances: in time?"
    strict = undisturbed.quality["jsonl_qa.exact_match,strict"]
    assert strict is not None
    assert 0.3 < strict < 0.4, "a third of the expected answers are those of the scripted model"


def test_no_serving_process_is_left(scripted_adapter: ScriptedAdapterProcess, prepared: AssayClient) -> None:
    assert scripted_adapter.process is not None
    (adapter,) = psutil.Process(scripted_adapter.process.pid).children()  # below its guard
    deadline = time.monotonic() + 60
    while (left := adapter.children(recursive=True)) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not left, f"endpoints are left: {[process.cmdline() for process in left]}"
