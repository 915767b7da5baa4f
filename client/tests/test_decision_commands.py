"""``assay decide``, ``assay decision`` and ``assay policy``."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from assay.client import AssayClient
from assay.files import read_mapping
from assay_evidence.policy import PolicySpec

RUN_A = "run_01kaqy3m5r0000000000000001"
RUN_B = "run_01kaqy3m5r0000000000000002"
DECISION = "dec_01kaqy3m5r0000000000000001"
POLICY = {
    "id": "pol_01kaqy3m5r0000000000000001",
    "name": "default",
    "version": 1,
    "digest": "ef" * 32,
    "description": "Two points",
    "quality": [{"metric": "*", "role": "critical", "test": "non_inferiority", "margin": 0.02}],
    "runtime": [{"metric": "ttftP50", "role": "advisory", "max_ratio": 1.1}],
    "created_at": "2026-03-01T10:00:00Z",
}


@pytest.mark.parametrize(
    ("verdict", "valid", "code"),
    [
        ("ACCEPT", True, 0),
        ("REJECT", True, 1),
        ("INCONCLUSIVE", True, 2),
        ("INCONCLUSIVE", False, 3),
        ("ACCEPT", False, 3),
        ("POSTPONED", True, 3),
    ],
)
def test_the_verdict_is_the_exit_code(
    assay: Any, server: Any, answer: Any, document: Any, verdict: str, valid: bool, code: int
) -> None:
    found = {**document("decision"), "verdict": verdict, "valid": valid}
    server.on("POST", "/v1/decisions", answer(found, status=201))
    outcome = assay("decide", RUN_A, RUN_B)
    assert outcome.code == code
    assert assay("decide", RUN_A, RUN_B, "--json").json() == found


def test_a_decision_says_why_and_what_next(assay: Any, server: Any, answer: Any, document: Any) -> None:
    server.on("POST", "/v1/decisions", answer(document("decision"), status=201))
    outcome = assay("decide", RUN_A, RUN_B)
    lines = outcome.out.splitlines()
    assert lines[0] == "REJECT: lossy may not replace base"
    assert lines[1] == "jsonl_qa.exact_match,strict is worse by more than the margin of 0.02."
    rows = [line.split() for line in lines]
    assert ["rejects", "jsonl_qa.exact_match,strict:", "0.6786"] in [row[:3] for row in rows]
    assert ["blocks", "jsonl_qa.token_f1,strict:", "-0.0061,"] in [row[:3] for row in rows]
    assert any(line.startswith("Next: ") for line in lines)
    assert f"sha256:{'12' * 32}" in outcome.out
    assert "default@1" in outcome.out


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"verdict": "INCONCLUSIVE", "samples_needed": 410}, "run both on at least 410 items"),
        ({"verdict": "INCONCLUSIVE", "samples_needed": None}, "more items do not settle it"),
        ({"verdict": "ACCEPT"}, f"assay decision bundle {DECISION}"),
        ({"valid": False, "verdict": "INCONCLUSIVE"}, "remove what makes the evidence invalid"),
    ],
)
def test_the_next_step_fits_the_verdict(
    assay: Any, server: Any, answer: Any, document: Any, changes: dict[str, Any], text: str
) -> None:
    server.on("GET", f"/v1/decisions/{DECISION}", answer({**document("decision"), **changes}))
    outcome = assay("decision", "show", DECISION)
    assert outcome.code == 0
    assert text in outcome.out


def test_what_is_asked_for_reaches_the_platform(
    assay: Any, server: Any, answer: Any, document: Any, tmp_path: Path
) -> None:
    server.on("POST", "/v1/decisions", answer(document("decision"), status=201))
    server.on("GET", f"/v1/decisions/{DECISION}/report.html", answer(b"<html>"))
    server.on("GET", f"/v1/decisions/{DECISION}/bundle", answer(b"PK"))
    report, bundle = tmp_path / "decision.html", tmp_path / "evidence.zip"
    options = f"--policy strict@2 --noise-floor {RUN_B} --cluster topic --report {report} --bundle {bundle}"
    outcome = assay("decide", RUN_A, RUN_B, *options.split())
    assert outcome.code == 1
    assert server.calls("POST", "/v1/decisions")[0].json() == {
        "baseline_run_id": RUN_A,
        "candidate_run_id": RUN_B,
        "policy": "strict@2",
        "noise_floor_run_id": RUN_B,
        "cluster_column": "topic",
    }
    assert (report.read_bytes(), bundle.read_bytes()) == (b"<html>", b"PK")


@pytest.mark.parametrize(
    "arguments",
    [
        "",
        RUN_A,
        f"{RUN_A} {RUN_B} extra",
        f"{RUN_A} {RUN_B} --polcy default",
        f"{RUN_A} {RUN_B} --policy",
        f"{RUN_A} {RUN_B} --report a.csv",
        f"{RUN_A} {RUN_B} --report nowhere/a.html",
    ],
)
def test_wrong_usage_is_no_verdict(assay: Any, server: Any, arguments: str) -> None:
    outcome = assay("decide", *arguments.split())
    assert (outcome.code, server.received) == (3, [])
    assert outcome.err


@pytest.mark.parametrize("status", [401, 404, 409, 422, 500])
def test_a_refusal_is_no_verdict(assay: Any, server: Any, answer: Any, status: int) -> None:
    problem = {"status": status, "detail": "there is no policy 'strict'"}
    server.on("POST", "/v1/decisions", answer(problem, status=status))
    outcome = assay("decide", RUN_A, RUN_B, "--json")
    assert outcome.code == 3
    assert "there is no policy 'strict'" in outcome.json()["error"]["message"]


def test_no_answer_is_no_verdict(assay: Any, server: Any, answer: Any) -> None:
    server.on("POST", "/v1/decisions", answer(b"<html>", status=200))
    assert assay("decide", RUN_A, RUN_B).code == 3


def test_a_verdict_whose_report_fails_is_no_accept(
    assay: Any, server: Any, answer: Any, document: Any, tmp_path: Path
) -> None:
    server.on("POST", "/v1/decisions", answer({**document("decision"), "verdict": "ACCEPT"}, status=201))
    outcome = assay("decide", RUN_A, RUN_B, "--report", str(tmp_path / "a.html"))
    assert outcome.code == 3
    assert outcome.out.startswith("ACCEPT")
    assert list(tmp_path.iterdir()) == []


def test_a_fault_of_the_command_is_no_verdict(
    assay: Any, server: Any, answer: Any, document: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    server.on("POST", "/v1/decisions", answer({**document("decision"), "verdict": "ACCEPT"}, status=201))
    monkeypatch.setattr("assay.cli.decisions.decision_report", broken)
    outcome = assay("decide", RUN_A, RUN_B)
    assert outcome.code == 3
    assert "ZeroDivisionError" in outcome.err


def test_a_closed_pipe_is_no_verdict(server: Any, answer: Any, document: Any) -> None:
    large = {**document("decision"), "verdict": "ACCEPT", "summary": "long " * 100_000}
    server.on("POST", "/v1/decisions", answer(large, status=201))
    command = [
        sys.executable,
        "-c",
        "from assay.cli import main; main()",
        "--url",
        server.url,
        "--api-key",
        "k",
    ]
    with subprocess.Popen(
        [*command, "decide", RUN_A, RUN_B, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(timeout=60) not in (0, 1, 2)


def test_decisions_are_listed_and_fetched(
    assay: Any, server: Any, answer: Any, document: Any, tmp_path: Path
) -> None:
    server.on("GET", "/v1/decisions", answer({"items": [document("decision")], "next_cursor": None}))
    outcome = assay("decision", "list", "--candidate", RUN_B, "--verdict", "reject")
    [row] = [line.split() for line in outcome.out.splitlines() if "REJECT" in line]
    assert row[:4] == ["REJECT", "base", "lossy", "default@1"]
    query = server.calls("GET", "/v1/decisions")[0].query
    assert (query["candidate_run_id"], query["verdict"]) == (RUN_B, "REJECT")
    assert assay("decision", "list", "--verdict", "maybe").code == 2
    for name, path, command in (
        ("report.md", "a.md", "report"),
        ("bundle", "a.zip", "bundle"),
    ):
        server.on("GET", f"/v1/decisions/{DECISION}/{name}", answer(name.encode()))
        target = tmp_path / path
        written = assay("decision", command, DECISION, "--to", str(target), "--json").json()
        assert written == {"decision_id": DECISION, "path": str(target), "bytes": len(name)}
        assert target.read_text() == name


def test_the_example_is_a_policy_that_the_platform_takes(
    assay: Any, server: Any, answer: Any, tmp_path: Path
) -> None:
    outcome = assay("policy", "example")
    file = tmp_path / "policy.yaml"
    file.write_text(outcome.out)
    spec = PolicySpec.model_validate(read_mapping(file))
    defaults = PolicySpec.model_validate({"name": "x", "quality": [{"metric": "*", "margin": 0.02}]})
    own = {"name", "description", "quality", "runtime"}
    assert spec.model_dump(exclude=own) == defaults.model_dump(exclude=own)
    # Every field is in it, so that the file shows all there is to say.
    assert set(read_mapping(file)) == set(PolicySpec.model_fields)
    server.on("POST", "/v1/policies", answer(POLICY, status=201))
    assert assay("policy", "create", str(file)).code == 0
    assert server.calls("POST", "/v1/policies")[0].json() == read_mapping(file)


def test_faults_of_a_policy_name_their_fields(assay: Any, server: Any, answer: Any, tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text('{"name": "x", "quality": []}')
    problem = {
        "status": 422,
        "detail": "The request is not valid",
        "errors": [{"field": "quality", "message": "at least one rule is needed"}],
    }
    server.on("POST", "/v1/policies", answer(problem, status=422))
    outcome = assay("policy", "create", str(file))
    assert outcome.code == 2
    assert "quality: at least one rule is needed" in outcome.err


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.yaml", "name: x\nname: y\n", "line 1: 'name' is given twice"),
        ("a.yaml", "quality:\n- metric: a\n  margin: 1\n  margin: 2\n", "'margin' is given twice"),
        ("a.yaml", "name: [x\n", "is no YAML: line 2, column 1"),
        ("a.yaml", "name: 2026-13-01\n", "is no YAML"),
        ("a.yaml", "name: 2026-01-01\n", "a value that JSON does not have"),
        ("a.yaml", "alpha: .nan\n", "a value that JSON does not have"),
        ("a.yaml", "1: x\n", "1 is no text"),
        ("a.yaml", "[a]: x\n", "is no text"),
        ("a.yaml", "- a\n", "does not hold names and values"),
        ("a.json", '{"a": 1, "a": 2}', "'a' is given twice"),
        ("a.json", '{"a": }', "is no JSON: line 1, column 7"),
        ("a.json", '{"a": NaN}', "a value that JSON does not have"),
    ],
)
def test_a_file_that_is_no_policy_is_refused(
    assay: Any, server: Any, tmp_path: Path, name: str, content: str, message: str
) -> None:
    file = tmp_path / name
    file.write_text(content)
    outcome = assay("policy", "create", str(file))
    assert (outcome.code, server.received) == (2, [])
    assert message in outcome.err


def test_policies_are_found_by_name_version_or_id(
    assay: Any, client: AssayClient, server: Any, answer: Any
) -> None:
    for path in ("default", "default/versions/1", POLICY["id"]):
        server.on("GET", f"/v1/policies/{path}", answer(POLICY))
    for reference in ("default", "default@1", str(POLICY["id"])):
        assert client.policies.get(reference).document() == json.loads(json.dumps(POLICY))
    outcome = assay("policy", "show", "default@1")
    assert "not worse by 0.02" in outcome.out
    assert "candidate / base at most 1.1" in outcome.out
    assert assay("policy", "show", "default@newest").code == 2
    server.on("GET", "/v1/policies", answer({"items": [POLICY], "next_cursor": None}))
    assert "* not worse by 0.02" in assay("policy", "list").out
