"""What method-svc refuses, and which field each refusal names."""

from typing import Any

RECIPE = {"template": "jsonl-qa-lm-eval", "input_field": "question", "expected_output_field": "answer"}
GSM8K = {"template": "builtin-lm-eval", "task": "gsm8k"}

BAD_RECIPES: list[tuple[dict[str, Any], str, str]] = [
    ({**GSM8K, "task": "gsm8kk"}, "recipe.task", "gsm8k,"),
    ({**GSM8K, "task": "humaneval"}, "recipe.task", "cannot be run here"),
    ({**GSM8K, "task": "/etc/passwd"}, "recipe.task", "no lm-eval task"),
    ({**GSM8K, "task": "x.yaml"}, "recipe.task", "no lm-eval task"),
    ({**GSM8K, "taks": 1}, "recipe.taks", "Extra"),
    ({"template": "nope"}, "recipe.template", "jsonl-qa-lm-eval"),
    ({}, "recipe.template", "template"),
    (
        {"template": "jsonl-qa-lm-eval", "input_field": "q"},
        "recipe.expected_output_field",
        "required",
    ),
    ({**RECIPE, "max_tokens": 0}, "recipe.max_tokens", "greater"),
    ({**RECIPE, "stop": ["a", ""]}, "recipe.stop.1", "at least 1"),
    (
        {**RECIPE, "prompt_template": "a\n{% for x in y %}"},
        "recipe.prompt_template",
        "line 2, column 1",
    ),
    ({**RECIPE, "prompt_template": "a {{"}, "recipe.prompt_template", "{{"),
    ({**RECIPE, "prompt_template": "a"}, "recipe.prompt_template", "{{input}}"),
]


async def test_a_bad_recipe_names_its_field_and_changes_nothing(api: Any) -> None:
    # One service for all of them: its start takes longer than the requests.
    method = await api.create(RECIPE)
    for recipe, field, words in BAD_RECIPES:
        fields, detail = await api.refused("/v1/methods", {"name": "never-made", "recipe": recipe})
        assert (recipe, fields) == (recipe, [field])
        assert words in detail
        fields, _ = await api.refused(f"/v1/methods/{method['id']}/versions", {"recipe": recipe})
        assert (recipe, fields) == (recipe, [field])
    assert (await api.get("/v1/methods", name="never-made"))["items"] == []
    assert await api.get(f"/v1/methods/{method['id']}") == method


MISFITS: list[tuple[dict[str, Any], str, str]] = [
    ({**RECIPE, "input_field": "quest"}, "recipe.input_field", "'question', 'answer', 'hint'"),
    ({**RECIPE, "expected_output_field": "gold"}, "recipe.expected_output_field", "'gold'"),
    (
        {**RECIPE, "prompt_template": "{{ input | upper }}"},
        "recipe.prompt_template",
        "one field name and nothing else",
    ),
    ({**RECIPE, "prompt_template": "{{nosuch}}"}, "recipe.prompt_template", "'{{nosuch}}'"),
    ({**RECIPE, "prompt_template": "{{answer}}"}, "recipe.prompt_template", "'{{answer}}'"),
    ({"template": "builtin-lm-eval", "task": "sciq"}, "recipe.task", "'correct_answer'"),
]


async def test_a_recipe_that_does_not_fit_the_dataset(api: Any, peer: Any, question_rows: Any) -> None:
    dataset_id = peer.add(question_rows)
    for recipe, field, words in MISFITS:
        body = {"name": "never-made", "recipe": recipe, "dataset_id": dataset_id}
        fields, detail = await api.refused("/v1/methods", body)
        assert (recipe, fields) == (recipe, [field])
        assert words in detail
    await api.create({**RECIPE, "prompt_template": "{{hint}}: {{input}}"}, dataset_id=dataset_id)
    await api.create(GSM8K, dataset_id=dataset_id)


async def test_a_dataset_that_cannot_be_used_is_named(api: Any, peer: Any) -> None:
    empty = peer.add(None)
    for dataset_id, words in ((empty, "no data yet"), ("ds_0", "ds_0"), ("../x", "pattern")):
        body = {"name": "never-made", "recipe": RECIPE, "dataset_id": dataset_id}
        fields, detail = await api.refused("/v1/methods", body)
        assert fields == ["dataset_id"]
        assert words in detail
