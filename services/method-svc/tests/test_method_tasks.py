"""Templates and lm-eval's tasks over HTTP."""

from pathlib import Path
from typing import Any

from method_svc.domain.templates import templates

RECIPE = {"template": "jsonl-qa-lm-eval", "input_field": "question", "expected_output_field": "answer"}
GSM8K = {"template": "builtin-lm-eval", "task": "gsm8k"}


async def test_templates_describe_every_parameter(api: Any) -> None:
    items = (await api.get("/v1/templates"))["items"]
    assert [(item["name"], item["title"]) for item in items] == [
        ("builtin-lm-eval", "Built-in-lm-eval"),
        ("jsonl-qa-lm-eval", "JSONL QA lm-eval"),
    ]
    assert all(parameter.description for template in templates() for parameter in template.parameters)
    parameters = {parameter["name"]: parameter for parameter in items[1]["parameters"]}
    assert parameters["input_field"]["required"]
    assert parameters["prompt_template"]["default"] == "{{input}}"


async def test_tasks_are_found_and_say_what_they_need(api: Any) -> None:
    page = await api.get("/v1/tasks", query="gsm8k", limit=3)
    assert len(page["items"]) == 3
    assert page["suggestions"] == []
    gsm8k = page["items"][0]
    expected = {
        "name": "gsm8k",
        "kind": "task",
        "status": "ok",
        "reason": "",
        "output_type": "generate_until",
        "needs_log_probabilities": False,
        "num_fewshot": 5,
        "splits": {"training": "train", "test": "test", "fewshot": "train"},
        "refusal": None,
    }
    assert {name: gsm8k[name] for name in expected} == expected
    assert sorted(gsm8k["columns"]) == ["answer", "question"]
    assert await api.get("/v1/tasks/gsm8k") == gsm8k


async def test_a_status_filters_and_has_a_reason(api: Any) -> None:
    humaneval = await api.get("/v1/tasks/humaneval")
    assert humaneval["status"] == "unsafe-code"
    assert humaneval["reason"] == humaneval["refusal"]
    assert "executes code" in humaneval["reason"]
    for status in ("ok", "needs-log-probabilities", "unsafe-code"):
        items = (await api.get("/v1/tasks", query="arc", status=status, limit=20))["items"]
        assert {item["status"] for item in items} <= {status}
        assert all(bool(item["reason"]) == (status != "ok") for item in items)
    both = (await api.get("/v1/tasks", status=["unsafe-code", "remote-judge"], limit=200))["items"]
    assert {item["status"] for item in both} == {"unsafe-code", "remote-judge"}
    fields, _ = await api.refused("/v1/tasks?status=fine")
    assert fields == ["status.0"]


async def test_where_nothing_matches_the_nearest_names_are_suggested(api: Any) -> None:
    page = await api.get("/v1/tasks", query="gsm8kk")
    assert page["items"] == []
    assert page["suggestions"][0] == "gsm8k"
    page = await api.get("/v1/tasks", query="gsm8k", status="multimodal")
    assert (page["items"], page["suggestions"]) == ([], [])
    _, detail = await api.refused("/v1/tasks/gsm8kk", status=404)
    assert "'gsm8kk'" in detail
    assert "gsm8k," in detail


async def test_groups_are_listed_with_their_members(api: Any) -> None:
    mmlu = await api.get("/v1/tasks/mmlu")
    assert (mmlu["kind"], len(mmlu["members"])) == ("group", 4)
    assert "mmlu_stem" in mmlu["members"]
    assert mmlu["status"] == "needs-log-probabilities"


async def test_a_group_is_one_method(api: Any, peer: Any) -> None:
    group = {"template": "builtin-lm-eval", "task": "phrases_va"}
    dataset_id = peer.add([{"ca": "a", "va": "b"}])
    method = await api.create(group, dataset_id=dataset_id)
    assert method["output"] == {"output_type": "generate_until", "needs_log_probabilities": False}
    mmlu = await api.create({**group, "task": "mmlu"})
    assert mmlu["output"] == {"output_type": "multiple_choice", "needs_log_probabilities": True}
    body = {"name": "never-made", "recipe": group, "dataset_id": peer.add([{"ca": "a", "es": "b"}])}
    fields, detail = await api.refused("/v1/methods", body)
    assert fields == ["recipe.task"]
    assert "'va'" in detail
    # A group with a task that cannot be run cannot be run.
    humaneval = next(
        item["name"]
        for item in (await api.get("/v1/tasks", query="humaneval", limit=200))["items"]
        if item["kind"] != "task" and item["refusal"]
    )
    fields, detail = await api.refused("/v1/methods", {**body, "recipe": {**group, "task": humaneval}})
    assert fields == ["recipe.task"]
    assert "cannot be run here" in detail


async def test_without_the_index_only_what_needs_it_is_unavailable(
    make_settings: Any, open_api: Any, tmp_path: Path
) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("")
    async with open_api(make_settings(cache_dir=blocked / "below")) as api:
        await api.refused("/readyz", status=503)
        await api.get("/healthz")
        await api.refused("/v1/tasks", status=503)
        fields, detail = await api.refused("/v1/methods", {"name": "x", "recipe": GSM8K}, status=503)
        assert "being built" in detail
        assert fields == []
        await api.create(RECIPE)
