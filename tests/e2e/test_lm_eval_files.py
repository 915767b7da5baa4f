"""The files that the platform writes of a run in lm-eval's layout are read by lm-eval's own tools."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest

from assay.client import AssayClient

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("scripted-platform"), pytest.mark.timeout(600)]

TASKS = ("wmdp_bio", "wmdp_chem", "wmdp_cyber")


@pytest.fixture(scope="module")
def assay(scripted_platform: Any) -> Any:
    with scripted_platform.client() as client:
        client.artifacts.create(
            "lm-eval-files", model="org/scripted: v1", backend="cpu", uri="scripted://answers"
        )
        yield client


def register(assay: AssayClient, directory: Path, name: str, rows: list[dict[str, Any]]) -> str:
    path = directory / f"{name}.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    assay.datasets.create(name)
    assay.datasets.upload(name, path, split="test")
    return name


def run(assay: AssayClient, task: str, **more: Any) -> str:
    assay.methods.create(f"files-{task}", {"template": "builtin-lm-eval", "task": task})
    started = assay.runs.start(artifact="lm-eval-files", method=f"files-{task}", **more)
    ended = assay.wait_run(started.id, timeout_s=300)
    assert ended.state == "Succeeded", ended.error
    return ended.id


def read_by_lm_eval(assay: AssayClient, run_id: str, directory: Path) -> dict[str, Any]:
    archive = directory / "lm-eval.zip"
    with archive.open("wb") as file:
        assay.runs.export(run_id, file, export="lm-eval.zip")
    folder = directory / "found"
    with zipfile.ZipFile(archive) as files:
        files.extractall(folder)
    offline = {"HF_HOME": str(directory / "hf"), "HF_HUB_OFFLINE": "1", "TQDM_DISABLE": "1"}
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("lm_eval_reads.py")), str(folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=directory,
        env={**os.environ, **offline},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_lm_eval_reads_a_task_with_two_filters(assay: AssayClient, tmp_path: Path) -> None:
    rows = [
        {"question": f"What is {i} + 1, “é”?", "answer": f"It is {i + 1}.\n#### {i + 1}"} for i in range(9)
    ]
    dataset = register(assay, tmp_path, "files-gsm8k-rows", rows)
    run_id = run(assay, "gsm8k", dataset=dataset, options={"num_fewshot": 0, "limit": 8})
    quality = assay.runs.metrics(run_id).quality
    found = read_by_lm_eval(assay, run_id, tmp_path)
    results = found["results"]
    assert {
        f"gsm8k.{key}": value for key, value in results["results"]["gsm8k"].items() if "," in key
    } == quality
    assert found["latest"].startswith("found/org__scripted__ v1/results_2")
    assert found["read"] == ["gsm8k"]
    assert results["n-samples"]["gsm8k"] == {"original": 9, "effective": 8}
    lines = [line for line in found["table"].splitlines() if "exact_match" in line]
    assert [("strict-match" in line, "flexible-extract" in line) for line in lines] == [
        (False, True),
        (True, False),
    ]
    assert all("|↑  |" in line for line in lines)
    shown = float(lines[1].split("|")[7])
    assert shown == pytest.approx(quality["gsm8k.exact_match,strict-match"], abs=1e-4)
    samples = found["samples"]["gsm8k"]
    assert samples["rows"] == 16
    assert {"doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter"} < set(
        samples["columns"]
    )
    assert results["task_hashes"] == {"gsm8k": samples["hash"]}
    scores = [one["exact_match"] for one in samples["traces"] if one["filter"] == "strict-match"]
    assert sum(scores) / len(scores) == pytest.approx(quality["gsm8k.exact_match,strict-match"])


def test_lm_eval_reads_a_group(assay: AssayClient, tmp_path: Path) -> None:
    members = {
        task: register(
            assay,
            tmp_path,
            f"files-{task}-rows",
            [
                {"question": f"{task} {i}?", "choices": ["iron", "water", "sun", "été"], "answer": i % 4}
                for i in range(4 + place)
            ],
        )
        for place, task in enumerate(TASKS)
    }
    run_id = run(assay, "wmdp", member_datasets=members)
    quality = assay.runs.metrics(run_id).quality
    found = read_by_lm_eval(assay, run_id, tmp_path)
    assert sorted(found["samples"]) == sorted(TASKS)
    assert [found["samples"][task]["rows"] for task in TASKS] == [4, 5, 6]
    for task in TASKS:
        samples = found["samples"][task]
        assert found["results"]["task_hashes"][task] == samples["hash"]
        assert {one["output_type"] for one in samples["traces"]} == {"multiple_choice"}
        scores = [one["acc"] for one in samples["traces"]]
        assert sum(scores) / len(scores) == pytest.approx(quality[f"{task}.acc,none"])
    assert found["groups"].count("acc") == 1
    (shown,) = [line for line in found["groups"].splitlines() if "acc" in line]
    assert float(shown.split("|")[7]) == pytest.approx(quality["wmdp.acc,none"], abs=1e-4)
    names = [line.split("|")[1].strip() for line in found["table"].splitlines()[2:]]
    assert names == ["wmdp", *(f"- {task}" for task in TASKS)]
