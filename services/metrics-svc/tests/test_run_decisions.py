"""Decisions over HTTP on real scored runs: verdicts, evidence that verifies, pairs that must never pass."""

import asyncio
import hashlib
import time
import zipfile
from pathlib import Path
from typing import Any

import httpx
import pytest

from assay_chassis.store import open_store
from assay_contracts.metrics_events import ComparisonCreated, DecisionMade
from assay_evidence.bundle import verify_bundle
from assay_harness.spec import BuiltinTask, JsonlQuestionAnswer
from metrics_svc.store import MetricsStore

COUNT = 240
ROWS = [
    {"question": f"What is {number} + 3?", "answer": str(number + 3), "family": f"tens {number // 10}"}
    for number in range(COUNT)
]
STRICT = "jsonl_qa.exact_match,strict"


def answering(salt: str, *, of: int) -> Any:
    """Wrong for about one document in ``of``, chosen by the salt."""

    def answers(document: Any) -> list[str]:
        digest = hashlib.sha256(f"{salt}{document.prompt_hash}".encode()).digest()
        return [document.target if digest[0] % of else "no idea"]

    return answers


def answering_but(base: Any, *, wrong: range) -> Any:
    """As ``base``, and wrong for the documents in ``wrong`` too."""
    return lambda document: ["no idea"] if document.index in wrong else base(document)


BASE = answering("base", of=4)


async def finished(platform: Any, client: httpx.AsyncClient, *runs: Any) -> None:
    """Wait until the runs are scored and eval-svc calls them Succeeded."""
    for run in runs:
        for event in run.events:
            await platform.tell(event)
    deadline = time.monotonic() + 120
    for run in runs:
        while (await client.get(f"/v1/metrics/runs/{run.id}")).json()["state"] != "final":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        platform.peers.runs[run.id]["state"] = "Succeeded"


async def decide(client: httpx.AsyncClient, base: Any, candidate: Any, **more: Any) -> httpx.Response:
    body = {"baseline_run_id": base.id, "candidate_run_id": candidate.id, **more}
    return await client.post("/v1/decisions", json=body, timeout=120)


async def test_every_verdict_and_its_evidence(platform: Any, tmp_path: Path) -> None:
    base = await platform.maker.make(ROWS, BASE)
    same = await platform.maker.make(ROWS, BASE, artifact="compiled")
    worse = await platform.maker.make(ROWS, answering_but(BASE, wrong=range(60)), artifact="broken")
    unclear = await platform.maker.make(ROWS, answering("other", of=4), artifact="other")
    async with platform.service() as client:
        await finished(platform, client, base, same, worse, unclear)
        made = {
            name: await decide(client, base, run)
            for name, run in (("same", same), ("worse", worse), ("unclear", unclear))
        }
        again = await decide(client, base, same, policy="default@1")
        decisions = {name: response.json() for name, response in made.items()}
        bundles = {}
        for name, decision in decisions.items():
            address = f"/v1/decisions/{decision['id']}"
            assert (await client.get(address)).json() == decision
            bundles[name] = await client.get(f"{address}/bundle")
        repeated = await client.get(f"/v1/decisions/{decisions['same']['id']}/bundle")
        comparison = (await client.get(f"/v1/comparisons/{decisions['same']['comparison_id']}")).json()
        policy = (await client.get("/v1/policies/default")).json()
        on_worse = (await client.get("/v1/decisions", params={"candidate_run_id": worse.id})).json()["items"]
        rejected = (await client.get("/v1/decisions", params={"verdict": "REJECT"})).json()["items"]
        newest = (await client.get("/v1/decisions", params={"limit": 2})).json()
        neither = {"verdict": "ACCEPT", "candidate_run_id": worse.id}
        nothing = (await client.get("/v1/decisions", params=neither)).json()["items"]
    assert {response.status_code for response in made.values()} == {201}
    assert {name: decision["verdict"] for name, decision in decisions.items()} == {
        "same": "ACCEPT",
        "worse": "REJECT",
        "unclear": "INCONCLUSIVE",
    }
    assert all(decision["valid"] for decision in decisions.values())
    assert (again.status_code, again.json()) == (200, decisions["same"])
    accepted = decisions["same"]
    assert accepted["policy"] == {name: policy[name] for name in ("id", "name", "version", "digest")}
    assert (accepted["baseline"]["run_id"], accepted["candidate"]["run_id"]) == (base.id, same.id)
    assert accepted["candidate"]["artifact_name"] == "compiled"
    assert accepted["created_by"] == "tester"
    assert any(reason["effect"] == "supports" for reason in accepted["reasons"])
    assert decisions["unclear"]["samples_needed"] > COUNT
    assert decisions["worse"]["reasons"][0]["effect"] == "rejects"
    assert comparison["policy"] == accepted["policy"]
    assert comparison["candidates"][0]["valid"]
    assert on_worse == rejected == [decisions["worse"]]
    assert newest["items"] == [decisions["unclear"], decisions["worse"]]
    assert newest["next_cursor"]
    assert nothing == []
    # One file per decision, always the same, which verifies offline.
    assert repeated.content == bundles["same"].content
    for name, response in bundles.items():
        assert response.headers["content-type"] == "application/zip"
        assert int(response.headers["content-length"]) == len(response.content)
        path = tmp_path / f"{name}.zip"
        path.write_bytes(response.content)
        verified = verify_bundle(path, expected_digest=decisions[name]["bundle_digest"])
        assert verified.ok, verified
        with zipfile.ZipFile(path) as archive:
            manifest = archive.read("manifest.json")
        assert hashlib.sha256(manifest).hexdigest() == decisions[name]["bundle_digest"]
    events = await platform.published(DecisionMade.SUBJECT)
    assert [event.decision_id for event in events] == [decision["id"] for decision in decisions.values()]
    for event, decision in zip(events, decisions.values(), strict=True):
        assert (event.verdict, event.valid) == (decision["verdict"], decision["valid"])
        assert event.bundle_digest == decision["bundle_digest"]
        assert event.policy_digest == policy["digest"]
        assert event.comparison_id == decision["comparison_id"]


async def test_decisions_asked_for_at_once_are_one(platform: Any) -> None:
    base = await platform.maker.make(ROWS[:60], BASE)
    other = await platform.maker.make(ROWS[:60], BASE, artifact="compiled")
    async with platform.service() as client, platform.service() as second:
        await finished(platform, client, base, other)
        responses = await asyncio.gather(
            *(decide(one, base, other) for one in (client, second, client, second, client, second))
        )
        changed = await decide(client, base, other, cluster_column="family")
        address = f"/v1/decisions/{responses[0].json()['id']}/bundle"
        bundle = await second.get(address)
        # A bundle stands on nothing that a later release might write in another way.
        async with open_store(platform.mongo.uri, database="metrics_svc", patience=10) as opened:
            store = await MetricsStore.open(opened)
            for evidence_id in [(await store.scorings.get(run.id))["evidence_id"] for run in (base, other)]:
                assert await store.evidence.delete(evidence_id)
            assert await store.comparisons.delete(responses[0].json()["comparison_id"])
        later = await client.get(address)
    assert sorted(response.status_code for response in responses) == [200] * 5 + [201]
    assert len({response.json()["id"] for response in responses}) == 1
    assert bundle.status_code == 200
    assert later.content == bundle.content
    assert changed.status_code == 201
    assert changed.json()["id"] != responses[0].json()["id"]
    assert len(await platform.published(DecisionMade.SUBJECT)) == 2
    assert len(await platform.published(ComparisonCreated.SUBJECT)) == 2


async def test_another_version_of_the_policy_is_another_decision(platform: Any, tmp_path: Path) -> None:
    base, again = [await platform.maker.make(ROWS, BASE) for _ in range(2)]
    other = await platform.maker.make(ROWS, answering_but(BASE, wrong=range(4)), artifact="compiled")
    policy = {"name": "lenient", "quality": [{"metric": "*", "margin": 0.05}], "require_noise_floor": True}
    async with platform.service() as client:
        await finished(platform, client, base, again, other)
        await client.post("/v1/policies", json={**policy, "quality": [{"metric": "*", "margin": 0.01}]})
        strict = (await decide(client, base, other, policy="lenient")).json()
        await client.post("/v1/policies", json=policy)
        without = (await decide(client, base, other, policy="lenient")).json()
        response = await decide(
            client, base, other, policy="lenient", noise_floor_run_id=again.id, cluster_column="family"
        )
        lenient = response.json()
        first = (await decide(client, base, other, policy="lenient@1")).json()
        comparison = (await client.get(f"/v1/comparisons/{lenient['comparison_id']}")).json()
        bundle = await client.get(f"/v1/decisions/{lenient['id']}/bundle")
    assert first == strict
    assert (strict["policy"]["version"], lenient["policy"]["version"]) == (1, 2)
    assert strict["verdict"] == "INCONCLUSIVE"
    assert without["verdict"] == "INCONCLUSIVE"  # a noise floor is required
    assert lenient["verdict"] == "ACCEPT", lenient["reasons"]
    assert comparison["noise_floor_run"]["run_id"] == again.id
    assert comparison["candidates"][0]["quality"][0]["clusters"] == COUNT / 10
    path = tmp_path / "bundle.zip"
    path.write_bytes(bundle.content)
    verified = verify_bundle(path, expected_digest=lenient["bundle_digest"])
    assert verified.ok, verified
    with zipfile.ZipFile(path) as archive:
        assert {"clusters.json", "noise_floor/samples.parquet"} <= set(archive.namelist())


async def test_what_cannot_be_decided_is_refused(platform: Any) -> None:
    base = await platform.maker.make(ROWS[:20], BASE)
    other = await platform.maker.make(ROWS[:20], BASE, artifact="compiled")
    going = await platform.maker.make(ROWS[:20], BASE, state="Running")
    async with platform.service() as client:
        await finished(platform, client, base, other)
        unknown = await client.post(
            "/v1/decisions", json={"baseline_run_id": base.id, "candidate_run_id": "run_none"}
        )
        itself = await decide(client, base, base)
        noise = await decide(client, base, other, noise_floor_run_id=base.id)
        early = await decide(client, base, going)
        policy = await decide(client, base, other, policy="defalt")
        version = await decide(client, base, other, policy="default@9")
        malformed = await decide(client, base, other, policy="default@newest")
        column = await decide(client, base, other, cluster_column="subject")
        listed = (await client.get("/v1/decisions")).json()["items"]
        missing = await client.get("/v1/decisions/dec_none")
        no_bundle = await client.get("/v1/decisions/dec_none/bundle")
    assert (unknown.status_code, unknown.json()["errors"][0]["field"]) == (404, "candidate_run_id")
    assert (itself.status_code, itself.json()["errors"][0]["field"]) == (422, "candidate_run_id")
    assert (noise.status_code, noise.json()["errors"][0]["field"]) == (422, "noise_floor_run_id")
    assert (early.status_code, early.json()["errors"][0]["field"]) == (409, "candidate_run_id")
    assert (policy.status_code, policy.json()["errors"][0]["field"]) == (404, "policy")
    assert "did you mean default?" in policy.json()["detail"]
    assert "its versions are 1 to 1" in version.json()["detail"]
    assert (malformed.status_code, "default@1" in malformed.json()["detail"]) == (404, False)
    assert (column.status_code, column.json()["errors"][0]["field"]) == (422, "cluster_column")
    assert "there are: answer, family, question" in column.json()["detail"]
    assert (missing.status_code, no_bundle.status_code) == (404, 404)
    assert listed == []


def failing_for(base: Any, *, indexes: range) -> Any:
    return lambda document: None if document.index in indexes else base(document)


@pytest.mark.slow
async def test_no_hostile_pair_is_accepted(platform: Any) -> None:
    make = platform.maker.make
    reworded = JsonlQuestionAnswer(
        input_field="question", expected_output_field="answer", prompt_template="Q: {{input}}"
    )
    base = await make(ROWS, BASE)
    guessing = await make(ROWS, lambda document: ["no idea"])
    perfect = await make(ROWS, lambda document: [document.target])
    few = await make(ROWS[:10], BASE)
    pairs = {
        "disjoint rows under equal indexes": (
            await make(ROWS[:100], BASE),
            await make(ROWS[100:200], BASE, artifact="compiled"),
        ),
        "a twentieth of the rows": (base, await make(ROWS[:12], BASE, artifact="compiled")),
        "the easy half only": (
            base,
            await make(ROWS, failing_for(BASE, indexes=range(120, 240)), on_failure="exclude"),
        ),
        "failures over the floor, scored as wrong in both": (
            base,
            await make(ROWS, failing_for(BASE, indexes=range(30)), artifact="compiled"),
        ),
        "another prompt": (base, await make(ROWS, BASE, recipe=reworded, artifact="compiled")),
        "ten items without a flip": (few, await make(ROWS[:10], BASE, artifact="compiled")),
        "a baseline that is right of nothing": (
            guessing,
            await make(ROWS, lambda document: ["no idea"], artifact="compiled"),
        ),
        "rows swapped, so that answers stand under other questions": (
            perfect,
            await make([*ROWS[1:], ROWS[0]], lambda document: [str(document.index + 3)], artifact="x"),
        ),
        "another task": (
            base,
            await make(
                [{"question": row["question"], "answer": f"#### {row['answer']}"} for row in ROWS],
                lambda document: [document.target],
                recipe=BuiltinTask(task="gsm8k"),
            ),
        ),
    }
    warmer = await make(ROWS, BASE, artifact="compiled")
    platform.peers.runs[warmer.id]["plan"]["task"]["generation_kwargs"]["temperature"] = 0.7
    pairs["warmer generation"] = (base, warmer)
    runs = {run.id: run for pair in pairs.values() for run in pair}
    async with platform.service() as client:
        await finished(platform, client, *runs.values())
        found = {name: await decide(client, *pair) for name, pair in pairs.items()}
        control = await decide(client, base, perfect)
    assert {response.status_code for response in found.values()} == {201}
    verdicts = {name: response.json()["verdict"] for name, response in found.items()}
    assert "ACCEPT" not in verdicts.values(), verdicts
    assert all(response.json()["reasons"] for response in found.values())
    for name in (
        "disjoint rows under equal indexes",
        "a twentieth of the rows",
        "another prompt",
        "another task",
    ):
        assert not found[name].json()["valid"], name
    assert control.json()["verdict"] == "ACCEPT", control.json()["reasons"]
