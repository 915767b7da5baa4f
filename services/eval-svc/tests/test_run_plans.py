"""Plans: what is frozen, what differs from the task's own definition, and what is refused by its field."""

from typing import Any

import pytest

pytestmark = pytest.mark.model

SUMS = {
    "question": [f"What is {number} + 3?" for number in range(8)],
    "answer": [f"{number} and 3 make {number + 3}.\n#### {number + 3}" for number in range(8)],
}
EXAMPLES = {
    "question": [f"What is {number} + 5?" for number in range(9)],
    "answer": [f"{number} and 5 make {number + 5}.\n#### {number + 5}" for number in range(9)],
}


def from_hub(split: str) -> dict[str, Any]:
    return {
        "kind": "huggingface",
        "repo_id": "openai/gsm8k",
        "subset": "main",
        "split": split,
        "requested_revision": "main",
        "commit": "0" * 40,
    }


async def plan(service: Any, *, status: int = 200, **body: Any) -> dict[str, Any]:
    service.peers.add_method("gsm8k", {"template": "builtin-lm-eval", "task": "gsm8k"})
    known = (await service.http.get("/v1/artifacts")).json()["items"]
    artifact = known[0]["id"] if known else await service.artifact()
    request = {"artifact_id": artifact, "method_id": "mth_gsm8k", **body}
    answer = await service.http.post("/v1/evaluations/plan", json=request)
    assert answer.status_code == status, answer.text
    return dict(answer.json())


def fields_of(plan: dict[str, Any]) -> list[str]:
    return [deviation["field"] for deviation in plan["deviations"]]


async def test_the_tasks_own_arrangement_is_canonical(service: Any) -> None:
    service.peers.add_dataset("sums", SUMS, source=from_hub("test"))
    service.peers.add_dataset("shots", EXAMPLES, split="train", source=from_hub("train"), fewshot_of="sums")
    own = await plan(service, dataset_id="ds_sums")
    assert (own["canonical"], own["deviations"], own["notes"]) == (True, [], [])
    assert own["fewshot"]["snapshot_id"] == "snap_shots"
    assert own["fewshot_source"] == "rows"
    assert own["task"]["num_fewshot"] == 5
    without = await plan(service, dataset_id="ds_sums", options={"num_fewshot": 0})
    assert without["fewshot"] is None, "a companion that no prompt reads is not part of the run"
    assert (without["canonical"], fields_of(without)) == (False, ["num_fewshot"])
    limited = await plan(service, dataset_id="ds_sums", options={"limit": 3})
    assert (limited["canonical"], fields_of(limited)) == (False, ["limit"])
    assert "3 of 8" in limited["notes"][0]


async def test_training_rows_never_pass_for_the_published_benchmark(service: Any) -> None:
    service.peers.add_dataset("train", EXAMPLES, split="train", source=from_hub("train"))
    found = await plan(service, snapshot_id="snap_train")
    assert not found["canonical"]
    assert fields_of(found) == ["evaluation_split", "fewshot_source"]
    split = found["deviations"][0]
    assert (split["task_value"], split["run_value"]) == ("test", "train")
    assert found["fewshot_source"] == "evaluation_rows"
    run = await service.start(
        artifact_id=found["artifact"]["id"], snapshot_id="snap_train", method_id="mth_gsm8k"
    )
    assert run["canonical"] is False
    assert run["deviations"] == found["deviations"]


async def test_examples_come_from_where_the_request_says(service: Any) -> None:
    service.peers.add_dataset("sums", SUMS)
    service.peers.add_dataset("examples", EXAMPLES, split="train")
    by_dataset = await plan(service, dataset_id="ds_sums", fewshot_dataset_id="ds_examples")
    by_snapshot = await plan(service, dataset_id="ds_sums", fewshot_snapshot_id="snap_examples")
    assert by_dataset == by_snapshot
    assert by_dataset["fewshot"]["id"] == "ds_examples"
    assert by_dataset["harness"]["fewshot"]["split"] == "train"
    same = await plan(service, dataset_id="ds_sums", fewshot_dataset_id="ds_sums")
    assert same["fewshot"] is None
    assert same["fewshot_source"] == "evaluation_rows", "a row must not be its own example"
    both = {"fewshot_dataset_id": "ds_examples", "fewshot_snapshot_id": "snap_examples"}
    refused = await plan(service, status=422, dataset_id="ds_sums", **both)
    assert refused["errors"][0]["field"] == "fewshot_snapshot_id"
    missing = await plan(service, status=404, dataset_id="ds_sums", fewshot_snapshot_id="snap_no")
    assert missing["errors"][0]["field"] == "fewshot_snapshot_id"


async def test_options_reach_the_harness_and_are_frozen(service: Any) -> None:
    service.peers.add_dataset("sums", SUMS)
    options = {
        "num_fewshot": 2,
        "repeats": 3,
        "system_instruction": "Answer with a number.",
        "fewshot_as_multiturn": False,
        "bootstrap_iterations": 0,
        "seeds": {"random": 1, "numpy": 2, "fewshot": 3},
    }
    found = await plan(service, dataset_id="ds_sums", options=options)
    frozen = found["harness"]["options"]
    assert (frozen["random_seed"], frozen["numpy_seed"], frozen["fewshot_seed"]) == (1, 2, 3)
    for name in ("num_fewshot", "repeats", "system_instruction", "fewshot_as_multiturn"):
        assert frozen[name] == options[name]
    assert frozen["bootstrap_iterations"] == 0
    assert found["task"]["repeats"] == 3
    assert found["seeds"] == options["seeds"]
    assert "repeats" in fields_of(found)
    default = await plan(service, dataset_id="ds_sums")
    assert default["options"]["reuse_responses"] is False
    assert default["plan_hash"] != found["plan_hash"]


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        ({"repeats": 0}, "options.repeats", "greater than or equal to 1"),
        ({"seeds": {"numpy": -1}}, "options.seeds.numpy", "greater than or equal to 0"),
        ({"seeds": {"torch": 1}}, "options.seeds.torch", "not permitted"),
        ({"bootstrap_iterations": 100_001}, "options.bootstrap_iterations", "100000"),
        ({"system_instruction": ""}, "options.system_instruction", "at least 1 character"),
        ({"generation_kwargs": {"until": [""]}}, "options.generation_kwargs", "non-empty strings"),
        ({"num_fewshot": 9}, "options.num_fewshot", "there are 8"),
        (
            {"reuse_responses": True, "generation_kwargs": {"temperature": 1.0, "do_sample": True}},
            "options.reuse_responses",
            "sampled",
        ),
    ],
)
async def test_options_are_refused_by_their_name(
    service: Any, options: dict[str, Any], field: str, words: str
) -> None:
    service.peers.add_dataset("sums", SUMS)
    refused = await plan(service, status=422, dataset_id="ds_sums", options=options)
    assert [fault["field"] for fault in refused["errors"]] == [field]
    assert words in refused["errors"][0]["message"]


async def test_a_chat_template_needs_a_backend_that_takes_messages(service: Any) -> None:
    service.peers.add_dataset("sums", SUMS)
    (backend,) = (await service.http.get("/v1/backends")).json()["items"]
    takes_chat = backend["capabilities"]["chat"] == "yes"
    body = {"dataset_id": "ds_sums", "options": {"apply_chat_template": True, "num_fewshot": 1}}
    answer = await plan(service, status=200 if takes_chat else 422, **body)
    if not takes_chat:
        assert answer["errors"][0]["field"] == "options.apply_chat_template"
    choices = {"dataset_id": "ds_choices", "method_id": "mth_sciq", "options": {"apply_chat_template": True}}
    refused = await plan(service, status=422, **choices)
    assert refused["errors"][0]["field"] == "options.apply_chat_template"
