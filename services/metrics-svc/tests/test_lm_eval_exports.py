"""lm-eval's files of real scored runs over HTTP; that lm-eval's own tools read them is tested end to end."""

import asyncio
import hashlib
import io
import json
import time
import zipfile
from typing import Any

import httpx
import pytest

from assay_harness.spec import BuiltinTask

GSM8K = BuiltinTask(task="gsm8k")
ROWS = [{"question": f"What is {i} + 1?", "answer": f"It is {i + 1}.\n#### {i + 1}"} for i in range(30)]
TASKS = ["wmdp_bio", "wmdp_chem", "wmdp_cyber"]


def solving(document: Any) -> list[str] | None:
    """Every third answer is wrong, every fifth one has another form."""
    if document.index % 3 == 0:
        return ["#### 999"]
    return [document.target if document.index % 5 else f"so {document.target.rpartition(' ')[2]}"]


def failing(document: Any) -> list[str] | None:
    return None if document.index in (2, 7) else solving(document)


def choosing(document: Any) -> list[Any]:
    right = (int(document.target) + document.index % 2) % 4
    return [(-1.0 if number == right else -5.0 - number, number == right) for number in range(4)]


async def finished(platform: Any, client: httpx.AsyncClient, *runs: Any) -> None:
    for run in runs:
        for event in run.events:
            await platform.tell(event)
    deadline = time.monotonic() + 90
    for run in runs:
        while (await client.get(f"/v1/metrics/runs/{run.id}")).json()["state"] != "final":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        platform.peers.runs[run.id]["state"] = "Succeeded"


async def file(client: httpx.AsyncClient, path: str, **query: str) -> httpx.Response:
    response = await client.get(path, params=query, timeout=120)
    assert response.status_code == 200, response.text
    return response


def lines(content: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content.decode().splitlines()]


def hashes(samples: list[dict[str, Any]]) -> str:
    """As lm-eval makes them of its samples."""
    text = "".join(one["doc_hash"] + one["prompt_hash"] + one["target_hash"] for one in samples)
    return hashlib.sha256(text.encode()).hexdigest()


async def test_files_of_a_task_with_two_filters(platform: Any) -> None:
    run = await platform.maker.make(ROWS, solving, recipe=GSM8K)
    async with platform.service() as client:
        await finished(platform, client, run)
        address = f"/v1/metrics/runs/{run.id}"
        metrics = (await client.get(address)).json()
        answer = await file(client, f"{address}/lm-eval/results.json")
        listed = await file(client, f"{address}/lm-eval/samples.jsonl")
        archive = await file(client, f"{address}/lm-eval.zip")
        misnamed = await client.get(f"{address}/lm-eval/samples.jsonl", params={"task": "gsm"})
    results = answer.json()
    numbers = {f"gsm8k.{key}": value for key, value in results["results"]["gsm8k"].items() if "," in key}
    assert numbers == metrics["quality"]
    assert results["results"]["gsm8k"]["sample_len"] == 30
    assert results["n-samples"] == {"gsm8k": {"original": 30, "effective": 30}}
    assert (results["n-shot"], results["versions"]) == ({"gsm8k": 0}, {"gsm8k": 3.0})
    assert results["config"]["model_args"]["model"] == results["model_name"] == "m"
    assert results["assay"]["run_id"] == run.id
    assert results["config"]["fewshot_seed"] == 1234

    samples = lines(listed.content)
    assert [one["filter"] for one in samples] == ["strict-match"] * 30 + ["flexible-extract"] * 30
    assert [one["doc_id"] for one in samples] == [*range(30), *range(30)]
    assert [one["doc"] for one in samples[:30]] == ROWS
    assert results["task_hashes"] == {"gsm8k": hashes(samples)}
    for place, name in ((0, "strict-match"), (30, "flexible-extract")):
        mean = sum(one["exact_match"] for one in samples[place : place + 30]) / 30
        assert mean == pytest.approx(metrics["quality"][f"gsm8k.exact_match,{name}"])
    first = samples[1]
    assert first["arguments"]["gen_args_0"]["arg_0"] == "Question: What is 1 + 1?\nAnswer:"
    assert first["arguments"]["gen_args_0"]["arg_1"]["until"] == ["Question:", "</s>", "<|im_end|>"]
    assert (first["resps"], first["filtered_resps"]) == ([[ROWS[1]["answer"]]], ["2"])

    name = listed.headers["content-disposition"].partition('"')[2].rstrip('"')
    assert name.startswith("samples_gsm8k_2")
    with zipfile.ZipFile(io.BytesIO(archive.content)) as files:
        assert files.testzip() is None
        assert [one.rpartition("_")[0] for one in files.namelist()] == ["m/results", "m/samples_gsm8k"]
        assert files.read(f"m/{name}") == listed.content
        assert json.loads(files.read(files.namelist()[0])) == results
    assert misnamed.status_code == 422
    assert "there are: gsm8k" in misnamed.json()["detail"]


async def test_files_of_a_group(platform: Any) -> None:
    tables = {
        task: [
            {"question": f"{task} {i}?", "choices": ["a", "b", "c", "d"], "answer": i % 4}
            for i in range(5 + place * 3)
        ]
        for place, task in enumerate(TASKS)
    }
    run = await platform.maker.make(tables, choosing, recipe=BuiltinTask(task="wmdp"))
    async with platform.service() as client:
        await finished(platform, client, run)
        address = f"/v1/metrics/runs/{run.id}"
        metrics = (await client.get(address)).json()
        results = (await file(client, f"{address}/lm-eval/results.json")).json()
        archive = await file(client, f"{address}/lm-eval.zip")
        chem = await file(client, f"{address}/lm-eval/samples.jsonl", task="wmdp_chem")
        unnamed = await client.get(f"{address}/lm-eval/samples.jsonl")
    assert set(results["results"]) == {"wmdp", *TASKS}
    assert results["group_subtasks"] == {"wmdp": TASKS}
    assert results["groups"] == {"wmdp": results["results"]["wmdp"]}
    group = results["results"]["wmdp"]
    assert group["acc,none"] == metrics["quality"]["wmdp.acc,none"]
    assert group["sample_count"] == {"acc,none": 24}
    with zipfile.ZipFile(io.BytesIO(archive.content)) as files:
        names = files.namelist()
        assert [one.rpartition("_")[0] for one in names] == [
            "m/results",
            *(f"m/samples_{task}" for task in TASKS),
        ]
        for task, name in zip(TASKS, names[1:], strict=True):
            samples = lines(files.read(name))
            assert [one["doc_id"] for one in samples] == list(range(len(tables[task])))
            assert results["task_hashes"][task] == hashes(samples)
            assert len(samples[0]["resps"]) == 4
        assert files.read(names[2]) == chem.content
    one = lines(chem.content)[0]
    assert one["resps"][:2] == [[["-5.0", "False"]], [["-1.0", "True"]]]  # the fifth document of the run
    assert one["arguments"]["gen_args_3"]["arg_1"] == " D"
    assert unnamed.status_code == 422
    assert "wmdp_bio, wmdp_chem" in unnamed.json()["detail"]


async def test_failed_samples_count_in_the_files_as_in_the_numbers(platform: Any) -> None:
    zero = await platform.maker.make(ROWS, failing, recipe=GSM8K)
    excluded = await platform.maker.make(ROWS, failing, recipe=GSM8K, on_failure="exclude")
    async with platform.service() as client:
        await finished(platform, client, zero, excluded)
        found = {}
        for run in (zero, excluded):
            address = f"/v1/metrics/runs/{run.id}"
            results = (await file(client, f"{address}/lm-eval/results.json")).json()
            samples = lines((await file(client, f"{address}/lm-eval/samples.jsonl")).content)
            metrics = (await client.get(address)).json()["quality"]
            found[run.id] = (results, samples)
            strict = [one for one in samples if one["filter"] == "strict-match"]
            mean = sum(one["exact_match"] for one in strict) / len(strict)
            assert mean == pytest.approx(metrics["gsm8k.exact_match,strict-match"])
            assert results["n-samples"]["gsm8k"]["effective"] == len(strict)
            assert results["task_hashes"]["gsm8k"] == hashes(samples)
    assert len(found[zero.id][1]) == 60
    assert len(found[excluded.id][1]) == 56
    failed = found[zero.id][1][2]
    assert (failed["doc_id"], failed["exact_match"], failed["resps"]) == (2, 0.0, [[""]])
    assert json.loads(failed["error"]) == {"code": "ENGINE_ERROR", "message": "m"}
    assert "error" not in found[zero.id][1][1]


async def test_files_of_another_scoring(platform: Any) -> None:
    run = await platform.maker.make(ROWS, solving, recipe=GSM8K)
    scoring = {"filters": [{"name": "last", "steps": [{"function": "last-number"}]}]}
    async with platform.service() as client:
        await finished(platform, client, run)
        view = (
            await client.post("/v1/scorings", json={"run_id": run.id, "scoring": scoring}, timeout=60)
        ).json()
        deadline = time.monotonic() + 60
        while (final := (await client.get(f"/v1/scorings/{view['id']}")).json())["state"] != "final":
            assert time.monotonic() < deadline
            await asyncio.sleep(0.05)
        address = f"/v1/metrics/runs/{view['id']}"
        results = (await file(client, f"{address}/lm-eval/results.json")).json()
        samples = lines((await file(client, f"{address}/lm-eval/samples.jsonl")).content)
    assert {one["filter"] for one in samples} == {"last"}
    assert results["results"]["gsm8k"]["exact_match,last"] == final["quality"]["gsm8k.exact_match,last"]
    assert results["assay"]["scoring_id"] == view["id"]
    assert results["assay"]["canonical"] is False


async def test_a_run_without_final_numbers_has_no_files(platform: Any) -> None:
    run = await platform.maker.make(ROWS, solving, recipe=GSM8K)
    async with platform.service() as client:
        for name in ("lm-eval/results.json", "lm-eval/samples.jsonl", "lm-eval.zip"):
            assert (await client.get(f"/v1/metrics/runs/{run.id}/{name}")).status_code == 409
            assert (await client.get(f"/v1/metrics/runs/run_0/{name}")).status_code == 404
