"""``assay run``: options of lm-eval, groups, names, other scorings."""

import io
import zipfile
from pathlib import Path
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


def test_runs_are_listed_by_artifact_and_a_part_of_the_name(
    assay: Any, server: Any, document: Any, known: None
) -> None:
    assert assay("run", "list", "--search", "Quest", "--artifact", "base").code == 0
    assert assay("artifact", "list", "--search", "bas").code == 0
    [request] = server.calls("GET", "/v1/evaluations")
    [asked_by_name, asked_by_part] = server.calls("GET", "/v1/artifacts")
    assert asked_by_name.query["name"] == "base"
    assert (request.query["search"], request.query["artifact_id"]) == (
        "Quest",
        document("artifact")["id"],
    )
    assert asked_by_part.query["search"] == "bas"


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


def test_a_run_may_be_judged_while_it_runs(
    assay: Any, server: Any, answer: Any, document: Any, known: None
) -> None:
    other = f"{RUN[:-1]}2"
    run = document("run")
    early_stop = {
        "baseline_run_id": other,
        "metric": "jsonl_qa.exact_match,strict",
        "margin": 0.03,
        "looks": [50, 150, 252],
    }
    planned = {**run["plan"], "early_stop": early_stop}
    stopped = {"look": 1, "samples": 150, "outcome": "proven"}
    server.on("GET", "/v1/evaluations", answer({"items": [{**run, "id": other}], "next_cursor": None}))
    server.on("POST", "/v1/evaluations", answer(run, status=202))
    subject = "--artifact base --dataset questions --method short-answers"
    options = "--stop-early-against base-run --stop-early-margin 0.03 --stop-early-looks 3"
    outcome = assay("run", "start", *subject.split(), *options.split())
    assert outcome.code == 0, outcome.err
    sent = server.calls("POST", "/v1/evaluations")[0].json()["options"]["early_stop"]
    assert sent == {"baseline_run_id": other, "margin": 0.03, "looks": 3}

    server.on("GET", f"/v1/evaluations/{RUN}", answer({**run, "plan": planned, "stopped_early": stopped}))
    shown = assay("run", "show", RUN).out
    assert f"judged against {other} under jsonl_qa.exact_match,strict, margin 0.03" in shown
    assert "after 150 samples, at look 2: proven not to be worse by the margin" in shown


def test_a_margin_without_a_run_to_judge_against_is_refused(assay: Any, server: Any) -> None:
    subject = "--artifact base --dataset questions --method short-answers"
    outcome = assay("run", "start", *subject.split(), "--stop-early-margin", "0.03")
    assert (outcome.code, server.received) == (2, [])
    assert "--stop-early-against" in outcome.err


def test_a_plan_says_what_its_samples_can_show(
    assay: Any, server: Any, answer: Any, document: Any, known: None
) -> None:
    power = {
        "samples": 252,
        "assumed_churn": 0.06,
        "detectable_difference": 0.0386,
        "needed": [{"margin": 0.01, "samples": 3710}, {"margin": 0.02, "samples": 929}],
        "note": "of an accuracy",
    }
    server.on("POST", "/v1/evaluations/plan", answer({**document("run")["plan"], "power": power}))
    subject = "--artifact base --dataset questions --method short-answers"
    lines = assay("run", "plan", *subject.split()).out.splitlines()
    [line] = [line for line in lines if line.startswith("power")]
    assert "252 samples show a loss from 0.0386 on" in line
    assert "3710 for a margin of 0.01, 929 for a margin of 0.02" in line
    assert "at 6.0 % changed answers" in line


def archive(**files: str) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as packed:
        for name, content in files.items():
            packed.writestr(name, content)
    return written.getvalue()


def test_a_run_is_exported_as_lm_eval_lays_it_out(
    assay: Any, server: Any, answer: Any, known: None, tmp_path: Path
) -> None:
    packed = archive(**{"base/results_2026.json": "{}", "base/samples_jsonl_qa_2026.jsonl": "[]"})
    server.on("GET", f"/v1/metrics/runs/{RUN}/lm-eval.zip", answer(packed))
    target = tmp_path / "new" / "results"
    outcome = assay("run", "export", "base-questions", "--to", str(target), "--json")
    assert outcome.code == 0, outcome.err
    files = outcome.json()["files"]
    assert sorted(files) == sorted(str(path) for path in target.rglob("*") if path.is_file())
    assert (target / "base" / "results_2026.json").read_text() == "{}"
    whole = tmp_path / "results.zip"
    assert assay("run", "export", RUN, "--to", str(whole)).code == 0
    assert whole.read_bytes() == packed


def test_a_run_is_exported_as_a_table(
    assay: Any, server: Any, answer: Any, known: None, tmp_path: Path
) -> None:
    server.on("GET", f"/v1/metrics/runs/{RUN}/samples.csv", answer(b"index,value\n0,1.0\n"))
    target = tmp_path / "samples.csv"
    outcome = assay("run", "export", RUN, "--format", "csv", "--to", str(target))
    assert (outcome.code, target.read_bytes()) == (0, b"index,value\n0,1.0\n")
    assert str(target) in outcome.err


def test_an_export_that_is_refused_leaves_the_older_file(
    assay: Any, server: Any, answer: Any, known: None, tmp_path: Path
) -> None:
    target = tmp_path / "samples.parquet"
    target.write_bytes(b"older")
    problem = {"detail": "run is Running; only a finished one can be exported", "status": 409}
    server.on("GET", f"/v1/metrics/runs/{RUN}/samples.parquet", answer(problem, status=409))
    outcome = assay("run", "export", RUN, "--format", "parquet", "--to", str(target))
    assert outcome.code == 2
    assert "only a finished one" in outcome.err
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"older"]
