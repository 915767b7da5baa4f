"""Tasks that generate text: values, standard errors and hashes are those of `lm_eval.simple_evaluate`."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from assay_harness.spec import TaskOptions

Fixture = Callable[..., Any]
Rows = list[dict[str, Any]]
WORDS = ("iron", "water", "the sun", "carbon dioxide", "été", "sound", "A small boat", "3.5", "1,000")


def rows(count: int, make: Callable[[Random, int], dict[str, Any]], *, seed: int = 1) -> Rows:
    draw = Random(seed)
    return [make(draw, index) for index in range(count)]


def arithmetic(draw: Random, index: int) -> dict[str, Any]:
    left, right = draw.randrange(100), draw.randrange(100)
    return {
        "question": f"What is {left} plus {right}, case {index}?",
        "answer": f"Add them.\n#### {left + right}",
        "answer_number": left + right,
    }


def trivia(draw: Random, index: int) -> dict[str, Any]:
    gold = draw.choice(WORDS)
    answer = {"aliases": [gold, f"an {gold}"], "value": gold}
    return {"question": f"Which one is {index}", "answer": answer}


def natural_question(draw: Random, index: int) -> dict[str, Any]:
    return {"question": f"who wrote number {index}", "answer": draw.sample(WORDS, 1 + index % 2)}


def discrete_reasoning(draw: Random, index: int) -> dict[str, Any]:
    number = str(draw.randrange(9)) if index % 2 else ""
    answer = {
        "number": number,
        "date": {"day": "", "month": "", "year": ""},
        "spans": [] if number else draw.sample(WORDS, 2),
    }
    return {
        "query_id": str(index),
        "section_id": "s",
        "passage": f"Passage {index} has a boat and iron.",
        "question": "What is in it?",
        "answer": answer,
        "validated_answers": {
            "number": ["", number],
            "date": [answer["date"], answer["date"]],
            "spans": [["iron"], []],
        },
    }


def pair(draw: Random, index: int) -> dict[str, Any]:
    return {"input": f"Count the {draw.choice(WORDS)} in case {index}.", "target": str(draw.randrange(5))}


def dates(draw: Random, index: int) -> dict[str, Any]:
    return {
        "input": f"Case {index}?\nOptions:\n(A) 01/02/2003\n(B) 04/05/2006\n(C) 07/08/2009",
        "target": f"({draw.choice('ABC')})",
    }


def translation(draw: Random, index: int) -> dict[str, Any]:
    words = " ".join(draw.choice(WORDS) for _ in range(6))
    return {"translation": {"ar": f"جملة رقم {index} {words}", "en": f"Sentence {index}: {words}."}}


def competition(draw: Random, index: int) -> dict[str, Any]:
    value = draw.choice(["\\frac{1}{2}", "7", "x^2", "\\sqrt{3}", "0.5"])
    return {
        "problem": f"Find $x_{index}$.",
        "level": "Level 1",
        "type": "Algebra",
        "solution": f"It is $\\boxed{{{value}}}$.",
    }


def professional(draw: Random, index: int) -> dict[str, Any]:
    letter = draw.choice("ABCD")
    return {
        "question": f"Which organ is number {index}?",
        "options": draw.sample(WORDS, 4),
        "answer": letter,
        "cot_content": f"A: Let's think step by step. The answer is ({letter}).",
        "category": "biology" if index % 3 else "law",
    }


def graduate(draw: Random, index: int) -> dict[str, Any]:
    first, second, third, gold = (f"{word} {index}" for word in draw.sample(WORDS, 4))
    return {
        "Question": f"Which of these is number {index}?",
        "Correct Answer": gold,
        "Incorrect Answer 1": first,
        "Incorrect Answer 2": second,
        "Incorrect Answer 3": third,
    }


def emotions(draw: Random, index: int) -> dict[str, Any]:
    names = ("Joy", "Fear", "Anger", "Pride")
    reference = {f"emotion{i + 1}": name for i, name in enumerate(names)}
    reference |= {f"emotion{i + 1}_score": str(draw.randrange(11)) for i in range(4)}
    return {"prompt": f"Dialogue {index}", "reference_answer_fullscale": str(reference)}


def science(draw: Random, index: int) -> dict[str, Any]:
    choices = {"text": draw.sample(WORDS, 4), "label": list("ABCD")}
    return {
        "id": f"Q{index}",
        "question": f"Which is {index}?",
        "choices": choices,
        "answerKey": draw.choice("ABCD"),
    }


def code(draw: Random, index: int) -> dict[str, Any]:
    return {
        "code_tokens": ["def", f"f{index}", "(", ")", ":"],
        "docstring_tokens": ["Returns", *draw.sample(WORDS, 3), "."],
    }


def letters(draw: Random, index: int) -> dict[str, Any]:
    return {"context": f"Unscramble case {index}", "completion": draw.choice(WORDS)}


def extraction(draw: Random, index: int) -> dict[str, Any]:
    return {"text": f" Device {index} is made of ", "key": "material", "value": draw.choice(WORDS)}


def planning(draw: Random, index: int) -> dict[str, Any]:
    return {
        "context": f"There are {index} blocks.",
        "question": "Can it move?",
        "answer": draw.choice(["yes", "no"]),
    }


def bias(draw: Random, index: int) -> dict[str, Any]:
    return {
        "context": f"A man and a woman met, case {index}.",
        "question": "Who was late?",
        "question_polarity": draw.choice(["neg", "nonneg"]),
        "context_condition": draw.choice(["ambig", "disambig"]),
        "category": draw.choice(["Age", "Religion"]),
        "ans0": "The man",
        "ans1": "The woman",
        "ans2": "Not enough information",
        "answer_info": {"ans0": ["man", "M"], "ans1": ["woman", "F"], "ans2": ["unknown", "unknown"]},
        "additional_metadata": {"stereotyped_groups": "['F']", "subcategory": "None"},
        "answer_label": draw.randrange(3),
        "label": draw.randrange(3),
        "question_index": str(index),
        "target_label": 1,
    }


ANSWERS = (
    "The answer is (B).",
    "So the answer is 4.",
    "#### 4",
    "  iron",
    "water",
    "(A)",
    "the answer is (C), I think. 3",
    "Joy: 5\nFear: 3\nAnger: 8\nPride: 1",
    "It is $\\boxed{\\frac{1}{2}}$.",
    "7",
    "yes",
    "Sentence 3: water été iron the sun.",
    "The woman",
    "Returns iron water sound .",
    "",
)

CASES: list[tuple[str, str, Callable[[Random, int], dict[str, Any]], dict[str, Any]]] = [
    ("gsm8k_cot", "gsm8k", arithmetic, {"evaluation": "test"}),
    ("gsm8k_cot_zeroshot", "gsm8k", arithmetic, {"evaluation": "test"}),
    ("mgsm_direct_en", "mgsm", arithmetic, {"evaluation": "test", "fewshot": "train", "num_fewshot": 2}),
    ("triviaqa", "triviaqa", trivia, {"evaluation": "validation", "fewshot": "train", "num_fewshot": 3}),
    ("nq_open", "nq_open", natural_question, {"evaluation": "validation"}),
    ("drop", "drop", discrete_reasoning, {"evaluation": "validation", "fewshot": "train", "num_fewshot": 1}),
    ("bbh_zeroshot_object_counting", "bbh", pair, {"evaluation": "test"}),
    ("bbh_cot_zeroshot_date_understanding", "bbh", dates, {"evaluation": "test"}),
    ("bbh_cot_fewshot_object_counting", "bbh", pair, {"evaluation": "test"}),
    (
        "iwslt2017-ar-en",
        "translation",
        translation,
        {"evaluation": "test", "fewshot": "validation", "num_fewshot": 2},
    ),
    ("hendrycks_math_algebra", "hendrycks_math", competition, {"evaluation": "test"}),
    ("mmlu_pro_biology", "mmlu_pro", professional, {"evaluation": "test", "fewshot": "validation"}),
    ("eq_bench", "eq_bench", emotions, {"evaluation": "validation"}),
    ("arc_challenge_chat", "arc", science, {"evaluation": "test"}),
    ("code2text_python", "code_x_glue", code, {"evaluation": "test"}),
    ("anagrams1", "unscramble", letters, {"evaluation": "validation"}),
    ("acp_prog_bool", "acpbench", planning, {"evaluation": "test"}),
    ("bbq_generate", "bbq", bias, {"evaluation": "test"}),
    # These three are Python classes.
    ("fda", "fda", extraction, {"evaluation": "validation"}),
    ("swde", "swde", extraction, {"evaluation": "validation"}),
    ("squad_completion", "squad_completion", extraction, {"evaluation": "validation"}),
]


@pytest.mark.parametrize(("task", "family", "make", "splits"), CASES, ids=[case[0] for case in CASES])
async def test_a_task_that_generates(
    task: str,
    family: str,
    make: Callable[[Random, int], dict[str, Any]],
    splits: dict[str, Any],
    parity: Fixture,
    hash_model: Fixture,
) -> None:
    arguments = dict(splits)
    num_fewshot = arguments.pop("num_fewshot", None)
    names = {arguments["evaluation"], arguments.get("fewshot")} - {None}
    ours = await parity(
        task,
        family,
        {name: rows(9, make, seed=seed) for seed, name in enumerate(sorted(names))},
        options=TaskOptions(num_fewshot=num_fewshot, bootstrap_iterations=50),
        model=hash_model(fallback=ANSWERS),
        **arguments,
    )
    assert ours.aggregate.metrics


@pytest.mark.parametrize(
    ("task", "overrides"),
    [("gpqa_main_cot_zeroshot", {}), ("gpqa_main_generative_n_shot", {"num_fewshot": 2})],
)
async def test_documents_that_are_shuffled_when_prepared(
    task: str, overrides: dict[str, Any], parity: Fixture, hash_model: Fixture
) -> None:
    """lm-eval prepares documents anew on each access and scores other shuffles than it asked about.

    Ours are prepared once, so the comparison is with an lm-eval whose documents are.
    """
    ours = await parity(
        task,
        "gpqa",
        {"train": rows(8, graduate)},
        evaluation="train",
        model=hash_model(fallback=ANSWERS),
        # In the role of the validation split lm-eval does not leave a row out of its own examples.
        overrides={"test_split": "train", "validation_split": None, "fewshot_split": "train"}
        if overrides
        else {},
        options=TaskOptions(**overrides),
        process_docs_once=True,
    )
    assert {document.target for document in ours.documents} > {"(A)"}
