"""Methods and their versions over HTTP."""

import asyncio
from typing import Any

from assay_chassis.bus import Bus, Subscription
from assay_chassis.infrastructure import consuming
from assay_contracts.envelope import Envelope, Event
from assay_contracts.method_events import MethodVersionCreated

RECIPE = {"template": "jsonl-qa-lm-eval", "input_field": "question", "expected_output_field": "answer"}
GSM8K = {"template": "builtin-lm-eval", "task": "gsm8k"}


async def test_a_method_and_its_versions(api: Any) -> None:
    method = await api.create(RECIPE, description="first")
    assert method["id"].startswith("mth_")
    assert (method["version"], method["created_by"], method["description"]) == (1, "tester", "first")
    assert method["recipe"] == {
        **RECIPE,
        "prompt_template": "{{input}}",
        "max_tokens": method["recipe"]["max_tokens"],
        "stop": method["recipe"]["stop"],
        "target_delimiter": " ",
        "fewshot_delimiter": "\n\n",
    }
    assert method["output"] == {"output_type": "generate_until", "needs_log_probabilities": False}

    path = f"/v1/methods/{method['id']}"
    changed = {**RECIPE, "prompt_template": "Q: {{input}}\nA:"}
    second = await api.post(f"{path}/versions", {"recipe": changed})
    assert (second["version"], second["description"], second["name"]) == (2, "first", method["name"])
    assert second["recipe_hash"] != method["recipe_hash"]
    assert await api.post(f"{path}/versions", {"recipe": changed}) == second
    assert await api.get(path) == second
    assert await api.get(f"{path}/versions/1") == method
    assert await api.get(f"{path}/versions/2") == second
    for number in (0, 3, -1):
        _, detail = await api.refused(f"{path}/versions/{number}", status=404)
        assert "1 to 2" in detail
    assert (await api.get("/v1/methods", name=method["name"]))["items"] == [second]
    await api.refused("/v1/methods/mth_0", status=404)


async def test_a_built_in_method_says_what_it_needs(api: Any) -> None:
    assert (await api.create(GSM8K))["output"]["needs_log_probabilities"] is False
    sciq = await api.create({"template": "builtin-lm-eval", "task": "sciq"})
    assert sciq["output"] == {"output_type": "multiple_choice", "needs_log_probabilities": True}


async def test_lists_are_newest_first_and_paged(api: Any) -> None:
    ids = [(await api.create(RECIPE))["id"] for _ in range(3)]
    first = await api.get("/v1/methods", limit=2)
    second = await api.get("/v1/methods", limit=1, cursor=first["next_cursor"])
    found = [item["id"] for item in (*first["items"], *second["items"])]
    assert found == sorted(ids, reverse=True)


async def test_a_taken_name_names_the_method_that_has_it(api: Any) -> None:
    method = await api.create(RECIPE)
    fields, detail = await api.refused("/v1/methods", {"name": method["name"], "recipe": GSM8K}, status=409)
    assert fields == ["name"]
    assert method["id"] in detail


async def test_two_versions_at_once_get_two_numbers_and_each_is_told_once(
    api: Any, bus: Bus, eventually: Any
) -> None:
    method = await api.create(RECIPE)
    path = f"/v1/methods/{method['id']}/versions"
    recipes = [{**RECIPE, "max_tokens": number} for number in range(1, 7)]
    answers = await asyncio.gather(*(api.post(path, {"recipe": recipe}) for recipe in recipes))
    assert sorted(answer["version"] for answer in answers) == [2, 3, 4, 5, 6, 7]
    for version in answers:
        assert await api.get(f"{path}/{version['version']}") == version
    told: list[MethodVersionCreated] = []

    async def handle(_: Envelope, event: Event) -> None:
        assert isinstance(event, MethodVersionCreated)
        told.append(event)

    async def all_told() -> bool:
        return len(told) >= 7

    subscription = Subscription(
        stream="ASSAY_METHOD", durable="reader", subjects=("assay.method.>",), handler=handle
    )
    async with consuming(bus, [subscription]):
        await eventually(all_told)
        await asyncio.sleep(0.3)
    assert [event.version for event in told] == [1, 2, 3, 4, 5, 6, 7]
    assert {event.method_id for event in told} == {method["id"]}
