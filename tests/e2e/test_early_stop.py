"""A run that may stop early, from its start to the decision, through the whole platform.

The model is the scripted one; a worse build of it is an endpoint that takes some prompts for others.
"""

import asyncio
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from zlib import crc32

import pytest

from assay.client import AssayClient
from assay.errors import PlatformFailed, PlatformUnreachable
from assay.models import Run
from assay_serving.testing import endpoint
from assay_serving.testing.answers import answer, answer_text
from assay_serving.testing.endpoint import serve_endpoint
from assay_serving.testing.fixtures import ScriptedAdapterProcess
from assay_serving.testing.script import Script

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.xdist_group("many-kills")]

ROWS = 1000
MAX_TOKENS = 32
METRIC = "jsonl_qa.exact_match,strict"
OPTIONS = {"concurrency": 8}
SLOW = {"first_token": "0.1", "chunks": "1"}
"""Ten answers a second for each request in flight: the run still goes on when its look has been judged."""


class Platform(Protocol):
    """The part of the platform fixture that these tests use."""

    home: Path

    def client(self) -> AssayClient: ...

    def kill(self, name: str) -> int: ...

    def wait_for_successor(self, name: str, *, killed: int, seconds: float = 60) -> int: ...


class Prepared(NamedTuple):
    """A client, and the baseline run that it can compare with."""

    assay: AssayClient
    baseline: Run


def expected_answer(number: int) -> str:
    """What row ``number`` expects: two of three times what the model says."""
    question = f"Question {number}: how many?"
    return answer_text(question, max_tokens=MAX_TOKENS).strip() if number % 3 else "12"


@pytest.fixture(scope="module")
def prepared(scripted_platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prepared]:
    """Dataset, method, artifacts and a finished baseline run."""
    path = tmp_path_factory.mktemp("rows") / "early.jsonl"
    rows = [
        {"input": f"Question {number}: how many?", "expected_output": expected_answer(number)}
        for number in range(ROWS)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with scripted_platform.client() as assay:
        assay.datasets.create("early")
        assay.datasets.upload("early", path)
        recipe = {
            "template": "jsonl-qa-lm-eval",
            "input_field": "input",
            "expected_output_field": "expected_output",
            "max_tokens": MAX_TOKENS,
        }
        assay.methods.create("early", recipe, dataset="early")
        scripted = {"model": "scripted", "backend": "cpu", "uri": "scripted://answers"}
        assay.artifacts.create("early-base", **scripted)
        assay.artifacts.create("early-equal", **scripted, serving_parameters=SLOW)
        yield Prepared(assay, finished(assay, start(assay, "early-base", concurrency=32)))


@pytest.fixture
def worse_build(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Name of an artifact that answers every third prompt as if it were another one."""

    def confused(prompt: str, *, ignore_end: bool = False) -> Iterator[str]:
        other = f"{prompt} Or how much?" if crc32(prompt.encode()) % 3 == 0 else prompt
        return answer(other, ignore_end=ignore_end)

    monkeypatch.setattr(endpoint, "answer", confused)
    url: list[str] = []
    ended = threading.Event()

    async def serve() -> None:
        async with serve_endpoint(Script(first_token=0.1, chunks=1)) as (address, _):
            url.append(address)
            await asyncio.to_thread(ended.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),), daemon=True)
    thread.start()
    deadline = time.monotonic() + 30
    while not url:
        assert time.monotonic() < deadline, "the endpoint did not start"
        time.sleep(0.01)
    prepared.assay.artifacts.create("early-worse", model="scripted", backend="cpu", uri=url[0])
    yield "early-worse"
    ended.set()
    thread.join(30)


def start(assay: AssayClient, artifact: str, **options: Any) -> Run:
    request = {"artifact": artifact, "dataset": "early", "method": "early"}
    return assay.runs.start(**request, options={**OPTIONS, **options})


def finished(assay: AssayClient, run: Run) -> Run:
    run = assay.wait_run(run.id, timeout_s=300)
    assert run.state == "Succeeded", run.error
    return run


def started_against(prepared: Prepared, artifact: str, **options: Any) -> Run:
    early_stop = {"baseline_run_id": prepared.baseline.id}
    return start(prepared.assay, artifact, early_stop=early_stop, **options)


def decided(prepared: Prepared, candidate: Run) -> dict[str, Any]:
    decision = prepared.assay.decisions.create(prepared.baseline.id, candidate.id)
    return dict(decision.document())


def test_a_run_without_the_option_is_as_it_was(prepared: Prepared) -> None:
    document = prepared.baseline.document()
    assert document["stopped_early"] is None
    assert "early_stop" not in document["plan"]
    assert document["power"]["samples"] == ROWS
    first = [sample.index for sample in prepared.assay.runs.samples(prepared.baseline.id, limit=100)]
    assert max(first) < 200, "rows are asked in their own order"


def test_an_equal_candidate_stops_early_and_is_accepted(prepared: Prepared) -> None:
    run = finished(prepared.assay, started_against(prepared, "early-equal"))
    document = run.document()
    stopped = document["stopped_early"]
    assert stopped is not None, "it went on to its end"
    assert stopped["outcome"] == "proven"
    assert stopped["samples"] == document["plan"]["early_stop"]["looks"][stopped["look"]]
    assert stopped["samples"] <= run.progress.samples_done < ROWS
    decision = decided(prepared, run)
    assert decision["verdict"] == "ACCEPT", decision
    assert (decision["valid"], decision["early_stop"]) == (True, True)
    (report,) = prepared.assay.comparisons.get(decision["comparison_id"]).document()["candidates"]
    (quality,) = [each for each in report["quality"] if each["metric"] == METRIC]
    assert quality["n"] == stopped["samples"], "only the documents that the look judged count"
    assert report["coverage"]["fraction"] == 1.0


def test_a_worse_candidate_stops_early_and_is_not_accepted(prepared: Prepared, worse_build: str) -> None:
    run = finished(prepared.assay, started_against(prepared, worse_build))
    stopped = run.document()["stopped_early"]
    assert stopped is not None, "it went on to its end"
    assert stopped["outcome"] == "hopeless"
    decision = decided(prepared, run)
    assert decision["verdict"] in ("REJECT", "INCONCLUSIVE"), decision
    assert decision["early_stop"] is True


@pytest.fixture(scope="module")
def undisturbed(prepared: Prepared) -> Run:
    """A run of an equal candidate that stopped early and that nobody disturbed."""
    return finished(prepared.assay, started_against(prepared, "early-equal"))


@pytest.mark.parametrize("victims", [("eval-worker",), ("services",), ("eval-worker", "services", "mongo")])
def test_kills_around_the_settlement_change_no_number(
    scripted_platform: Platform,
    scripted_adapter: ScriptedAdapterProcess,
    prepared: Prepared,
    undisturbed: Run,
    victims: tuple[str, ...],
) -> None:
    assay = prepared.assay
    expected = undisturbed.document()["stopped_early"]
    run = started_against(prepared, "early-equal")
    deadline = time.monotonic() + 240
    # Just before the last document of the look is in, so that what follows is hit somewhere.
    while assay.runs.get(run.id).progress.samples_done < expected["samples"] - 40:
        assert time.monotonic() < deadline, "the run makes no progress"
        time.sleep(0.02)
    # Without an adapter the run cannot come to its end before everybody is back.
    scripted_adapter.kill()
    for victim in victims:
        killed = scripted_platform.kill(victim)
        scripted_platform.wait_for_successor(victim, killed=killed)
    wait_until_scored(assay, run)
    scripted_adapter.start()
    run = finished(assay, run)
    assert run.document()["stopped_early"] == expected
    assert expected["samples"] <= run.progress.samples_done < ROWS
    samples = [sample.index for sample in assay.runs.samples(run.id)]
    assert len(samples) == len(set(samples)) == run.progress.samples_done
    assert assay.runs.metrics(run.id).samples_scored == run.progress.samples_done
    found, wanted = decided(prepared, run), decided(prepared, undisturbed)
    assert found["verdict"] == wanted["verdict"] == "ACCEPT"
    assert numbers(prepared, found) == numbers(prepared, wanted)


def wait_until_scored(assay: AssayClient, run: Run) -> None:
    """Wait until the services are back and have scored what is in the log, or the run is over."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        try:
            now = assay.runs.get(run.id)
            if now.is_over or assay.runs.metrics(run.id).samples_scored == now.progress.samples_done:
                return
        except (PlatformFailed, PlatformUnreachable):
            pass
        time.sleep(0.2)
    raise AssertionError("the services did not come back")


def numbers(prepared: Prepared, decision: dict[str, Any]) -> list[Any]:
    """What a decision rests on, without the runs' own scores over the samples that came after the look."""
    (report,) = prepared.assay.comparisons.get(decision["comparison_id"]).document()["candidates"]
    after = ("candidate_run", "candidate_run_stderr", "weak_rule")
    quality = [{name: each[name] for name in each if name not in after} for each in report["quality"]]
    return [quality, report["coverage"], report["flips"]]
