"""Numbers of whole runs equal lm-eval's, bit by bit, for every kind of task.

The runs go through the gateway, the services, the engine, gRPC, an adapter and an HTTP endpoint whose answers
are a fixed function of the request; lm-eval is then given the responses that the runs have recorded.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest

from assay.client import AssayClient
from assay_serving.testing.answers import answer_text

pytestmark = [pytest.mark.xdist_group("scripted-platform"), pytest.mark.timeout(900)]

WORDS = ("iron", "water", "a very long answer", "the sun", "carbon dioxide", "été", "sound")
Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Case:
    """A task or group, how to make a row of it, and what is evaluated how.

    ``splits`` are the evaluation split and, if any, the few-shot split. ``members`` are a group's tasks.
    ``absent`` are roles of the task's definition that the rows here do not have.
    """

    task: str
    family: str
    row: Callable[[Random, int], dict[str, Any]]
    splits: tuple[str, ...] = ("test",)
    rows: int = 12
    members: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)


def arithmetic(draw: Random, index: int) -> dict[str, Any]:
    question = f"What is {draw.randrange(100)} plus {draw.randrange(100)}, case {index}?"
    # Some golds are what a prompt without examples is answered with, so that scores differ from 0.
    gold = answer_text(f"Question: {question}\nAnswer:", max_tokens=20).split()[-1]
    return {"question": question, "answer": f"Add them.\n#### {gold if index % 2 else 12}"}


def science(draw: Random, index: int) -> dict[str, Any]:
    chosen = draw.sample(WORDS, 4)
    names = ("distractor1", "distractor2", "distractor3", "correct_answer")
    return {
        "question": f"Which one is number {index}?",
        "support": f" Fact {index}.",
        **dict(zip(names, chosen, strict=True)),
    }


def acceptable(draw: Random, index: int) -> dict[str, Any]:
    return {"sentence": f"The {draw.choice(WORDS)} was case {index}.", "label": index % 2, "idx": index}


def passage(draw: Random, index: int) -> dict[str, Any]:
    return {"text": f"In case {index} the box of {draw.choice(WORDS)} held {draw.choice(('iron', 'sound'))}"}


def page(draw: Random, index: int) -> dict[str, Any]:
    return {"page": f" = Page {index} = \n The box held {draw.choice(WORDS)} , and more . \n"}


def exam(draw: Random, index: int) -> dict[str, Any]:
    choices = draw.sample(WORDS, 4)
    return {"question": f"Which, {index}?", "choices": choices, "answer": draw.randrange(4), "subject": "x"}


CASES = (
    Case("gsm8k", "gsm8k", arithmetic, splits=("test", "train"), options={"num_fewshot": 3},
         arguments={"num_fewshot": 3}),
    Case("gsm8k_cot_self_consistency", "gsm8k", arithmetic, rows=2),
    Case("sciq", "sciq", science, splits=("test", "train"), absent=("validation",),
         options={"num_fewshot": 2}, arguments={"num_fewshot": 2}),
    Case("cola", "glue", acceptable, splits=("validation",), absent=("training",),
         options={"bootstrap_iterations": 200}, arguments={"bootstrap_iters": 200}),
    Case("lambada_openai", "lambada", passage,
         options={"bootstrap_iterations": 200}, arguments={"bootstrap_iters": 200}),
    Case("wikitext", "wikitext", page, absent=("training", "validation"),
         options={"bootstrap_iterations": 200}, arguments={"bootstrap_iters": 200}),
    Case("mmlu_stem", "mmlu", exam, splits=("test", "dev"), rows=3, options={"num_fewshot": 1},
         arguments={"num_fewshot": 1},
         members=("abstract_algebra", "anatomy", "astronomy", "college_biology", "college_chemistry",
                  "college_computer_science", "college_mathematics", "college_physics", "computer_security",
                  "conceptual_physics", "electrical_engineering", "elementary_mathematics",
                  "high_school_biology", "high_school_chemistry", "high_school_computer_science",
                  "high_school_mathematics", "high_school_physics", "high_school_statistics",
                  "machine_learning")),
)  # fmt: skip


@pytest.fixture(scope="module")
def assay(scripted_platform: Any) -> Any:
    with scripted_platform.client() as client:
        client.artifacts.create("parity", model="scripted", backend="cpu", uri="scripted://answers")
        yield client


def write(directory: Path, name: str, case: Case) -> dict[str, Path]:
    """One JSON Lines file for each split, different for each ``name``."""
    files = {}
    for split in case.splits:
        draw = Random(f"{name} {split}")
        rows = [case.row(draw, index + 100 * (split != case.splits[0])) for index in range(case.rows + 3)]
        files[split] = directory / f"{name}-{split}.jsonl"
        files[split].write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return files


def register(assay: AssayClient, files: dict[str, Path]) -> list[str]:
    """A dataset for each file; their names, the evaluation rows' first."""
    names = []
    for split, path in files.items():
        assay.datasets.create(path.stem)
        assay.datasets.upload(path.stem, path, split=split)
        names.append(path.stem)
    return names


QUICK = {"gsm8k", "sciq"}
"""One task of each kind of request; the other tasks take their turn in the slow suite."""


@pytest.mark.parametrize(
    "case",
    [pytest.param(each, marks=() if each.task in QUICK else pytest.mark.slow) for each in CASES],
    ids=lambda case: case.task,
)
def test_a_run_has_the_numbers_of_lm_eval(
    case: Case, assay: AssayClient, tmp_path: Path, lm_eval_alone: Callable[..., Any]
) -> None:
    members = [f"mmlu_{member}" for member in case.members] or [case.task]
    files = {member: write(tmp_path, member, case) for member in members}
    datasets = {member: register(assay, found) for member, found in files.items()}
    assay.methods.create(f"parity-{case.task}", {"template": "builtin-lm-eval", "task": case.task})
    rows: dict[str, Any]
    if case.members:
        rows = {
            "member_datasets": {member: names[0] for member, names in datasets.items()},
            "member_fewshot_datasets": {member: names[1] for member, names in datasets.items()},
        }
    else:
        names = datasets[case.task]
        rows = {"dataset": names[0]} | ({"fewshot_dataset": names[1]} if len(names) > 1 else {})
    run = assay.runs.start(
        artifact="parity",
        method=f"parity-{case.task}",
        options={"concurrency": 16, "limit": case.rows, **case.options},
        **rows,
    )
    run = assay.wait_run(run.id, timeout_s=300)
    assert run.state == "Succeeded", run.error

    samples = sorted(assay.runs.samples(run.id), key=lambda sample: sample.index)
    assert len(samples) == case.rows * len(members)
    overrides = {f"{role}_split": None for role in case.absent}
    reference = lm_eval_alone(
        samples,
        family=case.family,
        task=case.task,
        tasks={
            member: {"files": {split: str(path) for split, path in found.items()}, "overrides": overrides}
            for member, found in files.items()
        },
        **{"limit": case.rows, **case.arguments},
    )
    assert sorted(reference["asked"]) == sorted(
        request["prompt"] + (request["continuation"] or "")
        for sample in samples
        for request in sample.requests
    )
    assert reference["metrics"]
    assert assay.runs.metrics(run.id).quality == reference["metrics"]
