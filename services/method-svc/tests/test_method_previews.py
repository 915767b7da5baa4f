"""Previews: the prompts, targets and hashes of a run, before and after a method is saved."""

from pathlib import Path
from typing import Any

import pytest

from assay_harness.process import HarnessProcess
from assay_harness.spec import BuiltinTask, GroupRows, RowFiles, RowOrigin, TaskOptions

RECIPE = {"template": "jsonl-qa-lm-eval", "input_field": "question", "expected_output_field": "answer"}
GSM8K = {"template": "builtin-lm-eval", "task": "gsm8k"}


def rows_of(name: str, count: int) -> list[dict[str, Any]]:
    return [{"question": f"{name} {n} + 1?", "answer": f"Sum.\n#### {n + 1}"} for n in range(count)]


def hub(split: str) -> dict[str, Any]:
    return {"kind": "huggingface", "repo_id": "openai/gsm8k", "subset": "main", "split": split}


async def preview(api: Any, **body: Any) -> Any:
    return await api.post("/v1/methods/preview", body)


async def test_preview_renders_real_rows(api: Any, peer: Any, question_rows: Any) -> None:
    dataset_id = peer.add(question_rows)
    recipe = {**RECIPE, "prompt_template": "Q: {{input}} ({{hint}})\nA:", "max_tokens": 7}
    found = await preview(api, recipe=recipe, dataset_id=dataset_id, rows=2)
    items = found["items"]
    assert [item["prompt"] for item in items] == [
        "Q: What is 0 + 1? (h0)\nA:",
        "Q: What is 1 + 1? (h1)\nA:",
    ]
    assert items[1]["target"].strip() == question_rows[1]["answer"]
    assert items[0]["requests"][0]["kind"] == "generate"
    assert items[0]["requests"][0]["generation_kwargs"]["max_gen_toks"] == 7
    assert (found["total"], found["fewshot_source"]) == (6, "none")

    snapshot_id = peer.datasets[dataset_id]["current_snapshot"]["id"]
    found = await preview(api, recipe=GSM8K, snapshot_id=snapshot_id, rows=1, num_fewshot=2)
    [item] = found["items"]
    assert item["prompt"].count("Question:") == 3
    assert item["prompt"].endswith("Question: What is 0 + 1?\nAnswer:")
    assert found["fewshot_source"] == "evaluation_rows"
    assert found["fewshot_canonical"] is False
    # Examples from the rows themselves: never the row that is asked.
    assert item["prompt"].count("What is 0 + 1?") == 1


@pytest.mark.parametrize(
    "options",
    [
        {"num_fewshot": 0},
        {},
        {"num_fewshot": 3, "system_instruction": "Be brief.", "apply_chat_template": True},
        {
            "num_fewshot": 2,
            "system_instruction": "Be brief.",
            "apply_chat_template": True,
            "fewshot_as_multiturn": False,
            "seeds": {"random": 1, "numpy": 2, "fewshot": 3},
        },
        {"repeats": 2, "generation_kwargs": {"temperature": 0.5}},
    ],
    ids=["zero-shot", "the task's own", "chat", "one turn and seeds", "repeats"],
)
async def test_the_hashes_are_those_of_the_run(
    api: Any, peer: Any, tmp_path: Path, options: dict[str, Any]
) -> None:
    evaluation, examples = rows_of("What is", 40), rows_of("Compute", 30)
    dataset_id = peer.add(evaluation, source=hub("test"), split="test")
    fewshot_id = peer.add(examples, source=hub("train"), split="train")
    wanted = [3, 17, 39]
    found = await preview(
        api,
        recipe=GSM8K,
        dataset_id=dataset_id,
        fewshot_dataset_id=fewshot_id,
        row_indices=[39, 3, 17],
        **options,
    )
    assert [item["index"] for item in found["items"]] == wanted

    # What eval-svc does with the same snapshots and the same options.
    seeds = options.get("seeds", {})
    own = {name: value for name, value in options.items() if name != "seeds"}
    run_options = TaskOptions(**own, **{f"{name}_seed": value for name, value in seeds.items()})
    paths = []
    for one in (dataset_id, fewshot_id):
        path = tmp_path / f"{one}.parquet"
        path.write_bytes(peer.files[peer.datasets[one]["current_snapshot"]["id"]])
        paths.append(path)
    origin = {"kind": "huggingface", "repo_id": "openai/gsm8k", "subset": "main"}
    files = RowFiles(
        evaluation=paths[0],
        evaluation_origin=RowOrigin(**origin, split="test"),
        fewshot=paths[1],
        fewshot_split="train",
        fewshot_origin=RowOrigin(**origin, split="train"),
    )
    async with HarnessProcess.open(BuiltinTask(task="gsm8k"), run_options, files) as harness:
        documents = [document async for batch in harness.documents() for document in batch]
        canonical = harness.facts.fewshot_canonical
    expected = [documents[index] for index in wanted]
    for name in ("doc_hash", "prompt_hash", "target_hash", "target"):
        assert [item[name] for item in found["items"]] == [getattr(document, name) for document in expected]
    for item, document in zip(found["items"], expected, strict=True):
        assert item["prompt"] == document.requests[0].context
        assert item["messages"] == document.requests[0].messages
        assert len(item["requests"]) == len(document.requests)
    assert found["fewshot_canonical"] is canonical


async def test_chat_turns_are_shown(api: Any, peer: Any) -> None:
    dataset_id = peer.add(rows_of("What is", 5))
    options = {"num_fewshot": 1, "apply_chat_template": True, "system_instruction": "Be brief."}
    [item] = (await preview(api, recipe=GSM8K, dataset_id=dataset_id, rows=1, **options))["items"]
    assert [turn["role"] for turn in item["messages"]] == ["system", "user", "assistant", "user"]
    assert item["messages"][0]["content"] == "Be brief."
    options["fewshot_as_multiturn"] = False
    [item] = (await preview(api, recipe=GSM8K, dataset_id=dataset_id, rows=1, **options))["items"]
    assert [turn["role"] for turn in item["messages"]] == ["system", "user"]
    [item] = (await preview(api, recipe=GSM8K, dataset_id=dataset_id, rows=1, num_fewshot=1))["items"]
    assert item["messages"] is None


async def test_a_saved_method_renders_like_its_recipe(api: Any, peer: Any, question_rows: Any) -> None:
    dataset_id = peer.add(question_rows)
    method = await api.create({**RECIPE, "prompt_template": "First: {{input}}"})
    path = f"/v1/methods/{method['id']}"
    await api.post(f"{path}/versions", {"recipe": {**RECIPE, "prompt_template": "Second: {{input}}"}})
    options = {"dataset_id": dataset_id, "offset": 2, "rows": 2, "num_fewshot": 1}
    newest = await api.post(f"{path}/preview", options)
    assert [item["index"] for item in newest["items"]] == [2, 3]
    assert "Second: What is 2 + 1?" in newest["items"][0]["prompt"]
    first = await api.post(f"{path}/preview?version=1", options)
    assert first == await preview(api, recipe=method["recipe"], **options)
    fields, detail = await api.refused(f"{path}/preview", options, status=404, version=3)
    assert "1 to 2" in detail
    await api.refused("/v1/methods/mth_0/preview", options, status=404)
    fields, _ = await api.refused(f"{path}/preview", {**options, "recipe": RECIPE})
    assert fields == ["recipe"]


async def test_examples_come_from_the_companion_where_none_is_named(api: Any, peer: Any) -> None:
    evaluation, train = rows_of("What is", 9), rows_of("Compute", 9)
    companion = peer.add_snapshot("ds_1", train, source=hub("train"), split="train", role="fewshot")
    dataset_id = peer.add(
        evaluation,
        dataset_id="ds_1",
        source=hub("test"),
        split="test",
        role="evaluation",
        fewshot_snapshot_id=companion["id"],
    )
    found = await preview(api, recipe=GSM8K, dataset_id=dataset_id, rows=1)
    [source] = found["sources"]
    assert (source["fewshot_origin"], source["fewshot"]["snapshot_id"]) == ("companion", companion["id"])
    assert (source["fewshot"]["split"], source["evaluation"]["split"]) == ("train", "test")
    assert (found["num_fewshot"], found["fewshot_source"], found["fewshot_canonical"]) == (5, "rows", True)
    assert found["items"][0]["prompt"].count("Compute") == 5
    assert found["deviations"] == []

    without = await preview(api, recipe=GSM8K, dataset_id=dataset_id, rows=1, num_fewshot=0)
    assert without["sources"][0]["fewshot"] is None
    # The task that says 0 examples keeps 0: what was taken by default is then not told as a source.
    zero = {"template": "builtin-lm-eval", "task": "gsm8k_cot_zeroshot"}
    unused = await preview(api, recipe=zero, dataset_id=dataset_id, rows=1)
    assert (unused["fewshot_source"], unused["sources"][0]["fewshot"]) == ("none", None)
    # The dataset itself as the source means the rows that were ingested for it.
    own = await preview(api, recipe=GSM8K, dataset_id=dataset_id, rows=1, fewshot_dataset_id=dataset_id)
    assert own["items"] == found["items"]
    other = peer.add(rows_of("Other", 9))
    found = await preview(api, recipe=GSM8K, dataset_id=dataset_id, rows=1, fewshot_dataset_id=other)
    assert found["sources"][0]["fewshot_origin"] == "named"
    assert found["items"][0]["prompt"].count("Other") == 5


async def test_the_rows_themselves_are_no_source_of_their_own(api: Any, peer: Any) -> None:
    dataset_id = peer.add(rows_of("What is", 9))
    options = {"recipe": GSM8K, "dataset_id": dataset_id, "num_fewshot": 3}
    named = await preview(api, **options, fewshot_dataset_id=dataset_id)
    assert named["fewshot_source"] == "evaluation_rows"
    assert named == await preview(api, **options)
    for item in named["items"]:
        assert item["prompt"].count(f"What is {item['index']} + 1?") == 1


async def test_what_differs_from_the_tasks_own_definition_is_told(api: Any, peer: Any) -> None:
    dataset_id = peer.add(rows_of("What is", 9), source=hub("train"), split="train")
    found = await preview(api, recipe=GSM8K, dataset_id=dataset_id, rows=1)
    fields = {deviation["field"] for deviation in found["deviations"]}
    assert "evaluation_split" in fields
    assert fields & {"fewshot_source", "fewshot_split"}
    assert all(deviation["message"] for deviation in found["deviations"])
    upload = await preview(api, recipe=GSM8K, dataset_id=peer.add(rows_of("What is", 9)), rows=1)
    assert "dataset_path" in {deviation["field"] for deviation in upload["deviations"]}


async def test_a_group_is_rendered_over_a_dataset_for_each_task(api: Any, peer: Any, tmp_path: Path) -> None:
    recipe = {"template": "builtin-lm-eval", "task": "phrases_va"}
    members = {
        name: peer.add([{"ca": f"{name} ca {n}", "va": f"{name} va {n}"} for n in range(7)])
        for name in ("phrases_ca-va", "phrases_va-ca")
    }
    body = {"recipe": recipe, "member_datasets": members, "num_fewshot": 1}
    found = await preview(api, **body, row_indices=[6, 7, 13])
    assert found["total"] == 14
    assert [(item["index"], item["task"]) for item in found["items"]] == [
        (6, "phrases_ca-va"),
        (7, "phrases_va-ca"),
        (13, "phrases_va-ca"),
    ]
    assert [source["task"] for source in found["sources"]] == list(members)
    files = {}
    for name, dataset_id in members.items():
        path = tmp_path / f"{name}.parquet"
        path.write_bytes(peer.files[peer.datasets[dataset_id]["current_snapshot"]["id"]])
        files[name] = RowFiles(evaluation=path)
    async with HarnessProcess.open(
        BuiltinTask(task="phrases_va"), TaskOptions(num_fewshot=1), GroupRows(members=files)
    ) as harness:
        documents = [document async for batch in harness.documents() for document in batch]
    hashes = {document.index: document.prompt_hash for document in documents}
    assert {item["index"]: item["prompt_hash"] for item in found["items"]} == {
        index: hashes[index] for index in (6, 7, 13)
    }

    one = await preview(api, recipe=recipe, dataset_id=members["phrases_ca-va"], num_fewshot=0, rows=1)
    assert one["total"] == 14
    for change, field in (
        ({"member_datasets": {"phrases_ca-va": members["phrases_ca-va"]}}, "member_datasets.phrases_va-ca"),
        ({"member_datasets": {**members, "nosuch": "ds_0"}}, "member_datasets.nosuch"),
        ({"member_datasets": {**members, "phrases_va-ca": "ds_0"}}, "member_datasets.phrases_va-ca"),
        ({"member_datasets": {}}, "body"),
        ({"dataset_id": "ds_0"}, "body"),
    ):
        fields, _ = await api.refused("/v1/methods/preview", {**body, **change})
        assert fields == [field]


async def test_rows_are_chosen_within_those_that_there_are(api: Any, peer: Any) -> None:
    dataset_id = peer.add(rows_of("What is", 5))
    options = {"recipe": GSM8K, "dataset_id": dataset_id, "num_fewshot": 0}
    assert [item["index"] for item in (await preview(api, **options, offset=3, rows=9))["items"]] == [3, 4]
    fields, detail = await api.refused("/v1/methods/preview", {**options, "offset": 5})
    assert fields == ["offset"]
    assert "0 to 4" in detail
    fields, _ = await api.refused("/v1/methods/preview", {**options, "row_indices": [1, 5]})
    assert fields == ["row_indices"]


async def test_preview_names_what_cannot_be_rendered(api: Any, peer: Any) -> None:
    rows = [{"question": "q", "answer": "a"}, {"question": None, "answer": "b"}]
    dataset_id = peer.add(rows)
    for change, field, words in (
        ({"recipe": {**GSM8K, "task": "gsm8kk"}}, "recipe.task", "gsm8k,"),
        ({"recipe": {**RECIPE, "prompt_template": "{{nosuch}}"}}, "recipe.prompt_template", "nosuch"),
        ({"recipe": {"template": "builtin-lm-eval", "task": "sciq"}}, None, "correct_answer"),
        ({"recipe": GSM8K, "column_mapping": {"question": "nope"}}, "column_mapping.nope", "nope"),
        ({"recipe": GSM8K, "num_fewshot": 5}, "num_fewshot", "lower num_fewshot"),
        ({"num_fewshot": -1}, "num_fewshot", "greater"),
        ({"repeats": 0}, "repeats", "greater"),
        ({"seeds": {"numpy": -1}}, "seeds.numpy", "greater"),
        ({"generation_kwargs": {"until": 3}}, "generation_kwargs", "until"),
        ({"rows": 0}, "rows", "greater"),
        ({"row_indices": []}, "row_indices", "at least 1"),
        ({"snapshot_id": "snap_0"}, "body", "either dataset_id or snapshot_id"),
        ({"dataset_id": "ds_0"}, "dataset_id", "ds_0"),
        ({"fewshot_dataset_id": "ds_0"}, "fewshot_dataset_id", "ds_0"),
    ):
        body = {"recipe": RECIPE, "dataset_id": dataset_id, **change}
        fields, detail = await api.refused("/v1/methods/preview", body)
        assert words in detail
        assert field is None or fields == [field]
    body = {"recipe": RECIPE, "dataset_id": dataset_id}
    response = await api.http.post("/v1/methods/preview", json=body)
    assert response.status_code == 422
    assert [fault.get("row") for fault in response.json()["errors"]] == [1]
    # A broken row behind the wanted one is none of its business.
    assert len((await preview(api, **body, rows=1))["items"]) == 1
