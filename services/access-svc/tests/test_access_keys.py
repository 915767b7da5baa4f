"""Keys over their life: created, used, rotated, expired, revoked; what is kept of them and what is told."""

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from access_svc.api.keys import MAX_GRACE_S
from access_svc.settings import Settings
from assay_chassis.bus import open_bus
from assay_chassis.identity import Identity, Role
from assay_chassis.store import open_store
from assay_chassis.telemetry import Telemetry
from assay_contracts.registry import parse


async def test_the_settings_key_is_an_admin_and_is_not_in_the_list(api: Any) -> None:
    assert await api.identity("the first admin's key") == Identity(client="owner", role=Role.ADMIN)
    assert (await api.http.get("/v1/access/keys")).json()["items"] == []


async def test_a_key_is_its_holders_and_has_its_role(api: Any) -> None:
    created = await api.create(role="editor", name="ci")
    assert created["secret"].startswith(created["prefix"] + "_")
    assert len(created["secret"]) >= 43
    assert created["created_by"] == "admin"
    assert await api.identity(created["secret"]) == Identity("ci", Role.EDITOR, key_id=created["id"])


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
async def test_the_gateway_may_ask_about_every_method(api: Any, method: str) -> None:
    assert (await api.asked("the first admin's key", method=method)).status_code == 200
    assert (await api.asked("wrong", method=method)).status_code == 401


async def test_a_key_that_is_nearly_right_is_unknown(api: Any) -> None:
    created = await api.create()
    missing = (await api.asked(None)).json()
    for wrong in (
        created["secret"][:-1],
        created["secret"] + "x",
        created["prefix"] + "_" + "x" * 43,
        "",
        "é",
    ):
        answer = await api.asked(wrong.encode())
        assert answer.status_code == 401
        assert {**answer.json(), "request_id": ""} == {**missing, "request_id": ""}
    assert missing["instance"] == "/v1/datasets"


async def test_the_secret_is_in_no_store_no_list_and_no_event(api: Any, settings: Settings) -> None:
    created = await api.create()
    rotated = await api.rotate(created["id"], grace_seconds=60)
    async with open_store(
        settings.mongo_uri, database=f"{settings.database_prefix}access_svc", patience=5
    ) as store:
        kept = str(await (await store.collection("keys")).find_many({}, limit=10))
    assert created["prefix"] in kept, "the test looks at the wrong database"
    shown = (await api.http.get("/v1/access/keys")).text
    for secret in (created["secret"], rotated):
        random_part = secret.removeprefix(created["prefix"] + "_")
        assert random_part not in kept
        assert random_part not in shown
        assert "sha256" not in shown


async def test_a_revoked_key_ends_at_once_here_and_soon_at_another_instance(api: Any, other: Any) -> None:
    created = await api.create()
    for instance in (api, other):
        await instance.identity(created["secret"])
    assert (await api.http.delete(f"/v1/access/keys/{created['id']}")).status_code == 204
    refused = await api.asked(created["secret"])
    assert refused.status_code == 401
    assert refused.json()["type"] == "urn:assay:problem:key-ended"
    assert "was revoked at" in refused.json()["detail"]
    began = time.monotonic()
    while (await other.asked(created["secret"])).status_code == 200:
        assert time.monotonic() - began < 10, "the other instance still accepts the key"
        await asyncio.sleep(0.05)
    assert (await api.listed(created["id"]))["state"] == "revoked"
    again = await api.http.delete(f"/v1/access/keys/{created['id']}")
    assert again.status_code == 204, "revoking twice is no error"


async def test_an_accepted_key_that_expires_is_not_remembered_beyond(api: Any) -> None:
    ends = datetime.now(UTC) + timedelta(seconds=0.8)
    created = await api.create(expires_at=ends.isoformat())
    await api.identity(created["secret"])
    await asyncio.sleep(max(0.0, (ends - datetime.now(UTC)).total_seconds()) + 0.01)
    assert "expired at" in (await api.asked(created["secret"])).json()["detail"]
    assert (await api.listed(created["id"]))["state"] == "expired"


async def test_rotation_replaces_the_secret_and_nothing_else(api: Any) -> None:
    created = await api.create(role="editor")
    await api.identity(created["secret"])
    new = await api.rotate(created["id"])
    assert new != created["secret"]
    assert (await api.identity(new)).key_id == created["id"]
    refused = await api.asked(created["secret"])
    assert "was replaced at" in refused.json()["detail"]
    listed = await api.listed(created["id"])
    for field in ("name", "role", "prefix", "created_at", "expires_at"):
        assert listed[field] == created[field]


async def test_within_the_grace_both_secrets_are_accepted(api: Any) -> None:
    created = await api.create()
    new = await api.rotate(created["id"], grace_seconds=1)
    for secret in (created["secret"], new):
        await api.identity(secret)
    await asyncio.sleep(1.1)
    await api.identity(new)
    assert (await api.asked(created["secret"])).status_code == 401
    third = await api.rotate(created["id"], grace_seconds=60)
    for secret in (new, third):
        await api.identity(secret)
    unknown = await api.asked(created["secret"])
    assert unknown.json()["type"] == "urn:assay:problem:unauthorized"


async def test_an_ended_key_is_not_rotated(api: Any) -> None:
    created = await api.create()
    await api.http.delete(f"/v1/access/keys/{created['id']}")
    refused = await api.http.post(f"/v1/access/keys/{created['id']}/rotate")
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:assay:problem:key-over")


async def test_a_key_cannot_revoke_itself(api: Any) -> None:
    created = await api.create(role="admin")
    identity = (await api.asked(created["secret"])).headers["x-assay-identity"]
    path = f"/v1/access/keys/{created['id']}"
    refused = await api.http.delete(path, headers={"x-assay-identity": identity}, auth=None)
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:assay:problem:own-key")
    me = await api.http.get("/v1/access/me", headers={"x-assay-identity": identity}, auth=None)
    assert me.json() == {
        "client": created["name"],
        "role": "admin",
        "key_id": created["id"],
        "key_prefix": created["prefix"],
        "expires_at": None,
    }


@pytest.mark.parametrize(
    ("change", "status", "field"),
    [
        ({"name": "owner"}, 409, "name"),
        ({"name": "eval-svc"}, 409, "name"),
        ({"name": "has blank"}, 422, "body.name"),
        ({"role": "root"}, 422, "body.role"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, 422, "expires_at"),
        ({"expires_at": "2099-01-01T00:00:00"}, 422, "body.expires_at"),
        ({"secret": "mine"}, 422, "body.secret"),
    ],
)
async def test_what_cannot_be_created_is_named(
    api: Any, change: dict[str, str], status: int, field: str
) -> None:
    answer = await api.http.post("/v1/access/keys", json={"name": "new", "role": "viewer", **change})
    assert answer.status_code == status, answer.text
    assert [fault["field"] for fault in answer.json()["errors"]] == [field.removeprefix("body.")]


async def test_a_name_is_used_once_even_after_its_key_was_revoked(api: Any) -> None:
    created = await api.create(name="ci")
    await api.http.delete(f"/v1/access/keys/{created['id']}")
    refused = await api.http.post("/v1/access/keys", json={"name": "ci", "role": "viewer"})
    assert (refused.status_code, refused.json()["type"]) == (409, "urn:assay:problem:name-taken")


@pytest.mark.parametrize("seconds", [-1, MAX_GRACE_S + 1])
async def test_the_grace_has_bounds(api: Any, seconds: int) -> None:
    created = await api.create()
    answer = await api.http.post(f"/v1/access/keys/{created['id']}/rotate", json={"grace_seconds": seconds})
    assert answer.status_code == 422


async def test_a_key_that_there_is_not_is_404(api: Any) -> None:
    assert (await api.http.delete("/v1/access/keys/key_none")).status_code == 404
    assert (await api.http.post("/v1/access/keys/key_none/rotate")).status_code == 404


async def test_use_is_noted_once_a_minute(api: Any, other: Any) -> None:
    created = await api.create()
    assert (await api.listed(created["id"]))["last_used_at"] is None
    await api.identity(created["secret"])
    noted = (await api.listed(created["id"]))["last_used_at"]
    assert datetime.now(UTC) - datetime.fromisoformat(noted) < timedelta(minutes=1)
    # Another instance looks the key up anew.
    await other.identity(created["secret"])
    assert (await api.listed(created["id"]))["last_used_at"] == noted


async def test_the_list_has_pages(api: Any) -> None:
    made = [(await api.create())["id"] for _ in range(5)]
    seen: list[str] = []
    cursor = None
    for _ in range(3):
        page = (
            await api.http.get(
                "/v1/access/keys", params={"limit": 2, **({"cursor": cursor} if cursor else {})}
            )
        ).json()
        seen += [item["id"] for item in page["items"]]
        cursor = page["next_cursor"]
    assert cursor is None
    assert seen == sorted(made, reverse=True)


async def test_every_change_is_told_with_who_did_it(api: Any, settings: Settings) -> None:
    created = await api.create(role="editor")
    await api.rotate(created["id"], grace_seconds=5)
    await api.http.delete(f"/v1/access/keys/{created['id']}")
    telemetry = Telemetry(service_name="test", otlp_endpoint=None)
    told: list[tuple[str, str]] = []
    async with open_bus(settings.nats_url, name="test", telemetry=telemetry) as bus:
        began = time.monotonic()
        while len(told) < 3:
            assert time.monotonic() - began < 10, told
            await asyncio.sleep(0.05)
            told = []
            info = await bus._jetstream.stream_info("ASSAY_ACCESS")
            for sequence in range(info.state.first_seq, info.state.last_seq + 1):
                message = await bus._jetstream.get_msg("ASSAY_ACCESS", sequence)
                event = json.loads(message.data)["data"]
                if event["key_id"] == created["id"]:
                    parse(message.data)
                    told.append((message.subject.removeprefix("assay.access.key."), event["by"]))
    assert told == [("created.v1", "admin"), ("rotated.v1", "admin"), ("revoked.v1", "admin")]
