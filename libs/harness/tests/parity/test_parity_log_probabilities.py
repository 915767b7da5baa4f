"""Tasks that score given texts: values, standard errors and hashes are those of `simple_evaluate`."""

from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from assay_harness.spec import TaskOptions

Fixture = Callable[..., Any]
Make = Callable[[Random, int], dict[str, Any]]
WORDS = ("iron", "water", "a very long answer", "the sun", "carbon dioxide", "été", "sound")


def rows(count: int, make: Make, *, seed: int = 1) -> list[dict[str, Any]]:
    draw = Random(seed)
    return [make(draw, index) for index in range(count)]


def endings(draw: Random, index: int) -> dict[str, Any]:
    return {
        "ind": index,
        "activity_label": "Cooking",
        "ctx_a": f"A cook takes pan {index}.",
        "ctx_b": "he",
        "endings": [f"puts {word} in [title] it." for word in draw.sample(WORDS, 4)],
        "label": str(draw.randrange(4)),
    }


def blank(draw: Random, index: int) -> dict[str, Any]:
    first, second = draw.sample(WORDS, 2)
    return {
        "sentence": f"Case {index}: the box held _ and was heavy.",
        "option1": first,
        "option2": second,
        "answer": draw.choice("12"),
    }


def pronoun(draw: Random, index: int) -> dict[str, Any]:
    text = f"The man met the boy in case {index} because he was late."
    return {
        "text": text,
        "pronoun": "he",
        "pronoun_loc": text.index(" he ") + 1,
        "options": ["The man", "The boy"],
        "label": draw.randrange(2),
    }


def plausible(draw: Random, index: int) -> dict[str, Any]:
    return {
        "premise": f"The glass {index} fell.",
        "choice1": "It broke.",
        "choice2": "It sang.",
        "question": draw.choice(["cause", "effect"]),
        "idx": index,
        "label": draw.randrange(2),
    }


def paraphrase(draw: Random, index: int) -> dict[str, Any]:
    return {
        "sentence1": f"One {index}.",
        "sentence2": f"Another {index}.",
        "label": draw.randrange(2),
        "idx": index,
    }


def targets(draw: Random, index: int) -> dict[str, Any]:
    chosen = draw.sample(WORDS, 4)
    return {
        "question": f"What is {index}?",
        "mc1_targets": {"choices": chosen, "labels": [1, 0, 0, 0]},
        "mc2_targets": {"choices": chosen, "labels": [1, 1, 0, 0]},
    }


def stereotype(draw: Random, index: int) -> dict[str, Any]:
    return {
        "sent_more": f"They were late {index}.",
        "sent_less": f"We were late {index}.",
        "stereo_antistereo": "stereo",
        "bias_type": draw.choice(["age", "gender"]),
    }


def physical(draw: Random, index: int) -> dict[str, Any]:
    first, second = draw.sample(WORDS, 2)
    return {"goal": f"Move {index}", "sol1": first, "sol2": second, "label": draw.randrange(2)}


def passage(draw: Random, index: int) -> dict[str, Any]:
    return {
        "flores_passage": f"Passage {index}.",
        "question": " Which? ",
        **{f"mc_answer{i}": word for i, word in enumerate(draw.sample(WORDS, 4), start=1)},
        "correct_answer_num": str(draw.randrange(1, 5)),
    }


def inference(draw: Random, index: int) -> dict[str, Any]:
    return {"premise": f"P {index}", "hypothesis": f"H {draw.choice(WORDS)}", "label": draw.randrange(3)}


def grammar(draw: Random, index: int) -> dict[str, Any]:
    return {"sentence_good": f"The cats sit {index}.", "sentence_bad": f"The cats sits {index}."}


def last_word(draw: Random, index: int) -> dict[str, Any]:
    return {"text": f"This is sentence {index} and it ends in {draw.choice(WORDS)}"}


def sums(draw: Random, index: int) -> dict[str, Any]:
    left, right = draw.randrange(9), draw.randrange(9)
    return {"context": f"Question: What is {left} + {right}?\nAnswer:", "completion": f" {left + right}"}


def text(draw: Random, index: int) -> dict[str, Any]:
    return {"text": f" The cat 's hat @-@ number {index} ( red ) sat on {draw.choice(WORDS)} . "}


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


def graduate(draw: Random, index: int) -> dict[str, Any]:
    first, second, third, gold = (f"{word} {index}" for word in draw.sample(WORDS, 4))
    return {
        "Question": f"Which of these is number {index}?",
        "Correct Answer": gold,
        "Incorrect Answer 1": first,
        "Incorrect Answer 2": second,
        "Incorrect Answer 3": third,
    }


CASES: list[tuple[str, str, Make, str, str | None, int | None]] = [
    ("hellaswag", "hellaswag", endings, "validation", "train", 2),
    ("winogrande", "winogrande", blank, "validation", "train", 2),
    ("wsc273", "wsc273", pronoun, "test", None, None),
    ("copa", "super_glue", plausible, "validation", "train", 1),
    ("mrpc", "glue", paraphrase, "validation", "train", 2),
    ("truthfulqa_mc1", "truthfulqa", targets, "validation", None, None),
    ("crows_pairs_english", "crows_pairs", stereotype, "test", None, None),
    ("piqa", "piqa", physical, "validation", None, None),
    ("belebele_eng_Latn", "belebele", passage, "test", None, None),
    ("xnli_en", "xnli", inference, "validation", None, None),
    ("blimp_causative", "blimp", grammar, "train", None, None),
    ("bbq", "bbq", bias, "test", None, None),
    ("lambada_openai", "lambada", last_word, "test", None, None),
    ("lambada_standard_cloze_yaml", "lambada_cloze", last_word, "test", None, None),
    ("arithmetic_1dc", "arithmetic", sums, "validation", None, None),
    ("pile_10k", "pile_10k", text, "train", None, None),
    ("c4", "c4", text, "validation", None, None),
]


@pytest.mark.parametrize(
    ("task", "family", "make", "evaluation", "fewshot", "num_fewshot"), CASES, ids=[case[0] for case in CASES]
)
async def test_a_task_that_scores_given_texts(
    task: str,
    family: str,
    make: Make,
    evaluation: str,
    fewshot: str | None,
    num_fewshot: int | None,
    parity: Fixture,
) -> None:
    names = {evaluation, fewshot} - {None}
    ours = await parity(
        task,
        family,
        {str(name): rows(9, make, seed=seed) for seed, name in enumerate(sorted(map(str, names)))},
        evaluation=evaluation,
        fewshot=fewshot,
        options=TaskOptions(num_fewshot=num_fewshot, bootstrap_iterations=50),
    )
    assert ours.aggregate.metrics


async def test_shuffled_documents_keep_the_shuffle_that_was_asked_about(parity: Fixture) -> None:
    """Against an lm-eval that prepares its documents once; else it scores shuffles never asked about."""
    ours = await parity(
        "gpqa_main_zeroshot",
        "gpqa",
        {"train": rows(8, graduate)},
        evaluation="train",
        process_docs_once=True,
    )
    assert len({document.target for document in ours.documents}) > 1
