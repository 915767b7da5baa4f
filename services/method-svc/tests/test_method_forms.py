"""Forms: what they offer for a source, that their schema is what the API takes, and the guessed defaults."""

from typing import Any

import jsonschema

GSM8K_ROWS = [{"question": f"What is {n} + 1?", "answer": f"#### {n + 1}"} for n in range(8)]
GSM8K_SOURCE = {
    "kind": "huggingface",
    "repo_id": "openai/gsm8k",
    "subset": "main",
    "split": "train",
    "requested_revision": "main",
    "commit": "a" * 40,
}


async def form(api: Any, **parameters: Any) -> Any:
    """A form, whose schema is valid and is met by its own defaults."""
    found = await api.get("/v1/methods/form", **parameters)
    validator = jsonschema.Draft202012Validator
    validator.check_schema(found["schema"])
    assert found["schema"]["$schema"] == validator.META_SCHEMA["$id"]
    if found["fits"] and (found["task"] or found["template"] == "jsonl-qa-lm-eval"):
        validator(found["schema"]).validate({"name": "n", **found["defaults"]})
    return found


def reasons(found: Any) -> dict[str, tuple[str | None, str]]:
    return {guess["field"]: (guess["value"], guess["reason"]) for guess in found["guesses"]}


async def test_data_of_the_hub_is_offered_the_task_that_is_defined_on_it(api: Any, peer: Any) -> None:
    dataset_id = peer.add(GSM8K_ROWS, source=GSM8K_SOURCE, split="train")
    found = await form(api, dataset_id=dataset_id)
    assert (found["template"], found["title"], found["fits"]) == ("builtin-lm-eval", "Built-in-lm-eval", True)
    assert found["source"]["kind"] == "huggingface"
    labels = [field["label"] for field in found["ui"]["fields"] if field["widget"] != "hidden"]
    assert labels == ["Name", "Evaluation Method template", "Task", "Description"]
    task = next(field for field in found["ui"]["fields"] if field["path"] == "recipe.task")
    assert (task["widget"], task["search"]["endpoint"]) == ("search", "/v1/tasks")
    assert {choice["value"] for choice in task["choices"]} >= {"gsm8k", "gsm8k_cot"}
    value, reason = reasons(found)["recipe.task"]
    assert value == "gsm8k"
    assert "on openai/gsm8k, subset 'main'" in reason
    assert "evaluates on split 'test' and the rows are split 'train'" in reason
    assert found["task"]["num_fewshot"] == 5
    assert found["column_mapping"]["complete"] is True
    assert found["column_mapping"]["mapping"] == {}

    other = peer.add(GSM8K_ROWS, source={**GSM8K_SOURCE, "subset": "socratic"}, split="test")
    guessless = await form(api, dataset_id=other)
    assert guessless["guesses"] == []
    task = next(field for field in guessless["ui"]["fields"] if field["path"] == "recipe.task")
    assert "the rows are of subset 'socratic'" in task["choices"][0]["hint"]

    created = await api.post(found["ui"]["submit"], {**found["defaults"], "name": "from-the-form"})
    assert created["recipe"] == {"template": "builtin-lm-eval", "task": "gsm8k"}


async def test_an_upload_is_offered_its_columns(api: Any, peer: Any) -> None:
    rows = [
        {"id": n, "tags": ["a"], "expected_output": str(n), "input": f"{n}?", "empty": None} for n in range(4)
    ]
    found = await form(api, dataset_id=peer.add(rows))
    assert [(offer["template"], offer["fits"]) for offer in found["templates"]] == [
        ("jsonl-qa-lm-eval", True),
        ("builtin-lm-eval", True),
    ]
    fields = {field["path"]: field for field in found["ui"]["fields"]}
    shown = [field["label"] for field in fields.values() if field["widget"] != "hidden"]
    assert shown[:6] == [
        "Name",
        "Evaluation Method template",
        "Input field",
        "Expected output field",
        "Prompt template",
        "Description",
    ]
    choices = fields["recipe.input_field"]["choices"]
    assert [choice["value"] for choice in choices] == ["expected_output", "input", "id"]
    assert choices[1]["hint"] == "string: 0?"
    assert found["schema"]["properties"]["recipe"]["properties"]["input_field"]["enum"] == [
        "expected_output",
        "input",
        "id",
    ]
    assert reasons(found) == {
        "recipe.input_field": ("input", "a column called 'input' usually holds the input"),
        "recipe.expected_output_field": (
            "expected_output",
            "a column called 'expected_output' usually holds the expected answer",
        ),
        "recipe.prompt_template": (
            "{{input}}",
            "the input as it is; write around it what the model should be told",
        ),
    }
    assert fields["recipe.prompt_template"]["placeholders"] == ["input", "id"]
    created = await api.post("/v1/methods", {**found["defaults"], "name": "from-the-columns"})
    assert created["recipe"]["prompt_template"] == "{{input}}"


GUESSED = {
    "question answer": "question answer",
    "prompt completion": "prompt completion",
    "Query Response": "Query Response",
    "answer question context": "question answer",
    "user_question gold_label": "user_question gold_label",
    "first second": "first second",
    "prompt zzz": "prompt zzz",
    "zzz target": "zzz target",
}


async def test_columns_are_guessed_by_name_then_by_type(api: Any, peer: Any) -> None:
    for columns, expected in GUESSED.items():
        dataset_id = peer.add([dict.fromkeys(columns.split(), "x")])
        found = await form(api, template="jsonl-qa-lm-eval", dataset_id=dataset_id)
        recipe = found["defaults"]["recipe"]
        assert f"{recipe['input_field']} {recipe['expected_output_field']}" == expected
        assert all(guess["reason"] for guess in found["guesses"])


async def test_gaps_in_a_guessed_column_are_told(api: Any, peer: Any) -> None:
    dataset_id = peer.add([{"question": "a", "answer": "b"}, {"question": None, "answer": "b"}])
    found = await form(api, dataset_id=dataset_id)
    assert reasons(found)["recipe.input_field"][1].endswith("1 of 2 rows have no value there")


async def test_rows_without_two_usable_columns_do_not_fit_questions_and_answers(api: Any, peer: Any) -> None:
    dataset_id = peer.add([{"text": "a", "spans": [1, 2], "nothing": None}])
    found = await form(api, dataset_id=dataset_id)
    assert found["template"] == "builtin-lm-eval"
    offer = found["templates"][1]
    assert (offer["template"], offer["fits"]) == ("jsonl-qa-lm-eval", False)
    assert "needs two columns of text, numbers or flags; the rows have 1" in offer["reason"]
    found = await form(api, dataset_id=dataset_id, template="jsonl-qa-lm-eval")
    assert (found["fits"], found["reason"]) == (False, offer["reason"])


async def test_a_tasks_columns_are_looked_for_in_the_rows(api: Any, peer: Any) -> None:
    dataset_id = peer.add([{"problem": "a", "solution": "b", "level": 3}])
    found = await form(api, dataset_id=dataset_id, task="gsm8k")
    mapping = found["column_mapping"]
    assert (found["template"], found["fits"], mapping["complete"]) == ("builtin-lm-eval", True, True)
    assert mapping["mapping"] == {"question": "problem", "answer": "solution"}
    why = {guess["field"]: (guess["basis"], guess["reason"]) for guess in mapping["guesses"]}
    assert why["question"] == (
        "usual-name",
        "'question' and 'problem' are both usual names for the input",
    )
    # A method is checked against a dataset by the columns' own names: with a mapping there is none to name.
    assert found["defaults"]["dataset_id"] is None
    rendered = await api.post(
        found["ui"]["preview"],
        {
            "recipe": found["defaults"]["recipe"],
            "dataset_id": dataset_id,
            "column_mapping": mapping["mapping"],
            "num_fewshot": 0,
        },
    )
    assert rendered["items"][0]["prompt"] == "Question: a\nAnswer:"


async def test_a_task_that_does_not_fit_says_why(api: Any, peer: Any) -> None:
    dataset_id = peer.add([{"alpha": "a", "beta": "b"}])
    found = await form(api, dataset_id=dataset_id, task="gsm8k")
    assert (found["fits"], found["column_mapping"]["complete"]) == (False, False)
    assert "nothing was found for" in found["reason"]
    assert "'question'" in found["reason"]
    found = await form(api, dataset_id=dataset_id, task="humaneval")
    assert found["fits"] is False
    assert "executes code" in found["reason"]
    _, detail = await api.refused("/v1/methods/form", status=404, dataset_id=dataset_id, task="gsm8kk")
    assert "gsm8k," in detail


async def test_a_group_looks_for_the_columns_of_all_its_tasks(api: Any, peer: Any) -> None:
    dataset_id = peer.add([{"ca": "a", "VA": "b"}])
    found = await form(api, dataset_id=dataset_id, task="phrases_va")
    assert found["task"]["members"] == ["phrases_ca-va", "phrases_va-ca"]
    assert found["column_mapping"]["mapping"] == {"va": "VA"}


async def test_a_form_needs_rows(api: Any, peer: Any) -> None:
    for parameters, field, words in (
        ({}, "dataset_id", "either dataset_id or snapshot_id"),
        ({"dataset_id": "ds_0", "snapshot_id": "snap_0"}, "dataset_id", "either"),
        ({"dataset_id": peer.add(None)}, "dataset_id", "no data yet"),
        ({"snapshot_id": "snap_0"}, "snapshot_id", "snap_0"),
        ({"dataset_id": "ds_0", "template": "nope"}, "template", "builtin-lm-eval"),
    ):
        fields, detail = await api.refused("/v1/methods/form", **parameters)
        assert (parameters, fields) == (parameters, [field])
        assert words in detail
