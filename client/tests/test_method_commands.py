"""``assay task`` and ``assay method``: searching, forms, previews."""

from typing import Any

import pytest

DATASET = "ds_01kaqy3m5r0000000000000001"
METHOD = "mth_01kaqy3m5r0000000000000001"
GSM8K = {
    "name": "gsm8k",
    "kind": "task",
    "status": "ok",
    "reason": "",
    "output_type": "generate_until",
    "num_fewshot": 5,
    "columns": ["answer", "question"],
}
ROW = {
    "index": 7,
    "task": "gsm8k",
    "row": {},
    "prompt": "[...]",
    "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "1 + 1?"}],
    "target": "2",
    "doc_hash": "d" * 64,
    "prompt_hash": "a1" * 32,
    "target_hash": "t" * 64,
    "requests": [],
}
PREVIEW = {
    "items": [ROW],
    "total": 40,
    "num_fewshot": 5,
    "fewshot_source": "rows",
    "fewshot_canonical": True,
    "sources": [
        {
            "task": "",
            "evaluation": {"dataset_name": "questions", "split": "test"},
            "fewshot": {"dataset_name": "questions", "split": "train"},
            "fewshot_origin": "companion",
        }
    ],
    "deviations": [{"field": "evaluation_split", "message": "the rows are split 'train', not 'test'"}],
}


@pytest.fixture
def known(server: Any, answer: Any, document: Any) -> None:
    """The dataset ``questions`` and the method ``short-answers``."""
    server.on("GET", "/v1/datasets", answer({"items": [document("dataset")], "next_cursor": None}))
    server.on("GET", "/v1/methods", answer({"items": [document("method")], "next_cursor": None}))


def test_tasks_are_searched_by_words_and_status(assay: Any, server: Any, answer: Any) -> None:
    refused = {**GSM8K, "name": "gsm8k_code", "status": "unsafe-code", "reason": "it executes code"}
    server.on("GET", "/v1/tasks", answer({"items": [GSM8K, refused], "suggestions": []}))
    outcome = assay("task", "search", "gsm8k", "code", "--status", "ok", "--limit", "2")
    assert outcome.code == 0
    [request] = server.calls("GET", "/v1/tasks")
    assert request.query == {"query": "gsm8k code", "status": "ok", "limit": "2"}
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["gsm8k", "ok", "generate_until", "5", "answer,", "question"] in lines
    assert any(line[:2] == ["gsm8k_code", "unsafe-code"] and line[-1] == "code" for line in lines)


def test_a_misspelt_task_is_answered_with_the_nearest(assay: Any, server: Any, answer: Any) -> None:
    server.on("GET", "/v1/tasks", answer({"items": [], "suggestions": ["gsm8k", "gsm8k_cot"]}))
    assert assay("task", "search", "gsm8kk").out == (
        "nothing matches 'gsm8kk'. Nearest names: gsm8k, gsm8k_cot\n"
    )


def test_a_form_shows_its_guesses_and_the_command_that_takes_them(
    assay: Any, server: Any, answer: Any, known: None
) -> None:
    path = "recipe.input_field"
    form = {
        "template": "jsonl-qa-lm-eval",
        "title": "JSONL QA lm-eval",
        "source": {"dataset_name": "my questions", "kind": "jsonl", "rows": 4, "split": "test"},
        "templates": [{"template": "builtin-lm-eval", "title": "Built-in-lm-eval", "reason": "for tasks"}],
        "fits": True,
        "reason": "the rows have columns",
        "ui": {
            "fields": [
                {"path": "name", "label": "Name"},
                {"path": path, "label": "Input field", "choices": [{"value": "prompt", "hint": "string"}]},
                {"path": "recipe.max_tokens", "label": "Longest answer", "help": "most tokens"},
            ]
        },
        "defaults": {"dataset_id": DATASET, "recipe": {"input_field": "prompt", "max_tokens": 64}},
        "guesses": [{"field": path, "value": "prompt", "basis": "usual-name", "reason": "it is usual"}],
        "task": None,
        "column_mapping": None,
    }
    server.on("GET", "/v1/methods/form", answer(form))
    outcome = assay("method", "form", "--dataset", "questions")
    assert server.calls("GET", "/v1/methods/form")[0].query == {"dataset_id": DATASET}
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["Input", "field", "--input-field", "prompt", "it", "is", "usual"] in lines
    assert ["Longest", "answer", "--max-tokens", "64", "most", "tokens"] in lines
    assert outcome.out.splitlines()[-1] == (
        "Next: assay method create NAME --input-field prompt --dataset 'my questions'"
    )
    assert assay("method", "form", "--dataset", "questions", "--json").json() == form


def test_a_preview_of_a_recipe_sends_the_options_of_a_run(
    assay: Any, server: Any, answer: Any, known: None
) -> None:
    server.on("POST", "/v1/methods/preview", answer(PREVIEW))
    arguments = (
        "--task gsm8k --dataset questions --fewshot-dataset questions --row 7 --row 19 --num-fewshot 5"
    )
    more = (
        "--apply-chat-template --fewshot-in-one-turn --seed 3 --seed fewshot=4 --repeats 2 --map question=q"
    )
    outcome = assay(
        "method", "preview", *arguments.split(), *more.split(), "--system-instruction", "Be brief."
    )
    assert outcome.code == 0, outcome.err
    assert server.calls("POST", "/v1/methods/preview")[0].json() == {
        "recipe": {"template": "builtin-lm-eval", "task": "gsm8k"},
        "dataset_id": DATASET,
        "fewshot_dataset_id": DATASET,
        "row_indices": [7, 19],
        "column_mapping": {"question": "q"},
        "num_fewshot": 5,
        "system_instruction": "Be brief.",
        "apply_chat_template": True,
        "fewshot_as_multiturn": False,
        "repeats": 2,
        "seeds": {"random": 3, "numpy": 3, "fewshot": 4},
    }
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["system", "Be", "brief."] in lines
    assert ["user", "1", "+", "1?"] in lines
    assert ["prompt", "hash", "a1a1a1a1a1a1a1a1"] in lines
    assert "5 examples from questions, split 'train', companion" in outcome.out
    assert "the rows are split 'train', not 'test'" in outcome.out


def test_a_preview_of_a_method_takes_its_version_and_rows(
    assay: Any, server: Any, answer: Any, known: None
) -> None:
    path = f"/v1/methods/{METHOD}/preview"
    server.on("POST", path, answer(PREVIEW))
    outcome = assay(
        *[
            "method",
            "preview",
            "short-answers",
            "--version",
            "2",
            "--dataset",
            "questions",
            "--offset",
            "5",
            "--rows",
            "2",
            "--json",
        ]
    )
    assert outcome.json() == PREVIEW
    [request] = server.calls("POST", path)
    assert request.query == {"version": "2"}
    assert request.json() == {
        "dataset_id": DATASET,
        "offset": 5,
        "rows": 2,
        "column_mapping": {},
    }


def test_the_members_of_a_group_have_datasets(assay: Any, server: Any, answer: Any, known: None) -> None:
    server.on("POST", "/v1/methods/preview", answer(PREVIEW))
    members = (
        "--member arc_easy=questions --member arc_challenge=questions --member-fewshot arc_easy=questions"
    )
    assert assay("method", "preview", "--task", "arc", *members.split()).code == 0
    body = server.calls("POST", "/v1/methods/preview")[0].json()
    assert body["member_datasets"] == {"arc_easy": DATASET, "arc_challenge": DATASET}
    assert body["member_fewshot_datasets"] == {"arc_easy": DATASET}
    assert "dataset_id" not in body


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--task gsm8k", "give --dataset, or --member"),
        ("--task gsm8k --dataset d --member a=b", "not both"),
        ("--task gsm8k --dataset d --seed x", "--seed 'x'"),
        ("--task gsm8k --dataset d --seed torch=1", "random, numpy, fewshot"),
        ("m --task gsm8k --dataset d", "not both"),
        ("--task gsm8k --dataset d --version 2", "--version is that of a method"),
        ("--dataset d", "assay method form"),
    ],
)
def test_options_that_do_not_fit_together_are_told_before_anything_is_sent(
    assay: Any, server: Any, arguments: str, message: str
) -> None:
    outcome = assay("method", "preview", *arguments.split())
    assert outcome.code == 2
    assert message in outcome.err
    assert server.received == []
