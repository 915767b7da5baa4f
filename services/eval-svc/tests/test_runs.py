import asyncio
from typing import Any

import pytest

from assay_chassis.bus import Subscription, open_bus
from assay_chassis.telemetry import Telemetry
from assay_contracts.envelope import Envelope, Event, envelop
from assay_contracts.metrics_events import RunScored, ScoringFailed

pytestmark = pytest.mark.model


async def request(service: Any, **changes: Any) -> dict[str, Any]:
    return {
        "artifact_id": await service.artifact(),
        "dataset_id": "ds_capitals",
        "method_id": "mth_qa",
        "options": {"concurrency": 4},
        **changes,
    }


async def publish(service: Any, event: Event) -> None:
    telemetry = Telemetry(service_name="metrics-svc", otlp_endpoint=None)
    envelope = envelop(event, source="/assay/metrics-svc")
    async with open_bus(service.settings.nats_url, name="metrics", telemetry=telemetry) as bus:
        await bus.publish(event.SUBJECT, envelope.model_dump_json().encode(), message_id=envelope.id)


async def test_a_run_goes_from_queued_to_succeeded_and_tells_every_step(service: Any) -> None:
    seen: list[str] = []

    async def listen(_: Envelope, event: Event) -> None:
        seen.append(event.SUBJECT)

    telemetry = Telemetry(service_name="listener", otlp_endpoint=None)
    subscription = Subscription("ASSAY_EVAL", "listener", ("assay.eval.run.>",), listen)
    async with (
        open_bus(service.settings.nats_url, name="listener", telemetry=telemetry) as bus,
        service.working(),
    ):
        listening = asyncio.create_task(bus.run(subscription))
        run = await service.start(**await request(service))
        assert run["state"] == "Queued"
        assert run["plan"]["task"]["document_count"] == 20
        scoring = await service.wait(run["id"], "Scoring")
        counts = {"samples_total": 20, "samples_done": 20, "samples_failed": 0}
        assert scoring["progress"] == {**counts, "members": None}
        quality = {"jsonl_qa.exact_match,strict": 0.5, "jsonl_qa.exact_match_stderr,strict": None}
        await publish(service, RunScored(run_id=run["id"], samples=20, quality=quality, runtime={"tps": 1.5}))
        succeeded = await service.wait(run["id"], "Succeeded")
        assert succeeded["quality"] == quality
        assert succeeded["runtime"] == {"tps": 1.5}
        async with asyncio.timeout(20):
            while len(seen) < 5:
                await asyncio.sleep(0.05)
        listening.cancel()
    steps = ("queued", "provisioning", "started", "responded", "succeeded")
    assert seen == [f"assay.eval.run.{step}.v1" for step in steps]


async def test_samples_hold_what_was_asked_answered_and_when(service: Any) -> None:
    async with service.working():
        run = await service.start(**await request(service))
        run = await service.wait(run["id"], "Scoring")
    items: list[dict[str, Any]] = []
    cursor = None
    while True:
        parameters = {"limit": 7} | ({"cursor": cursor} if cursor else {})
        page = (await service.http.get(f"/v1/evaluations/{run['id']}/samples", params=parameters)).json()
        items += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert sorted(item["index"] for item in items) == list(range(20))
    by_prompt: dict[str, set[str]] = {}
    for item in items:
        (asked,) = item["requests"]
        assert asked["prompt"] == f"The capital of {asked['prompt'].split()[-2]} is"
        by_prompt.setdefault(asked["prompt"], set()).add(asked["response"])
        times = asked["times"]
        assert times["received_ns"] <= times["sent_ns"] < times["first_token_ns"] <= times["done_ns"]
        assert len(times["token_offsets_us"]) == asked["completion_tokens"] <= 8
        assert len(asked["token_text_lengths"]) == asked["completion_tokens"]
        assert sum(asked["token_text_lengths"]) >= len(asked["response"])
    assert all(len(responses) == 1 for responses in by_prompt.values()), "greedy output must repeat"
    (instance,) = run["serving"]
    assert instance["provenance"]["artifact_sha256"]
    assert instance["telemetry"]["cpu_seconds"] > 0
    assert instance["telemetry"]["power"] is None
    assert instance["telemetry"]["unavailable"]
    block = (await service.http.get(f"/v1/evaluations/{run['id']}/blocks/0")).json()
    assert 0 < len(block["samples"]) <= 4
    missing = await service.http.get(f"/v1/evaluations/{run['id']}/blocks/99")
    assert missing.status_code == 404


async def test_multiple_choice_is_scored_by_log_probability(service: Any) -> None:
    async with service.working():
        run = await service.start(**await request(service, dataset_id="ds_choices", method_id="mth_sciq"))
        await service.wait(run["id"], "Scoring")
    page = (await service.http.get(f"/v1/evaluations/{run['id']}/samples")).json()
    right = 0
    for item in page["items"]:
        scores = [asked["log_probability"] for asked in item["requests"]]
        assert len(scores) == 4
        assert all(score < 0 for score in scores)
        right += scores.index(max(scores)) == 3  # the task puts the correct answer last
    assert right >= 1, "a model that picks none of four easy answers is not asked properly"


async def test_a_cancelled_run_resumes_where_it_was(service: Any) -> None:
    run = await service.start(**await request(service))
    cancelled = (await service.http.post(f"/v1/evaluations/{run['id']}/cancel")).json()
    assert cancelled["state"] == "Cancelled"
    again = await service.http.post(f"/v1/evaluations/{run['id']}/cancel")
    assert again.json()["state"] == "Cancelled"
    assert (await service.http.post(f"/v1/evaluations/{run['id']}/resume")).json()["state"] == "Queued"
    refused = await service.http.post(f"/v1/evaluations/{run['id']}/resume")
    assert refused.status_code == 409
    assert "Queued" in refused.json()["detail"]
    async with service.working():
        await service.wait(run["id"], "Scoring")


async def test_an_unscorable_run_fails_with_the_reason(service: Any) -> None:
    async with service.working():
        run = await service.start(**await request(service, options={"limit": 2}))
        await service.wait(run["id"], "Scoring")
    await publish(service, ScoringFailed(run_id=run["id"], code="harness-refused", reason="row 1 is odd"))
    async with asyncio.timeout(20):
        while (found := await service.run(run["id"]))["state"] != "Failed":
            await asyncio.sleep(0.1)
    assert found["error"] == {"code": "harness-refused", "message": "row 1 is odd"}


async def test_an_artifact_that_cannot_start_fails_the_run_and_says_why(service: Any) -> None:
    artifact = await service.artifact("wrong", sha256="0" * 64)
    async with service.working():
        run = await service.start(**{**await request(service), "artifact_id": artifact})
        async with asyncio.timeout(60):
            while (found := await service.run(run["id"]))["state"] != "Failed":
                await asyncio.sleep(0.1)
    assert found["error"]["code"] == "serving-failed"
    assert "0000" in found["error"]["message"]


async def test_plans_are_frozen_and_repeatable(service: Any) -> None:
    body = await request(service)
    plans = [(await service.http.post("/v1/evaluations/plan", json=body)).json() for _ in range(2)]
    assert plans[0] == plans[1]
    assert plans[0]["dataset"]["digest"]
    changed = {**body, "options": {**body["options"], "limit": 3}}
    other = (await service.http.post("/v1/evaluations/plan", json=changed)).json()
    assert other["plan_hash"] != plans[0]["plan_hash"]
    sciq = {**body, "dataset_id": "ds_choices", "method_id": "mth_sciq"}
    notes = (await service.http.post("/v1/evaluations/plan", json=sciq)).json()
    assert not notes["canonical"]
    assert notes["task"]["needs_log_probabilities"]


@pytest.mark.parametrize(
    ("changes", "field", "words"),
    [
        ({"options": {"limit": 0}}, "options.limit", "greater than or equal to 1"),
        ({"options": {"concurrency": 0}}, "options.concurrency", "greater than or equal to 1"),
        ({"dataset_id": "ds_choices"}, "column_mapping.input", "question"),
        ({"column_mapping": {"input": "nowhere"}}, None, "nowhere"),
        ({"options": {"generation_kwargs": {"n": 4}}}, "options.generation_kwargs", "n"),
        ({"snapshot_id": "snap_choices"}, "dataset_id", "not both"),
        ({"optoins": {}}, "optoins", "not permitted"),
    ],
)
async def test_what_cannot_work_is_refused_before_it_is_queued(
    service: Any, changes: dict[str, Any], field: str | None, words: str
) -> None:
    answer = await service.http.post("/v1/evaluations", json={**await request(service), **changes})
    assert answer.status_code == 422, answer.text
    faults = answer.json()["errors"]
    assert words in str(faults)
    if field:
        assert field in [fault.get("field") for fault in faults]
    assert (await service.http.get("/v1/evaluations")).json()["items"] == []


async def test_unknown_things_are_404(service: Any) -> None:
    body = await request(service)
    for changes in ({"artifact_id": "art_no"}, {"dataset_id": "ds_no"}, {"method_id": "mth_no"}):
        answer = await service.http.post("/v1/evaluations", json={**body, **changes})
        assert answer.status_code == 404, answer.text
    assert (await service.http.get("/v1/evaluations/run_no")).status_code == 404


async def test_backends_say_what_they_can_do(service: Any) -> None:
    (backend,) = (await service.http.get("/v1/backends")).json()["items"]
    assert backend["backend"] == "cpu"
    assert backend["healthy"]
    assert backend["capabilities"]["score"] == "yes"
    body = {"name": "x", "model": "m", "backend": "cpu", "uri": "package://a/b.gguf"}
    wrong = {**body, "serving_parameters": {"requantize": "Q99"}}
    answer = await service.http.post("/v1/artifacts", json=wrong)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "serving_parameters.requantize"
    assert "Q4_0" in answer.text
