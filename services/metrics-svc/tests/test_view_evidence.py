"""Evidence of final views: made while they are scored, the same after a kill, made later where it lacks."""

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from assay_chassis.store import Change, open_store
from assay_evidence.tables import RunEvidence
from assay_harness.spec import BuiltinTask
from metrics_svc.domain.evidence import ViewEvidence
from metrics_svc.service.evidence import EvidenceService
from metrics_svc.store import MetricsStore

ROWS = [{"question": f"What is {number} + 3?", "answer": str(number + 3)} for number in range(40)]
STRICT = "jsonl_qa.exact_match,strict"


def mostly_right(document: Any) -> list[str] | None:
    """Right for some two thirds of the documents; every tenth fails."""
    if document.index % 10 == 9:
        return None
    digest = hashlib.sha256(document.prompt_hash.encode()).digest()
    return [document.target if digest[0] % 3 else "no idea"]


@asynccontextmanager
async def opened(platform: Any) -> AsyncIterator[MetricsStore]:
    async with open_store(platform.mongo.uri, database="metrics_svc", patience=10) as store:
        yield await MetricsStore.open(store)


async def final(platform: Any, client: httpx.AsyncClient, *runs: Any) -> None:
    for run in runs:
        for event in run.events:
            await platform.tell(event)
    for run in runs:
        await settled(client, f"/v1/metrics/runs/{run.id}")


async def settled(client: httpx.AsyncClient, path: str) -> None:
    deadline = time.monotonic() + 90
    while (found := (await client.get(path)).json())["state"] != "final":
        assert time.monotonic() < deadline, found
        await asyncio.sleep(0.05)


async def evidence_of(store: MetricsStore, view_id: str) -> ViewEvidence:
    view = await store.scorings.get(view_id)
    assert view is not None
    service = EvidenceService(store=store, runs=None, release="unused")  # type: ignore[arg-type]
    return await service.get(view["evidence_id"])


async def read(store: MetricsStore, evidence: ViewEvidence, directory: Path) -> RunEvidence:
    service = EvidenceService(store=store, runs=None, release="unused")  # type: ignore[arg-type]
    return await service.read(evidence, directory)


async def test_a_final_run_has_its_samples_requests_and_facts(platform: Any, tmp_path: Path) -> None:
    run = await platform.maker.make(ROWS, mostly_right)
    async with platform.service() as client, opened(platform) as store:
        await final(platform, client, run)
        metrics = (await client.get(f"/v1/metrics/runs/{run.id}")).json()
        samples = (await client.get(f"/v1/metrics/runs/{run.id}/samples?limit=200")).json()["items"]
        evidence = await evidence_of(store, run.id)
        found = await read(store, evidence, tmp_path)
        view = await store.scorings.get(run.id)
    facts = evidence.facts
    assert (facts.run_id, facts.scoring_id, facts.task) == (run.id, None, "jsonl_qa")
    assert facts.quality == metrics["quality"]
    assert facts.runtime == metrics["runtime"]
    assert facts.plan == platform.peers.runs[run.id]["plan"]
    assert facts.artifact["backend"] == "cpu"
    assert (facts.samples_scored, facts.samples_failed, facts.samples_expected) == (36, 4, 40)
    assert facts.telemetry == [{"power": None, "unavailable": ["no sensor here"], "instance_id": "i1"}]
    assert facts.versions["metrics-svc"]
    assert "lm-eval" in facts.versions
    # Every sample with the value that the sample list shows, failed ones as the 0 that they count as.
    shown = {sample["index"]: sample for sample in samples}
    values = found.metric(STRICT)
    assert values is not None
    assert found.index.tolist() == sorted(shown) == list(range(40))
    assert values.values.tolist() == [shown[index]["values"][STRICT] for index in range(40)]
    assert values.present.all()
    assert [index for index in range(40) if found.failed[index]] == [9, 19, 29, 39]
    assert found.column("response").to_pylist() == [shown[index]["response"] for index in range(40)]
    assert [bytes(row).hex() for row in found.doc_hash] == [shown[index]["doc_hash"] for index in range(40)]
    requests = found.requests(["answered", "completion_tokens", "sent_ns", "token_offsets_us"])
    assert requests.num_rows == 40
    assert sum(requests.column("answered").to_pylist()) == 36
    assert requests.column("token_offsets_us").to_pylist()[0] == [3000, 5000]
    assert view is not None
    assert view["finished_key"] == f"{view['finished_at']}:{run.id}"
    assert (view["method_id"], view["dataset_id"], view["artifact_id"]) == ("mth_1", "ds_1", "art_base")


async def test_a_scored_view_has_evidence_of_its_own(platform: Any, tmp_path: Path) -> None:
    rows = [
        {"question": f"What is {number} + 3?", "answer": f"It is.\n#### {number + 3}"} for number in range(20)
    ]
    run = await platform.maker.make(
        rows, lambda document: [f"It is {document.index + 3}"], recipe=BuiltinTask(task="gsm8k")
    )
    scoring = {"filters": [{"name": "last", "steps": [{"function": "last-number"}]}]}
    async with platform.service() as client, opened(platform) as store:
        await final(platform, client, run)
        asked = await client.post("/v1/scorings", json={"run_id": run.id, "scoring": scoring})
        view_id = asked.json()["id"]
        await settled(client, f"/v1/scorings/{view_id}")
        own, other = await evidence_of(store, run.id), await evidence_of(store, view_id)
        found = await read(store, other, tmp_path)
        view = await store.scorings.get(view_id)
    assert (other.facts.run_id, other.facts.scoring_id) == (run.id, view_id)
    assert other.facts.sample_metrics == ["gsm8k.exact_match,last"]
    assert other.facts.runtime == own.facts.runtime  # it was served once
    assert other.requests_sha256 == own.requests_sha256
    assert other.samples_sha256 != own.samples_sha256
    assert found.filtered("last").to_pylist() == [str(number + 3) for number in range(20)]
    assert view is not None
    assert "method_id" not in view  # trends follow the runs' own scorings


async def test_evidence_made_later_is_what_would_have_been_made_at_once(platform: Any) -> None:
    run, other = [await platform.maker.make(ROWS, mostly_right) for _ in range(2)]
    async with platform.service() as client, opened(platform) as store:
        await final(platform, client, run, other)
        at_once = await evidence_of(store, run.id)
        # As an earlier release left it.
        await store.scorings.update(run.id, Change(unset=("evidence_id",)))
        await store.evidence.delete(at_once.id)
        body = {"baseline_run_id": other.id, "candidate_run_ids": [run.id]}
        responses = await asyncio.gather(*(client.post("/v1/comparisons", json=body) for _ in range(3)))
        later = await evidence_of(store, run.id)
    assert sorted(response.status_code for response in responses) == [200, 200, 201]
    assert later == at_once


async def test_evidence_written_before_facts_had_a_field_is_decided_upon(platform: Any) -> None:
    run, other = [await platform.maker.make(ROWS, mostly_right) for _ in range(2)]
    async with platform.service() as client, opened(platform) as store:
        await final(platform, client, run, other)
        document = await store.evidence.get((await evidence_of(store, run.id)).id)
        assert document is not None
        # Its identifier was made of facts without the field, so it is not what it would be now.
        older = {name: document[name] for name in ("view_id", "samples_sha256", "requests_sha256")}
        facts = json.loads(document["facts"])
        del facts["early_stop"]
        await store.evidence.insert({"_id": "evd_older", **older, "facts": json.dumps(facts)})
        await store.evidence.delete(document["_id"])
        await store.scorings.update(run.id, Change(set={"evidence_id": "evd_older"}))
        body = {"baseline_run_id": other.id, "candidate_run_id": run.id}
        response = await client.post("/v1/decisions", json=body)
        assert response.status_code == 201, response.text
        bundle = await client.get(f"/v1/decisions/{response.json()['id']}/bundle")
    assert bundle.status_code == 200


@pytest.mark.slow
async def test_kill_9_in_the_middle_changes_no_table(platform: Any) -> None:
    run, undisturbed = [await platform.maker.make(ROWS, mostly_right, started_s=1) for _ in range(2)]
    await platform.kill_in_the_middle(run.events, asked_for=f"{run.id}:2")
    async with platform.service() as client, opened(platform) as store:
        await final(platform, client, run, undisturbed)
        found, expected = await evidence_of(store, run.id), await evidence_of(store, undisturbed.id)
    assert platform.peers.served[f"{run.id}:0"] == 1  # what was scored before the kill was kept
    assert found.samples_sha256 == expected.samples_sha256
    assert found.requests_sha256 == expected.requests_sha256
