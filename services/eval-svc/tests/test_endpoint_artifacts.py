"""Artifacts that somebody else serves, and that their key is seen by nobody but the endpoint."""

import asyncio
import json
import logging
from typing import Any

import pytest
from motor.motor_asyncio import AsyncIOMotorClient

from assay_chassis.bus import Subscription, open_bus
from assay_chassis.telemetry import Telemetry
from assay_contracts.envelope import Envelope, Event
from assay_serving.testing.endpoint import serve_endpoint
from assay_serving.testing.fixtures import ScriptedAdapterProcess
from assay_serving.testing.script import Script
from eval_svc.domain import ArtifactRegistration

KEY = "sk-7f3a-nobody-may-read-this"
WRONG = "sk-0000-the-wrong-one"


@pytest.fixture
def adapter_address(scripted_adapter: ScriptedAdapterProcess) -> str:
    return scripted_adapter.address


async def endpoint_artifact(service: Any, url: str, **more: Any) -> str:
    return str(await service.artifact("theirs", uri=url, format="endpoint", **more))


async def failed(service: Any, run_id: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while (run := await service.run(run_id))["state"] != "Failed":
            assert run["state"] != "Scoring"
            await asyncio.sleep(0.05)
    return dict(run)


async def database_text(service: Any) -> dict[str, str]:
    """Every collection of eval-svc's database as text."""
    client: Any = AsyncIOMotorClient(service.settings.mongo_uri)
    try:
        database = client[f"{service.settings.database_prefix}eval_svc"]
        names = await database.list_collection_names()
        return {name: str(await database[name].find().to_list(length=None)) for name in names}
    finally:
        client.close()


async def test_a_key_is_used_and_never_seen(
    service: Any, scripted_adapter: ScriptedAdapterProcess, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)  # as the services log; at DEBUG the database's driver logs what it writes
    seen: list[str] = []

    async def listen(envelope: Envelope, _: Event) -> None:
        seen.append(envelope.model_dump_json())

    telemetry = Telemetry(service_name="listener", otlp_endpoint=None)
    subscription = Subscription("ASSAY_EVAL", "listener", ("assay.eval.>",), listen)
    async with (
        serve_endpoint(Script(), key=KEY) as (url, statistics),
        open_bus(service.settings.nats_url, name="listener", telemetry=telemetry) as bus,
        service.working(),
    ):
        listening = asyncio.create_task(bus.run(subscription))
        artifact = await endpoint_artifact(service, url, endpoint_key=WRONG)
        body = {"artifact_id": artifact, "dataset_id": "ds_capitals", "method_id": "mth_qa"}
        run = await service.start(**body)
        error = (await failed(service, run["id"]))["error"]
        assert error["code"] == "serving-failed"
        assert "refuses the artifact's endpoint key" in error["message"]

        path = f"/v1/artifacts/{artifact}/endpoint-key"
        replaced = await service.http.put(path, json={"endpoint_key": KEY})
        assert (replaced.status_code, replaced.content) == (204, b"")
        await service.http.post(f"/v1/evaluations/{run['id']}/resume")
        run = await service.wait(run["id"], "Scoring")
        assert statistics.requests == 20
        assert run["serving"][-1]["launcher"] == "endpoint"
        async with asyncio.timeout(20):
            while not any("responded" in each for each in seen):
                await asyncio.sleep(0.05)
        listening.cancel()
        answers = [
            await service.http.get(path)
            for path in (
                "/v1/artifacts",
                f"/v1/artifacts/{artifact}",
                f"/v1/evaluations/{run['id']}",
                f"/v1/evaluations/{run['id']}/samples",
                f"/v1/evaluations/{run['id']}/logs",
                "/v1/backends",
            )
        ]
        answers.append(await service.http.post("/v1/evaluations/plan", json=body))
    assert answers[1].json()["has_endpoint_key"] is True
    stored = await database_text(service)
    assert KEY in stored.pop("endpoint_keys"), "the test looks at the wrong database"
    assert WRONG not in str(stored)
    assert scripted_adapter.process is not None
    adapter_log = (scripted_adapter.home / "adapter.log").read_text()
    assert "refuses the artifact's endpoint key" in adapter_log, "the adapter's log says nothing"
    left = [*(answer.text for answer in answers), *seen, *stored.values(), adapter_log, caplog.text]
    for text in left:
        assert KEY not in text
        assert WRONG not in text


async def test_registering_and_refusing_keys(service: Any) -> None:
    open_one = await service.http.get(
        f"/v1/artifacts/{await endpoint_artifact(service, 'http://127.0.0.1:9')}"
    )
    assert open_one.json()["has_endpoint_key"] is False
    scripted = await service.artifact("ours", uri="scripted://answers", format="scripted")
    refused = await service.http.put(f"/v1/artifacts/{scripted}/endpoint-key", json={"endpoint_key": KEY})
    assert refused.status_code == 422
    assert (
        await service.http.put("/v1/artifacts/art_no/endpoint-key", json={"endpoint_key": KEY})
    ).status_code == 404
    body = {
        "name": "theirs",
        "model": "m",
        "backend": "cpu",
        "uri": "http://127.0.0.1:9",
        "format": "endpoint",
    }
    taken = await service.http.post("/v1/artifacts", json={**body, "endpoint_key": KEY})
    assert taken.status_code == 409
    assert KEY not in str(await database_text(service)), "the key of an artifact that does not exist is kept"
    for changes, field in (
        ({"format": "scripted", "uri": "scripted://answers", "endpoint_key": KEY}, "endpoint_key"),
        ({"endpoint_key": f"{KEY}\nX-Other: 1"}, "endpoint_key"),
        ({"endpoint_key": ""}, "endpoint_key"),
        ({"uri": f"https://user:{KEY}@host"}, "uri"),
        ({"uri": f"https://host/?key={KEY}"}, "uri"),
        ({"uri": "/models/x.gguf"}, "uri"),
        ({"uri": "https://host:port"}, "uri"),
        ({"sha256": "0" * 64}, "sha256"),
        ({"endpoint_key": KEY, "modle": "x"}, "modle"),
    ):
        answer = await service.http.post("/v1/artifacts", json={**body, "name": "other", **changes})
        assert answer.status_code == 422, changes
        assert [fault["field"] for fault in answer.json()["errors"]] == [field]
        assert KEY not in answer.text


def test_a_key_shows_in_no_representation_and_its_schema_is_write_only() -> None:
    registration = ArtifactRegistration(
        name="a", model="m", backend="gpu", uri="https://host", format="endpoint", endpoint_key=KEY
    )
    assert KEY not in repr(registration) + str(registration) + registration.model_dump_json()
    schema = json.dumps(ArtifactRegistration.model_json_schema()["properties"]["endpoint_key"])
    assert '"writeOnly": true' in schema


async def test_goodput_bounds_are_part_of_the_plan_where_they_are_asked_for(service: Any) -> None:
    artifact = await service.artifact("ours", uri="scripted://answers", format="scripted")
    body = {"artifact_id": artifact, "dataset_id": "ds_capitals", "method_id": "mth_qa"}

    async def planned(options: dict[str, Any]) -> Any:
        return (await service.http.post("/v1/evaluations/plan", json={**body, "options": options})).json()

    assert "goodput" not in (await planned({}))["options"]
    bounds = {"ttft_s": 0.5, "itl_s": None, "latency_s": 10.0}
    assert (await planned({"goodput": bounds}))["options"]["goodput"] == bounds
    for wrong in ({}, {"ttft_s": 0}, {"ttft": 1}):
        assert (await planned({"goodput": wrong}))["status"] == 422
