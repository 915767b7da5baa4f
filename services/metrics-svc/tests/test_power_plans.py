"""What samples can show, with the churn that comparisons of a method have observed."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from assay_evidence.statistics.power import detectable_difference, samples_needed

ROWS = [{"question": f"What is {number} + 3?", "answer": str(number + 3)} for number in range(60)]


def wrong_for(*indexes: int) -> Any:
    return lambda document: ["no idea"] if document.index in indexes else [document.target]


async def finished(platform: Any, client: httpx.AsyncClient, *runs: Any) -> None:
    for run in runs:
        for event in run.events:
            await platform.tell(event)
    deadline = time.monotonic() + 90
    for run in runs:
        while (await client.get(f"/v1/metrics/runs/{run.id}")).json()["state"] != "final":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        platform.peers.runs[run.id]["state"] = "Succeeded"


async def plan(client: httpx.AsyncClient, **question: Any) -> dict[str, Any]:
    response = await client.post("/v1/plan/power", json=question)
    assert response.status_code == 200, response.text
    return dict(response.json())


async def compare(client: httpx.AsyncClient, baseline: Any, candidate: Any) -> dict[str, Any]:
    body = {"baseline_run_id": baseline.id, "candidate_run_ids": [candidate.id]}
    response = await client.post("/v1/comparisons", json=body, timeout=120)
    assert response.status_code == 201, response.text
    return dict(response.json())


async def test_the_churn_is_given_observed_or_assumed(platform: Any) -> None:
    base = await platform.maker.make(ROWS, wrong_for(1, 2, 3, 4, 5, 6))
    changed = await platform.maker.make(ROWS, wrong_for(4, 5, 6, 7, 8, 9), artifact="changed")
    same = await platform.maker.make(ROWS, wrong_for(1, 2, 3, 4, 5, 6), artifact="same")
    partial = await platform.maker.make(ROWS[:20], wrong_for(1), artifact="partial")
    async with platform.service() as client:
        assumed = await plan(client, method_id="mth_1", samples=500)
        given = await plan(client, method_id="mth_1", samples=500, churn=0.02, margins=[0.005])
        await finished(platform, client, base, changed, same, partial)
        first = await compare(client, base, changed)
        await compare(client, base, partial)  # not valid, so nothing was observed in it
        observed = await plan(client, method_id="mth_1", samples=500, alpha=0.1, power=0.9)
        nothing = await compare(client, base, same)
        bounded = await plan(client, method_id="mth_1")
        elsewhere = await plan(client, method_id="mth_2")
        refused = [
            await client.post("/v1/plan/power", json=question)
            for question in (
                {"margins": [0]},
                {"margins": [1]},
                {"churn": 1.5},
                {"sample": 5},
                {"margins": []},
            )
        ]
    assert (assumed["churn"], assumed["churn_source"], assumed["observed_in"]) == (0.06, "assumed", None)
    assert [one["margin"] for one in assumed["needed"]] == [0.01, 0.02, 0.03]
    assert assumed["needed"][1]["samples"] == samples_needed(margin=0.02, churn=0.06, alpha=0.05, power=0.8)
    shown = detectable_difference(n=500, churn=0.06, alpha=0.05, power=0.8)
    assert (assumed["samples"], assumed["detectable_difference"]) == (500, shown)
    assert (given["churn"], given["churn_source"]) == (0.02, "given")
    assert [one["margin"] for one in given["needed"]] == [0.005]
    # Documents 1, 2, 3 got right and 7, 8, 9 wrong.
    assert observed["churn"] == 6 / 60
    assert (observed["churn_source"], observed["observed_in"]) == ("observed", first["id"])
    assert observed["needed"][1]["samples"] == samples_needed(margin=0.02, churn=0.1, alpha=0.1, power=0.9)
    # That nothing changed in 60 items does not say that nothing ever does.
    assert bounded["observed_in"] == nothing["id"]
    assert bounded["churn"] == pytest.approx(1 - 0.05 ** (1 / 60))
    assert (bounded["samples"], bounded["detectable_difference"]) == (None, None)
    assert elsewhere["churn_source"] == "assumed"
    assert "no valid comparison" in elsewhere["note"]
    assert [response.status_code for response in refused] == [422] * 5
