"""The ``assay`` command: what it prints, on which stream, and what it ends with."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

RUN_A = "run_01kaqy3m5r0000000000000001"
RUN_B = "run_01kaqy3m5r0000000000000002"


def script_runs(server: Any, answer: Any, document: Any) -> None:
    run = document("run")
    for run_id in (RUN_A, RUN_B):
        server.on("GET", f"/v1/evaluations/{run_id}", answer({**run, "id": run_id}))
        server.on("GET", f"/v1/metrics/runs/{run_id}", answer(document("metrics")))


def test_datasets_are_a_table(assay: Any, server: Any, answer: Any, document: Any) -> None:
    server.on("GET", "/v1/datasets", answer({"items": [document("dataset")], "next_cursor": None}))
    outcome = assay("dataset", "list")
    assert outcome.code == 0
    heading, row = outcome.out.split("\n")[1], outcome.out.split("\n")[3]
    assert heading.split() == ["dataset", "version", "status", "rows", "split", "created", "(UTC)", "id"]
    assert row.split()[:5] == ["questions", "main", "Ready", "252", "test"]
    assert "\x1b" not in outcome.out


def test_json_is_the_platforms_document(assay: Any, server: Any, answer: Any, document: Any) -> None:
    server.on("GET", "/v1/datasets", answer({"items": [document("dataset")], "next_cursor": None}))
    outcome = assay("dataset", "show", "questions", "--json")
    assert outcome.json() == document("dataset")
    assert outcome.err == ""


def test_text_of_the_platform_is_never_markup(assay: Any, server: Any, answer: Any, document: Any) -> None:
    dataset = {**document("dataset"), "description": "\x1b[2Jgone [red]really[/red]"}
    server.on("GET", "/v1/datasets", answer({"items": [dataset], "next_cursor": None}))
    outcome = assay("dataset", "show", "questions")
    assert "[bold]A tag[/bold]" in outcome.out
    assert "[2Jgone [red]really[/red]" in outcome.out
    assert "\x1b" not in outcome.out


def test_a_run_shows_both_kinds_of_metrics(assay: Any, server: Any, answer: Any, document: Any) -> None:
    script_runs(server, answer, document)
    outcome = assay("run", "show", RUN_A)
    assert outcome.code == 0
    quality = next(line for line in outcome.out.splitlines() if "exact_match,strict" in line)
    assert quality.split()[:4] == ["jsonl_qa.exact_match,strict", "0.6786", "0.0295", "higher"]
    assert "152.3 ms" in outcome.out
    lines = outcome.out.splitlines()
    worst = next(line for line in lines if line.strip().startswith("ttftP99"))
    assert worst.split()[-7:] == ["411.2", "ms", "331.3", "ms", "..", "?", "252"]
    assert "≥ 411.2 ms" in worst
    note = next(line for line in lines if line.startswith("ttftP99: at least"))
    assert note.endswith("252 observations are too few for an upper bound; p99 needs 299")
    power = next(line for line in lines if line.strip().startswith("power "))
    assert power.rstrip().endswith("not measured")
    assert "power, tokensPerWatt: not measured: rapl: no /sys/class/powercap" in lines


def test_what_does_not_apply_says_so(assay: Any, server: Any, answer: Any, document: Any) -> None:
    script_runs(server, answer, document)
    server.on("GET", f"/v1/metrics/runs/{RUN_A}", answer(document("metrics_log_probabilities")))
    outcome = assay("run", "show", RUN_A)
    lines = outcome.out.splitlines()
    line = next(line for line in lines if line.strip().startswith("ttftP50"))
    assert line.rstrip().endswith("not applicable")
    note = next(line for line in lines if line.startswith("ttftP50, ttftP99, itlP50, itlP99, tps"))
    assert "log-probabilities" in note


def test_wrong_samples_are_asked_for_by_metric(assay: Any, server: Any, answer: Any, document: Any) -> None:
    script_runs(server, answer, document)
    metric = "jsonl_qa.exact_match,strict"
    sample = {
        "index": 7,
        "prompt": "Examples\n1 + 1 =",
        "target": "2",
        "response": " 3",
        "values": {metric: 0.0},
    }
    path = f"/v1/metrics/runs/{RUN_A}/samples"
    server.on("GET", path, answer({"items": [sample, {"index": 8, "prompt": None}], "next_cursor": None}))
    outcome = assay("run", "samples", RUN_A, "--outcome", "wrong", "--search", "1 + 1", "--index", "7")
    line = next(line for line in outcome.out.splitlines() if "1 + 1 =" in line)
    assert line.split() == ["7", "1", "+", "1", "=", "2", "3", "0.0"]
    [request] = server.calls("GET", path)
    asked = {"metric": metric, "outcome": "wrong", "search": "1 + 1", "index": "7"}
    assert {name: request.query.get(name) for name in asked} == asked


def test_failed_samples_are_asked_for_without_a_metric(
    assay: Any, server: Any, answer: Any, document: Any
) -> None:
    script_runs(server, answer, document)
    path = f"/v1/metrics/runs/{RUN_A}/samples"
    server.on("GET", path, answer({"items": [], "next_cursor": None}))
    assert assay("run", "samples", RUN_A, "--only", "failed").code == 0
    [request] = server.calls("GET", path)
    assert (request.query.get("outcome"), request.query.get("metric")) == ("failed", None)
    refused = assay("run", "samples", RUN_A, "--outcome", "failed", "--metric", "acc")
    assert refused.code != 0
    assert "--outcome wrong" in refused.err


def test_waiting_prints_plain_lines_and_ends_with_1_for_a_failed_run(
    assay: Any, server: Any, answer: Any, document: Any
) -> None:
    run = document("run")
    failed = {**run, "state": "Failed", "error": {"code": "ENGINE_DIED", "message": "killed"}}
    running = {**run, "state": "Running", "progress": {**run["progress"], "samples_done": 10}}
    server.on("GET", f"/v1/evaluations/{RUN_A}", answer(running), answer(running), answer(failed))
    outcome = assay("run", "watch", RUN_A, "--json")
    assert outcome.code == 1
    lines = outcome.err.splitlines()
    assert lines[0] == "base-questions: Running 10/252"
    assert lines[1] == "base-questions: Failed 252/252"
    assert lines[2].endswith("is Failed: ENGINE_DIED: killed")
    assert "\x1b" not in outcome.err
    assert outcome.json() == {"run": failed, "metrics": None}


def test_the_start_sends_what_the_options_say(assay: Any, server: Any, answer: Any, document: Any) -> None:
    for name, path in (("artifact", "artifacts"), ("dataset", "datasets"), ("method", "methods")):
        server.on("GET", f"/v1/{path}", answer({"items": [document(name)], "next_cursor": None}))
    server.on("POST", "/v1/evaluations", answer(document("run"), status=202))
    script_runs(server, answer, document)
    arguments = "--artifact base --dataset questions --method short-answers --map question=input --limit 20"
    more = "--concurrency 4 --num-fewshot 5 --generation max_gen_toks=32 --memory-gib 2 --wait --json"
    outcome = assay("run", "start", *arguments.split(), *more.split())
    assert outcome.code == 0
    body = server.calls("POST", "/v1/evaluations")[0].json()
    assert body["column_mapping"] == {"question": "input"}
    assert body["options"] == {
        "limit": 20,
        "batch_size": 1,
        "concurrency": 4,
        "num_fewshot": 5,
        "generation_kwargs": {"max_gen_toks": 32},
        "on_failure": "score_zero",
        "max_retries": 3,
        "serving": {"memory_bytes": 2 * 1024**3},
    }
    assert outcome.json()["metrics"] == document("metrics")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("run start --artifact a --dataset d --method m --limit 0", "--limit"),
        ("run start --artifact a --dataset d --method m --map question", "write NAME=VALUE"),
        ("run start --artifact a --dataset d --method m --generation until=a", "no JSON"),
        ("method create x --input-field input", "--expected-output-field"),
        ("method create x --task gsm8k --stop a", "--stop belongs to a JSONL QA method"),
        ("dataset create x --file nowhere.jsonl", "nowhere.jsonl is no file"),
        ("dataset", "create"),
        ("frobnicate", "No such command"),
    ],
)
def test_wrong_usage_ends_with_2_before_anything_is_sent(
    assay: Any, server: Any, arguments: str, message: str
) -> None:
    outcome = assay(*arguments.split())
    assert outcome.code == 2
    assert message in outcome.out + outcome.err
    assert server.received == []


def test_a_refusal_ends_with_2_and_names_the_fields(assay: Any, server: Any, answer: Any) -> None:
    problem = {
        "title": "The request is not valid",
        "status": 422,
        "detail": "there is no task 'gsm8'",
        "errors": [{"field": "recipe.task", "message": "nearest: gsm8k, gsm8k_cot"}],
    }
    server.on("POST", "/v1/methods", answer(problem, status=422))
    outcome = assay("method", "create", "sums", "--task", "gsm8")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err.splitlines() == [
        "error: there is no task 'gsm8'",
        "  recipe.task: nearest: gsm8k, gsm8k_cot",
    ]
    as_json = assay("method", "create", "sums", "--task", "gsm8", "--json")
    assert as_json.json()["error"]["problem"] == problem


def test_line_ends_can_be_written_as_a_stop(assay: Any, server: Any, answer: Any, document: Any) -> None:
    server.on("POST", "/v1/methods", answer(document("method"), status=201))
    arguments = "--input-field input --expected-output-field expected_output --max-tokens 16"
    assay("method", "create", "short-answers", *arguments.split(), "--stop", r"\n", "--stop", "Q:")
    assert server.calls("POST", "/v1/methods")[0].json()["recipe"] == {
        "template": "jsonl-qa-lm-eval",
        "input_field": "input",
        "expected_output_field": "expected_output",
        "max_tokens": 16,
        "stop": ["\n", "Q:"],
    }


def test_no_platform_ends_with_3(assay: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ASSAY_URL")
    monkeypatch.setenv("ASSAY_HOME", str(tmp_path))
    outcome = assay("run", "list")
    assert outcome.code == 3
    assert "assay up" in outcome.err


def test_ctrl_c_stops_the_watching_and_not_the_run(server: Any, answer: Any, document: Any) -> None:
    server.on("GET", f"/v1/evaluations/{RUN_A}", answer({**document("run"), "state": "Running"}))
    environment = {**os.environ, "ASSAY_URL": server.url, "ASSAY_API_KEY": "key"}
    # A runner that was itself started in the background passes on that SIGINT is ignored.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
    program += "from assay.cli import main; main()"
    command = [sys.executable, "-c", program, "run", "watch", RUN_A]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert first == "base-questions: Running 252/252\n"
    assert process.returncode == 130
    assert "The run goes on" in err
    assert "Traceback" not in err
    assert out == ""
    assert server.calls("POST", f"/v1/evaluations/{RUN_A}/cancel") == []
