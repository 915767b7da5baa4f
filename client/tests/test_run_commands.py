"""``assay run``: options of lm-eval, groups, names, other scorings."""

from typing import Any

import pytest

RUN = "run_01kaqy3m5r0000000000000001"
DATASET = "ds_01kaqy3m5r0000000000000001"
VIEW = {
    "id": "scr_0123456789abcdef0123456789",
    "run_id": RUN,
    "name": "last number",
    "state": "scoring",
    "scoring": {
        "filters": [
            {"name": "last", "steps": [{"function": "strip-thinking", "arguments": {}}]},
        ],
        "question_answer": None,
    },
    "quality": {},
    "created_at": "2026-01-01T00:00:00Z",
}
DONE = {
    **VIEW,
    "state": "final",
    "quality": {"gsm8k.exact_match,last": 0.5, "gsm8k.exact_match_stderr,last": 0.1},
}


@pytest.fixture
def known(server: Any, answer: Any, document: Any) -> None:
    """An artifact, a dataset, a method and a run."""
    for name, path in (
        ("artifact", "artifacts"),
        ("dataset", "datasets"),
        ("method", "methods"),
        ("run", "evaluations"),
    ):
        server.on("GET", f"/v1/{path}", answer({"items": [document(name)], "next_cursor": None}))
    server.on("GET", f"/v1/evaluations/{RUN}", answer(document("run")))


def test_a_run_is_found_by_its_name(assay: Any, server: Any, known: None) -> None:
    assert assay("run", "show", "base-questions").code == 0
    assert assay("run", "list", "--name", "base-questions", "--limit", "5").code == 0
    queries = [request.query for request in server.calls("GET", "/v1/evaluations")]
    assert [query["name"] for query in queries] == ["base-questions", "base-questions"]


def test_every_option_reaches_the_platform(
    assay: Any, server: Any, answer: Any, document: Any, known: None
) -> None:
    server.on("POST", "/v1/evaluations", answer(document("run"), status=202))
    arguments = "--artifact base --dataset questions --method short-answers --fewshot-dataset questions"
    more = (
        "--apply-chat-template --fewshot-in-one-turn --seed 7 --seed numpy=8 --repeats 3 "
        "--bootstrap-iterations 100 --reuse-responses --batch-size 4 --system-instruction Think."
    )
    outcome = assay("run", "start", *arguments.split(), *more.split(), "--json")
    assert outcome.code == 0, outcome.err
    body = server.calls("POST", "/v1/evaluations")[0].json()
    assert body["fewshot_dataset_id"] == DATASET
    assert body["options"] == {
        "batch_size": 4,
        "concurrency": 1,
        "bootstrap_iterations": 100,
        "reuse_responses": True,
        "on_failure": "score_zero",
        "max_retries": 3,
        "system_instruction": "Think.",
        "apply_chat_template": True,
        "fewshot_as_multiturn": False,
        "repeats": 3,
        "seeds": {"random": 7, "numpy": 8, "fewshot": 7},
    }


def test_a_plan_of_a_group_names_the_rows_of_each_task(
    assay: Any, server: Any, answer: Any, document: Any, known: None
) -> None:
    members = [{"task": "arc_easy", "dataset": {"name": "easy", "split": "test"}, "samples": 12}]
    plan = {**document("run")["plan"], "members": members, "notes": ["the rows are an upload"]}
    server.on("POST", "/v1/evaluations/plan", answer(plan))
    outcome = assay(
        *["run", "plan", "--artifact", "base", "--method", "short-answers", "--member", "arc_easy=questions"]
    )
    body = server.calls("POST", "/v1/evaluations/plan")[0].json()
    assert body["member_datasets"] == {"arc_easy": DATASET}
    assert "dataset_id" not in body
    assert "easy, split 'test', 12 samples" in outcome.out
    assert "the rows are an upload" in outcome.out


def test_a_run_is_scored_another_way(assay: Any, server: Any, answer: Any, known: None) -> None:
    server.on("POST", "/v1/scorings", answer(VIEW, status=202))
    server.on("GET", f"/v1/scorings/{VIEW['id']}", answer(VIEW), answer(DONE))
    outcome = assay(
        *["run", "rescore", "base-questions", "--name", "last number"],
        *["--filter", "last=strip-thinking,last-number", "--filter", "own=task-filter:strict-match"],
        *["--question-answer", "--expected-output-field", "answer", "--expected-step", "last-number"],
    )
    assert outcome.code == 0, outcome.err
    assert server.calls("POST", "/v1/scorings")[0].json() == {
        "run_id": RUN,
        "name": "last number",
        "scoring": {
            "filters": [
                {"name": "last", "steps": [{"function": "strip-thinking"}, {"function": "last-number"}]},
                {
                    "name": "own",
                    "steps": [{"function": "task-filter", "arguments": {"name": "strict-match"}}],
                },
            ],
            "question_answer": {
                "expected_output_field": "answer",
                "expected_steps": [{"function": "last-number"}],
            },
        },
    }
    lines = [line.split() for line in outcome.out.splitlines()]
    assert ["gsm8k.exact_match,last", "0.5000", "0.1000"] in [line[:3] for line in lines]
    server.on("GET", "/v1/scorings", answer({"items": [DONE], "next_cursor": None}))
    assert "last = strip-thinking" in assay("run", "scorings", "base-questions").out
    assert server.calls("GET", "/v1/scorings")[0].query["run_id"] == RUN


def test_a_scoring_that_fails_ends_with_1(assay: Any, server: Any, answer: Any, known: None) -> None:
    server.on("POST", "/v1/scorings", answer(VIEW, status=202))
    failed = {**VIEW, "state": "failed", "error": {"code": "SCORING", "message": "no such filter"}}
    server.on("GET", f"/v1/scorings/{VIEW['id']}", answer(failed))
    outcome = assay("run", "rescore", "base-questions", "--filter", "a=none")
    assert outcome.code == 1
    assert outcome.err.endswith("failed: no such filter\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("", "give --filter NAME=STEPS, or --question-answer"),
        ("--filter last-number", "write NAME=STEP"),
        ("--filter a=last-number:3", "only task-filter has an argument"),
        ("--filter a=task-filter", "only task-filter has an argument"),
        ("--filter a=none --expected-step last-number", "belong to --question-answer"),
    ],
)
def test_a_wrong_scoring_is_refused_before_anything_is_sent(
    assay: Any, server: Any, arguments: str, message: str
) -> None:
    outcome = assay("run", "rescore", "base-questions", *arguments.split())
    assert outcome.code == 2
    assert message in outcome.err
    assert server.received == []


def test_the_reason_that_holds_for_both_runs_is_told_once(
    assay: Any, server: Any, answer: Any, document: Any, known: None
) -> None:
    other = f"{RUN[:-1]}2"
    server.on("GET", f"/v1/evaluations/{other}", answer({**document("run"), "id": other}))
    reason = "not measured: rapl: no /sys/class/powercap; hwmon: none"
    runtime = [
        {
            "metric": name,
            "baseline": None,
            "candidate": None,
            "note": f"baseline: {reason}; candidate: {reason}",
        }
        for name in ("power", "tokensPerWatt")
    ]
    runtime.append(
        {"metric": "tps", "baseline": None, "candidate": 3.0, "note": "baseline: not measured: no times"}
    )
    server.on("POST", "/v1/comparisons", answer({**document("comparison"), "runtime": runtime}, status=201))
    lines = assay("compare", RUN, other).out.splitlines()
    assert f"power, tokensPerWatt: {reason}" in lines
    assert "tps: baseline: not measured: no times" in lines
    assert sum("rapl" in line for line in lines) == 1
