"""Our numbers are lm-eval's numbers, bit by bit, on stock tasks over the same rows and responses."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from assay_harness.spec import BuiltinTask, RowFiles, TaskOptions

Fixture = Callable[..., Any]


def arithmetic(count: int, *, seed: int) -> list[dict[str, Any]]:
    draw = Random(seed)
    rows = []
    for _ in range(count):
        left, right = draw.randrange(100), draw.randrange(100)
        rows.append(
            {"question": f"What is {left} plus {right}?", "answer": f"Add them.\n#### {left + right}"}
        )
    return rows


def answers_of(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    result = {}
    for row in rows:
        gold = row["answer"].rpartition("#### ")[2]
        result[row["question"]] = [
            f"So #### {gold}",
            f"It is {gold}.",
            "#### 1",
            f"$1,000 or {gold} apples",
            "no",
        ]
    return result


async def test_gsm8k_prompts_and_four_values_equal_lm_eval(
    gsm8k_rows: dict[str, Any],
    write_rows: Fixture,
    evaluate: Fixture,
    reference: Fixture,
    identical: Fixture,
    hash_model: Fixture,
) -> None:
    files = {split: write_rows(split, rows) for split, rows in gsm8k_rows.items()}
    model = hash_model(answers=answers_of(gsm8k_rows["test"][:20]))
    ours = await evaluate(
        BuiltinTask(task="gsm8k"),
        TaskOptions(limit=20),
        RowFiles(evaluation=files["test"], fewshot=files["train"]),
        model,
    )
    theirs = reference("gsm8k", "gsm8k", files, model, overrides={}, limit=20)
    identical(ours, theirs, "gsm8k")
    assert len(ours.aggregate.metrics) == 4
    assert 0 < ours.aggregate.metrics["gsm8k.exact_match,flexible-extract"] < 1


async def test_repeats_and_majority_vote_equal_lm_eval(
    write_rows: Fixture, evaluate: Fixture, reference: Fixture, identical: Fixture, hash_model: Fixture
) -> None:
    rows = arithmetic(4, seed=1)
    path = write_rows("test", rows)
    texts = {
        row["question"]: [
            f"The answer is {row['answer'].rpartition(' ')[2]}.",
            "The answer is 3.",
            "The answer is 4.",
        ]
        for row in rows
    }
    model = hash_model(answers=texts)
    task = "gsm8k_cot_self_consistency"
    ours = await evaluate(BuiltinTask(task=task), TaskOptions(), RowFiles(evaluation=path), model)
    theirs = reference("gsm8k", task, {"test": path}, model, overrides={})
    identical(ours, theirs, task)
    assert len(ours.documents[0].requests) == 64
    assert {request.repeat for request in ours.documents[0].requests} == set(range(64))


def science(count: int, *, seed: int) -> list[dict[str, Any]]:
    draw = Random(seed)
    words = ["iron", "water", "a very long answer", "the sun", "carbon dioxide", "été", "sound"]
    rows = []
    for index in range(count):
        chosen = draw.sample(words, 4)
        names = ("distractor1", "distractor2", "distractor3", "correct_answer")
        rows.append(
            {
                "question": f"Which one is number {index}?",
                "support": f" Fact {index}.",
                **dict(zip(names, chosen, strict=True)),
            }
        )
    return rows


async def test_multiple_choice_with_examples_equals_lm_eval(
    write_rows: Fixture, evaluate: Fixture, reference: Fixture, identical: Fixture, hash_model: Fixture
) -> None:
    files = {
        "test": write_rows("test", science(12, seed=1)),
        "train": write_rows("train", science(9, seed=2)),
    }
    options = {"validation_split": None}
    ours = await evaluate(
        BuiltinTask(task="sciq"),
        TaskOptions(num_fewshot=2),
        RowFiles(evaluation=files["test"], fewshot=files["train"]),
        hash_model(),
    )
    identical(ours, reference("sciq", "sciq", files, hash_model(), overrides=options, num_fewshot=2), "sciq")
    assert [len(document.requests) for document in ours.documents] == [4] * 12


async def test_nested_columns_equal_lm_eval(
    write_rows: Fixture, evaluate: Fixture, reference: Fixture, identical: Fixture, hash_model: Fixture
) -> None:
    rows = [
        {
            "id": f"Q{index}",
            "question": f"Question {index}?",
            "choices": {
                "text": ["yes", "no", "perhaps"][: 2 + index % 2],
                "label": ["A", "B", "C"][: 2 + index % 2],
            },
            "answerKey": "AB"[index % 2],
        }
        for index in range(10)
    ]
    path = write_rows("test", rows)
    ours = await evaluate(
        BuiltinTask(task="arc_easy"), TaskOptions(), RowFiles(evaluation=path), hash_model()
    )
    overrides = {"training_split": None, "validation_split": None}
    identical(
        ours, reference("arc", "arc_easy", {"test": path}, hash_model(), overrides=overrides), "arc_easy"
    )


async def test_bootstrapped_metric_in_the_validation_role_equals_lm_eval(
    write_rows: Fixture,
    evaluate: Fixture,
    reference: Fixture,
    identical: Fixture,
    hash_model: Fixture,
) -> None:
    draw = Random(3)
    splits = {
        name: write_rows(
            name, [{"sentence": f"{name} {i}.", "label": draw.randrange(2), "idx": i} for i in range(15)]
        )
        for name in ("validation", "train")
    }
    ours = await evaluate(
        BuiltinTask(task="cola"),
        TaskOptions(num_fewshot=3, bootstrap_iterations=100),
        RowFiles(evaluation=splits["validation"], evaluation_split="validation", fewshot=splits["train"]),
        hash_model(),
    )
    theirs = reference("glue", "cola", splits, hash_model(), overrides={}, num_fewshot=3, bootstrap_iters=100)
    identical(ours, theirs, "cola")
    assert ours.aggregate.metrics["cola.mcc_stderr,none"]
    assert ours.scores[0].numbers == {}


async def test_metric_over_all_documents_without_stderr_equals_lm_eval(
    write_rows: Fixture, evaluate: Fixture, reference: Fixture, identical: Fixture, hash_model: Fixture
) -> None:
    draw = Random(4)
    rows = [
        {"premise": f"P{i}", "hypothesis": f"H{i}", "idx": i, "label": draw.randrange(3)} for i in range(14)
    ]
    path = write_rows("validation", rows)
    ours = await evaluate(BuiltinTask(task="cb"), TaskOptions(), RowFiles(evaluation=path), hash_model())
    overrides = {"training_split": None}
    identical(
        ours, reference("super_glue", "cb", {"validation": path}, hash_model(), overrides=overrides), "cb"
    )
    assert ours.aggregate.metrics["cb.f1_stderr,none"] is None


async def test_rolling_log_likelihood_with_prepared_documents_equals_lm_eval(
    write_rows: Fixture, evaluate: Fixture, reference: Fixture, identical: Fixture, hash_model: Fixture
) -> None:
    rows = [{"page": f" = Page {i} = \n The cat 's hat @-@ number {i} ( red ) sat . "} for i in range(6)]
    path = write_rows("test", rows)
    ours = await evaluate(
        BuiltinTask(task="wikitext"), TaskOptions(), RowFiles(evaluation=path), hash_model()
    )
    overrides = {"training_split": None, "validation_split": None}
    identical(
        ours, reference("wikitext", "wikitext", {"test": path}, hash_model(), overrides=overrides), "wikitext"
    )


async def test_examples_from_the_evaluation_rows_leave_the_row_itself_out(
    write_rows: Fixture, evaluate: Fixture, reference: Fixture, identical: Fixture, hash_model: Fixture
) -> None:
    rows = arithmetic(9, seed=6)
    path = write_rows("train", rows)
    ours = await evaluate(
        BuiltinTask(task="gsm8k"),
        TaskOptions(num_fewshot=4),
        RowFiles(evaluation=path, evaluation_split="train"),
        hash_model(answers=answers_of(rows)),
    )
    for document in ours.documents:
        assert document.requests[0].context.count(document.doc["question"]) == 1
    overrides = {"test_split": "train", "fewshot_split": "train", "training_split": None}
    model = hash_model(answers=answers_of(rows))
    identical(
        ours, reference("gsm8k", "gsm8k", {"train": path}, model, overrides=overrides, num_fewshot=4), "gsm8k"
    )


@pytest.mark.parametrize("multiturn", [True, False])
@pytest.mark.parametrize("system", [None, "Be brief."])
async def test_chat_turns_equal_lm_eval(
    multiturn: bool, system: str | None, parity: Fixture, hash_model: Fixture
) -> None:
    rows = arithmetic(6, seed=1)
    ours = await parity(
        "gsm8k",
        "gsm8k",
        {"test": rows, "train": arithmetic(7, seed=2)},
        evaluation="test",
        fewshot="train",
        options=TaskOptions(
            num_fewshot=2,
            apply_chat_template=True,
            fewshot_as_multiturn=multiturn,
            system_instruction=system,
        ),
        model=hash_model(answers=answers_of(rows)),
    )
    turns = ours.documents[0].requests[0].messages
    roles = ["user", "assistant"] * 2 + ["user"] if multiturn else ["user"]
    assert [turn["role"] for turn in turns] == (["system"] if system else []) + roles


async def test_a_started_answer_and_a_description_equal_lm_eval(parity: Fixture, hash_model: Fixture) -> None:
    """`arc_challenge_chat` begins the assistant's turn; `mmlu_pro` describes itself in the system's."""
    choices = {"text": ["iron", "water", "sound", "sun"], "label": list("ABCD")}
    science_rows = [
        {"id": str(i), "question": f"Which {i}?", "choices": choices, "answerKey": "ABCD"[i % 4]}
        for i in range(5)
    ]
    ours = await parity(
        "arc_challenge_chat",
        "arc",
        {"test": science_rows},
        evaluation="test",
        options=TaskOptions(apply_chat_template=True),
        model=hash_model(fallback=(" A", "B", " C ")),
    )
    assert ours.documents[0].requests[0].messages[-1]["role"] == "assistant"
    biology = [
        {
            "question": f"Which {i}?",
            "options": ["iron", "water"],
            "answer": "AB"[i % 2],
            "cot_content": "A: Let's think step by step. The answer is (A).",
            "category": "biology",
        }
        for i in range(5)
    ]
    ours = await parity(
        "mmlu_pro_biology",
        "mmlu_pro",
        {"test": biology, "validation": biology[:3]},
        evaluation="test",
        fewshot="validation",
        options=TaskOptions(apply_chat_template=True, num_fewshot=2, system_instruction="Think."),
        model=hash_model(fallback=("the answer is (A)", "the answer is (B)")),
    )
    assert ours.documents[0].requests[0].messages[0]["content"].startswith("Think.")


async def test_a_system_instruction_without_chat_template_equals_lm_eval(parity: Fixture) -> None:
    rows = arithmetic(4, seed=3)
    ours = await parity(
        "gsm8k",
        "gsm8k",
        {"test": rows},
        evaluation="test",
        options=TaskOptions(num_fewshot=0, system_instruction="Be brief."),
        overrides={"fewshot_split": None},
    )
    assert ours.documents[0].requests[0].context.startswith("Be brief.")


async def test_seeds_repeats_and_generation_arguments_equal_lm_eval(
    parity: Fixture, hash_model: Fixture
) -> None:
    rows = arithmetic(8, seed=1)
    splits = {"test": rows, "train": arithmetic(30, seed=2)}
    arguments = {"until": ["\n\n", "Q:"], "max_gen_toks": 9, "temperature": 0.5, "do_sample": True}
    results = []
    for seed in (1234, 99):
        ours = await parity(
            "gsm8k",
            "gsm8k",
            splits,
            evaluation="test",
            fewshot="train",
            options=TaskOptions(
                num_fewshot=3,
                limit=6,
                repeats=2,
                fewshot_seed=seed,
                generation_kwargs=arguments,
                bootstrap_iterations=0,
            ),
            model=hash_model(answers=answers_of(rows)),
        )
        results.append(ours)
    first, second = (result.documents[0].requests for result in results)
    assert first[0].context != second[0].context
    assert [request.repeat for request in first] == [0, 1]
    assert first[0].generation_kwargs == arguments
    assert set(results[0].aggregate.metrics.values()) >= {None}


async def test_the_random_seed_reaches_tasks_that_shuffle(parity: Fixture, hash_model: Fixture) -> None:
    rows = [
        {
            "Question": f"Which is {i}?",
            "Correct Answer": f"right {i}",
            **{f"Incorrect Answer {k}": f"wrong {i} {k}" for k in (1, 2, 3)},
        }
        for i in range(8)
    ]
    targets = []
    for seed in (0, 7):
        ours = await parity(
            "gpqa_main_zeroshot",
            "gpqa",
            {"train": rows},
            evaluation="train",
            options=TaskOptions(random_seed=seed),
            process_docs_once=True,
        )
        targets.append([document.target for document in ours.documents])
    assert targets[0] != targets[1]


async def test_mapped_columns_give_the_numbers_of_renamed_rows(
    write_rows: Fixture, evaluate: Fixture, reference: Fixture, identical: Fixture, hash_model: Fixture
) -> None:
    rows = arithmetic(6, seed=1)
    model = hash_model(answers=answers_of(rows))
    renamed = [{"prompt": row["question"], "gold": row["answer"], "question": "decoy"} for row in rows]
    ours = await evaluate(
        BuiltinTask(task="gsm8k"),
        TaskOptions(num_fewshot=0, column_mapping={"question": "prompt", "answer": "gold"}),
        RowFiles(evaluation=write_rows("renamed", renamed)),
        model,
    )
    plain = [{"question": row["question"], "answer": row["answer"]} for row in rows]
    files = {"test": write_rows("plain", plain)}
    overrides = {"training_split": None, "fewshot_split": None}
    identical(ours, reference("gsm8k", "gsm8k", files, model, overrides=overrides, num_fewshot=0), "gsm8k")
