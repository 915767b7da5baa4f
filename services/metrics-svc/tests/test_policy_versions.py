"""Policies over HTTP: versions that never change, references, the default policy."""

import asyncio
from typing import Any

import httpx

from assay_contracts.metrics_events import PolicyCreated
from assay_evidence.policy import DEFAULT_POLICY, PolicySpec, digest_of

STRICTER = {
    "name": "release",
    "description": "What a release needs.",
    "quality": [{"metric": "*", "margin": 0.01}],
    "runtime": [{"metric": "ttftP50", "max_ratio": 1.1}],
}
LOOSER = {**STRICTER, "quality": [{"metric": "*", "margin": 0.03}]}


async def create(client: httpx.AsyncClient, body: dict[str, Any]) -> httpx.Response:
    return await client.post("/v1/policies", json=body)


async def test_the_default_policy_is_there_once_however_often_services_start(platform: Any) -> None:
    async with platform.service() as client, platform.service():
        first = (await client.get("/v1/policies/default")).json()
    async with platform.service() as client:
        again = (await client.get("/v1/policies/default")).json()
        versions = (await client.get("/v1/policies/default/versions")).json()["items"]
        changed = {**DEFAULT_POLICY.model_dump(mode="json"), "min_samples": 500}
        mine = (await create(client, changed)).json()
    async with platform.service() as client:
        kept = (await client.get("/v1/policies/default")).json()
    assert first == again
    assert len(versions) == 1
    assert (first["version"], first["created_by"]) == (1, "assay")
    assert first["digest"] == digest_of(DEFAULT_POLICY)
    assert {name: first[name] for name in PolicySpec.model_fields} == DEFAULT_POLICY.model_dump(mode="json")
    # A later version that somebody made is not undone by a start.
    assert kept == mine
    assert mine["version"] == 2


async def test_a_changed_policy_is_a_new_version_and_the_old_one_stays(platform: Any) -> None:
    async with platform.service() as client:
        first = await create(client, STRICTER)
        same = await create(client, STRICTER)
        second = await create(client, LOOSER)
        back = await create(client, STRICTER)
        found = {
            path: (await client.get(f"/v1/policies/{path}")).json()
            for path in ("release", "release/versions/1", "release/versions/2", first.json()["id"])
        }
        page = (await client.get("/v1/policies/release/versions", params={"limit": 2})).json()
        rest = (
            await client.get(
                "/v1/policies/release/versions", params={"limit": 2, "cursor": page["next_cursor"]}
            )
        ).json()
        listed = (await client.get("/v1/policies")).json()["items"]
    assert [response.status_code for response in (first, same, second, back)] == [201, 200, 201, 201]
    assert same.json() == first.json()
    assert [response.json()["version"] for response in (first, second, back)] == [1, 2, 3]
    assert first.json()["digest"] == back.json()["digest"] != second.json()["digest"]
    assert found["release"] == back.json()
    assert found["release/versions/1"] == found[first.json()["id"]] == first.json()
    assert found["release/versions/2"]["quality"][0]["margin"] == 0.03
    assert [policy["version"] for policy in page["items"] + rest["items"]] == [3, 2, 1]
    assert [(policy["name"], policy["version"]) for policy in listed] == [("default", 1), ("release", 3)]
    events = await platform.published(PolicyCreated.SUBJECT)
    assert [(event.name, event.version) for event in events] == [
        ("default", 1),
        *(("release", version) for version in (1, 2, 3)),
    ]
    assert events[-1].digest == back.json()["digest"]


async def test_versions_made_at_once_get_numbers_of_their_own(platform: Any) -> None:
    bodies = [{**STRICTER, "min_samples": 100 + number} for number in range(6)]
    async with platform.service() as client, platform.service() as other:
        responses = await asyncio.gather(
            *(create(one, body) for body, one in zip(bodies, [client, other] * 3, strict=True)),
            *(create(client, {**STRICTER, "name": "same"}) for _ in range(4)),
        )
    made = [response.json() for response in responses[:6]]
    assert sorted(policy["version"] for policy in made) == [1, 2, 3, 4, 5, 6]
    assert [policy["min_samples"] for policy in made] == [body["min_samples"] for body in bodies]
    assert {response.json()["id"] for response in responses[6:]} == {responses[6].json()["id"]}


async def test_what_is_wrong_is_named(platform: Any) -> None:
    async with platform.service() as client:
        await create(client, STRICTER)
        misspelt = await client.get("/v1/policies/relaese")
        unlike = await client.get("/v1/policies/zzz")
        version = await client.get("/v1/policies/release/versions/7")
        nothing = await client.get("/v1/policies/zzz/versions")
        field = await create(client, {**STRICTER, "marign": 0.02})
        wide = await create(client, {**STRICTER, "quality": [{"metric": "*", "margin": 0.2}]})
        harmless = await create(
            client, {**STRICTER, "quality": [{"metric": "*", "margin": 0.02, "role": "advisory"}]}
        )
        zero = await client.get("/v1/policies/release/versions/0")
        listed = (await client.get("/v1/policies")).json()["items"]
    assert misspelt.status_code == unlike.status_code == version.status_code == nothing.status_code == 404
    assert "did you mean release?" in misspelt.json()["detail"]
    assert "there are: default, release" in unlike.json()["detail"]
    assert "no version 7; its versions are 1 to 1" in version.json()["detail"]
    assert (field.status_code, field.json()["errors"][0]["field"]) == (422, "marign")
    assert (wide.status_code, harmless.status_code, zero.status_code) == (422, 422, 422)
    assert "allow_wide_margin" in wide.json()["detail"]
    assert "critical" in harmless.json()["detail"]
    assert [policy["name"] for policy in listed] == ["default", "release"]
