"""A metric of one method over runs, artifacts and time."""

import asyncio
import time
from typing import Any

import httpx

ROWS = [{"question": f"What is {number} + 3?", "answer": str(number + 3)} for number in range(12)]
STRICT = "jsonl_qa.exact_match,strict"
OVERLAP = "jsonl_qa.token_f1,flexible"


def right_below(limit: int) -> Any:
    return lambda document: [document.target if document.index < limit else "no idea"]


async def finished(platform: Any, client: httpx.AsyncClient, run: Any) -> None:
    for event in run.events:
        await platform.tell(event)
    deadline = time.monotonic() + 90
    while (await client.get(f"/v1/metrics/runs/{run.id}")).json()["state"] != "final":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def trend(client: httpx.AsyncClient, **query: Any) -> httpx.Response:
    return await client.get("/v1/trends", params={"method_id": "mth_1", **query})


async def test_runs_of_a_method_oldest_first(platform: Any) -> None:
    runs = [
        await platform.maker.make(ROWS, right_below(3 * place), artifact="base" if place % 2 else "compiled")
        for place in range(5)
    ]
    async with platform.service() as client:
        for run in runs:
            await finished(platform, client, run)
        everything = (await trend(client)).json()
        chosen = (await trend(client, metric=OVERLAP)).json()["items"]
        compiled = (await trend(client, artifact_id="art_compiled")).json()["items"]
        strangers = [
            (await trend(client, **{name: "nobody"})).json()
            for name in ("dataset_id", "artifact_id", "method_id")
        ]
        paged: list[Any] = []
        cursor: dict[str, str] = {}
        while True:
            page = (await trend(client, artifact_id="art_compiled", limit=1, **cursor)).json()
            assert len(page["items"]) == 1
            paged += page["items"]
            if page["next_cursor"] is None:
                break
            cursor = {"cursor": page["next_cursor"]}
        points = everything["items"]
        third = points[2]["finished_at"]
        since = (await trend(client, since=third)).json()["items"]
        until = (await trend(client, until=third)).json()["items"]
        today = (await trend(client, since=third[:10], until=points[-1]["finished_at"][:10])).json()["items"]
        later = (await trend(client, since="2999-01-01")).json()
        elsewhere = (await trend(client, until=f"{third[:-1]}+09:00".replace("+", " "))).json()["items"]
        unknown = await trend(client, metric="jsonl_qa.acc,none")
        untimely = [await trend(client, **{name: "2026-13-01"}) for name in ("since", "until")]
        zoneless = await trend(client, since="2026-03-31T12:00:00")
        nameless = await client.get("/v1/trends")
    assert [point["run_id"] for point in points] == [run.id for run in runs]
    assert [point["value"] for point in points] == [run.expected.metrics[STRICT] for run in runs]
    assert [point["value"] for point in points] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert {point["metric"] for point in points} == {STRICT}
    first = points[1]
    assert first["stderr"] == runs[1].expected.metrics["jsonl_qa.exact_match_stderr,strict"]
    assert first["artifact"] == {"id": "art_base", "name": "base", "backend": "cpu"}
    assert (first["method_version"], first["run_name"]) == (1, f"name-of-{runs[1].id}")
    assert first["runtime"]["ttftP50"] == 0.003
    assert first["runtime"]["power"] is None
    assert everything["next_cursor"] is None
    assert [point["value"] for point in chosen] == [run.expected.metrics[OVERLAP] for run in runs]
    assert compiled == points[::2] == paged
    assert all(page == {"items": [], "next_cursor": None} for page in strangers)
    assert since == points[2:]
    assert until == points[:3]
    assert today == points
    assert later["items"] == []
    assert elsewhere == []  # nine hours before them
    assert unknown.status_code == 422
    assert STRICT in unknown.json()["detail"]
    assert [answer.status_code for answer in (*untimely, zoneless, nameless)] == [422] * 4
    assert "2026-13-01" in untimely[0].json()["detail"]
